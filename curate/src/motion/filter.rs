//! Linear filters along an axis, as matrices.
//!
//! A row of the matrix holds the weights of one sample of the result. Borders are part of the
//! matrix, and filters that follow one another are one filter: their product. On a device it is then
//! one multiplication, whatever the filter.

use burn::tensor::{DType, Device, Tensor, TensorData};

/// How a filter sees samples beyond the end of the axis.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Border {
    /// `aaa|abcd|ddd`
    Replicate,
    /// `dcb|abcd|cba`
    Reflect,
}

impl Border {
    /// The sample that stands at `position`.
    fn resolve(self, position: isize, size: usize) -> usize {
        let last = size as isize - 1;
        match self {
            Self::Replicate => position.clamp(0, last) as usize,
            Self::Reflect if last == 0 => 0,
            Self::Reflect => {
                let period = 2 * last;
                let folded = position.rem_euclid(period);
                folded.min(period - folded) as usize
            }
        }
    }
}

/// A linear map from the samples of an axis to those of another.
#[derive(Debug, Clone, PartialEq)]
pub struct Filter {
    weights: Vec<f64>,
    inputs: usize,
}

impl Filter {
    fn zeros(outputs: usize, inputs: usize) -> Self {
        Self {
            weights: vec![0.0; outputs * inputs],
            inputs,
        }
    }

    /// Correlation with an odd number of `taps`, centred.
    pub fn taps(taps: &[f64], size: usize, border: Border) -> Self {
        let mut filter = Self::zeros(size, size);
        let radius = (taps.len() / 2) as isize;
        for (output, row) in filter.weights.chunks_exact_mut(size).enumerate() {
            for (tap, weight) in taps.iter().enumerate() {
                let position = output as isize + tap as isize - radius;
                row[border.resolve(position, size)] += weight;
            }
        }
        filter
    }

    /// Resizing by linear interpolation between sample centres.
    pub fn linear(outputs: usize, inputs: usize) -> Self {
        let mut filter = Self::zeros(outputs, inputs);
        let step = inputs as f64 / outputs as f64;
        for (output, row) in filter.weights.chunks_exact_mut(inputs).enumerate() {
            let position = ((output as f64 + 0.5) * step - 0.5).clamp(0.0, (inputs - 1) as f64);
            let (left, share) = (position as usize, position.fract());
            row[left] += 1.0 - share;
            row[(left + 1).min(inputs - 1)] += share;
        }
        filter
    }

    /// This filter, then `next`.
    pub fn then(&self, next: &Self) -> Self {
        let mut product = Self::zeros(next.weights.len() / next.inputs, self.inputs);
        let rows = product.weights.chunks_exact_mut(self.inputs);
        for (row, factors) in rows.zip(next.weights.chunks_exact(next.inputs)) {
            // Filters are narrow: nearly all factors are zero.
            for (i, factor) in factors.iter().enumerate().filter(|(_, f)| **f != 0.0) {
                let source = &self.weights[i * self.inputs..][..self.inputs];
                row.iter_mut()
                    .zip(source)
                    .for_each(|(w, s)| *w += factor * s);
            }
        }
        product
    }

    /// The filter with each input weighted.
    pub fn weighted(mut self, weights: &[f64]) -> Self {
        for row in self.weights.chunks_exact_mut(self.inputs) {
            row.iter_mut().zip(weights).for_each(|(w, s)| *w *= s);
        }
        self
    }
}

/// Filters of the same size as one f32 tensor `[1, filters, outputs, inputs]`.
pub fn stack(filters: &[Filter], device: &Device) -> Tensor<4> {
    let inputs = filters[0].inputs;
    let outputs = filters[0].weights.len() / inputs;
    let values: Vec<f32> = filters
        .iter()
        .flat_map(|filter| filter.weights.iter().map(|w| *w as f32))
        .collect();
    let data = TensorData::new(values, [1, filters.len(), outputs, inputs]);
    Tensor::from_data(data, (device, DType::F32))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn apply(filter: &Filter, samples: &[f64]) -> Vec<f64> {
        let rows = filter.weights.chunks_exact(filter.inputs);
        rows.map(|row| row.iter().zip(samples).map(|(w, s)| w * s).sum())
            .collect()
    }

    #[test]
    fn borders() {
        let shift = |border| {
            let taps = [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0];
            apply(&Filter::taps(&taps, 4, border), &[1.0, 2.0, 3.0, 4.0])
        };
        assert_eq!(shift(Border::Replicate), [4.0; 4]);
        assert_eq!(shift(Border::Reflect), [3.0, 2.0, 1.0, 2.0]);
        let single = Filter::taps(&[0.25, 0.5, 0.25], 1, Border::Reflect);
        assert_eq!(apply(&single, &[8.0]), [8.0]);
    }

    /// Interpolation between centres keeps a ramp, except where it holds the last sample.
    #[test]
    fn resizing_keeps_a_ramp() {
        let doubled = apply(&Filter::linear(6, 3), &[0.0, 2.0, 4.0]);
        assert_eq!(doubled, [0.0, 0.5, 1.5, 2.5, 3.5, 4.0]);
        assert_eq!(
            apply(&Filter::linear(2, 4), &[1.0, 3.0, 5.0, 9.0]),
            [2.0, 7.0]
        );
    }

    #[test]
    fn filters_in_a_row_are_their_product() {
        let samples: Vec<f64> = (0..12).map(|i| ((7 * i) % 5) as f64).collect();
        let blur = Filter::taps(&[1.0, 2.0, 1.0], 12, Border::Reflect);
        let reduce = Filter::linear(5, 12);
        let both = apply(&blur.then(&reduce), &samples);
        let one_by_one = apply(&reduce, &apply(&blur, &samples));
        for (a, b) in both.iter().zip(&one_by_one) {
            assert!((a - b).abs() < 1e-12, "{a} {b}");
        }
    }
}
