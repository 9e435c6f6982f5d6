//! Puts a trained VAE and a trained transformer into the binary: rounds their weights to f16 and
//! writes them, with their configurations, where the library includes them from.
//!
//! cargo run --release --example tiny_pack -- VAE_FOLDER TRANSFORMER_FOLDER [OUTPUT_FOLDER]

use std::{
    collections::BTreeMap,
    error::Error,
    fs,
    path::{Path, PathBuf},
};

use half::{f16, slice::HalfFloatSliceExt};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let (Some(vae), Some(transformer)) = (arguments.next(), arguments.next()) else {
        eprintln!("usage: tiny_pack VAE_FOLDER TRANSFORMER_FOLDER [OUTPUT_FOLDER]");
        std::process::exit(2);
    };
    let included = concat!(env!("CARGO_MANIFEST_DIR"), "/src/checkpoint/tiny");
    let output = PathBuf::from(arguments.next().unwrap_or_else(|| included.into()));
    for (folder, name) in [(vae, "vae"), (transformer, "transformer")] {
        let weights = output.join(format!("{name}.safetensors"));
        let bytes = pack(Path::new(&folder), &weights)?;
        println!("{}: {:.2} MB", weights.display(), bytes as f64 / 1e6);
    }
    Ok(())
}

/// Writes the weights of `folder`, which training wrote in f32, to `path`, and the configuration
/// beside it. Returns the size of the weights' file.
fn pack(folder: &Path, path: &Path) -> Result<usize> {
    let trained = folder.join("diffusion_pytorch_model.safetensors");
    let file = fs::read(&trained).map_err(|e| format!("cannot read {}: {e}", trained.display()))?;
    let mut halves = BTreeMap::new();
    for (name, tensor) in SafeTensors::deserialize(&file)?.iter() {
        if tensor.dtype() != Dtype::F32 {
            let dtype = tensor.dtype();
            return Err(format!("{}: `{name}` is {dtype:?}, not F32", trained.display()).into());
        }
        let (words, _) = tensor.data().as_chunks();
        let values: Vec<f32> = words.iter().copied().map(f32::from_le_bytes).collect();
        let mut rounded = vec![f16::ZERO; values.len()];
        rounded.convert_from_f32_slice(&values);
        let bytes: Vec<u8> = rounded.iter().flat_map(|half| half.to_le_bytes()).collect();
        halves.insert(name.to_string(), (tensor.shape().to_vec(), bytes));
    }
    let views = halves.iter().map(|(name, (shape, bytes))| {
        Ok((name, TensorView::new(Dtype::F16, shape.clone(), bytes)?))
    });
    let packed = safetensors::serialize(views.collect::<Result<Vec<_>>>()?, None)?;
    fs::write(path, &packed)?;
    fs::copy(folder.join("config.json"), path.with_extension("json"))?;
    Ok(packed.len())
}
