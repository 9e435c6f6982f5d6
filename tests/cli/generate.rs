//! `generate` where all is well.

use std::fs;

use burn_hunyuan::video;
use burn_hunyuan_text::Tokenizer;

use crate::{
    bad_input::rewrite,
    program::{Desk, fixture, names},
};

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

/// A model whose LLaMA makes numbers of a token of `prompt`, but of none of `other`, that overflow
/// in the transformer.
fn overflowing_model(desk: &Desk, prompt: &str, other: &str) {
    desk.copy_pipeline("model");
    let tokenizer = Tokenizer::open(&desk.path("model/tokenizer")).unwrap();
    let ids = |text: &str| {
        let encoding = tokenizer.encode(text).unwrap();
        encoding.ids[..encoding.length].to_vec()
    };
    let harmless = ids(other);
    let token = ids(prompt)
        .into_iter()
        .find(|id| !harmless.contains(id))
        .unwrap() as usize;
    let mut signs = Vec::new();
    let transformer = desk.path("model/transformer/diffusion_pytorch_model.safetensors");
    rewrite(&transformer, |tensors| {
        let (shape, _, weight) = &tensors["context_embedder.proj_in.weight"];
        let first = weight.chunks_exact(4).take(shape[1]);
        signs.extend(first.map(|b| f32::from_le_bytes(b.try_into().unwrap()).signum()));
    });
    rewrite(
        &desk.path("model/text_encoder/model.safetensors"),
        |tensors| {
            let (_, _, embedding) = tensors.get_mut("embed_tokens.weight").unwrap();
            let row = embedding
                .chunks_exact_mut(4 * signs.len())
                .nth(token)
                .unwrap();
            for (value, sign) in row.chunks_exact_mut(4).zip(&signs) {
                value.copy_from_slice(&(f32::MAX * sign).to_le_bytes());
            }
        },
    );
}

#[test]
fn a_failure_leaves_the_videos_before_it() {
    for keep in ["", "--keep-loaded"] {
        let desk = Desk::new();
        overflowing_model(&desk, "a dog", "a cat");
        fs::write(desk.path("prompts.txt"), "a cat\na dog\na cat").unwrap();
        let outcome = desk.generate(&format!(
            "--prompt-file prompts.txt --seed 7 --model model --output v.gif {keep}"
        ));
        let told = (outcome.code, outcome.stdout.as_str());
        assert_eq!(told, (Some(1), "v-1.gif (seed 7)\n"), "{outcome:?}");
        for part in ["step 1 of 2", "not finite", "1 of 3 videos were written"] {
            assert!(outcome.stderr.contains(part), "{outcome:?}");
        }
        assert_eq!(desk.names(), ["model", "prompts.txt", "v-1.gif"]);
        assert_eq!(extents(&desk, "v-1.gif"), (48, 32, 5));
    }
}

#[test]
fn quality_decides_the_size_of_an_mp4() {
    let desk = Desk::new();
    let size = |quality: &str| {
        desk.generate(&format!("--prompt cat --seed 1 --output a.mp4 {quality}"))
            .succeeds();
        fs::metadata(desk.path("a.mp4")).unwrap().len()
    };
    let (low, usual, high) = (size("--quality 20"), size(""), size("--quality 100"));
    assert!(low < usual && usual < high, "{low}, {usual}, {high}");
    assert_eq!(usual, size("--quality 75"));
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
    let short = "--prompt cat --negative-prompt";
    for (options, what) in [("--prompt", "the prompt"), (short, "the negative prompt")] {
        let arguments = format!("{options} '{prompt}' --output a.gif -q");
        let outcome = desk.generate(&arguments).succeeds();
        for encoder in ["LLaMA", "CLIP"] {
            let mut lines = outcome.stderr.lines();
            let line = lines.find(|line| line.contains(encoder)).unwrap();
            assert!(
                line.contains("WARN") && line.contains(what) && line.ends_with("unseen zebra"),
                "{line}"
            );
        }
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
