//! Matrices in f32 and their product, by the crate that burn's CPU backend multiplies with.

use gemm::{Parallelism, gemm};

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
            Parallelism::None,
        );
    }
}
