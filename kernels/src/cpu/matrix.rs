//! Matrices in f32 and their product, by the crate that burn's CPU backend multiplies with.

use burn::backend::flex::FlexTensor;
use gemm::{Parallelism, gemm};
use rayon::prelude::*;

/// A matrix in f32, by rows.
pub(super) struct Matrix {
    pub values: Vec<f32>,
    pub rows: usize,
    pub columns: usize,
}

/// A matrix or its transpose, where it lies.
#[derive(Clone, Copy)]
pub(super) struct View<'a> {
    values: &'a [f32],
    pub rows: usize,
    pub columns: usize,
    row_stride: usize,
    column_stride: usize,
}

impl Matrix {
    pub fn zeros(rows: usize, columns: usize) -> Self {
        Self {
            values: vec![0.0; rows * columns],
            rows,
            columns,
        }
    }

    pub fn view(&self) -> View<'_> {
        self.rows(0, self.rows)
    }

    /// Rows from `start` to `end`.
    pub fn rows(&self, start: usize, end: usize) -> View<'_> {
        let values = &self.values[start * self.columns..end * self.columns];
        View::new(values, end - start, self.columns)
    }
}

impl<'a> View<'a> {
    /// `values` by rows.
    pub fn new(values: &'a [f32], rows: usize, columns: usize) -> Self {
        assert_eq!(values.len(), rows * columns);
        Self::apart(values, rows, columns, columns)
    }

    /// Rows that begin `row_stride` values apart.
    pub fn apart(values: &'a [f32], rows: usize, columns: usize, row_stride: usize) -> Self {
        let end = rows.saturating_sub(1) * row_stride + columns;
        Self {
            values: &values[..end],
            rows,
            columns,
            row_stride,
            column_stride: 1,
        }
    }

    pub fn transpose(self) -> Self {
        Self {
            rows: self.columns,
            columns: self.rows,
            row_stride: self.column_stride,
            column_stride: self.row_stride,
            ..self
        }
    }
}

/// `out = a b`, or `out += a b`; `out` by rows.
pub(super) fn product(out: &mut [f32], a: View, b: View, add: bool) {
    multiply(out, a, b, add, Parallelism::None);
}

fn multiply(out: &mut [f32], a: View, b: View, add: bool, threads: Parallelism) {
    assert_eq!((a.columns, out.len()), (b.rows, a.rows * b.columns));
    // SAFETY: the views lie within their slices, by their construction; `out` is as large as the
    // product, and borrowed for this call alone.
    unsafe {
        gemm(
            a.rows,
            b.columns,
            a.columns,
            out.as_mut_ptr(),
            1,
            b.columns as isize,
            add,
            a.values.as_ptr(),
            a.column_stride as isize,
            a.row_stride as isize,
            b.values.as_ptr(),
            b.column_stride as isize,
            b.row_stride as isize,
            1.0_f32,
            1.0,
            false,
            false,
            false,
            threads,
        );
    }
}

/// `x · weight + bias` in f32, the bias being what the sums begin with.
///
/// # Shapes
/// - `x`: `[rows, inputs]`
/// - `weight`: `[inputs, outputs]`
/// - `bias`: `[outputs]`
/// - output: `[rows, outputs]`
pub(super) fn linear(x: FlexTensor, weight: FlexTensor, bias: FlexTensor) -> FlexTensor {
    let [x, bias] = [x, bias].map(|x| x.to_contiguous());
    let [rows, inputs] = x.layout().shape().dims();
    let outputs = bias.layout().num_elements();
    let mut out = FlexTensor::empty([rows, outputs].into(), x.dtype());
    let sums: &mut [f32] = out.storage_mut();
    sums.par_chunks_exact_mut(outputs)
        .for_each(|row| row.copy_from_slice(bias.storage()));
    let x = View::new(x.storage(), rows, inputs);
    // Of files, a weight is the transposed view of a matrix that is contiguous.
    let turned = weight.transpose(0, 1);
    if turned.is_contiguous() {
        let turned = turned.to_contiguous();
        let weight = View::new(turned.storage(), outputs, inputs).transpose();
        multiply(sums, x, weight, true, Parallelism::Rayon(0));
    } else {
        let weight = weight.to_contiguous();
        let weight = View::new(weight.storage(), inputs, outputs);
        multiply(sums, x, weight, true, Parallelism::Rayon(0));
    }
    out
}
