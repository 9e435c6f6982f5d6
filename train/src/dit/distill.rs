//! Guidance distillation: one pass that does what guidance needs two for.

use burn::{
    module::Module,
    tensor::{Device, Tensor},
};
use burn_hunyuan_dit::{Condition, Dit};
use rand::RngExt;
use rand_chacha::ChaCha12Rng;
use serde::{Deserialize, Serialize};

use super::{PathPoint, initialise};
use crate::{
    error::{Result, require},
    parameters::{parameters, with_parameters},
};

/// Section `[distill]` of a configuration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DistillConfig {
    /// The least and the largest guidance scale that the student learns.
    pub scales: [f64; 2],
}

impl Default for DistillConfig {
    fn default() -> Self {
        Self { scales: [1.0, 8.0] }
    }
}

impl DistillConfig {
    /// Refuses values that cannot be meant.
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config) with the field's name.
    pub fn validate(&self) -> Result<()> {
        let [low, high] = self.scales;
        require(&[(
            low < high && high.is_finite(),
            "distill.scales has to be [LEAST, LARGEST]",
        )])
    }

    /// A guidance scale for each of `batch` samples.
    pub fn draw_scales(&self, batch: usize, rng: &mut ChaCha12Rng) -> Vec<f32> {
        let [low, high] = self.scales;
        (0..batch)
            .map(|_| rng.random_range(low..high) as f32)
            .collect()
    }
}

/// The transformer that a student learns from: one without guidance embedding
/// (arXiv 2412.03603, "Text-guidance distillation"; arXiv 2210.03142).
#[derive(Debug)]
pub struct Teacher(Dit);

impl Teacher {
    /// A teacher, which is not trained.
    pub fn new(model: &Dit) -> Self {
        Self(model.valid())
    }

    /// The same on another device.
    pub fn fork(&self, device: &Device) -> Self {
        Self(self.0.clone().fork(device))
    }

    /// The velocity with classifier-free guidance, `empty + scale · (told − empty)`, at a point of
    /// the path. `scales`: one for each sample.
    pub fn guided_velocity(
        &self,
        point: &PathPoint,
        told: &Condition,
        empty: &Condition,
        scales: &[f32],
    ) -> Tensor<5> {
        let velocity = |condition| {
            let (latents, timestep) = (point.latents.clone(), point.timestep.clone());
            let latents = latents.without_autodiff();
            self.0
                .forward(latents, timestep.without_autodiff(), condition)
        };
        let (told, empty) = (velocity(told), velocity(empty));
        let options = (&told.device(), told.dtype());
        let scales = Tensor::<1>::from_data(scales, options).reshape([-1, 1, 1, 1, 1]);
        empty.clone() + (told - empty) * scales
    }
}

/// `student`, which has a guidance embedding, with the weights of `teacher`, which has none: at
/// first it ignores the scale and says what the teacher says.
pub fn student(student: Dit, teacher: &Dit, seed: u64) -> Dit {
    let student = initialise(student, seed);
    let mut weights = parameters(teacher);
    for (name, parameter) in parameters(&student) {
        if name.starts_with("guidance_in.fc2.") {
            let zeros = parameter.values.zeros_like();
            weights.insert(name, parameter.with_values(zeros));
        }
    }
    with_parameters(student, &weights)
}
