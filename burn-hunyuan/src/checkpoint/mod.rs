//! Checkpoints: names, files and formats. The models know tensors only.
//!
//! | step | what happens | file |
//! | --- | --- | --- |
//! | [`Model::open`] | finds the four components in folders and files | `model` |
//! | [`Weights::open`] | lists a file's tensors and where their bytes are | `weights`, `weight_set`, `safetensors`, `pt`, `gguf` |
//! | [`recognise`] | tells component and layout from the names, and renames to ours | `layout` |
//! | [`Model::vae`] and its like | sizes from tensors, `config.json`, or the published model | `sizes` |
//! | [`Model::add_lora`] | notes low-rank updates, which are added when the weights are read | `lora` |
//! | [`load_module`] | streams the tensors to the device, one at a time | `load`, `convert`, `packed`, `encoding`, `storage` |
//!
//! [`save_transformer`] writes a transformer with its updates to a file (`merge`), `save_trained` one
//! that was trained (`export`), [`save_quantized`] one in fewer bits (`quantize`). `load_lpips` reads the
//! network of a training loss.
//!
//! Only the last step of the table reads weights. [`inspect`] stops before it and reports what it would find.
//!
//! Layouts that are read: diffusers; Tencent's original, with fused projections; the files
//! repackaged for ComfyUI; latent diffusion's names for the VAE; and the names of our own modules.
//! Another is added by a column of the table in `layout/dit.rs`.

mod convert;
mod encoding;
mod error;
#[cfg(feature = "train")]
mod export;
mod gguf;
#[cfg(feature = "hub")]
pub mod hub;
mod inspect;
mod layout;
mod load;
mod lora;
#[cfg(feature = "train")]
mod lpips;
mod merge;
mod model;
mod packed;
mod pickle;
mod pt;
mod pt_fp8;
mod quantize;
pub(crate) mod safetensors;
mod scales;
mod sizes;
mod storage;
mod stored_tensor;
mod tiny;
mod weight_set;
mod weights;
mod whole;

pub use encoding::{BlockType, Encoding};
pub use error::Error;
#[cfg(feature = "train")]
pub use export::save_trained;
pub use inspect::{ComponentReport, Report, inspect};
pub use layout::{Component, Recognised, recognise};
pub use load::{Mismatch, Parameter, check, load_compressed, load_module, parameters};
pub use lora::{Lora, LoraFormat};
#[cfg(feature = "train")]
pub use lpips::load_lpips;
pub use merge::save_transformer;
pub use model::{Model, Part};
pub use quantize::{Quantization, quantize, save_quantized};
pub use sizes::transformer_config;
pub use stored_tensor::StoredTensor;
pub use weights::Weights;
