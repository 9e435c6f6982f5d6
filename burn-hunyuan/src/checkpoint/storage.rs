//! Where bytes of weights lie, read piece by piece.

use std::{
    fs::File,
    io::{Read, Seek, SeekFrom},
    ops::Range,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
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

/// A file of weights. Its header is looked at through a mapping; tensors are read, because pages of a
/// mapping would count as this process's memory, and a file that is cut short is then an error.
pub(super) struct WeightsFile {
    path: PathBuf,
    map: Mmap,
    file: Mutex<File>,
}

/// Bytes read at a time: enough for all cores, little beside a model.
const PIECE: usize = 4 << 20;

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
            file: Mutex::new(file),
        })
    }

    /// The whole file.
    pub fn bytes(&self) -> &[u8] {
        &self.map
    }

    /// Fills `piece` from the bytes that begin at `start`.
    fn read_piece(&self, start: usize, piece: &mut [u8]) -> std::io::Result<()> {
        // Every reader says where it reads, so that none depends on where another stopped.
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.seek(SeekFrom::Start(start as u64))?;
        file.read_exact(piece)
    }
}

impl Storage for WeightsFile {
    fn path(&self) -> &Path {
        &self.path
    }

    fn read(&self, range: Range<usize>, consume: &mut dyn FnMut(&[u8])) -> Result<(), Error> {
        let mut piece = vec![0; range.len().min(PIECE)];
        for start in range.clone().step_by(PIECE) {
            let piece = &mut piece[..PIECE.min(range.end - start)];
            let read = self.read_piece(start, piece);
            read.map_err(|source| Error::Io {
                path: self.path.clone(),
                source,
            })?;
            consume(piece);
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
