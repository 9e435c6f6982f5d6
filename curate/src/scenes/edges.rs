//! Edges by Canny's method as OpenCV computes it, and how many appear or vanish.

use crate::range::Checked;

/// An error for a kernel that has no middle.
pub(super) fn check_kernel(size: Option<u32>) -> Checked {
    match size {
        Some(size) if size % 2 == 0 || !(3..=255).contains(&size) => Err(format!(
            "kernel_size is {size}; it has to be odd, at least 3 and at most 255"
        )),
        _ => Ok(()),
    }
}

/// Compares the widened edges of each picture with those of the one before.
#[derive(Debug)]
pub(super) struct Edges {
    kernel_size: Option<u32>,
    canny: Canny,
    last: Vec<bool>,
}

impl Edges {
    pub fn new(kernel_size: Option<u32>) -> Self {
        Self {
            kernel_size,
            canny: Canny::default(),
            last: Vec::new(),
        }
    }

    /// 255 times the share of pixels that are edge in one picture and not in the other; `None` for
    /// the first.
    pub fn next(&mut self, values: &[u8], width: u32, height: u32) -> Option<f64> {
        let kernel = self.kernel_size.unwrap_or_else(|| {
            let size = 4 + (f64::from(width * height).sqrt() / 192.0).round_ties_even() as u32;
            size | 1
        });
        let median = median(values);
        let low = ((1.0 - 1.0 / 3.0) * median) as i32;
        let high = ((1.0 + 1.0 / 3.0) * median).min(255.0) as i32;
        let (width, height) = (width as usize, height as usize);
        let edges = self.canny.run(values, width, height, low, high);
        let edges = dilate(&edges, width, height, kernel as usize / 2);
        let changed = edges.iter().zip(&self.last).filter(|(a, b)| a != b).count();
        let first = self.last.len() != edges.len();
        self.last = edges;
        (!first).then(|| (255 * changed) as f64 / values.len() as f64)
    }
}

/// The mean of the two middle values where their number is even.
fn median(values: &[u8]) -> f64 {
    let mut counts = [0usize; 256];
    for &value in values {
        counts[usize::from(value)] += 1;
    }
    let nth = |n: usize| {
        let mut before = 0;
        let value = counts.iter().position(|count| {
            before += count;
            before > n
        });
        value.unwrap_or(0) as f64
    };
    (nth((values.len() - 1) / 2) + nth(values.len() / 2)) / 2.0
}

/// Canny's edges: aperture 3, gradient by |dx| + |dy|.
#[derive(Debug, Default)]
struct Canny {
    dx: Vec<i32>,
    dy: Vec<i32>,
    /// With a border of zeros all around.
    magnitude: Vec<i32>,
}

impl Canny {
    fn run(
        &mut self,
        values: &[u8],
        width: usize,
        height: usize,
        low: i32,
        high: i32,
    ) -> Vec<bool> {
        self.gradients(values, width, height);
        let stride = width + 2;
        let mut edges = vec![false; width * height];
        // Weak edges become edges where they touch one.
        let mut weak = vec![false; width * height];
        let mut open = Vec::new();
        for y in 0..height {
            for x in 0..width {
                let place = (y + 1) * stride + x + 1;
                let i = y * width + x;
                if self.magnitude[place] > low && self.is_ridge(i, place, stride) {
                    if self.magnitude[place] > high {
                        edges[i] = true;
                        open.push((x, y));
                    } else {
                        weak[i] = true;
                    }
                }
            }
        }
        while let Some((x, y)) = open.pop() {
            for y in y.saturating_sub(1)..(y + 2).min(height) {
                for x in x.saturating_sub(1)..(x + 2).min(width) {
                    let i = y * width + x;
                    if std::mem::take(&mut weak[i]) {
                        edges[i] = true;
                        open.push((x, y));
                    }
                }
            }
        }
        edges
    }

    /// Sobel derivatives, pixels at the border repeated.
    fn gradients(&mut self, values: &[u8], width: usize, height: usize) {
        let stride = width + 2;
        self.dx.resize(width * height, 0);
        self.dy.resize(width * height, 0);
        self.magnitude.resize(stride * (height + 2), 0);
        for y in 0..height {
            let row = |y: usize| &values[y * width..][..width];
            let rows = [
                row(y.saturating_sub(1)),
                row(y),
                row((y + 1).min(height - 1)),
            ];
            for x in 0..width {
                let columns = [x.saturating_sub(1), x, (x + 1).min(width - 1)];
                let [a, b, c] = rows.map(|row| columns.map(|x| i32::from(row[x])));
                let dx = (a[2] - a[0]) + 2 * (b[2] - b[0]) + (c[2] - c[0]);
                let dy = (c[0] - a[0]) + 2 * (c[1] - a[1]) + (c[2] - a[2]);
                self.dx[y * width + x] = dx;
                self.dy[y * width + x] = dy;
                self.magnitude[(y + 1) * stride + x + 1] = dx.abs() + dy.abs();
            }
        }
    }

    /// Whether the gradient is largest here along its own direction, told by the tangents of 22.5
    /// and 67.5 degrees in 15 bits.
    fn is_ridge(&self, i: usize, place: usize, stride: usize) -> bool {
        let m = |place: usize| self.magnitude[place];
        let here = m(place);
        let (dx, dy) = (self.dx[i], self.dy[i]);
        let (x, y) = (dx.abs(), dy.abs() << 15);
        let tan22 = x * 13573;
        if y < tan22 {
            here > m(place - 1) && here >= m(place + 1)
        } else if y > tan22 + (x << 16) {
            here > m(place - stride) && here >= m(place + stride)
        } else if (dx ^ dy) < 0 {
            here > m(place - stride + 1) && here > m(place + stride - 1)
        } else {
            here > m(place - stride - 1) && here > m(place + stride + 1)
        }
    }
}

/// Widens by a square of `2 * reach + 1` pixels.
fn dilate(edges: &[bool], width: usize, height: usize, reach: usize) -> Vec<bool> {
    let window = |i: usize, n: usize| i.saturating_sub(reach)..(i + reach + 1).min(n);
    let mut across = vec![false; edges.len()];
    for (target, row) in across
        .chunks_exact_mut(width)
        .zip(edges.chunks_exact(width))
    {
        for x in (0..width).filter(|&x| row[x]) {
            target[window(x, width)].fill(true);
        }
    }
    let mut widened = vec![false; edges.len()];
    for (y, row) in across.chunks_exact(width).enumerate() {
        for y in window(y, height) {
            let target = &mut widened[y * width..][..width];
            target.iter_mut().zip(row).for_each(|(t, &r)| *t |= r);
        }
    }
    widened
}
