//! `reconstruct`.

use crate::program::{Desk, fixture};

/// PSNR and SSIM from the line that tells them.
fn quality(stdout: &str) -> (f64, f64) {
    let line = stdout.trim_end().strip_prefix("PSNR ").unwrap();
    let (psnr, ssim) = line.split_once(" dB, SSIM ").unwrap();
    (psnr.parse().unwrap(), ssim.parse().unwrap())
}

#[test]
fn tells_psnr_and_ssim_and_keeps_the_frames() {
    let desk = Desk::new();
    desk.generate("--prompt cat --seed 1 --output a.gif")
        .succeeds();
    let outcome = desk
        .run("reconstruct a.gif --device flex --quiet --output b.mp4 --save-tensors t.safetensors")
        .succeeds();
    assert_eq!(outcome.stderr, "");
    let (psnr, ssim) = quality(&outcome.stdout);
    assert!(psnr > 0.0 && (-1.0..=1.0).contains(&ssim), "{outcome:?}");

    let expected = [
        ("frames", vec![1, 5, 3, 32, 48]),
        ("latent_logvar", vec![1, 16, 2, 4, 6]),
        ("latent_mean", vec![1, 16, 2, 4, 6]),
    ];
    let expected = expected.map(|(name, shape)| (name.to_string(), shape));
    assert_eq!(desk.shapes("t.safetensors"), expected);
    assert_eq!(desk.names(), ["a.gif", "b.mp4", "t.safetensors"]);

    // The reconstruction, taken as the original, is another original: the file is really read.
    let again = desk
        .run("reconstruct t.safetensors --device flex -q")
        .succeeds();
    assert_ne!(quality(&again.stdout), (psnr, ssim));
}

#[test]
fn a_lower_quality_is_a_smaller_file() {
    let desk = Desk::new();
    desk.generate("--prompt cat --seed 1 --output a.gif")
        .succeeds();
    let size = |quality: u8| {
        let run = "reconstruct a.gif --device flex --quiet --output b.mp4 --quality";
        desk.run(&format!("{run} {quality}")).succeeds();
        std::fs::metadata(desk.path("b.mp4")).unwrap().len()
    };
    assert!(size(10) < size(90));
}

#[test]
fn crops_with_a_notice() {
    let desk = Desk::new();
    desk.write_tensor("in.safetensors", "frames", &[1, 7, 3, 19, 30], 0.5);
    let outcome = desk
        .run("reconstruct in.safetensors --device flex -q --save-tensors t.safetensors")
        .succeeds();
    for part in ["7 frames of 19x30", "5 frames of 16x24"] {
        assert!(outcome.stderr.contains(part), "{outcome:?}");
    }
    assert_eq!(desk.shapes("t.safetensors")[0].1, [1, 5, 3, 16, 24]);
}

#[test]
fn needs_no_more_than_the_vae() {
    let desk = Desk::new();
    desk.write_tensor("in.safetensors", "frames", &[1, 1, 3, 16, 16], 0.5);
    let vae = fixture("pipeline/diffusers/vae");
    let vae = vae.display();
    let alone = format!("reconstruct in.safetensors --device flex --model '{vae}'");
    let replaced = format!("reconstruct in.safetensors --device flex --vae '{vae}'");
    let alone = desk.run(&alone).succeeds();
    assert_eq!(alone.stdout, desk.run(&replaced).succeeds().stdout);
}

#[test]
fn refuses_what_is_no_video() {
    let desk = Desk::new();
    let run = |input: &str| desk.run(&format!("reconstruct {input} --device flex -o o.mp4"));
    run("absent.mp4").fails(1, &["absent.mp4", "No such file"]);
    run("absent.safetensors").fails(1, &["absent.safetensors", "No such file"]);
    for name in ["text.mp4", "text.gif", "text.png", "text.safetensors"] {
        std::fs::write(desk.path(name), "this is not a video").unwrap();
        run(name).fails(1, &[name]);
    }
    desk.write_tensor("other.safetensors", "video", &[1, 5, 3, 16, 16], 0.5);
    run("other.safetensors").fails(1, &["no tensor `frames`", "video"]);
    desk.write_tensor("flat.safetensors", "frames", &[5, 3, 16, 16], 0.5);
    run("flat.safetensors").fails(1, &["flat.safetensors", "[5, 3, 16, 16]"]);
    for shape in [
        [2, 5, 3, 16, 16],
        [1, 0, 3, 16, 16],
        [1, 5, 1, 16, 16],
        [1, 5, 3, 7, 16],
    ] {
        desk.write_tensor("odd.safetensors", "frames", &shape, 0.5);
        run("odd.safetensors").fails(2, &["cannot be encoded"]);
    }
    desk.write_tensor("nan.safetensors", "frames", &[1, 5, 3, 16, 16], f32::NAN);
    run("nan.safetensors").fails(1, &["not finite"]);
    let is_output = |name: &String| name == "o.mp4" || name.starts_with('.');
    assert!(!desk.names().iter().any(is_output));
}
