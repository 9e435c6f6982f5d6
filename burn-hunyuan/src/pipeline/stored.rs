//! Blocks and layers that are loaded when they run, one after the other.

use std::{
    ops::ControlFlow,
    panic::resume_unwind,
    sync::{
        Arc,
        mpsc::{Receiver, sync_channel},
    },
    thread::{self, JoinHandle},
};

use burn::{
    module::Module,
    tensor::{Device, FloatDType},
};

use super::load::load_onto;
use crate::checkpoint::{Error, Part, Weights};

/// Where the transformer's blocks and LLaMA's layers are while they do not run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Offload {
    /// As [`None`](Self::None) where that is predicted to fit in the device's memory, else as
    /// [`Blocks`](Self::Blocks). Compressed weights that the device would hold in full, such as on a
    /// CPU, wait as well, so that they stay small.
    #[default]
    Auto,
    /// In the file, or compressed in the host's memory. While one runs on the device, the next is read
    /// and uploaded.
    Blocks,
    /// On the device: compressed if they are stored so that an accelerator
    /// [can decode](crate::checkpoint::Encoding::is_decoded_by_devices) them, else in the run's number
    /// format.
    None,
}

/// The parts of a model that are alike, not loaded; `C` is the model's configuration.
pub(super) struct Stored<C> {
    pub config: C,
    /// Of each part.
    weights: Vec<Weights>,
    pub device: Device,
    dtype: FloatDType,
}

impl<C: Clone> Stored<C> {
    /// Takes the parts whose parameters' names begin with `prefixes` out of a model's weights, to be
    /// loaded onto `device` as `dtype`.
    pub fn take(
        model: &mut Part<C>,
        prefixes: &[String],
        device: &Device,
        dtype: FloatDType,
    ) -> Self {
        let all = &mut model.weights;
        let weights = prefixes.iter().map(|prefix| all.under(prefix)).collect();
        all.retain(|name| !prefixes.iter().any(|prefix| name.starts_with(prefix)));
        Self {
            config: model.config.clone(),
            weights,
            device: device.clone(),
            dtype,
        }
    }

    /// Loads `part`, which is the one of this index.
    pub fn load<M: Module>(&self, part: M, index: usize) -> Result<M, Error> {
        let go_on = &mut |_, _| ControlFlow::Continue(());
        load_onto(&self.device, part, &self.weights[index], self.dtype, go_on)
    }

    /// All parts in order, as `load` gives them.
    pub fn stream<T: Send + 'static>(
        self: &Arc<Self>,
        load: fn(&Self, usize) -> Result<T, Error>,
    ) -> Stream<T>
    where
        C: Send + Sync + 'static,
    {
        // Without room for a part: the reader waits with one in its hands.
        let (sender, receiver) = sync_channel(0);
        let stored = self.clone();
        let reader = thread::spawn(move || {
            for index in 0..stored.weights.len() {
                if sender.send(load(&stored, index)).is_err() {
                    break; // nobody wants more
                }
            }
        });
        Stream {
            device: self.device.clone(),
            parts: Some(receiver),
            reader: Some(reader),
        }
    }
}

/// Parts in order. A thread loads the next one while one runs, so that two are in memory.
pub(super) struct Stream<T> {
    device: Device,
    parts: Option<Receiver<Result<T, Error>>>,
    reader: Option<JoinHandle<()>>,
}

impl<T> Stream<T> {
    /// Waits until the reader has stopped.
    fn join(&mut self) -> thread::Result<()> {
        self.parts = None;
        self.reader.take().map_or(Ok(()), JoinHandle::join)
    }
}

impl<T> Iterator for Stream<T> {
    type Item = Result<T, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        // The device runs behind: before the reader goes on, the last part's memory has to be free.
        // A failure is reported by the next read of a tensor.
        let _ = self.device.sync();
        let part = self.parts.as_ref()?.recv();
        part.ok().or_else(|| {
            // The end, or a panic, which must not pass for the end.
            self.join().unwrap_or_else(|panic| resume_unwind(panic));
            None
        })
    }
}

impl<T> Drop for Stream<T> {
    fn drop(&mut self) {
        // A panic of the reader was raised by `next`, or nobody waited for its part.
        let _ = self.join();
    }
}
