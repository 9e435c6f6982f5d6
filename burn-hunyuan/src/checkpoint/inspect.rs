//! What a checkpoint holds, and whether it is whole, without loading it.

use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
};

use burn::tensor::Device;

use super::{Component, Error, Mismatch, Model, Recognised};

/// What [`inspect`] found. `Display` makes a table of it.
#[derive(Debug)]
pub struct Report {
    /// One entry for each component.
    pub components: Vec<ComponentReport>,
}

/// What a checkpoint holds of one component.
#[derive(Debug)]
pub struct ComponentReport {
    /// Which model.
    pub component: Component,
    /// File or folder.
    pub origin: PathBuf,
    /// Whose names it uses.
    pub layout: &'static str,
    /// Number of tensors by number format.
    pub dtypes: BTreeMap<String, usize>,
    /// Number of tensors, those that are split or unused counted as loaded.
    pub tensors: usize,
    /// Number of parameters.
    pub parameters: u64,
    /// The differences from the model that its configuration describes, or why that cannot be
    /// told.
    pub mismatch: Result<Mismatch, Error>,
}

/// Compares the components of a checkpoint with their configurations; no weight is read.
///
/// `device` is where the models would be; nothing is allocated there.
///
/// # Errors
/// Files that cannot be opened or recognised.
pub fn inspect(path: &Path, device: &Device) -> Result<Report, Error> {
    let model = Model::open(&[path])?;
    let report = |found: &Recognised| {
        let mut dtypes = BTreeMap::new();
        for (_, tensor) in found.weights.iter() {
            *dtypes.entry(tensor.encoding().to_string()).or_default() += 1;
        }
        ComponentReport {
            component: found.component,
            origin: found.weights.origin().to_path_buf(),
            layout: found.layout,
            dtypes,
            tensors: found.weights.len(),
            parameters: found
                .weights
                .iter()
                .map(|(_, tensor)| tensor.elements() as u64)
                .sum(),
            mismatch: model.check(found.component, device),
        }
    };
    Ok(Report {
        components: model.components().map(report).collect(),
    })
}

impl Report {
    /// Whether every component is whole.
    pub fn is_clean(&self) -> bool {
        self.components
            .iter()
            .all(|component| component.mismatch.as_ref().is_ok_and(Mismatch::is_empty))
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<16}{:<20}{:<12}{:>8}{:>16}  state",
            "component", "layout", "dtype", "tensors", "parameters"
        )?;
        for component in &self.components {
            writeln!(f, "{component}")?;
        }
        Ok(())
    }
}

impl fmt::Display for ComponentReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let dtypes: Vec<_> = self.dtypes.keys().map(String::as_str).collect();
        write!(
            f,
            "{:<16}{:<20}{:<12}{:>8}{:>16}  ",
            self.component.folder(),
            self.layout,
            dtypes.join("+"),
            self.tensors,
            self.parameters
        )?;
        let mismatch = match &self.mismatch {
            Ok(mismatch) if mismatch.is_empty() => return write!(f, "whole"),
            Ok(mismatch) => mismatch,
            Err(error) => return write!(f, "unusable\n  {error}"),
        };
        write!(f, "does not fit")?;
        for parameter in &mismatch.missing {
            write!(
                f,
                "\n  missing     {} {:?}",
                parameter.name, parameter.shape
            )?;
        }
        for (parameter, found) in &mismatch.misshapen {
            let (name, expected) = (&parameter.name, &parameter.shape);
            write!(
                f,
                "\n  misshapen   {name} {found:?} instead of {expected:?}"
            )?;
        }
        for name in &mismatch.unexpected {
            write!(f, "\n  unexpected  {name}")?;
        }
        Ok(())
    }
}
