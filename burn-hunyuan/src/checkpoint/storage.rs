//! Where bytes of weights lie.

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
};

use memmap2::Mmap;

use super::Error;

/// Bytes that several threads can read at once, each where it wants.
pub(super) trait Storage: Send + Sync {
    /// The file, for messages.
    fn path(&self) -> &Path;

    /// Fills `bytes` with those that begin at `start`.
    fn read_at(&self, start: usize, bytes: &mut [u8]) -> io::Result<()>;
}

/// A file of weights. Its header is looked at through a mapping; tensors are read, because pages of a
/// mapping would count as this process's memory, and a file that is cut short is then an error.
pub(super) struct WeightsFile {
    path: PathBuf,
    map: Mmap,
    file: File,
}

impl WeightsFile {
    /// Opens `path`; no byte is read yet.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let io = |source| Error::Io {
            path: path.to_path_buf(),
            source,
        };
        let file = File::open(path).map_err(io)?;
        // SAFETY: the map is read-only and private. A file that another program shortens while
        // its header is read raises SIGBUS, as with every program that maps weights; nothing here
        // can turn that into other behaviour.
        let map = unsafe { Mmap::map(&file) }.map_err(io)?;
        Ok(Self {
            path: path.to_path_buf(),
            map,
            file,
        })
    }

    /// The whole file.
    pub fn bytes(&self) -> &[u8] {
        &self.map
    }
}

impl Storage for WeightsFile {
    fn path(&self) -> &Path {
        &self.path
    }

    #[cfg(unix)]
    fn read_at(&self, start: usize, bytes: &mut [u8]) -> io::Result<()> {
        std::os::unix::fs::FileExt::read_exact_at(&self.file, bytes, start as u64)
    }

    #[cfg(windows)]
    fn read_at(&self, mut start: usize, mut bytes: &mut [u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match std::os::windows::fs::FileExt::seek_read(&self.file, bytes, start as u64)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                read => (start, bytes) = (start + read, &mut bytes[read..]),
            }
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

    fn read_at(&self, start: usize, bytes: &mut [u8]) -> io::Result<()> {
        bytes.copy_from_slice(&self.bytes[start..][..bytes.len()]);
        Ok(())
    }
}
