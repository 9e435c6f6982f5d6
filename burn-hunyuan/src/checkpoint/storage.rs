//! Where bytes of weights lie, read piece by piece.

use std::{
    fs::File,
    ops::Range,
    path::{Path, PathBuf},
};

use memmap2::Mmap;

use super::Error;

/// Bytes that can be read in order, any number of times.
pub(super) trait Storage: Send + Sync {
    /// The file, for messages.
    fn path(&self) -> &Path;

    /// Passes the bytes of `range` to `consume` in pieces, in order. Every piece but the last is
    /// a multiple of 8 bytes long.
    fn read(&self, range: Range<usize>, consume: &mut dyn FnMut(&[u8])) -> Result<(), Error>;
}

/// A memory-mapped file.
pub(super) struct MappedFile {
    path: PathBuf,
    map: Mmap,
}

/// Bytes mapped in at a time: enough for all cores, little beside a model.
const SLAB: usize = 32 << 20;

impl MappedFile {
    /// Maps `path`; no byte is read yet.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let io = |source| Error::Io {
            path: path.to_path_buf(),
            source,
        };
        let file = File::open(path).map_err(io)?;
        // SAFETY: the map is read-only and private. A file that another program shortens while
        // it is read raises SIGBUS, as with every program that maps weights; nothing here can
        // turn that into other behaviour.
        let map = unsafe { Mmap::map(&file) }.map_err(io)?;
        #[cfg(unix)]
        let _ = map.advise(memmap2::Advice::Sequential);
        Ok(Self {
            path: path.to_path_buf(),
            map,
        })
    }

    /// The whole file.
    pub fn bytes(&self) -> &[u8] {
        &self.map
    }

    /// Lets the kernel take back the pages of `range`: they count as this process's memory, and a
    /// model is as large as its file.
    fn release(&self, range: Range<usize>) {
        #[cfg(unix)]
        // SAFETY: the map is read-only, so no change can be lost: a later access reads the same
        // bytes from the file again.
        let _ = unsafe {
            let advice = memmap2::UncheckedAdvice::DontNeed;
            self.map
                .unchecked_advise_range(advice, range.start, range.len())
        };
        #[cfg(not(unix))]
        let _ = range;
    }
}

impl Storage for MappedFile {
    fn path(&self) -> &Path {
        &self.path
    }

    fn read(&self, range: Range<usize>, consume: &mut dyn FnMut(&[u8])) -> Result<(), Error> {
        for start in range.clone().step_by(SLAB) {
            let slab = start..range.end.min(start + SLAB);
            consume(&self.map[slab.clone()]);
            self.release(slab);
        }
        Ok(())
    }
}

/// Bytes in memory.
pub(super) struct Memory {
    name: PathBuf,
    bytes: Vec<u8>,
}

impl Memory {
    /// `name` stands in for the file in messages.
    pub fn new(name: impl Into<PathBuf>, bytes: Vec<u8>) -> Self {
        Self {
            name: name.into(),
            bytes,
        }
    }
}

impl Storage for Memory {
    fn path(&self) -> &Path {
        &self.name
    }

    fn read(&self, range: Range<usize>, consume: &mut dyn FnMut(&[u8])) -> Result<(), Error> {
        consume(&self.bytes[range]);
        Ok(())
    }
}
