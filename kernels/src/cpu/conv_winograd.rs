//! The sums of shifted planes that the causal 3×3×3 convolution and its gradients are made of, for many
//! channels and large planes: by Winograd's minimal filtering F(2×2, 3×3) (arXiv 1509.09308, section 4).
//!
//! A tile of 4×4 values and a kernel of 3×3 are both brought to a form in which 2×2 outputs take 16
//! multiplications instead of 36: `Aᵀ (G g Gᵀ ∘ Bᵀ d B) A`. Each of the 16 places is a product of matrices,
//! `[out, in]` with `[in, tiles]`, summed up over taps before the sums are brought back.

use std::ops::Range;

use rayon::prelude::*;

use super::{
    conv::{K, sources},
    conv_matrices::{by_pair, by_place},
    conv_wide,
    matrix::{View, product},
    planes::{Extents, Planes},
    simd::for_each_cpu,
};

/// Places of a tile.
const PLACES: usize = 16;

/// Tiles whose products are taken at a time, while they are in the processor's cache.
const TILES: usize = 256;

/// Values of a channel from which less multiplying pays for bringing the kernel to another form: reckoned from
/// what each reads and writes, not tuned.
const VALUES: usize = 2048;

/// Whether this form is the faster one.
pub(super) fn pays(inputs: usize, outputs: usize, planes: Extents) -> bool {
    conv_wide::pays(inputs, outputs) && planes.batch * planes.frames * planes.plane() >= VALUES
}

/// Brings a row of tiles, whose first is the beginning of a plane with rows of so many values, to its other form:
/// so many tiles, place by place, so far apart.
type Forward = fn(&[f32], usize, usize, &mut [f32], usize);

/// The tiles of a plane, by rows; the last ones may reach beyond it.
#[derive(Clone, Copy)]
struct Grid {
    rows: usize,
    columns: usize,
    /// Rows of tiles that are taken at a time.
    at_a_time: usize,
}

/// Rows of tiles that are taken at a time.
struct Strip {
    rows: Range<usize>,
    columns: usize,
}

impl Grid {
    fn of(out: Extents) -> Self {
        let [rows, columns] = [out.height.div_ceil(2), out.width.div_ceil(2)];
        let per_thread = (out.batch * out.frames * rows).div_ceil(4 * rayon::current_num_threads());
        let at_a_time = (TILES / columns).min(per_thread).clamp(1, rows);
        Self {
            rows,
            columns,
            at_a_time,
        }
    }

    fn strips(&self) -> usize {
        self.rows.div_ceil(self.at_a_time)
    }

    fn strip(&self, nth: usize) -> Strip {
        let start = nth * self.at_a_time;
        Strip {
            rows: start..self.rows.min(start + self.at_a_time),
            columns: self.columns,
        }
    }

    /// Cuts the output into strips of each frame: a strip's rows of every channel.
    fn cut<'a>(&self, values: &'a mut [f32], out: Extents) -> Vec<Vec<&'a mut [f32]>> {
        let mut all = Vec::new();
        all.resize_with(out.batch * out.frames * self.strips(), Vec::new);
        for (index, plane) in values.chunks_exact_mut(out.plane()).enumerate() {
            let (batch, frame) = (index / out.frames / out.channels, index % out.frames);
            let first = (batch * out.frames + frame) * self.strips();
            let strips = plane.chunks_mut(self.at_a_time * 2 * out.width);
            for (all, strip) in all[first..].iter_mut().zip(strips) {
                all.push(strip);
            }
        }
        all
    }
}

impl Strip {
    fn tiles(&self) -> usize {
        self.rows.len() * self.columns
    }

    /// Brings the tiles of a plane to their other form, place by place, `step` apart.
    fn forward(
        &self,
        forward: Forward,
        planes: &Planes,
        start: usize,
        out: &mut [f32],
        step: usize,
    ) {
        for (nth, row) in self.rows.clone().enumerate() {
            let plane = &planes.values[start + 2 * row * planes.width..];
            let out = &mut out[nth * self.columns..];
            forward(plane, planes.width, self.columns, out, step);
        }
    }

    /// The same for all channels of a frame: `[channels, places, tiles]`, so that a channel's are one piece.
    fn channels_forward(
        &self,
        forward: Forward,
        planes: &Planes,
        [batch, frame]: [usize; 2],
        out: &mut [f32],
    ) {
        let channels = out.par_chunks_exact_mut(PLACES * self.tiles()).enumerate();
        channels.for_each(|(channel, out)| {
            let start = planes.start(batch, channel, frame);
            self.forward(forward, planes, start, out, self.tiles());
        });
    }
}

/// For every frame and channel of the output, the sum over the planes' channels, over the pairs of
/// frame and tap that `sources` lists for the frame, and over 3×3 shifts. The planes reach two values
/// beyond even extents of the output.
///
/// `weight` takes the output's channel, the input's, tap and shift.
pub(super) fn correlate(
    planes: &Planes,
    weight: impl Fn(usize, usize, usize, usize) -> f32 + Sync,
    taps: usize,
    out: Extents,
    sources: impl Fn(usize) -> Vec<(usize, usize)>,
) -> Vec<f32> {
    let sources: Vec<Vec<(usize, usize)>> = (0..out.frames).map(sources).collect();
    let [inputs, outputs] = [planes.channels, out.channels];
    let weights = by_place([outputs, taps, inputs], weight, kernel_forward);
    let row = taps * PLACES * inputs;
    let grid = Grid::of(out);
    let most = PLACES * grid.strip(0).tiles();
    let scratch = || (vec![0.0; most * inputs], vec![0.0; most * outputs]);
    let mut values = vec![0.0; out.len()];
    // A task computes a strip of one frame; it owns these rows of every channel of the output.
    let tasks = grid.cut(&mut values, out).into_par_iter().enumerate();
    tasks.for_each_init(scratch, |(values, sums), (task, rows)| {
        let (frame, strip) = (task / grid.strips(), grid.strip(task % grid.strips()));
        let (batch, frame) = (frame / out.frames, frame % out.frames);
        let tiles = strip.tiles();
        for (nth, &(frame, tap)) in sources[frame].iter().enumerate() {
            for channel in 0..inputs {
                let start = planes.start(batch, channel, frame);
                let values = &mut values[channel * tiles..];
                strip.forward(tiles_forward, planes, start, values, inputs * tiles);
            }
            for place in 0..PLACES {
                let weights = &weights[(tap * PLACES + place) * inputs..];
                let weights = View::apart(weights, outputs, inputs, row);
                let values = &values[place * inputs * tiles..][..inputs * tiles];
                let sums = &mut sums[place * outputs * tiles..][..outputs * tiles];
                product(sums, weights, View::new(values, inputs, tiles), nth > 0);
            }
        }
        for (channel, rows) in rows.into_iter().enumerate() {
            for (row, rows) in rows.chunks_mut(2 * out.width).enumerate() {
                let sums = &sums[channel * tiles + row * grid.columns..];
                sums_backward(sums, outputs * tiles, grid.columns, rows, out.width);
            }
        }
    });
    values
}

/// For each tap and shift, the products of every channel of `gradients` with every channel of
/// `planes`, summed up over frames and positions: `[out, in, taps, 3, 3]`. `gradients` has zeros beyond
/// the extents `out`, up to even ones; `planes` reach two values beyond those.
pub(super) fn correlate_channels(
    planes: &Planes,
    gradients: &Planes,
    taps: usize,
    out: Extents,
) -> Vec<f32> {
    let [inputs, outputs] = [planes.channels, out.channels];
    let grid = Grid::of(out);
    let most = PLACES * grid.strip(0).tiles();
    let mut values = vec![0.0; most * inputs];
    let mut for_sums = vec![0.0; most * outputs];
    let mut sums: Vec<Vec<f32>> = vec![vec![0.0; outputs * inputs]; taps * PLACES];
    let frames = (0..out.batch).flat_map(|b| (0..out.frames).map(move |f| (b, f)));
    let strips = frames.flat_map(|frame| (0..grid.strips()).map(move |strip| (frame, strip)));
    for ((batch, frame), strip) in strips {
        let strip = grid.strip(strip);
        let tiles = strip.tiles();
        let for_sums = &mut for_sums[..PLACES * tiles * outputs];
        strip.channels_forward(sums_forward, gradients, [batch, frame], for_sums);
        for (source, tap) in sources(frame) {
            let values = &mut values[..PLACES * tiles * inputs];
            strip.channels_forward(tiles_forward, planes, [batch, source], values);
            let places = sums[tap * PLACES..][..PLACES].par_iter_mut().enumerate();
            places.for_each(|(place, sums)| {
                let of_place = |values, channels| {
                    let values: &[f32] = values;
                    View::apart(&values[place * tiles..], channels, tiles, PLACES * tiles)
                };
                let values = of_place(values, inputs).transpose();
                product(sums, of_place(for_sums, outputs), values, true);
            });
        }
    }
    by_pair(&sums, taps, kernel_backward)
}

/// `G g Gᵀ`, `G = [1 0 0; ½ ½ ½; ½ −½ ½; 0 0 1]`.
fn kernel_forward(kernel: [f32; K * K]) -> [f32; PLACES] {
    let four = |[a, b, c]: [f32; 3]| {
        let (ends, middle) = ((a + c) * 0.5, b * 0.5);
        [a, ends + middle, ends - middle, c]
    };
    // Columns, then rows.
    let columns: [[f32; 4]; 3] =
        std::array::from_fn(|j| four([kernel[j], kernel[3 + j], kernel[6 + j]]));
    let rows: [[f32; 4]; 4] =
        std::array::from_fn(|i| four([columns[0][i], columns[1][i], columns[2][i]]));
    std::array::from_fn(|place| rows[place / 4][place % 4])
}

/// `Gᵀ u G`, which is the gradient for a kernel of what is the gradient for its other form.
fn kernel_backward(places: [f32; PLACES]) -> [f32; K * K] {
    let three = |[a, b, c, d]: [f32; 4]| {
        let (sum, difference) = ((b + c) * 0.5, (b - c) * 0.5);
        [a + sum, difference, sum + d]
    };
    let columns: [[f32; 3]; 4] =
        std::array::from_fn(|j| three(std::array::from_fn(|i| places[4 * i + j])));
    let rows: [[f32; 3]; 3] =
        std::array::from_fn(|i| three(std::array::from_fn(|j| columns[j][i])));
    std::array::from_fn(|k| rows[k / K][k % K])
}

for_each_cpu! {
    /// `Bᵀ d B` of a row of `tiles` tiles whose first is the beginning of `plane`, whose rows are `width`
    /// wide; place by place, `step` apart. `Bᵀ = [1 0 −1 0; 0 1 1 0; 0 −1 1 0; 0 1 0 −1]`.
    fn tiles_forward(plane: &[f32], width: usize, tiles: usize, out: &mut [f32], step: usize)
        = tiles_forward_body
}

#[inline(always)]
fn tiles_forward_body<const FUSED: bool>(
    plane: &[f32],
    width: usize,
    tiles: usize,
    out: &mut [f32],
    step: usize,
) {
    // Both columns of a tile's first half; the second half is the next one's first.
    let row = |i: usize| &plane[i * width..][..2 * tiles + 2].as_chunks::<2>().0[..tiles + 1];
    let rows = [row(0), row(1), row(2), row(3)];
    let mut horizontally = |i: usize, [a, b]: [usize; 2], sign: f32| {
        let mut places = out[4 * i * step..].chunks_mut(step);
        let mut place = || match places.next() {
            Some(place) => &mut place[..tiles],
            None => &mut [],
        };
        let [first, second, third, fourth] = [place(), place(), place(), place()];
        let (a, b) = (rows[a], rows[b]);
        for tile in 0..tiles {
            let column =
                |half: usize, side: usize| a[tile + half][side] + sign * b[tile + half][side];
            let [d0, d1, d2, d3] = [column(0, 0), column(0, 1), column(1, 0), column(1, 1)];
            first[tile] = d0 - d2;
            second[tile] = d1 + d2;
            third[tile] = d2 - d1;
            fourth[tile] = d1 - d3;
        }
    };
    horizontally(0, [0, 2], -1.0);
    horizontally(1, [1, 2], 1.0);
    horizontally(2, [2, 1], -1.0);
    horizontally(3, [1, 3], -1.0);
}

for_each_cpu! {
    /// `Aᵀ m A` of a row of `tiles` tiles, place by place, `step` apart; to one or two rows of a plane of
    /// `width` values, or one less than two for each tile. `Aᵀ = [1 1 1 0; 0 1 −1 −1]`.
    fn sums_backward(sums: &[f32], step: usize, tiles: usize, rows: &mut [f32], width: usize)
        = sums_backward_body
}

#[inline(always)]
fn sums_backward_body<const FUSED: bool>(
    sums: &[f32],
    step: usize,
    tiles: usize,
    rows: &mut [f32],
    width: usize,
) {
    for (nth, row) in rows.chunks_exact_mut(width).enumerate() {
        let (first, sign) = [(0, 1.0), (1, -1.0)][nth];
        // The sums of a column of places, in two rows of this one's tiles.
        let column = |j: usize| [0, 1, 2].map(|i| &sums[(4 * (first + i) + j) * step..][..tiles]);
        let columns = [column(0), column(1), column(2), column(3)];
        let (pairs, last) = row.as_chunks_mut::<2>();
        let whole = pairs.len();
        let [c0, c1, c2, c3] = columns.map(|column| column.map(|place| &place[..whole]));
        for tile in 0..whole {
            let sum = |[a, b, c]: [&[f32]; 3]| a[tile] + sign * b[tile] + sign * c[tile];
            let [m0, m1, m2, m3] = [sum(c0), sum(c1), sum(c2), sum(c3)];
            pairs[tile] = [m0 + m1 + m2, m1 - m2 - m3];
        }
        for value in last {
            let sum = |[a, b, c]: [&[f32]; 3]| a[whole] + sign * b[whole] + sign * c[whole];
            *value = sum(columns[0]) + sum(columns[1]) + sum(columns[2]);
        }
    }
}

for_each_cpu! {
    /// `A y Aᵀ` of a row of `tiles` tiles of 2×2 values whose first is the beginning of `plane`: the
    /// gradient for the sums that [`sums_backward`] brings back. Place by place, `step` apart.
    fn sums_forward(plane: &[f32], width: usize, tiles: usize, out: &mut [f32], step: usize)
        = sums_forward_body
}

#[inline(always)]
fn sums_forward_body<const FUSED: bool>(
    plane: &[f32],
    width: usize,
    tiles: usize,
    out: &mut [f32],
    step: usize,
) {
    let row = |i: usize| &plane[i * width..][..2 * tiles].as_chunks::<2>().0[..tiles];
    let (upper, lower) = (row(0), row(1));
    let mut horizontally = |i: usize, [a, b]: [f32; 2]| {
        let mut places = out[4 * i * step..].chunks_mut(step);
        let mut place = || match places.next() {
            Some(place) => &mut place[..tiles],
            None => &mut [],
        };
        let [first, second, third, fourth] = [place(), place(), place(), place()];
        for tile in 0..tiles {
            let [y0, y1] = [0, 1].map(|side| a * upper[tile][side] + b * lower[tile][side]);
            first[tile] = y0;
            second[tile] = y0 + y1;
            third[tile] = y0 - y1;
            fourth[tile] = -y1;
        }
    };
    horizontally(0, [1.0, 0.0]);
    horizontally(1, [1.0, 1.0]);
    horizontally(2, [1.0, -1.0]);
    horizontally(3, [0.0, -1.0]);
}
