use super::*;
use crate::{checkpoint::Quantization, device};

const GIB: u64 = 1 << 30;

fn settings(dtype: FloatDType) -> Settings {
    Settings {
        dtype,
        quantization: None,
        offload: Offload::Auto,
        vae_tiling: TilingMode::Auto,
        keep_loaded: false,
        is_host: false,
    }
}

fn official() -> Architecture {
    Architecture::official(&device::open("flex").unwrap())
}

fn plan(size: [usize; 3], gib: u64) -> Result<Plan> {
    let [height, width, frames] = size;
    let request = Request::new("a cat").with_size(height, width);
    let settings = settings(FloatDType::BF16);
    official().plan(&request.with_frames(frames), settings, gib * GIB)
}

/// The parameters of the published model, as README.md lists them.
#[test]
fn weights_are_counted() {
    let official = official();
    let all = official.transformer.resident(Offload::None, true);
    assert_eq!(all, 12_821_012_544);
    // Each block's modulation has its matrices, six times the width or three, and their biases.
    let matrices = (20 * 12 + 40 * 3) * 3072 * 3072;
    assert_eq!(official.transformer.modulation, matrices + matrices / 3072);
    let (dual, single) = (24 * 3072 * 3072, 12 * 3072 * 3072);
    let two = official.transformer.resident(Offload::Blocks, false) - official.transformer.rest;
    // Matrices of two dual blocks, and their biases and norms.
    assert!((2 * dual..2 * dual + 200_000).contains(&two), "{two}");
    let large = 20 * 24 * 3072 * 3072 + 40 * 12 * 3072 * 3072;
    assert_eq!(official.transformer.large, large);
    assert!(single < dual);
    assert_eq!(official.llama.blocks.len(), 30);
}

#[test]
fn what_fits_stays_on_the_device() {
    let roomy = plan([720, 1280, 129], 80).unwrap();
    assert_eq!(roomy.settings.offload, Offload::None);
    let tight = plan([544, 960, 129], 20).unwrap();
    assert_eq!(tight.settings.offload, Offload::Blocks);
    assert!(tight.peak() <= 20 * GIB && tight.peak() < roomy.peak());
    for plan in [roomy, tight] {
        assert!(matches!(plan.settings.vae_tiling, TilingMode::Fixed(_)));
    }
}

/// `Q8_0` takes 34 bytes for 32 weights, `Q4_0` 18.
#[test]
fn compressed_weights_stay_on_an_accelerator() {
    let official = official();
    let request = Request::new("a cat").with_size(544, 960);
    let plan = |quantization, is_host, gib| {
        let settings = Settings {
            quantization: Some(quantization),
            is_host,
            ..settings(FloatDType::BF16)
        };
        official.plan(&request, settings, gib * GIB).unwrap()
    };
    let whole = official.transformer.resident(Offload::None, false) * 2;
    let large = official.transformer.large;
    let decoded = official.transformer.largest * 2;
    for (to, per_block) in [(Quantization::Int8, 34), (Quantization::Int4, 18)] {
        let plan = plan(to, false, 24);
        assert_eq!(plan.settings.offload, Offload::None);
        let expected = whole - large * 2 + large / 32 * per_block + decoded;
        assert_eq!((plan.stages[1].weights, plan.compressed), (expected, 0));
    }
    let on_host = plan(Quantization::Int8, true, 24);
    assert_eq!(on_host.settings.offload, Offload::Blocks);
    assert_eq!(on_host.compressed, large / 32 * 34);
    // LLaMA is larger than the limit, the transformer is not.
    let settings = Settings {
        quantization: Some(Quantization::Int4),
        ..settings(FloatDType::BF16)
    };
    let small = Request::new("a cat").with_size(256, 256).with_frames(17);
    let tight = official.plan(&small, settings, 13 * GIB).unwrap();
    let offloads = (tight.settings.offload, tight.text_offload);
    assert_eq!(offloads, (Offload::None, Offload::Blocks));
}

#[test]
fn more_takes_more() {
    let request = |frames| {
        Request::new("a cat")
            .with_size(256, 256)
            .with_frames(frames)
    };
    let peak = |frames, settings| {
        let plan = official().plan(&request(frames), settings, 200 * GIB);
        plan.unwrap().peak()
    };
    let base = settings(FloatDType::BF16);
    let work = |frames| {
        let plan = official().plan(&request(frames), base, 200 * GIB).unwrap();
        plan.stages[1].work
    };
    assert!(work(33) < work(129));
    let kept = Settings {
        keep_loaded: true,
        ..base
    };
    assert!(peak(33, base) < peak(33, kept));
    assert!(peak(33, base) < peak(33, settings(FloatDType::F32)));
}

/// What a guide keeps, counted from what the transformer's code makes: in each block six vectors for
/// either kind of tokens, or three, of the width 3072 at every step; and of a cache two tensors of image
/// tokens.
#[test]
fn each_guide_keeps_its_modulation_and_its_cache() {
    let official = official();
    let work = |steps, cfg, cache_threshold| {
        let request = Request {
            negative_prompt: Some(String::new()),
            cfg,
            cache_threshold,
            ..Request::new("a cat").with_size(256, 256).with_frames(17)
        };
        let settings = settings(FloatDType::BF16);
        let plan = official.plan(&request.with_steps(steps), settings, 200 * GIB);
        plan.unwrap().stages[1].work
    };
    let modulation = |steps: u64| 2 * steps * (20 * 12 + 40 * 3) * 3072;
    let cache = 2 * 2 * (5 * 16 * 16) * 3072;
    let plain = work(1, 1.0, None);
    assert_eq!(work(50, 1.0, None) - plain, modulation(49));
    // They are computed for no more than a hundred steps at once.
    assert_eq!(work(1000, 1.0, None) - plain, modulation(99));
    assert_eq!(work(1, 6.0, None) - plain, modulation(1));
    assert_eq!(work(1, 1.0, Some(0.1)) - plain, cache);
    assert_eq!(work(1, 6.0, Some(0.1)) - plain, modulation(1) + 2 * cache);
}

#[test]
fn what_does_not_fit_is_refused_with_what_would() {
    let message = plan([720, 1280, 129], 8).unwrap_err().to_string();
    assert!(message.contains("8.0 GiB are available"), "{message}");
    let advised = message.split("--frames ").nth(1).unwrap();
    let frames: String = advised.chars().take_while(char::is_ascii_digit).collect();
    let frames = frames.parse().unwrap();
    assert!(plan([720, 1280, frames], 8).is_ok());
    assert!(plan([720, 1280, frames + 4], 8).is_err());
    // Without an overflow on the way.
    assert!(plan([65520, 65520, 129], 24).is_err());
    assert!(
        plan([16, 16, 1], 1)
            .unwrap_err()
            .to_string()
            .contains("no size fits")
    );
}
