//! H.264 in mp4: OpenH264 codes the pictures, `shiguredo_mp4` the container.

mod reader;
mod sps;
mod writer;

pub(super) use reader::open;
pub(super) use writer::Mp4Writer;
