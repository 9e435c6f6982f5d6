//! LoRA: low-rank updates beside the weights of a transformer that stays as it is.

use burn::{
    module::{LoraAdapter, Module, Param, Reparameterizer},
    tensor::{Tensor, TensorData},
};
use burn_hunyuan_dit::Dit;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha12Rng;
use serde::{Deserialize, Serialize};

use crate::error::{Result, require};

/// Section `[lora]` of a configuration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LoraConfig {
    /// Rank of the updates.
    pub rank: usize,
    /// An update is multiplied by `alpha / rank`.
    pub alpha: f64,
    /// The layers of the dual and single blocks that are updated: `q`, `k`, `v`, `proj`, `mlp`.
    pub targets: Vec<Target>,
}

impl Default for LoraConfig {
    fn default() -> Self {
        use Target::{K, Mlp, Proj, Q, V};
        Self {
            rank: 16,
            alpha: 16.0,
            targets: vec![Q, K, V, Proj, Mlp],
        }
    }
}

/// Linear layers of the blocks, of image and text tokens both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Target {
    /// Queries.
    Q,
    /// Keys.
    K,
    /// Values.
    V,
    /// Attention's output; in a single block together with the feed-forward part's.
    Proj,
    /// The feed-forward part; in a single block its first layer.
    Mlp,
}

impl Target {
    /// The target that a parameter is the weight of.
    fn of(path: &str) -> Option<Self> {
        let layer = path.strip_suffix(".weight")?;
        if !layer.starts_with("dual_blocks.") && !layer.starts_with("single_blocks.") {
            return None;
        }
        match layer.rsplit('.').next()? {
            "q" => Some(Self::Q),
            "k" => Some(Self::K),
            "v" => Some(Self::V),
            "proj" => Some(Self::Proj),
            "mlp" | "fc1" | "fc2" => Some(Self::Mlp),
            _ => None,
        }
    }
}

impl LoraConfig {
    /// Refuses values that cannot be meant.
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config) with the field's name.
    pub fn validate(&self) -> Result<()> {
        require(&[
            (self.rank > 0, "lora.rank has to be above 0"),
            (
                self.alpha > 0.0 && self.alpha.is_finite(),
                "lora.alpha has to be above 0",
            ),
            (
                !self.targets.is_empty(),
                "lora.targets has to name a layer: q, k, v, proj or mlp",
            ),
        ])
    }

    /// The factor of the updates.
    pub fn scale(&self) -> f64 {
        self.alpha / self.rank as f64
    }

    /// `model` with LoRAs at the targets, in the model's dtype, and no other parameter that wants a
    /// gradient.
    ///
    /// `A` is uniform in ±1/√inputs, the same for a seed on every device, and `B` is zero, so the
    /// model computes what it did before (PEFT's and kohya's start).
    pub fn attach(&self, model: Dit, seed: u64) -> Dit {
        model.apply_reparameterization(Attach {
            config: self,
            rng: ChaCha12Rng::seed_from_u64(seed),
        })
    }
}

struct Attach<'a> {
    config: &'a LoraConfig,
    rng: ChaCha12Rng,
}

impl Reparameterizer for Attach<'_> {
    type Reparam = LoraAdapter;

    fn reparameterize<const D: usize>(
        &mut self,
        path: &str,
        param: Param<Tensor<D>>,
    ) -> (Param<Tensor<D>>, Option<LoraAdapter>) {
        let weight = param.set_require_grad(false);
        let is_target = Target::of(path).is_some_and(|t| self.config.targets.contains(&t));
        let (dims, rank) = (weight.dims(), self.config.rank);
        let (true, &[inputs, outputs]) = (is_target, dims.as_slice()) else {
            return (weight, None);
        };
        let limit = 1.0 / (inputs as f32).sqrt();
        let values: Vec<f32> = (0..inputs * rank)
            .map(|_| self.rng.random_range(-limit..limit))
            .collect();
        let options = (&weight.device(), weight.dtype());
        let adapter = LoraAdapter {
            a: Param::from_tensor(Tensor::from_data(
                TensorData::new(values, [inputs, rank]),
                options,
            )),
            b: Param::from_tensor(Tensor::zeros([rank, outputs], options)),
            scale: self.config.scale(),
        };
        (weight, Some(adapter))
    }
}
