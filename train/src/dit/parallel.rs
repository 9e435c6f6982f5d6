//! Batches on several devices at once.

use burn::tensor::Device;
use burn_hunyuan_dit::{Condition, Dit};

use super::{PathPoint, Teacher};
use crate::{
    error::Result,
    optimizer::Gradients,
    parallel::{copy, guarded, on_each},
    parameters::{Parameters, with_parameters},
};

/// A device that takes part of every batch, with a copy of the model.
pub(super) struct Replica {
    /// What the device is called in messages.
    pub name: String,
    /// Without autodiff.
    pub device: Device,
    pub model: Dit,
    pub teacher: Option<Teacher>,
}

impl Replica {
    /// Copies `model`, and a teacher, to `device`.
    ///
    /// # Errors
    /// A device that is gone.
    pub fn new(
        name: String,
        device: &Device,
        model: &Dit,
        teacher: Option<&Teacher>,
    ) -> Result<Self> {
        let copies = || {
            let teacher = teacher.map(|teacher| teacher.fork(device));
            (copy(model, device), teacher)
        };
        let (model, teacher) = guarded(&name, copies)?;
        Ok(Self {
            name,
            device: device.clone().without_autodiff(),
            model,
            teacher,
        })
    }

    /// Takes over new weights.
    ///
    /// # Errors
    /// A device that is gone.
    pub fn update(&mut self, weights: &Parameters) -> Result<()> {
        let model = self.model.clone();
        self.model = guarded(&self.name, || with_parameters(model, weights))?;
        Ok(())
    }
}

/// A part of a batch, and the model that it is for, on the same device.
pub struct Part {
    /// What the device is called in messages.
    pub name: String,
    /// The model on that device.
    pub model: Dit,
    /// What it sees, and what it should say.
    pub point: PathPoint,
    /// What it is told.
    pub condition: Condition,
}

/// The loss of all parts, each multiplied by `share`, and its gradients on the first part's device.
///
/// `of` computes one part, as [`gradients`](super::gradients) does. The sums are in the order of the
/// parts, so the result is the same every time.
///
/// # Errors
/// A device that fails, as a remote one does when it is lost.
pub fn gradients_in_parallel(
    parts: Vec<Part>,
    share: f64,
    of: fn(&Dit, &PathPoint, &Condition, f64) -> (f64, Gradients),
) -> Result<(f64, Gradients)> {
    let (mut loss, mut sum) = (0.0, Gradients::default());
    let Some(home) = parts.first().map(|part| part.point.latents.device()) else {
        return Ok((loss, sum));
    };
    let named = parts.into_iter().map(|part| (part.name.clone(), part));
    let compute = |part: Part| of(&part.model, &part.point, &part.condition, share);
    for (name, (part, gradients)) in on_each(named.collect(), compute)? {
        loss += part;
        guarded(&name, || sum.add(gradients.to_device(&home)))?;
    }
    Ok((loss, sum))
}
