//! The commands that only tell something.

use std::{fs, process::Stdio};

use serde_json::Value;

use crate::program::{Desk, Outcome, fixture};

#[test]
fn every_command_explains_itself() {
    let desk = Desk::new();
    let help = desk.run("--help").succeeds().stdout;
    for command in ["generate", "reconstruct", "inspect", "devices", "bench"] {
        assert!(help.contains(command), "{help}");
        let own = desk.run(&format!("{command} --help")).succeeds().stdout;
        assert!(
            own.contains(&format!("Usage: burn-hunyuan {command}")),
            "{own}"
        );
    }
    let options = [
        "model",
        "prompt",
        "negative-prompt",
        "prompt-file",
        "size",
        "frames",
        "steps",
        "guidance",
        "cfg",
        "flow-shift",
        "seed",
        "fps",
        "device",
        "dtype",
        "output",
        "init-latents",
        "save-tensors",
        "vae-tiling",
        "transformer",
        "vae",
        "text-encoder",
        "text-encoder-2",
        "num-videos",
        "keep-loaded",
        "quiet",
    ];
    let help = desk.run("generate --help").succeeds().stdout;
    for option in options {
        assert!(help.contains(&format!("--{option} ")), "{option}: {help}");
    }
}

#[test]
fn bad_usage_exits_with_2() {
    let desk = Desk::new();
    for arguments in [
        "",
        "paint",
        "generate",
        "generate --prompt cat",
        "generate --output a.mp4",
        "generate --prompt cat --output a.mp4 --size 32",
        "generate --prompt cat --output a.mp4 --dtype f8",
        "generate --prompt cat --output a.mp4 --num-videos 0",
        "generate --prompt cat --output a.mp4 --vae-tiling half",
        "reconstruct",
        "inspect",
        "bench",
        "bench vae",
        "bench dit compare",
        "bench dit --runs 0",
    ] {
        desk.run(arguments).fails(2, &["--help"]);
    }
    assert!(desk.names().is_empty());
}

#[test]
fn devices_lists_flex() {
    let outcome = Desk::new().run("devices").succeeds();
    let flex = outcome
        .stdout
        .lines()
        .find(|line| line.starts_with("flex "));
    let flex = flex.unwrap();
    assert!(
        flex.contains("f32") && flex.contains("bf16") && flex.contains("iB"),
        "{flex}"
    );
}

#[test]
fn an_unknown_or_absent_device_is_bad_usage() {
    let desk = Desk::new();
    let run = |device: &str| {
        desk.run(&format!(
            "generate --prompt a --output a.gif --device {device}"
        ))
    };
    run("abacus").fails(2, &["abacus", "flex"]);
    run("flex:x").fails(2, &["`x`"]);
    run("flex:9").fails(2, &["flex:9", "devices"]);
    #[cfg(not(feature = "cuda"))]
    run("cuda").fails(2, &["--features cuda"]);
    assert!(desk.names().is_empty());
}

#[test]
fn inspect_calls_a_whole_pipeline_whole() {
    let desk = Desk::new();
    desk.copy_pipeline("model");
    let stdout = desk.run("inspect model").succeeds().stdout;
    for component in ["transformer", "vae", "text_encoder", "text_encoder_2"] {
        let prefix = format!("{component} ");
        let line = stdout
            .lines()
            .find(|line| line.starts_with(&prefix))
            .unwrap();
        assert!(line.contains("F32") && line.ends_with("whole"), "{line}");
    }
}

#[test]
fn inspect_lists_every_tensor_that_does_not_fit() {
    let desk = Desk::new();
    desk.copy_pipeline("model");
    let file = desk.path("model/vae/diffusion_pytorch_model.safetensors");
    crate::bad_input::rewrite(&file, |tensors| {
        tensors.remove("post_quant_conv.bias");
        tensors.get_mut("decoder.conv_out.conv.bias").unwrap().0 = vec![1, 3];
        let stray = tensors["decoder.conv_in.conv.bias"].clone();
        tensors.insert("stray".into(), stray);
    });
    let Outcome { code, stdout, .. } = desk.run("inspect model");
    assert_eq!(code, Some(1));
    for line in [
        "missing     post_quant_conv.bias [4]",
        "misshapen   decoder.conv_out.conv.bias [1, 3] instead of [3]",
        "unexpected  stray",
    ] {
        assert!(stdout.contains(line), "{stdout}");
    }
}

#[test]
fn inspect_of_nothing_fails() {
    let desk = Desk::new();
    desk.run("inspect absent")
        .fails(1, &["absent", "No such file"]);
    fs::create_dir(desk.path("empty")).unwrap();
    desk.run("inspect empty").fails(1, &["empty", "no weights"]);
    fs::write(desk.path("x.safetensors"), "<html>not found</html>").unwrap();
    desk.run("inspect x.safetensors")
        .fails(1, &["x.safetensors", "not a usable safetensors file"]);
}

#[test]
fn bench_prints_json() {
    let desk = Desk::new();
    let components = [
        "vae-encode",
        "vae-decode",
        "dit",
        "text",
        "clip",
        #[cfg(feature = "train")]
        "train-dit",
        #[cfg(feature = "train")]
        "train-vae",
    ];
    for component in components {
        let outcome = desk.run(&format!(
            "bench {component} --device flex --dtype f32 --config tiny --size 32x48 --frames 5 \
             --double-blocks 1 --single-blocks 2 --text-tokens 16 --text-valid 9 --runs 2"
        ));
        let report: Value = serde_json::from_str(&outcome.succeeds().stdout).unwrap();
        assert_eq!(report["component"], component);
        assert_eq!(report["dtype"], "f32");
        assert_eq!(report["size"], serde_json::json!([32, 48]));
        assert_eq!((&report["frames"], &report["runs"]), (&5.into(), &2.into()));
        let second = |key: &str| report["seconds"][key].as_f64().unwrap();
        assert!(0.0 < second("min") && second("min") <= second("median"));
        assert!(second("median") <= second("max"));
        let rate = report["flop"].as_f64().unwrap() / second("median");
        assert!((report["flop_per_second"].as_f64().unwrap() / rate - 1.0).abs() < 1e-6);
        #[cfg(target_os = "linux")]
        assert!(report["peak_memory"].as_u64().unwrap() > 1 << 20);
    }
}

/// One device twice, and one that is not there: what could be measured is kept.
#[test]
fn bench_compare_tells_of_every_device() {
    let desk = Desk::new();
    let workload = "vae-decode --config tiny --size 32x48 --frames 5 --runs 2";
    let same = desk.run(&format!("bench compare --devices flex,flex {workload}"));
    let table = same.succeeds().stdout;
    assert_eq!(table.lines().count(), 4, "{table}");
    assert!(table.lines().nth(2).unwrap().contains(" 1.00 |"), "{table}");
    let read = |name: &str| fs::read_to_string(desk.path("bench-compare").join(name)).unwrap();
    assert!(read("table.md").ends_with(&table) && read("table.md").contains(workload));
    let report: Value = serde_json::from_str(&read("report.json")).unwrap();
    for device in report["devices"].as_array().unwrap() {
        assert_eq!(device["report"]["component"], "vae-decode");
        assert_eq!(device["report"]["frames"], 5);
    }
    let chart = read("chart.svg");
    assert!(chart.starts_with("<svg") && chart.matches("flex").count() == 2);

    let gone = desk.run(&format!(
        "bench compare --devices flex,flex:9 --output part {workload}"
    ));
    assert_eq!(gone.code, Some(1), "{gone:?}");
    assert!(gone.stderr.contains("flex:9"), "{gone:?}");
    let report = fs::read_to_string(desk.path("part/report.json")).unwrap();
    let report: Value = serde_json::from_str(&report).unwrap();
    assert!(report["devices"][0]["report"]["seconds"]["median"].as_f64() > Some(0.0));
    assert!(
        report["devices"][1]["failed"]
            .as_str()
            .unwrap()
            .contains("flex:9")
    );
    desk.run("bench compare --devices flex clip --output none")
        .fails(2, &["--output", "before"]);
    desk.run("bench compare --devices flex --output none dit --runs 0")
        .fails(1, &["--runs"]);
    assert!(!desk.path("none").exists());
}

#[test]
fn bench_refuses_what_cannot_be() {
    let run = |arguments: &str| {
        Desk::new().run(&format!("bench {arguments} --device flex --config tiny"))
    };
    run("dit --size 20x32").fails(2, &["20", "16 or 32"]);
    run("vae-decode --frames 4").fails(2, &["4 frames", "1 or 5"]);
    run("dit --text-tokens 0").fails(2, &["--text-tokens"]);
    run("text --text-tokens 8 --text-valid 9").fails(2, &["9 of 8"]);
    // 9 TB, of which none are made.
    let desk = Desk::new();
    desk.run("bench text --device flex --layers 10000")
        .fails(2, &["TiB", "--layers", "--dtype bf16"]);
}

/// `burn-hunyuan inspect PATH | true` ends without a complaint.
#[test]
fn a_reader_that_leaves_is_no_failure() {
    let desk = Desk::new();
    let model = fixture("pipeline/diffusers");
    let mut command = desk.command(&format!("inspect '{}'", model.display()));
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    assert!(child.wait().unwrap().success());
}
