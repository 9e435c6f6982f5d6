//! Training of the diffusion transformer (arXiv 2412.03603, "Model-pretraining").

mod batches;
mod distill;
mod flow;
mod init;
mod lora;
mod parallel;
mod recipe;
mod recompute;
mod samples;
mod shard_writer;
mod shards;
mod task;

use burn_hunyuan_dit::{Condition, Dit};

use crate::optimizer::Gradients;

pub use batches::{BatchConfig, Batches, Position};
pub use distill::{DistillConfig, Teacher, student};
pub use flow::{FlowConfig, PathPoint, noise};
pub use init::initialise;
pub use lora::{LoraConfig, Target};
pub use parallel::{Part, gradients_in_parallel};
pub use recipe::{ModelConfig, Recipe, Split};
pub use recompute::gradients_by_block;
pub use samples::{Sampler, SamplesConfig};
pub use shard_writer::{CachedCaption, ShardWriter};
pub use shards::Shards;
pub use task::DitTask;

/// The loss of `model` at a point of the path times `share`, and its gradients.
pub fn gradients(
    model: &Dit,
    point: &PathPoint,
    condition: &Condition,
    share: f64,
) -> (f64, Gradients) {
    let loss = point.loss(model, condition) * share;
    let gradients = Gradients::of(model, &mut loss.backward());
    (f64::from(loss.into_scalar::<f32>()), gradients)
}
