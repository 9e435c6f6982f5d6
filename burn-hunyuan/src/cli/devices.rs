//! `burn-hunyuan devices`.

use indicatif::HumanBytes;

use super::print;
use crate::{device, error::Result};

pub(super) fn run() -> Result<()> {
    print(format_args!(
        "{:<12}{:>12}  {:<16}{}",
        "device", "memory", "dtypes", "description"
    ))?;
    for info in device::list() {
        let memory = info
            .memory
            .map_or("unknown".into(), |bytes| HumanBytes(bytes).to_string());
        let dtypes: Vec<_> = info.dtypes.iter().map(|dtype| dtype.name()).collect();
        print(format_args!(
            "{:<12}{memory:>12}  {:<16}{}",
            info.name,
            dtypes.join(" "),
            info.description
        ))?;
    }
    Ok(())
}
