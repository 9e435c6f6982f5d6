//! `.pt` files with float8 weights, as Tencent publishes the transformer: the linear layers of the
//! blocks in `F8_E4M3`, and their scales in a file of their own, `X_map.pt` beside `X.pt`.

use std::{collections::HashMap, fs::File, io::Read, ops::Range, path::Path, sync::Arc};

use ::safetensors::Dtype;
use burn::tensor::bf16;
use zip::{CompressionMethod, ZipArchive};

use super::{
    Encoding, Error, StoredTensor, Weights,
    pickle::{self, Described},
    pt,
    storage::WeightsFile,
};

/// Opens a file that has weights in float8, with their scales.
pub(super) fn open(path: &Path) -> Result<Weights, Error> {
    let malformed = |reason: String| Error::Malformed {
        path: path.to_path_buf(),
        format: "PyTorch",
        reason,
    };
    let file = Arc::new(WeightsFile::open(path)?);
    let archive = Archive::open(path).map_err(|e| malformed(e.to_string()))?;
    let mut weights = Weights::new(path);
    for (name, tensor) in pickle::tensors(&archive.pickle).map_err(malformed)? {
        let place = archive.place(&tensor, file.bytes().len());
        let (dtype, range) = place.map_err(|reason| malformed(format!("`{name}`: {reason}")))?;
        let stored = StoredTensor::new(dtype, tensor.shape, file.clone(), range);
        weights.insert(name, stored);
    }
    scaled(pt::unwrapped(weights))
}

/// Multiplies the scales of the file beside it into the weights.
fn scaled(mut weights: Weights) -> Result<Weights, Error> {
    let path = weights.origin().to_path_buf();
    let unsupported = |what: String| Error::Unsupported {
        path: path.clone(),
        what,
    };
    let mut name = path.file_stem().unwrap_or_default().to_os_string();
    name.push("_map.pt");
    let map = path.with_file_name(name);
    if !map.is_file() {
        return Err(unsupported(format!(
            "its float8 weights need their scales, and {} is not there; it is published beside them",
            map.display()
        )));
    }
    let layers = pt::open(&map)?;
    let unscaled = |(name, tensor): (&str, &StoredTensor)| {
        let is_fp8 = tensor.encoding() == Encoding::Plain(Dtype::F8_E4M3);
        let layer = name.strip_suffix(".weight");
        (is_fp8 && layer.is_none_or(|layer| layers.get(layer).is_none())).then(|| name.to_string())
    };
    if let Some(name) = weights.iter().find_map(unscaled) {
        return Err(unsupported(format!(
            "{} has no scale for `{name}`",
            map.display()
        )));
    }
    for (layer, scale) in layers.iter() {
        let values: Vec<f32> = scale.values(layer)?.iter::<f32>().collect();
        let weight = format!("{layer}.weight");
        match (weights.remove(&weight), values.as_slice()) {
            // Tencent's program rounds the scale, before it multiplies.
            (Some(tensor), [scale]) => {
                let scale = bf16::from_f32(*scale).to_f32();
                weights.insert(weight, tensor.scaled(scale));
            }
            _ => {
                return Err(unsupported(format!(
                    "{} has {} scales for `{weight}`, where one belongs to each float8 weight",
                    map.display(),
                    values.len()
                )));
            }
        }
    }
    Ok(weights)
}

/// An archive of `torch.save`.
struct Archive {
    pickle: Vec<u8>,
    /// Where in the file the entries below `data/` lie.
    storages: HashMap<String, Range<usize>>,
}

impl Archive {
    fn open(path: &Path) -> zip::result::ZipResult<Self> {
        let mut archive = ZipArchive::new(File::open(path)?)?;
        let (mut pickle, mut storages) = (Vec::new(), HashMap::new());
        for index in 0..archive.len() {
            let mut entry = archive.by_index(index)?;
            let name = entry.name()?.into_owned();
            if name.ends_with("/data.pkl") {
                entry.read_to_end(&mut pickle)?;
            } else if let Some((_, key)) = name.split_once("/data/")
                && let (CompressionMethod::Stored, Some(start)) =
                    (entry.compression(), entry.data_start())
            {
                let start = start as usize;
                storages.insert(key.to_string(), start..start + entry.size() as usize);
            }
        }
        Ok(Self { pickle, storages })
    }

    /// The number format of a tensor and its bytes in a file of `length` bytes.
    fn place(&self, tensor: &Described, length: usize) -> Result<(Dtype, Range<usize>), String> {
        let dtype = match &*tensor.format {
            "float8_e4m3fn" => Dtype::F8_E4M3,
            "float8_e5m2" => Dtype::F8_E5M2,
            "BFloat16Storage" => Dtype::BF16,
            "HalfStorage" => Dtype::F16,
            "FloatStorage" => Dtype::F32,
            other => return Err(format!("numbers as {other} are not read beside float8")),
        };
        let mut elements = 1_usize;
        for (&extent, &stride) in tensor.shape.iter().zip(&tensor.strides).rev() {
            if extent > 1 && stride != elements {
                return Err("it is not contiguous".into());
            }
            elements = elements.checked_mul(extent).ok_or("it is too large")?;
        }
        let storage = self.storages.get(&*tensor.storage);
        let storage = storage.ok_or("its bytes are missing, or compressed")?;
        let bytes = |elements: usize| elements.checked_mul(dtype.bitsize() / 8);
        let range = bytes(tensor.offset)
            .and_then(|offset| storage.start.checked_add(offset))
            .and_then(|start| Some(start..start.checked_add(bytes(elements)?)?))
            .filter(|range| range.end <= storage.end && range.end <= length);
        Ok((dtype, range.ok_or("it is cut short")?))
    }
}
