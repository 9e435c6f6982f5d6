//! `generate --lora`, `lora convert`, `lora merge`.

use std::fs;

use safetensors::{Dtype, serialize_to_file, tensor::TensorView};

use super::program::{Desk, fixture};

/// A LoRA of rank 1 for one layer of the built-in model, with constant values.
fn write_lora(desk: &Desk, name: &str, width: usize) {
    let ones = 0.5_f32.to_le_bytes().repeat(width);
    let view = |shape| TensorView::new(Dtype::F32, shape, &ones).unwrap();
    let layer = "transformer.transformer_blocks.0.attn.to_v";
    let tensors = [
        (format!("{layer}.lora_A.weight"), view(vec![1, width])),
        (format!("{layer}.lora_B.weight"), view(vec![width, 1])),
    ];
    serialize_to_file(tensors, None, &desk.path(name)).unwrap();
}

#[test]
fn a_lora_changes_the_video_as_strongly_as_asked() {
    let desk = Desk::new();
    write_lora(&desk, "style.safetensors", 128);
    let make = |name: &str, options: &str| {
        let arguments = format!("--prompt cat --seed 1 --output {name} {options}");
        desk.generate(&arguments).succeeds();
        fs::read(desk.path(name)).unwrap()
    };
    let plain = make("a.gif", "");
    let lora = make("b.gif", "--lora style.safetensors");
    assert_ne!(plain, lora);
    assert_eq!(plain, make("c.gif", "--lora style.safetensors:0"));
    desk.run("lora merge --device flex --lora style.safetensors --output merged.safetensors")
        .succeeds();
    assert_eq!(lora, make("e.gif", "--transformer merged.safetensors"));
}

#[test]
fn converting_names_the_layers_as_the_other_program_does() {
    let desk = Desk::new();
    let file = fixture("lora_kohya.safetensors").display().to_string();
    let keys = |format: &str| {
        let output = format!("{format}.safetensors");
        desk.run(&format!(
            "lora convert '{file}' --to {format} --output {output}"
        ))
        .succeeds();
        desk.shapes(&output)
            .into_iter()
            .map(|(key, _)| key)
            .collect::<Vec<_>>()
    };
    let has = |keys: Vec<String>, key: &str| assert!(keys.iter().any(|k| k == key), "{keys:?}");
    has(
        keys("kohya"),
        "lora_unet_double_blocks_0_img_attn_qkv.alpha",
    );
    has(
        keys("diffusers"),
        "transformer.transformer_blocks.0.attn.to_q.lora_A.weight",
    );
    has(
        keys("original"),
        "diffusion_model.single_blocks.1.linear1.lora_B.weight",
    );
}

#[test]
fn no_file_is_named_as_what_it_is_not() {
    let desk = Desk::new();
    for command in [
        "lora convert lora.safetensors --to diffusers --output lora.pt",
        "lora merge --lora lora.safetensors --output merged.gguf",
        "quantize --to int8 --output quantized",
    ] {
        desk.run(command)
            .fails(2, &["--output", "has to end in .safetensors"]);
    }
}

#[test]
fn a_lora_of_another_model_is_refused_before_anything_is_written() {
    let desk = Desk::new();
    write_lora(&desk, "wide.safetensors", 64);
    desk.generate("--prompt cat --output a.gif --lora wide.safetensors")
        .fails(
            1,
            &[
                "wide.safetensors does not fit the model",
                "[64, 64] instead of [128, 128]",
            ],
        );
    desk.run("lora merge --device flex --lora wide.safetensors --output m.safetensors")
        .fails(1, &["does not fit"]);
    desk.generate("--prompt cat --output a.gif --lora none.safetensors")
        .fails(1, &["none.safetensors"]);
    assert_eq!(desk.names(), ["wide.safetensors"]);
}
