//! Faults of this program: errors of the file at which they came up.

use std::{
    panic::{self, AssertUnwindSafe},
    path::Path,
};

use crate::{Error, Result};

/// What `work` on a file returns. Where it panics, that is an error of this file: no reason to leave
/// the others. `work` must not leave anything half-done that is used afterwards.
///
/// # Errors
/// Those of `work`, and its panic.
pub(super) fn guarded<T>(path: &Path, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let result = panic::catch_unwind(AssertUnwindSafe(work));
    result.unwrap_or_else(|_| Err(fault(path)))
}

/// The error of a file at which this program failed.
pub(super) fn fault(path: &Path) -> Error {
    Error::Unusable {
        path: path.into(),
        problem: "the work on it failed; this is a fault of the program".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_an_error_of_the_file() {
        let path = Path::new("film.mp4");
        assert_eq!(guarded(path, || Ok(7)).unwrap(), 7);
        let failed: Result<()> = guarded(path, || Err(Error::Interrupted));
        assert!(matches!(failed, Err(Error::Interrupted)));
        let failed: Result<()> = guarded(path, || panic!("on purpose"));
        let error = failed.unwrap_err().to_string();
        assert_eq!(
            error,
            "film.mp4: the work on it failed; this is a fault of the program"
        );
    }
}
