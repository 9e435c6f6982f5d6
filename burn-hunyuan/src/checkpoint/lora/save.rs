//! LoRA files in the formats of other programs.

use std::{collections::BTreeMap, io::Write, path::Path};

use ::safetensors::{Dtype, tensor::TensorView};
use half::{bf16, f16};

use super::{Lora, LowRank};
use crate::{
    checkpoint::{
        Encoding, Error as CheckpointError,
        layout::{Part, dit},
    },
    error::{Error, Result},
    video::OutputFile,
};

/// Whose keys a LoRA file has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoraFormat {
    /// kohya's and musubi-tuner's: `lora_unet_double_blocks_0_img_attn_qkv.lora_down.weight`, with
    /// an alpha for each layer.
    Kohya,
    /// diffusers' and PEFT's: `transformer.transformer_blocks.0.attn.to_q.lora_A.weight`.
    Diffusers,
    /// Tencent's names of the layers, as diffusion-pipe writes and ComfyUI reads them:
    /// `diffusion_model.double_blocks.0.img_attn_qkv.lora_A.weight`.
    Original,
}

/// A matrix in memory.
#[derive(Clone, Debug, PartialEq)]
struct Matrix {
    rows: usize,
    columns: usize,
    values: Vec<f32>,
}

/// The update of a layer of the file.
struct Product {
    down: Matrix,
    up: Matrix,
    scale: f64,
    dtype: Dtype,
}

impl Lora {
    /// Writes the LoRA in another format, every matrix in the number format that it had.
    ///
    /// Layers that the format fuses keep their rank where they share their `down` matrix, as those
    /// do that were split when they were read; else the fused rank is the sum of theirs.
    ///
    /// # Errors
    /// When the file cannot be read or written, and for a file with differences (`.diff`, `.diff_b`),
    /// which only ComfyUI's format has.
    pub fn save(&self, path: &Path, format: LoraFormat) -> Result<()> {
        if let Some(difference) = self.differences.first() {
            let what = format!(
                "it adds a difference to `{}.{}` (.diff or .diff_b), which is not converted; add \
                 it to a transformer with `lora merge`",
                difference.layer, difference.leaf
            );
            let path = self.origin.clone();
            return Err(CheckpointError::Unsupported { path, what }.into());
        }
        let column = match format {
            LoraFormat::Diffusers => dit::DIFFUSERS,
            LoraFormat::Kohya | LoraFormat::Original => dit::TENCENT,
        };
        let mut layers: BTreeMap<String, BTreeMap<&str, &LowRank>> = BTreeMap::new();
        for (layer, update) in &self.updates {
            let Some((theirs, _)) = dit::layer_in(column, layer) else {
                unreachable!("`{layer}` came out of the same table");
            };
            layers.entry(theirs).or_default().insert(layer, update);
        }
        let mut file = OutputFile::create(path)?;
        let mut tensors = BTreeMap::new();
        for (layer, updates) in layers {
            let parts = dit::our_layers(column, &layer, '.');
            let product = fuse(&layer, &parts, &updates, self.mlp_ratio)?;
            format.spell(&layer, product, &mut tensors);
        }
        let unusable = |error| Error::tensors(path, error);
        let mut views = Vec::new();
        for (key, (dtype, shape, bytes)) in &tensors {
            let view = TensorView::new(*dtype, shape.clone(), bytes).map_err(unusable)?;
            views.push((key, view));
        }
        let about = Some([("format".to_string(), "pt".to_string())].into());
        let bytes = ::safetensors::serialize(views, about).map_err(unusable)?;
        file.write_all(&bytes).map_err(|e| file.error(e))?;
        Ok(file.commit()?)
    }
}

/// Tensors to be written: number format, extents, bytes.
type Tensors = BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)>;

impl LoraFormat {
    /// Adds the tensors of a layer under the format's keys.
    fn spell(self, layer: &str, product: Product, tensors: &mut Tensors) {
        let Product {
            down,
            mut up,
            scale,
            dtype,
        } = product;
        let (down_key, up_key) = match self {
            Self::Kohya => {
                let layer = format!("lora_unet_{}", layer.replace('.', "_"));
                let alpha = (scale * down.rows as f64) as f32;
                let alpha = (Dtype::F32, Vec::new(), alpha.to_le_bytes().to_vec());
                tensors.insert(format!("{layer}.alpha"), alpha);
                (
                    format!("{layer}.lora_down.weight"),
                    format!("{layer}.lora_up.weight"),
                )
            }
            Self::Diffusers | Self::Original => {
                let model = match self {
                    Self::Diffusers => "transformer",
                    _ => "diffusion_model",
                };
                // These formats have no place for a scale that every program reads.
                up.scale(scale);
                let layer = format!("{model}.{layer}");
                (
                    format!("{layer}.lora_A.weight"),
                    format!("{layer}.lora_B.weight"),
                )
            }
        };
        for (key, matrix) in [(down_key, down), (up_key, up)] {
            let shape = vec![matrix.rows, matrix.columns];
            tensors.insert(key, (dtype, shape, to_bytes(&matrix.values, dtype)));
        }
    }
}

/// Joins the updates of the layers of ours that make up one layer of the file.
fn fuse(
    layer: &str,
    parts: &[(String, Part)],
    updates: &BTreeMap<&str, &LowRank>,
    mlp_ratio: f64,
) -> Result<Product> {
    let mut found = Vec::new();
    for update in updates.values() {
        found.push((
            Matrix::read(layer, &update.down)?,
            Matrix::read(layer, &update.up)?,
            update.scale,
        ));
    }
    let dtype = updates
        .values()
        .next()
        .map_or(Dtype::F32, |update| match update.down.encoding() {
            Encoding::Plain(dtype @ (Dtype::F16 | Dtype::BF16)) => dtype,
            _ => Dtype::F32,
        });
    let same = found
        .windows(2)
        .all(|pair| pair[0].0 == pair[1].0 && pair[0].2 == pair[1].2);
    let (down, scale) = match (&found[0], same) {
        ((down, _, scale), true) => (down.clone(), *scale),
        _ => (Matrix::stack(found.iter().map(|(down, ..)| down)), 1.0),
    };
    let (mut rows, mut first) = (Vec::new(), 0);
    // The updates are ordered by name, and so are their columns; the rows go by the table.
    let mut columns_of = BTreeMap::new();
    for (name, (_, up, own_scale)) in updates.keys().zip(&found) {
        let mut up = up.clone();
        if !same {
            up.scale(*own_scale);
        }
        columns_of.insert(*name, (if same { 0 } else { first }, up.clone()));
        first += up.columns;
    }
    for (name, part) in parts {
        let block = match columns_of.remove(name.as_str()) {
            Some((column, up)) => up.placed(column, down.rows),
            None => Matrix::zeros(missing_rows(*part, down.columns, mlp_ratio), down.rows),
        };
        rows.push(if *part == Part::Swapped {
            block.swapped()
        } else {
            block
        });
    }
    let up = Matrix::stack(rows.iter());
    Ok(Product {
        down,
        up,
        scale,
        dtype,
    })
}

/// Rows of a part of a fused layer that the LoRA leaves alone.
fn missing_rows(part: Part, width: usize, mlp_ratio: f64) -> usize {
    match part {
        // The feed-forward part of a single block.
        Part::After(_) => (width as f64 * mlp_ratio) as usize,
        _ => width,
    }
}

impl Matrix {
    fn read(layer: &str, tensor: &super::StoredTensor) -> Result<Self> {
        Ok(Self {
            rows: tensor.shape()[0],
            columns: tensor.shape()[1],
            values: tensor.values(layer)?.iter::<f32>().collect(),
        })
    }

    fn zeros(rows: usize, columns: usize) -> Self {
        let values = vec![0.0; rows * columns];
        Self {
            rows,
            columns,
            values,
        }
    }

    fn scale(&mut self, factor: f64) {
        for value in &mut self.values {
            *value = (f64::from(*value) * factor) as f32;
        }
    }

    /// One below the other.
    fn stack<'a>(matrices: impl Iterator<Item = &'a Self>) -> Self {
        let mut stacked = Self::zeros(0, 0);
        for matrix in matrices {
            stacked.rows += matrix.rows;
            stacked.columns = matrix.columns;
            stacked.values.extend_from_slice(&matrix.values);
        }
        stacked
    }

    /// Among `columns` columns, from column `first` on; zero elsewhere.
    fn placed(&self, first: usize, columns: usize) -> Self {
        let mut placed = Self::zeros(self.rows, columns);
        for row in 0..self.rows {
            let from = &self.values[row * self.columns..][..self.columns];
            placed.values[row * columns + first..][..self.columns].copy_from_slice(from);
        }
        placed
    }

    /// Second half of the rows, then the first.
    fn swapped(mut self) -> Self {
        self.values.rotate_left(self.rows / 2 * self.columns);
        self
    }
}

fn to_bytes(values: &[f32], dtype: Dtype) -> Vec<u8> {
    match dtype {
        Dtype::F16 => values
            .iter()
            .flat_map(|v| f16::from_f32(*v).to_le_bytes())
            .collect(),
        Dtype::BF16 => values
            .iter()
            .flat_map(|v| bf16::from_f32(*v).to_le_bytes())
            .collect(),
        _ => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
    }
}
