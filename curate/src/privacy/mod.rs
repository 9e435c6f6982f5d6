//! Licence, consent, retention; scrubbing, pseudonyms, erasure and export.
//!
//! The paper says that its data was acquired under the GDPR and that "data synthesis and privacy
//! computing" helped (section 3), and describes no mechanism. These are ours:
//!
//! | question | answer |
//! | --- | --- |
//! | May this source be used? | [`Sidecar`]: licence, consent, retention beside each file; tiers require them |
//! | Does a caption say more than it should? | [`scrub`] |
//! | Does the data set name people or customers? | [`Pseudonyms`] |
//! | Somebody withdraws | [`erase`] |
//! | Somebody asks what is held | [`export`] |

mod cache;
mod date;
mod erase;
mod export;
mod held;
mod pseudonym;
mod scrub;
mod sidecar;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use date::Date;
pub use erase::{Erasure, Fingerprint, Removed, Rewritten, erase};
pub use export::{Export, export};
pub use pseudonym::Pseudonyms;
pub use scrub::{scrub, scrub_value};
pub use sidecar::Sidecar;

/// What a run does for privacy.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Removes e-mail addresses, phone numbers, account numbers and positions from captions and
    /// metadata.
    pub scrub: bool,
    /// A file that holds a secret of at least 16 bytes. Where it is given, the tables hold
    /// HMAC-SHA-256 pseudonyms under that key in place of the names of files and sources.
    pub pseudonym_key: Option<PathBuf>,
    /// The day against which retention dates are compared; the day the run began if absent. A
    /// resumed run keeps the day of its beginning.
    pub date: Option<Date>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            scrub: true,
            pseudonym_key: None,
            date: None,
        }
    }
}
