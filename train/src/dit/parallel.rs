//! Data parallelism: the parts of a batch on several devices at once.
//!
//! Every device has a copy of the model. The gradients come to the first device, where the weights
//! are updated; from there they go to the copies. All of it is movement of tensors between burn's
//! devices, local or remote.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
    thread,
};

use burn::{module::Module, tensor::Device};
use burn_hunyuan_dit::{Condition, Dit};

use super::{PathPoint, Teacher};
use crate::{
    error::{Error, Result},
    optimizer::Gradients,
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
        guarded(&name, || {
            let model = model.valid().fork(device).train();
            (model, teacher.map(|teacher| teacher.fork(device)))
        })
        .map(|(model, teacher)| Self {
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
/// `of` computes one part, as [`gradients`](super::gradients) does. Every part but the first has a
/// thread of its own; the sums are in the order of the parts, so the result is the same every time.
///
/// # Errors
/// A device that fails, as a remote one does when it is lost.
pub fn gradients_in_parallel(
    parts: Vec<Part>,
    share: f64,
    of: fn(&Dit, &PathPoint, &Condition, f64) -> (f64, Gradients),
) -> Result<(f64, Gradients)> {
    let mut parts = parts.into_iter();
    let Some(first) = parts.next() else {
        return Ok((0.0, Gradients::default()));
    };
    let home = first.point.latents.device();
    let compute = |part: &Part| {
        let of = || of(&part.model, &part.point, &part.condition, share);
        guarded(&part.name, of)
    };
    thread::scope(|scope| {
        let spawn = |part: Part| (part.name.clone(), scope.spawn(move || compute(&part)));
        let others: Vec<_> = parts.map(spawn).collect();
        let (mut loss, mut sum) = compute(&first)?;
        for (name, thread) in others {
            let joined = thread
                .join()
                .map_err(|panic| failure(&name, panic.as_ref()));
            let (part, gradients) = joined??;
            loss += part;
            guarded(&name, || sum.add(gradients.to_device(&home)))?;
        }
        Ok((loss, sum))
    })
}

/// Does `work` on the device called `name`. burn panics where a device fails.
///
/// # Errors
/// With what the panic said.
pub(super) fn guarded<T>(name: &str, work: impl FnOnce() -> T) -> Result<T> {
    // Whatever the work has left half done is dropped with the run.
    catch_unwind(AssertUnwindSafe(work)).map_err(|panic| failure(name, panic.as_ref()))
}

fn failure(name: &str, panic: &(dyn Any + Send)) -> Error {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    Error::Device {
        device: name.to_string(),
        reason: text.unwrap_or("it gave no reason").to_string(),
    }
}
