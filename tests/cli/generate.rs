//! `generate` where all is well.

use std::fs;

use burn_hunyuan::video;

use crate::program::{Desk, fixture, names};

/// Width, height and number of frames of a video.
fn extents(desk: &Desk, name: &str) -> (u32, u32, usize) {
    let reader = video::open(&desk.path(name)).unwrap();
    (
        reader.width,
        reader.height,
        reader.map(Result::unwrap).count(),
    )
}

#[test]
fn the_extension_names_the_format() {
    let desk = Desk::new();
    for name in ["a.mp4", "a.gif", "a"] {
        desk.generate(&format!("--prompt cat --output {name}"))
            .succeeds();
        assert_eq!(extents(&desk, name), (48, 32, 5), "{name}");
    }
    assert_eq!(desk.names(), ["a", "a.gif", "a.mp4"]);
    let frames = names(&desk.path("a"));
    assert_eq!(
        frames,
        [
            "00000.png",
            "00001.png",
            "00002.png",
            "00003.png",
            "00004.png"
        ]
    );
}

#[test]
fn the_seed_decides() {
    let desk = Desk::new();
    for (name, seed) in [("a.gif", 1), ("b.gif", 1), ("c.gif", 2)] {
        desk.generate(&format!("--prompt cat --seed {seed} --output {name}"))
            .succeeds();
    }
    let read = |name| fs::read(desk.path(name)).unwrap();
    assert_eq!(read("a.gif"), read("b.gif"));
    assert_ne!(read("a.gif"), read("c.gif"));
}

#[test]
fn a_random_seed_is_told() {
    let desk = Desk::new();
    let outcome = desk.generate("--prompt cat --output a.gif").succeeds();
    let seed = outcome.stdout.strip_prefix("a.gif (seed ").unwrap();
    let seed = seed.trim_end().strip_suffix(')').unwrap();
    desk.generate(&format!("--prompt cat --output b.gif --seed {seed}"))
        .succeeds();
    let read = |name| fs::read(desk.path(name)).unwrap();
    assert_eq!(read("a.gif"), read("b.gif"));
}

#[test]
fn several_videos_have_consecutive_seeds_and_numbers() {
    let desk = Desk::new();
    fs::write(desk.path("prompts.txt"), "a cat\n\n  a dog\n").unwrap();
    let outcome = desk
        .generate("--prompt-file prompts.txt --num-videos 2 --seed 7 --output v.gif")
        .succeeds();
    let lines: Vec<_> = outcome.stdout.lines().collect();
    assert_eq!(
        lines,
        [
            "v-1.gif (seed 7)",
            "v-2.gif (seed 8)",
            "v-3.gif (seed 7)",
            "v-4.gif (seed 8)"
        ]
    );
    desk.generate("--prompt 'a dog' --seed 8 --output dog.gif")
        .succeeds();
    let read = |name| fs::read(desk.path(name)).unwrap();
    assert_eq!(read("v-4.gif"), read("dog.gif"));
    assert_ne!(read("v-2.gif"), read("dog.gif"), "the prompt matters");
}

#[test]
fn quiet_prints_nothing_and_the_summary_tells_each_stage() {
    let desk = Desk::new();
    let outcome = desk.generate("--prompt cat --output a.gif -q").succeeds();
    assert_eq!((outcome.stdout.as_str(), outcome.stderr.as_str()), ("", ""));

    let outcome = desk.generate("--prompt cat --output b.gif").succeeds();
    for stage in [
        "Loading LLaMA",
        "Loading CLIP",
        "Denoising",
        "Decoding",
        "Total",
        "Peak memory",
    ] {
        assert!(outcome.stderr.contains(stage), "{stage}: {outcome:?}");
    }
}

#[test]
fn a_long_prompt_is_cut_with_a_warning_that_shows_the_rest() {
    let desk = Desk::new();
    let prompt = "a cat walks on the grass, ".repeat(100) + "unseen zebra";
    let arguments = format!("--prompt '{prompt}' --output a.gif -q");
    let outcome = desk.generate(&arguments).succeeds();
    for encoder in ["LLaMA", "CLIP"] {
        let mut lines = outcome.stderr.lines();
        let line = lines.find(|line| line.contains(encoder)).unwrap();
        assert!(
            line.contains("WARN") && line.ends_with("unseen zebra"),
            "{line}"
        );
    }
}

#[test]
fn the_tensors_have_the_documented_shapes() {
    let desk = Desk::new();
    let model = fixture("pipeline/diffusers");
    let options = format!(
        "generate --device flex --size 48x80 --frames 9 --steps 2 --seed 1 --prompt cat --model '{}'",
        model.display()
    );
    desk.run(&format!(
        "{options} --output a.gif --save-tensors a.safetensors"
    ))
    .succeeds();
    let expected = [
        ("frames", vec![1, 9, 3, 48, 80]),
        ("latents", vec![1, 4, 3, 6, 10]),
        ("pooled", vec![1, 24]),
        ("prompt_embeds", vec![1, 256, 32]),
        ("prompt_mask", vec![1, 256]),
    ];
    let expected = expected.map(|(name, shape)| (name.to_string(), shape));
    assert_eq!(desk.shapes("a.safetensors"), expected);

    // Initial latents take the place of the seed's noise.
    for seed in [1, 2] {
        desk.run(
            &format!("{options} --init-latents a.safetensors --seed {seed} --output {seed}.gif")
                .replacen("--seed 1 ", "", 1),
        )
        .succeeds();
    }
    let read = |name| fs::read(desk.path(name)).unwrap();
    assert_eq!(read("1.gif"), read("2.gif"));
    assert_ne!(read("1.gif"), read("a.gif"));
    assert_eq!(desk.names(), ["1.gif", "2.gif", "a.gif", "a.safetensors"]);
}

#[test]
fn one_part_can_be_replaced_by_a_file_of_another_layout() {
    let desk = Desk::new();
    let model = fixture("pipeline/diffusers").display().to_string();
    let options = format!("--prompt cat --seed 1 --model '{model}'");
    desk.generate(&format!("{options} --output a.gif"))
        .succeeds();
    let replacements = [
        ("transformer", "mp_rank_00_model_states.pt"),
        ("vae", "pytorch_model.pt"),
        ("text-encoder", "diffusers/text_encoder"),
        (
            "text-encoder-2",
            "diffusers/text_encoder_2/model.safetensors",
        ),
    ];
    let read = |name| fs::read(desk.path(name)).unwrap();
    for (option, file) in replacements {
        // The same weights, so the same video.
        let file = fixture("pipeline").join(file);
        let arguments = format!("{options} --{option} '{}' --output b.gif", file.display());
        desk.generate(&arguments).succeeds();
        assert_eq!(read("a.gif"), read("b.gif"), "{option}");
    }
}
