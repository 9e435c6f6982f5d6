//! What the layers between matrix products cost on a device, beside one plain element-wise pass and one
//! plain reduction over a tensor of the same size: `cargo bench --bench passes -- wgpu` (or any other
//! name that `--device` takes). A layer's name after the device's runs that layer alone; the last of its
//! runs, after the line `alone`, shows its kernels in CubeCL's log.

use std::{
    any::Any,
    time::{Duration, Instant},
};

use burn::tensor::{DType, Device, Distribution, Tensor};
use burn_hunyuan::device;
use burn_hunyuan_kernels::{
    GroupNormConfig, RmsNormConfig, add_gated, gelu_tanh, modulated_norm, rotate_pairs,
};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Tokens, heads and channels of a head of the transformer.
const TOKENS: usize = 1536;
const HEADS: usize = 24;
const HEAD: usize = 128;
const WIDTH: usize = HEADS * HEAD;
/// Of a clip inside the VAE.
const CLIP: [usize; 5] = [1, 128, 5, 64, 64];

const ROUNDS: usize = 9;

/// Queues the work of a layer.
type Layer = Box<dyn Fn() -> Box<dyn Any>>;

fn layer<const D: usize>(run: impl Fn() -> Tensor<D> + 'static) -> Layer {
    Box::new(move || Box::new(run()))
}

fn main() -> Result<()> {
    let arguments = std::env::args().skip(1).filter(|a| a != "--bench");
    let arguments: Vec<String> = arguments.collect();
    let device = device::open(arguments.first().map_or("auto", String::as_str))?;
    let wanted = arguments.get(1);
    println!(
        "{}; milliseconds, medians of {ROUNDS}",
        device::description(&device)
    );
    println!(
        "{:<6}{:<28}{:>9}{:>9}{:>9}{:>9}",
        "", "", "layer", "pass", "sum", "passes"
    );
    for dtype in [DType::F32, DType::F16, DType::BF16] {
        if !device.supports_dtype(dtype) {
            continue;
        }
        let layers = transformer(&device, dtype)
            .into_iter()
            .chain(vae(&device, dtype));
        for (name, elements, layer) in layers {
            match wanted {
                None => {
                    let plain = random([TOKENS, elements / TOKENS], dtype, &device);
                    let [layer, pass, sum] = compare(layer, plain, &device)?;
                    let passes = layer.as_secs_f64() / pass.as_secs_f64();
                    let [layer, pass, sum] = [layer, pass, sum].map(|t| t.as_secs_f64() * 1e3);
                    let dtype = dtype.name();
                    println!("{dtype:<6}{name:<28}{layer:>9.2}{pass:>9.2}{sum:>9.2}{passes:>9.1}");
                }
                Some(wanted) if name == wanted => alone(&layer, &device)?,
                Some(_) => (),
            }
        }
    }
    Ok(())
}

/// Medians of a layer, an element-wise pass over `plain` and a sum of its rows, in turn.
fn compare(work: Layer, plain: Tensor<2>, device: &Device) -> Result<[Duration; 3]> {
    let x = plain.clone();
    let works = [
        work,
        layer(move || x.clone() + 1.0),
        layer(move || plain.clone().sum_dim(1)),
    ];
    let mut times: [Vec<Duration>; 3] = Default::default();
    for round in 0..ROUNDS + 3 {
        for (work, times) in works.iter().zip(&mut times) {
            let time = timed(work, device)?;
            // Kernels are compiled, and chosen among, at first.
            if round >= 3 {
                times.push(time);
            }
        }
    }
    Ok(times.map(|mut times| {
        times.sort();
        times[ROUNDS / 2]
    }))
}

fn timed(layer: &Layer, device: &Device) -> Result<Duration> {
    let start = Instant::now();
    let result = layer();
    device.sync()?;
    drop(result);
    Ok(start.elapsed())
}

fn alone(layer: &Layer, device: &Device) -> Result<()> {
    for _ in 0..3 {
        timed(layer, device)?;
    }
    // The log is written by a thread of its own.
    std::thread::sleep(Duration::from_secs(1));
    println!("alone");
    timed(layer, device)?;
    std::thread::sleep(Duration::from_secs(1));
    Ok(())
}

fn random<const D: usize>(shape: [usize; D], dtype: DType, device: &Device) -> Tensor<D> {
    let options = (device, DType::F32);
    let x: Tensor<D> = Tensor::random(shape, Distribution::Normal(0.0, 1.0), options);
    x.cast(dtype)
}

/// The layers of a transformer block: name, elements of their input, work.
fn transformer(device: &Device, dtype: DType) -> Vec<(&'static str, usize, Layer)> {
    let elements = TOKENS * WIDTH;
    let tokens = || random([1, TOKENS, WIDTH], dtype, device);
    let vector = || random([1, 1, WIDTH], dtype, device);
    let heads = || random([1, TOKENS, HEADS, HEAD], dtype, device);
    let (x, shift, scale) = (tokens(), vector(), vector());
    let norm = layer(move || modulated_norm(x.clone(), shift.clone(), scale.clone(), 1e-6));
    let (x, y, gate) = (tokens(), tokens(), vector());
    let gated = layer(move || add_gated(x.clone(), y.clone(), gate.clone()));
    let x = tokens();
    let gelu = layer(move || gelu_tanh(x.clone()));

    let mut rms = RmsNormConfig::new(HEAD).init(device);
    rms.weight = rms.weight.map(|weight| weight.cast(dtype));
    let angles = random([TOKENS, HEAD / 2], DType::F32, device);
    let (cos, sin) = (angles.clone().cos(), angles.sin());
    let (q, both) = (heads(), rms.clone());
    let rms = layer(move || rms.forward(q.clone()));
    let (q, c, s) = (heads(), cos.clone(), sin.clone());
    let rotary = layer(move || rotate_pairs(q.clone(), c.clone(), s.clone()));
    let q = heads();
    let both = layer(move || rotate_pairs(both.forward(q.clone()), cos.clone(), sin.clone()));
    vec![
        ("modulated norm", elements, norm),
        ("gated residual", elements, gated),
        ("tanh GELU", elements, gelu),
        ("RMS norm of heads", elements, rms),
        ("rotary embedding", elements, rotary),
        ("RMS norm, rotary embedding", elements, both),
    ]
}

/// The layers of the VAE.
fn vae(device: &Device, dtype: DType) -> Vec<(&'static str, usize, Layer)> {
    let clip = || random(CLIP, dtype, device);
    let elements = CLIP.iter().product();
    let norm = GroupNormConfig::new(32, CLIP[1]).init(device);
    let (x, with_silu) = (clip(), norm.clone());
    let plain = layer(move || norm.forward(x.clone()));
    let x = clip();
    let with_silu = layer(move || with_silu.forward_silu(x.clone()));
    vec![
        ("group norm", elements, plain),
        ("group norm and SiLU", elements, with_silu),
    ]
}
