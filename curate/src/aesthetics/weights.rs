//! Published weight files into modules.

use std::{collections::BTreeMap, path::Path};

use burn::{module::Module, tensor::DType};
use burn_store::{
    ApplyError, FloatCastAdapter, ModuleAdapter, ModuleSnapshot, ModuleStore, PyTorchToBurnAdapter,
    PytorchStore, SafetensorsStore, burn_pack::Tensor,
};

use crate::{Error, Result};

/// The tensors of a file by name: safetensors by its ending, else what `torch.save` writes.
///
/// # Errors
/// When there is no such file or it cannot be read.
pub(crate) fn open(path: &Path) -> Result<BTreeMap<String, Tensor>> {
    std::fs::File::open(path).map_err(|source| Error::File {
        action: "read",
        path: path.into(),
        source,
    })?;
    let tensors = if path
        .extension()
        .is_some_and(|ending| ending == "safetensors")
    {
        let mut store = SafetensorsStore::from_file(path);
        store.get_all_tensors().cloned().map_err(|e| e.to_string())
    } else {
        let mut store = PytorchStore::from_file(path);
        store.get_all_tensors().cloned().map_err(|e| e.to_string())
    };
    tensors.map_err(|problem| unusable(path, format!("not a usable weight file: {problem}")))
}

/// Fills every parameter of a module, in f32. Tensors that it has no parameter for are passed over.
///
/// # Errors
/// When a tensor is missing, has another shape or cannot be read; it is named.
pub(crate) fn fill<M: Module>(
    mut module: M,
    tensors: BTreeMap<String, Tensor>,
    path: &Path,
) -> Result<M> {
    let named = tensors.into_iter().map(|(name, mut tensor)| {
        tensor.name = name;
        tensor
    });
    let adapter = PyTorchToBurnAdapter.chain(FloatCastAdapter::to(DType::F32));
    let result = module.apply(named.collect(), None, Some(Box::new(adapter)), false);
    if let Some(error) = result.errors.first() {
        return Err(unusable(path, describe(error)));
    }
    if let Some((name, _)) = result.missing.first() {
        let name = file_name(name);
        let count = result.missing.len();
        let more = match count {
            1 => String::new(),
            _ => format!(" and {} more", count - 1),
        };
        let problem = format!("lacks the tensor `{name}`{more}; is it the file of another model?");
        return Err(unusable(path, problem));
    }
    Ok(module)
}

fn describe(error: &ApplyError) -> String {
    match error {
        ApplyError::ShapeMismatch {
            path,
            expected,
            found,
        } => {
            let (path, expected, found) = (file_name(path), &expected[..], &found[..]);
            format!("`{path}` has the shape {found:?} where {expected:?} is needed")
        }
        ApplyError::DTypeMismatch { path, found, .. } => {
            format!("`{path}` holds {found:?} instead of floating-point numbers")
        }
        ApplyError::AdapterError { path, message } | ApplyError::LoadError { path, message } => {
            format!("`{path}` cannot be read: {message}")
        }
    }
}

/// The name in a file: burn calls the affine part of its norms gamma and beta, files do not.
fn file_name(path: &str) -> String {
    match path.rsplit_once('.') {
        Some((norm, "gamma")) if norm.contains("norm") => format!("{norm}.weight"),
        Some((norm, "beta")) if norm.contains("norm") => format!("{norm}.bias"),
        _ => path.to_string(),
    }
}

/// An error about a weight file.
pub(crate) fn unusable(path: &Path, problem: String) -> Error {
    Error::Unusable {
        path: path.into(),
        problem,
    }
}
