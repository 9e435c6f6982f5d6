//! `plan`, `quantize`, and the options of `generate` that save memory.

use std::fs;

use super::program::Desk;

#[test]
fn a_quantized_file_is_what_quantizing_at_load_gives() {
    let desk = Desk::new();
    desk.run("quantize --device flex --to int4 --output small.safetensors")
        .succeeds();
    let make = |name: &str, options: &str| {
        let arguments = format!("--prompt cat --seed 1 --dtype f32 --output {name} {options}");
        desk.generate(&arguments).succeeds();
        fs::read(desk.path(name)).unwrap()
    };
    let plain = make("a.gif", "");
    assert_eq!(plain, make("b.gif", "--offload blocks"));
    let quantized = make("c.gif", "--quantize int4");
    assert_ne!(plain, quantized);
    let from_file = "--transformer small.safetensors";
    assert_eq!(quantized, make("d.gif", from_file));
    assert_eq!(
        quantized,
        make("e.gif", &format!("{from_file} --offload none"))
    );
    desk.generate("--prompt cat --output f.gif --quantize int4 --offload none")
        .fails(2, &["--offload none"]);
}

#[test]
fn a_plan_says_how_it_fits() {
    let desk = Desk::new();
    let plan = |options: &str| desk.run(&format!("plan --device flex {options}"));
    let roomy = plan("--vram-limit 200GiB").succeeds().stdout;
    assert!(roomy.contains("--offload none"), "{roomy}");
    let tight = plan("--size 544x960 --vram-limit 20GiB").succeeds().stdout;
    assert!(tight.contains("--offload blocks"), "{tight}");
    plan("--transformer none.safetensors").fails(1, &["none.safetensors"]);
    let help = plan("--help").succeeds().stdout;
    assert!(help.contains("the published model"), "{help}");
    plan("--vram-limit 1GiB").fails(2, &["1.0 GiB are available", "no size fits"]);
    plan("--vram-limit 24").fails(2, &["24GiB"]);
}

/// What `generate` refuses or does in another way, `plan` has to know.
#[test]
fn a_plan_is_of_what_generate_would_do() {
    let desk = Desk::new();
    let plan =
        |options: &str| desk.run(&format!("plan --device flex --vram-limit 200GiB {options}"));
    plan("--quantize int8 --offload none").fails(2, &["--offload none"]);
    plan("--lora none.safetensors").fails(1, &["none.safetensors"]);
    // The work of denoising, in GiB to one digit.
    let work = |options: &str| {
        let told = plan(options).succeeds().stdout;
        let line = told.lines().find(|line| line.contains("denoising"));
        let work = line.unwrap().rsplit("work ").next().unwrap();
        work.trim_end_matches(" GiB").parse::<f64>().unwrap()
    };
    let cached = work("--cache-threshold 0.1");
    assert!(work("") < cached && cached < work("--cache-threshold 0.1 --cfg 6"));
}

#[test]
fn a_request_beyond_all_memory_is_refused_at_once() {
    let desk = Desk::new();
    desk.run("generate --device flex --prompt cat --size 65520x65520 --output a.gif")
        .fails(2, &["are available", "try"]);
    let small = "generate --device flex --prompt cat --vram-limit 1MiB --output a.gif";
    desk.run(small).fails(2, &["no size fits"]);
    assert!(desk.names().is_empty());
}
