//! The whole pipeline against the reference: prompt embeddings, latents and frames.
//!
//! Bounds are relative to the reference's largest value. One changed character of the prompt moves
//! the latents by 2e-3 and a wrong rotary base by 6e-3, so looser bounds would prove nothing.

#![allow(clippy::unwrap_used)] // a test fails by panicking

mod common;

use std::{
    collections::HashSet,
    ops::ControlFlow,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use burn::tensor::{Device, FloatDType, Tensor};
use burn_hunyuan::{
    Error, Offload, Pipeline, Request, Stage, Video,
    checkpoint::{Component, Model, Quantization, save_quantized},
    device::is_host,
};
use burn_hunyuan_vae::{Tiling, TilingMode};
use common::{Fixture, assert_close, deviation, device, device_name, fixture_path, supports};

/// A case of `tests/reference/pipeline.py`.
struct Case {
    device: Device,
    expected: Fixture,
    request: Request,
    tiling: Tiling,
}

impl Case {
    fn open(name: &str, device: &Device) -> Self {
        let expected = Fixture::open(&format!("pipeline/expected_{name}.safetensors"));
        let config = expected.config();
        let number = |key: &str| config[key].as_f64().unwrap();
        let integer = |key: &str| config[key].as_u64().unwrap() as usize;
        let request = Request {
            negative_prompt: config["negative_prompt"].as_str().map(String::from),
            guidance: number("guidance"),
            cfg: number("cfg"),
            init_latents: Some(expected.tensor("init_latents", device)),
            ..Request::new(config["prompt"].as_str().unwrap())
                .with_size(integer("height"), integer("width"))
                .with_frames(integer("frames"))
                .with_steps(integer("steps"))
        };
        let tiling = match config["tiling"].as_str().unwrap() {
            "framewise" => Tiling::FRAMEWISE,
            _ => Tiling::WHOLE,
        };
        Self {
            device: device.clone(),
            expected,
            request,
            tiling,
        }
    }

    fn reference<const D: usize>(&self, key: &str) -> Tensor<D> {
        self.expected.tensor(key, &self.device)
    }

    /// Denoises the case's own noise.
    fn latents(&self, pipeline: &mut Pipeline) -> Tensor<5> {
        let condition = pipeline.encode_prompt(&self.request.prompt).unwrap();
        let negative = self.request.effective_negative_prompt();
        let negative = negative.map(|prompt| pipeline.encode_prompt(prompt).unwrap());
        pipeline
            .denoise(&self.request, &condition, negative.as_ref())
            .unwrap()
    }

    /// Runs the case and compares everything on the way.
    fn check(&self, model: Model) {
        let mut pipeline = Pipeline::new(model, self.device.clone())
            .unwrap()
            .with_vae_tiling(TilingMode::Fixed(self.tiling));
        assert_eq!(
            pipeline.dtype(),
            FloatDType::F32,
            "as the fixture is stored"
        );

        let condition = pipeline.encode_prompt(&self.request.prompt).unwrap();
        let mask = common::values(&self.reference::<2>("prompt_mask"));
        let tokens = condition.states.dims()[1];
        let is_real = (0..mask.len()).map(|i| f32::from(i < tokens));
        assert_eq!(mask, is_real.collect::<Vec<_>>(), "prompt_mask");
        assert_close(
            "prompt_embeds",
            &condition.states,
            &self.reference::<3>("prompt_embeds").narrow(1, 0, tokens),
            1e-4,
        );
        assert_close("pooled", &condition.pooled, &self.reference("pooled"), 1e-4);

        let latents = self.latents(&mut pipeline);
        assert_close("latents", &latents, &self.reference("latents"), 2e-4);

        let mut frames = Vec::new();
        let mut keep = |stretch: Tensor<5>| {
            frames.push(stretch.swap_dims(1, 2));
            Ok(())
        };
        pipeline.decode(latents, &mut keep).unwrap();
        assert_close(
            "frames",
            &Tensor::cat(frames, 1),
            &self.reference("frames"),
            1e-3,
        );
    }
}

fn diffusers() -> Model {
    Model::open(&[fixture_path("pipeline/diffusers")]).unwrap()
}

#[test]
fn plain_request() {
    let Some(device) = device() else { return };
    Case::open("plain", &device).check(diffusers());
}

#[test]
fn true_guidance_with_a_negative_prompt() {
    let Some(device) = device() else { return };
    Case::open("guided", &device).check(diffusers());
}

#[test]
fn temporal_tiles() {
    let Some(device) = device() else { return };
    let case = Case::open("framewise", &device);
    assert!(case.request.frames > 16, "the tiles must engage");
    case.check(diffusers());
}

#[test]
fn original_layout_gives_the_same() {
    let Some(device) = device() else { return };
    let mut model = diffusers();
    let parts = [
        (
            Component::Transformer,
            "pipeline/mp_rank_00_model_states.pt",
        ),
        (Component::Vae, "pipeline/pytorch_model.pt"),
    ];
    for (component, file) in parts {
        model.replace(component, &fixture_path(file)).unwrap();
    }
    assert!(model.components().any(|found| found.layout == "Tencent"));
    Case::open("plain", &device).check(model);
}

#[test]
fn bf16_deviates_no_more_than_twice_the_references_own() {
    let Some(device) = device() else { return };
    if !supports(&device, FloatDType::BF16) {
        return;
    }
    let case = Case::open("plain", &device);
    let mut pipeline = Pipeline::new(diffusers(), device)
        .and_then(|pipeline| pipeline.with_dtype(FloatDType::BF16))
        .unwrap();
    let exact: Tensor<5> = case.reference("latents");
    let allowed = 2.0 * deviation(&case.reference::<5>("latents_bf16"), &exact);
    assert_close("latents", &case.latents(&mut pipeline), &exact, allowed);
}

/// The latents of a small request and its prompt's states, made by `model` as `set_up` wants it.
fn latents(model: Model, device: &Device, set_up: impl Fn(Pipeline) -> Pipeline) -> Vec<f32> {
    let pipeline = Pipeline::new(model, device.clone()).unwrap();
    let mut pipeline = set_up(pipeline.with_dtype(FloatDType::F32).unwrap());
    let request = Request {
        negative_prompt: Some("a green square".into()),
        cfg: 2.0,
        ..Request::tiny("a red circle").with_steps(3)
    };
    let request = request.with_size(32, 48).with_frames(5);
    let condition = pipeline.encode_prompt(&request.prompt).unwrap();
    let negative = pipeline.encode_prompt("a green square").unwrap();
    let states = common::values(&condition.states);
    let mut run = |cache_threshold| {
        let request = Request {
            cache_threshold,
            ..request.clone()
        };
        let latents = pipeline.denoise(&request, &condition, Some(&negative));
        common::values(&latents.unwrap())
    };
    // The second run takes the blocks from a loaded pipeline, and leaves some out.
    [run(None), run(Some(0.5)), states].concat()
}

#[test]
fn blocks_that_wait_in_the_file_give_the_same() {
    let Some(device) = device() else { return };
    let latents = |offload| {
        latents(Model::tiny(&device).unwrap(), &device, |pipeline| {
            pipeline.with_offload(offload).unwrap()
        })
    };
    let (there, waiting) = (latents(Offload::None), latents(Offload::Blocks));
    assert_same("waiting blocks", &waiting, &there);
}

/// To the bit on a CPU. On a GPU CubeCL chooses among kernels by their speed at the moment, and each
/// sums in an order of its own.
fn assert_same(what: &str, ours: &[f32], expected: &[f32]) {
    assert_eq!(ours.len(), expected.len(), "{what}");
    assert!(ours.iter().chain(expected).all(|x| x.is_finite()), "{what}");
    let largest = expected.iter().fold(0.0_f32, |max, x| max.max(x.abs()));
    let pairs = ours.iter().zip(expected);
    let difference = pairs.fold(0.0_f32, |max, (a, b)| max.max((a - b).abs()));
    println!("{what}: {:e}", difference / largest);
    let on_cpu = ["flex", "ndarray"].contains(&device_name().as_str());
    let allowed = if on_cpu { 0.0 } else { 1e-5 };
    assert!(
        difference <= allowed * largest,
        "{what}: {difference} of {largest}"
    );
}

/// The more bits behind the first, the less: int8 has seven of a block's largest value, fp8 three of
/// every value, int4 three of a block's largest.
#[test]
fn quantized_weights_move_the_latents_by_their_precision() {
    let Some(device) = device() else { return };
    let exact = latents(Model::tiny(&device).unwrap(), &device, |pipeline| pipeline);
    let folder = tempfile::tempdir().unwrap();
    let mut errors = Vec::new();
    for to in [Quantization::Int8, Quantization::Fp8, Quantization::Int4] {
        let model = Model::tiny(&device).unwrap();
        let at_load = latents(model.clone(), &device, |pipeline| {
            pipeline.with_quantization(Some(to)).unwrap()
        });
        let path = folder.path().join(format!("{to}.safetensors"));
        let progress = &mut |_, _| std::ops::ControlFlow::Continue(());
        save_quantized(&model, &path, to, &device, progress).unwrap();
        for offload in [Offload::Auto, Offload::None] {
            let mut model = model.clone();
            model.replace(Component::Transformer, &path).unwrap();
            let from_file = latents(model, &device, |pipeline| {
                pipeline.with_offload(offload).unwrap()
            });
            assert_same(&format!("{to}, {offload:?}"), &from_file, &at_load);
        }
        let square = |values: &mut dyn Iterator<Item = f32>| values.map(|x| x * x).sum::<f32>();
        let mut differences = at_load.iter().zip(&exact).map(|(a, b)| a - b);
        let error = square(&mut differences) / square(&mut exact.iter().copied());
        println!("{to}: {:.5}", error.sqrt());
        errors.push(error.sqrt());
    }
    let [int8, fp8, int4] = errors[..] else {
        unreachable!("three formats")
    };
    assert!(0.0 < int8 && int8 < fp8 && fp8 < int4, "{errors:?}");
    assert!(int8 < 0.01 && int4 < 0.2, "{errors:?}");
}

#[test]
fn quantizing_what_is_then_decoded_at_once_is_refused() {
    let Some(device) = device() else { return };
    if !is_host(&device) {
        return; // an accelerator keeps it as it is
    }
    let pipeline = Pipeline::new(Model::tiny(&device).unwrap(), device).unwrap();
    let pipeline = pipeline.with_offload(Offload::None).unwrap();
    let refused = pipeline.with_quantization(Some(Quantization::Int8));
    let message = refused.err().unwrap().to_string();
    assert!(message.contains("--offload none"), "{message}");
}

#[test]
fn a_prompt_is_encoded_once() {
    let Some(device) = device() else { return };
    let folder = tempfile::tempdir().unwrap();
    let loads = Arc::new(AtomicUsize::new(0));
    let pipeline = |dtype| {
        let loads = loads.clone();
        let pipeline = Pipeline::new(diffusers(), device.clone()).unwrap();
        pipeline
            .with_dtype(dtype)
            .unwrap()
            .with_prompt_cache(Some(folder.path().join("prompts")))
            .with_observer(move |progress| {
                use burn_hunyuan::Stage::{LoadTextEncoder, LoadTextEncoder2};
                let is_load = matches!(progress.stage, LoadTextEncoder | LoadTextEncoder2);
                loads.fetch_add(usize::from(is_load), Ordering::Relaxed);
                std::ops::ControlFlow::Continue(())
            })
    };
    let encode = |dtype, prompt: &str| {
        loads.store(0, Ordering::Relaxed);
        let condition = pipeline(dtype).encode_prompt(prompt).unwrap();
        let dtypes = (condition.states.dtype(), condition.pooled.dtype());
        let values = [
            common::values(&condition.states),
            common::values(&condition.pooled),
        ];
        let loaded = loads.load(Ordering::Relaxed) > 0;
        (loaded, (condition.states.dims(), dtypes, values))
    };
    let (loaded, first) = encode(FloatDType::F32, "a cat");
    let (loaded_again, second) = encode(FloatDType::F32, "a cat");
    assert!(loaded && !loaded_again && first == second);
    // Another prompt, another number format, a damaged file.
    assert!(encode(FloatDType::F32, "a dog").0);
    if supports(&device, FloatDType::BF16) {
        let bf16 = || encode(FloatDType::BF16, "a cat");
        let (loaded, first) = bf16();
        assert!(loaded && (false, first) == bf16());
    }
    for file in std::fs::read_dir(folder.path().join("prompts")).unwrap() {
        std::fs::write(file.unwrap().path(), b"half").unwrap();
    }
    let (loaded, third) = encode(FloatDType::F32, "a cat");
    assert!(loaded && first == third);
}

/// Same request, same video; another seed, another one. On the model inside the library.
#[test]
fn the_seed_decides() {
    let Some(device) = device() else { return };
    let model = Model::tiny(&device).unwrap();
    let mut pipeline = Pipeline::new(model, device).unwrap();
    let request = Request::new("a red circle")
        .with_size(32, 48)
        .with_frames(5)
        .with_steps(2);
    let mut generate = |seed| {
        let video = pipeline.generate(&request.clone().with_seed(seed)).unwrap();
        assert_eq!(video.frames.len(), 5);
        assert_eq!(video.frames[0].dimensions(), (48, 32));
        video.frames
    };
    assert_eq!(generate(1), generate(1));
    assert_ne!(generate(1), generate(2));
}

#[test]
fn a_cancelled_run_says_so() {
    let Some(device) = device() else { return };
    let model = Model::tiny(&device).unwrap();
    let mut pipeline = Pipeline::new(model, device)
        .unwrap()
        .with_observer(|progress| match (progress.stage, progress.done) {
            (burn_hunyuan::Stage::Denoise, 1) => std::ops::ControlFlow::Break(()),
            _ => std::ops::ControlFlow::Continue(()),
        });
    let request = Request::new("a red circle")
        .with_size(32, 32)
        .with_frames(1)
        .with_steps(3);
    let error = pipeline.generate(&request).unwrap_err();
    assert!(matches!(error, Error::Cancelled), "{error}");
}

/// A request that takes a moment.
fn small() -> Request {
    Request::new("a red circle")
        .with_size(32, 32)
        .with_frames(1)
        .with_steps(2)
}

/// At the first and the last word of every stage, also while weights are read and compressed.
#[test]
fn a_run_can_be_cancelled_everywhere() {
    let Some(device) = device() else { return };
    for quantization in [None, Some(Quantization::Int8)] {
        // The stages of a run that breaks at its event of this number.
        let run = |breaks_at: Option<usize>| {
            let seen = Arc::new(Mutex::new(Vec::new()));
            let heard = seen.clone();
            let model = Model::tiny(&device).unwrap();
            let mut pipeline = Pipeline::new(model, device.clone())
                .and_then(|pipeline| pipeline.with_quantization(quantization))
                .unwrap()
                .with_observer(move |progress| {
                    let mut heard = heard.lock().unwrap();
                    heard.push(progress.stage);
                    match breaks_at {
                        Some(last) if heard.len() > last => ControlFlow::Break(()),
                        _ => ControlFlow::Continue(()),
                    }
                });
            let result = pipeline.generate(&small());
            let seen = seen.lock().unwrap().clone();
            (result, seen)
        };
        let (whole, stages) = run(None);
        whole.unwrap();
        let different: HashSet<_> = stages.iter().collect();
        assert_eq!(different.len(), 7, "{different:?}");
        for stage in different {
            let first = stages.iter().position(|other| other == stage).unwrap();
            let last = stages.iter().rposition(|other| other == stage).unwrap();
            for event in [first, last] {
                let error = run(Some(event)).0.err();
                let cancelled = matches!(error, Some(Error::Cancelled));
                assert!(cancelled, "{stage:?}: {error:?}");
            }
        }
    }
}

#[test]
fn what_is_kept_loaded_survives_a_failure() {
    let Some(device) = device() else { return };
    let seen = Arc::new(Mutex::new(Vec::new()));
    let breaks_in = Arc::new(Mutex::new(None));
    let (heard, wanted) = (seen.clone(), breaks_in.clone());
    let mut pipeline = Pipeline::new(Model::tiny(&device).unwrap(), device)
        .unwrap()
        .with_keep_loaded(true)
        .with_observer(move |progress| {
            heard.lock().unwrap().push(progress.stage);
            let breaks = *wanted.lock().unwrap() == Some(progress.stage);
            match breaks && progress.done > 0 {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            }
        });
    for stage in [Stage::EncodePrompt, Stage::Denoise, Stage::Decode] {
        *breaks_in.lock().unwrap() = Some(stage);
        let error = pipeline.generate(&small()).unwrap_err();
        assert!(matches!(error, Error::Cancelled), "{stage:?}: {error}");
    }
    *breaks_in.lock().unwrap() = None;
    pipeline.generate(&small()).unwrap();
    let seen = seen.lock().unwrap();
    for stage in [
        Stage::LoadTextEncoder,
        Stage::LoadTextEncoder2,
        Stage::LoadTransformer,
        Stage::LoadVae,
    ] {
        let mut loads = seen.clone();
        loads.dedup();
        let loads = loads.iter().filter(|other| **other == stage).count();
        assert_eq!(loads, 1, "{stage:?}");
    }
}

/// Numbers out of range end the run at the step that makes them.
#[test]
fn latents_that_are_not_finite_end_the_run_at_once() {
    let Some(device) = device() else { return };
    let steps = Arc::new(AtomicUsize::new(0));
    let done = steps.clone();
    let mut pipeline = Pipeline::new(Model::tiny(&device).unwrap(), device.clone())
        .unwrap()
        .with_observer(move |progress| {
            if progress.stage == Stage::Denoise {
                done.store(progress.done as usize, Ordering::Relaxed);
            }
            ControlFlow::Continue(())
        });
    let mut condition = pipeline.encode_prompt("a red circle").unwrap();
    condition.states = condition.states * 1e38 * 1e38;
    let request = small().with_steps(9);
    let error = pipeline.denoise(&request, &condition, None).unwrap_err();
    let message = error.to_string();
    assert!(message.contains("step 1 of 9"), "{message}");
    assert!(message.contains("--dtype f32"), "{message}");
    assert_eq!(steps.load(Ordering::Relaxed), 0);
}

/// A service moves it to a thread of its own.
#[test]
fn a_pipeline_is_send() {
    fn is_send<T: Send>() {}
    is_send::<Pipeline>();
}

#[test]
fn a_video_without_frames_is_not_saved() {
    let folder = tempfile::tempdir().unwrap();
    let video = Video { frames: Vec::new() };
    for name in ["a.mp4", "a.gif", "a"] {
        let saved = video.save(&folder.path().join(name), 24.0);
        let message = saved.unwrap_err().to_string();
        assert!(message.contains("no frames"), "{message}");
        assert!(!folder.path().join(name).exists());
    }
}
