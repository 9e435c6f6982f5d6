//! Windows of a grid of tokens: which tokens attend to which in a Swin transformer.

use burn::tensor::{DType, Device, Int, Tensor, TensorData};

/// The windows of one layer. Axes are time, rows, columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Windows {
    /// Tokens of the grid.
    grid: [usize; 3],
    /// Tokens of a window.
    size: [usize; 3],
    /// How far the windows stand from the grid's origin. The grid is rolled by it.
    shift: [usize; 3],
}

impl Windows {
    /// The windows of a layer; a window is no larger than the grid, and a grid of a single window
    /// along an axis is not shifted along it.
    pub(super) fn new(grid: [usize; 3], window: [usize; 3], is_shifted: bool) -> Self {
        let size = std::array::from_fn(|axis| window[axis].min(grid[axis]));
        let shift = std::array::from_fn(|axis| {
            let whole = grid[axis] <= window[axis];
            if is_shifted && !whole {
                window[axis] / 2
            } else {
                0
            }
        });
        Self { grid, size, shift }
    }

    /// Number of tokens in a window.
    pub(super) fn tokens(&self) -> usize {
        self.size.iter().product()
    }

    fn counts(&self) -> [usize; 3] {
        std::array::from_fn(|axis| self.grid[axis] / self.size[axis])
    }

    /// `[1, time, rows, columns, channels]` to `[windows, tokens, channels]`.
    pub(super) fn split(&self, x: Tensor<5>) -> Tensor<3> {
        let channels = x.dims()[4];
        let back = self.shift.map(|shift| -(shift as isize));
        let ([d, h, w], [a, b, c]) = (self.counts(), self.size);
        self.rolled(x, back)
            .reshape([d, a, h, b, w, c * channels])
            .permute([0, 2, 4, 1, 3, 5])
            .reshape([d * h * w, a * b * c, channels])
    }

    /// Undoes [`split`](Self::split).
    pub(super) fn join(&self, x: Tensor<3>) -> Tensor<5> {
        let channels = x.dims()[2];
        let ([d, h, w], [a, b, c]) = (self.counts(), self.size);
        let [time, rows, columns] = self.grid;
        let x = x
            .reshape([d, h, w, a, b, c * channels])
            .permute([0, 3, 1, 4, 2, 5])
            .reshape([1, time, rows, columns, channels]);
        self.rolled(x, self.shift.map(|shift| shift as isize))
    }

    fn rolled(&self, x: Tensor<5>, shift: [isize; 3]) -> Tensor<5> {
        if self.shift == [0; 3] {
            return x;
        }
        x.roll(&shift, &[1_isize, 2, 3])
    }

    /// For each pair of tokens of each window how many fragments lie between them, `[windows, 1,
    /// tokens, tokens]`. The grid shows as many fragments along rows and columns as a window has
    /// tokens.
    pub(super) fn fragments_between(&self, device: &Device) -> Tensor<4> {
        self.pairs(device, |a, b| {
            let fragment = |at: [usize; 3], axis: usize| {
                let place = (at[axis] + self.shift[axis]) % self.grid[axis];
                place * self.size[axis] / self.grid[axis]
            };
            let between = |axis| fragment(a, axis).abs_diff(fragment(b, axis));
            (between(1) + between(2)) as f32
        })
    }

    /// What keeps tokens apart that rolling has brought together: −100 for such pairs, else 0,
    /// `[windows, 1, tokens, tokens]`; nothing where the grid is not rolled.
    pub(super) fn mask(&self, device: &Device) -> Option<Tensor<4>> {
        let region = |at: [usize; 3]| -> [usize; 3] {
            std::array::from_fn(|axis| match self.shift[axis] {
                0 => 0,
                shift => {
                    let from_end = self.grid[axis] - at[axis];
                    usize::from(from_end <= self.size[axis]) + usize::from(from_end <= shift)
                }
            })
        };
        let apart = |a, b| if region(a) == region(b) { 0.0 } else { -100.0 };
        (self.shift != [0; 3]).then(|| self.pairs(device, apart))
    }

    /// A number for each pair of tokens of each window, from their places in the rolled grid.
    fn pairs(&self, device: &Device, value: impl Fn([usize; 3], [usize; 3]) -> f32) -> Tensor<4> {
        let ([d, h, w], tokens) = (self.counts(), self.tokens());
        let mut values = Vec::with_capacity(d * h * w * tokens * tokens);
        for window in 0..d * h * w {
            let origin = unravel(window, [d, h, w]);
            let at = |token| -> [usize; 3] {
                let place = unravel(token, self.size);
                std::array::from_fn(|axis| origin[axis] * self.size[axis] + place[axis])
            };
            let places: Vec<_> = (0..tokens).map(at).collect();
            for &a in &places {
                values.extend(places.iter().map(|&b| value(a, b)));
            }
        }
        let data = TensorData::new(values, [d * h * w, 1, tokens, tokens]);
        Tensor::from_data(data, (device, DType::F32))
    }
}

/// For each pair of the first `tokens` tokens of a window of the size named the row of the table
/// of relative positions.
pub(super) fn relative_rows(window: [usize; 3], tokens: usize, device: &Device) -> Tensor<1, Int> {
    let places: Vec<_> = (0..tokens).map(|token| unravel(token, window)).collect();
    let mut rows = Vec::with_capacity(tokens * tokens);
    for a in &places {
        rows.extend(places.iter().map(|b| {
            let [d, h, w]: [usize; 3] =
                std::array::from_fn(|axis| a[axis] + window[axis] - 1 - b[axis]);
            ((d * (2 * window[1] - 1) + h) * (2 * window[2] - 1) + w) as i32
        }));
    }
    Tensor::from_data(&rows[..], device)
}

/// The place of the `index`-th element of a grid.
fn unravel(index: usize, [_, rows, columns]: [usize; 3]) -> [usize; 3] {
    [
        index / columns / rows,
        index / columns % rows,
        index % columns,
    ]
}
