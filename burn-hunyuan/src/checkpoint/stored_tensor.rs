//! A tensor of a checkpoint, as it is stored.

use std::{
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
};

use ::safetensors::Dtype;
use burn::tensor::TensorData;

use super::{
    Encoding, Error,
    storage::{Memory, Storage},
};

/// A contiguous run of bytes.
#[derive(Clone)]
struct Span {
    storage: Arc<dyn Storage>,
    range: Range<usize>,
}

/// A tensor of a checkpoint, not yet read.
///
/// Rows (slices along the first axis) are contiguous, so selecting and joining them costs nothing:
/// the tensor is a list of byte ranges.
#[derive(Clone)]
pub struct StoredTensor {
    encoding: Encoding,
    /// Factor of every value.
    scale: f32,
    shape: Vec<usize>,
    /// At least one.
    spans: Vec<Span>,
}

impl std::fmt::Debug for StoredTensor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} {:?} of {}",
            self.encoding,
            self.shape,
            self.path().display()
        )
    }
}

impl StoredTensor {
    /// A tensor stored in one piece.
    pub(super) fn new(
        encoding: impl Into<Encoding>,
        shape: Vec<usize>,
        storage: Arc<dyn Storage>,
        range: Range<usize>,
    ) -> Self {
        Self {
            encoding: encoding.into(),
            scale: 1.0,
            shape,
            spans: vec![Span { storage, range }],
        }
    }

    /// A tensor of f32 values in memory. `name` stands in for the file in messages.
    pub(super) fn in_memory(name: impl Into<PathBuf>, values: TensorData) -> Self {
        let shape = values.shape().as_slice().to_vec();
        let bytes = values.convert::<f32>().bytes().to_vec();
        let range = 0..bytes.len();
        Self::new(Dtype::F32, shape, Arc::new(Memory::new(name, bytes)), range)
    }

    /// Number format.
    pub fn encoding(&self) -> Encoding {
        self.encoding
    }

    /// What the stored numbers are multiplied with when they are read.
    pub fn scale(&self) -> f32 {
        self.scale
    }

    /// The same tensor `scale` times.
    pub(super) fn scaled(mut self, scale: f32) -> Self {
        self.scale *= scale;
        self
    }

    /// Extents, outermost first.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Number of elements.
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    /// Size in the file, in bytes.
    pub fn byte_len(&self) -> usize {
        self.spans.iter().map(|span| span.range.len()).sum()
    }

    /// The file that holds it (the first, if several do).
    pub fn path(&self) -> &Path {
        self.spans[0].storage.path()
    }

    /// The slices `rows` of the first axis, or `None` where there are fewer.
    pub fn rows(&self, rows: Range<usize>) -> Option<Self> {
        let (&first, rest) = self.shape.split_first()?;
        if rows.is_empty() || rows.end > first {
            return None;
        }
        let row = self.byte_len() / first;
        let mut skip = rows.start * row;
        let mut left = rows.len() * row;
        let mut spans = Vec::new();
        for span in &self.spans {
            let len = span.range.len();
            let start = span.range.start + skip.min(len);
            let end = span.range.end.min(start + left);
            skip = skip.saturating_sub(len);
            left -= end - start;
            if start < end {
                spans.push(Span {
                    storage: span.storage.clone(),
                    range: start..end,
                });
            }
        }
        let shape = [&[rows.len()], rest].concat();
        Some(Self {
            shape,
            spans,
            ..*self
        })
    }

    /// This tensor and then `other` along the first axis, or `None` where they do not fit.
    pub fn then(mut self, other: Self) -> Option<Self> {
        let (own, others) = ((self.encoding, self.scale), (other.encoding, other.scale));
        if own != others || self.shape.get(1..)? != other.shape.get(1..)? {
            return None;
        }
        self.shape[0] += other.shape[0];
        self.spans.extend(other.spans);
        Some(self)
    }

    /// The same elements with another shape, or `None` where their number differs.
    pub fn reshaped(mut self, shape: Vec<usize>) -> Option<Self> {
        if shape.iter().product::<usize>() != self.elements() {
            return None;
        }
        self.shape = shape;
        Some(self)
    }

    /// All bytes, as stored: little-endian, the last axis contiguous.
    ///
    /// # Errors
    /// A file that can no longer be read.
    pub fn bytes(&self) -> Result<Vec<u8>, Error> {
        let mut bytes = vec![0; self.byte_len()];
        self.read_at(0, &mut bytes)?;
        Ok(bytes)
    }

    /// Fills `bytes` with those that begin at `start`. Several threads may read at once.
    ///
    /// # Errors
    /// A file that can no longer be read.
    pub(super) fn read_at(&self, mut start: usize, mut bytes: &mut [u8]) -> Result<(), Error> {
        for Span { storage, range } in &self.spans {
            let skipped = start.min(range.len());
            start -= skipped;
            let here = bytes.len().min(range.len() - skipped);
            if here == 0 {
                continue;
            }
            let (now, later) = bytes.split_at_mut(here);
            let read = storage.read_at(range.start + skipped, now);
            read.map_err(|source| Error::Io {
                path: storage.path().to_path_buf(),
                source,
            })?;
            bytes = later;
        }
        Ok(())
    }
}
