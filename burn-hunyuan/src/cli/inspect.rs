//! `burn-hunyuan inspect`.

use std::path::PathBuf;

use clap::Args;

use super::print;
use crate::{
    checkpoint, device,
    error::{Error, Result},
};

#[derive(Debug, Args)]
pub(super) struct Inspect {
    /// A pipeline folder, the original ckpts folder, or a file of one component
    path: PathBuf,
}

impl Inspect {
    pub fn run(self) -> Result<()> {
        let report = checkpoint::inspect(&self.path, &device::open("auto")?)?;
        print(report.to_string().trim_end())?;
        if report.is_clean() {
            return Ok(());
        }
        let path = self.path.display();
        Err(Error::Unusable(format!(
            "{path} cannot be used as it is; see above"
        )))
    }
}
