//! Work on several devices at once.
//!
//! Every device has a copy of what is trained and a part of each step's data. Gradients come to the
//! first device, where the weights are updated; from there they go to the copies. All of it is
//! movement of tensors between burn's devices, local or remote.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
    thread,
};

use burn::{module::Module, tensor::Device};

use crate::error::{Error, Result};

/// A copy of `module` to be trained on `device`.
pub(crate) fn copy<M: Module>(module: &M, device: &Device) -> M {
    module.valid().fork(device).train()
}

/// Does `work` with all parts at once; each comes with the name that its device has in messages.
/// The first part stays on this thread, every other has one of its own. The results are in the
/// order of the parts.
///
/// # Errors
/// A device that fails, as a remote one does when it is lost.
pub(crate) fn on_each<P: Send, T: Send>(
    parts: Vec<(String, P)>,
    work: impl Fn(P) -> T + Sync,
) -> Result<Vec<(String, T)>> {
    let work = |(name, part): (String, P)| guarded(&name, || work(part)).map(|done| (name, done));
    let mut parts = parts.into_iter();
    let Some(first) = parts.next() else {
        return Ok(Vec::new());
    };
    thread::scope(|scope| {
        let work = &work;
        let others: Vec<_> = parts
            .map(|part| (part.0.clone(), scope.spawn(move || work(part))))
            .collect();
        let mut done = vec![work(first)?];
        for (name, thread) in others {
            let joined = thread.join();
            done.push(joined.unwrap_or_else(|panic| Err(failure(&name, reason(panic.as_ref()))))?);
        }
        Ok(done)
    })
}

/// Does `work` on the device called `name`. burn panics where a device fails.
///
/// # Errors
/// With what the panic said.
pub(crate) fn guarded<T>(name: &str, work: impl FnOnce() -> T) -> Result<T> {
    // Whatever the work has left half done is dropped with the run.
    caught(work).map_err(|reason| failure(name, reason))
}

/// Does `work` that the run can do without.
///
/// # Errors
/// What a panic of it said.
pub(crate) fn caught<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|panic| reason(panic.as_ref()))
}

fn reason(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or("it gave no reason").to_string()
}

fn failure(name: &str, reason: String) -> Error {
    Error::Device {
        device: name.to_string(),
        reason,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_keep_the_order_of_the_parts_and_a_failure_has_its_name() {
        let parts = || [3, 1, 2].map(|n| (format!("device {n}"), n)).into();
        let squares = on_each(parts(), |n| n * n).unwrap();
        let expected = [("device 3", 9), ("device 1", 1), ("device 2", 4)];
        assert_eq!(squares, expected.map(|(name, n)| (name.to_string(), n)));
        for lost in [3, 2] {
            let error = on_each(parts(), |n| assert_ne!(n, lost, "gone")).unwrap_err();
            let message = error.to_string();
            let named = message.contains(&format!("device {lost}"));
            assert!(named && message.contains("gone"), "{message}");
        }
    }
}
