//! What a model is trained on.

mod caption;
mod clips;
mod folder;
mod sizes;

pub use caption::StructuredCaption;
pub use clips::{ClipRequest, Clips, SynthClips};
pub use folder::{Caption, Entry, Part, checksum, list};
pub use sizes::ClipSizes;
