//! A clip as a vector, for duplicates and concepts: clips that show the same point the same way.
//!
//! Where CLIP's weights are given it is CLIP's view of the frames ([`clip`]), which sees meaning.
//! Otherwise it is a perceptual descriptor of colour, gradient and motion, which sees looks: enough
//! for copies, coarse for concepts. All vectors have length one, so that a dot product is a cosine.
//! Those of one run are all of one kind.

pub mod clip;
pub mod descriptor;

use burn::tensor::{DType, Device, Tensor, TensorData};

use crate::{Error, Result};

/// One vector for each item, all of one width, every value finite.
#[derive(Debug, Clone, PartialEq)]
pub struct Embeddings {
    values: Vec<f32>,
    width: usize,
}

impl Embeddings {
    /// Takes the rows one after the other, `width` values each.
    ///
    /// # Errors
    /// When the values do not make whole rows, or one of them is not finite.
    pub fn new(values: Vec<f32>, width: usize) -> Result<Self> {
        if width == 0 || !values.len().is_multiple_of(width) {
            let count = values.len();
            return Err(Error::Request(format!(
                "{count} values do not make rows of {width}"
            )));
        }
        if let Some(place) = values.iter().position(|value| !value.is_finite()) {
            return Err(Error::Request(format!(
                "the embedding of item {} holds {}; leave the item out",
                place / width,
                values[place]
            )));
        }
        Ok(Self { values, width })
    }

    /// Number of items.
    pub fn len(&self) -> usize {
        self.values.len() / self.width
    }

    /// Whether there is no item.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Values in a row.
    pub fn width(&self) -> usize {
        self.width
    }

    /// All values, row after row.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// The vector of an item.
    pub fn row(&self, item: usize) -> &[f32] {
        &self.values[item * self.width..][..self.width]
    }

    /// The vectors in order.
    pub fn rows(&self) -> std::slice::ChunksExact<'_, f32> {
        self.values.chunks_exact(self.width)
    }

    /// The vectors in order, to be changed.
    pub(crate) fn rows_mut(&mut self) -> std::slice::ChunksExactMut<'_, f32> {
        self.values.chunks_exact_mut(self.width)
    }

    /// All values, to be changed.
    pub(crate) fn values_mut(&mut self) -> &mut [f32] {
        &mut self.values
    }

    /// The rows of some items, in the order named.
    pub fn select(&self, items: impl IntoIterator<Item = usize>) -> Self {
        let rows = items.into_iter().flat_map(|item| self.row(item));
        Self {
            values: rows.copied().collect(),
            width: self.width,
        }
    }

    /// The rows on a device: `[items, width]`.
    pub fn to_tensor(&self, device: &Device) -> Tensor<2> {
        let data = TensorData::new(self.values.clone(), [self.len(), self.width]);
        Tensor::from_data(data, (device, DType::F32))
    }

    /// The same directions with length one, so that a dot product is a cosine; a row of zeros
    /// stays one.
    pub fn normalized(mut self) -> Self {
        for row in self.values.chunks_exact_mut(self.width) {
            normalize(row);
        }
        self
    }
}

/// Scales a vector to length one; zeros stay.
pub fn normalize(vector: &mut [f32]) {
    let square: f64 = vector.iter().map(|&v| f64::from(v).powi(2)).sum();
    if square > 0.0 {
        let scale = square.sqrt().recip();
        for value in vector {
            *value = (f64::from(*value) * scale) as f32;
        }
    }
}

/// The values of a tensor on the host, as f32.
pub(crate) fn to_f32<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    let data = tensor.cast(DType::F32).into_data();
    let values = data.bytes().chunks_exact(4);
    values
        .map(|b| f32::from_ne_bytes([b[0], b[1], b[2], b[3]]))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_have_length_one_or_are_zero() {
        let rows = Embeddings::new(vec![3.0, 4.0, 0.0, 0.0, -1e30, 1e30], 2).unwrap();
        let rows = rows.normalized();
        assert_eq!(rows.row(0), [0.6, 0.8]);
        assert_eq!(rows.row(1), [0.0, 0.0]);
        let half = std::f32::consts::FRAC_1_SQRT_2;
        assert_eq!(rows.row(2), [-half, half]);
    }

    #[test]
    fn values_that_make_no_rows_are_refused() {
        assert!(Embeddings::new(vec![0.0; 5], 2).is_err());
        assert!(Embeddings::new(vec![], 0).is_err());
        let error = Embeddings::new(vec![0.0, 1.0, f32::NAN, 3.0], 2).unwrap_err();
        assert!(error.to_string().contains("item 1"), "{error}");
    }
}
