//! Encoding and decoding in overlapping tiles, for clips that do not fit in memory whole.
//!
//! A tiled pass cuts the clip in time, then each piece in height and width, runs every tile through
//! the model, and cross-fades neighbours linearly over their overlap. Both published
//! implementations (Tencent's, diffusers') do this by the same rules with other numbers; the rules
//! are theirs, also where they are peculiar:
//!
//! - A tile in time takes one latent frame more than its size, because the model treats the first
//!   frame it sees apart; the output of that frame is dropped from every tile but the first.
//! - A clip is cut in time when it is longer than a tile, in height and width when either exceeds
//!   the tile, and then at every stride, even where the last tile lies within the one before.
//! - A tile fades into the one above, then into the one to the left, both faded already.

use std::ops::Range;

use burn::tensor::{Tensor, TensorData};

use crate::{config::COMPRESSION, tiling::Tiling};

/// Tensor axes of a clip.
const TIME: usize = 2;
const HEIGHT: usize = 3;
const WIDTH: usize = 4;

/// A tiled pass through the model, one tile for each step of the iterator.
///
/// A step gives `Some` when its tile completes a stretch of the clip: the output's next frames in
/// full height and width. Only the overlaps are kept between tiles, so memory does not grow with
/// the clip's length. Dropping the iterator abandons the pass.
///
/// From [`Vae::encode_tiles`](crate::Vae::encode_tiles) and
/// [`Vae::decode_tiles`](crate::Vae::decode_tiles).
pub struct Tiles<'a> {
    pass: Box<dyn Fn(Tensor<5>) -> Tensor<5> + 'a>,
    input: Tensor<5>,
    time: Axis,
    height: Axis,
    width: Axis,
    /// Tiles passed.
    done: usize,
    /// Finished tiles of the current row, and finished rows of the current stretch of time.
    row: Vec<Tensor<5>>,
    rows: Vec<Tensor<5>>,
    /// What the next tiles fade into: the right edge of the tile to the left, the lower edge of
    /// the tile above in each column, the last frames of the stretch before.
    left: Option<Tensor<5>>,
    above: Vec<Option<Tensor<5>>>,
    before: Option<Tensor<5>>,
}

/// Which of a pass's sides is the video.
#[derive(Clone, Copy)]
pub(crate) enum Direction {
    Encode,
    Decode,
}

impl<'a> Tiles<'a> {
    pub(crate) fn new(
        pass: impl Fn(Tensor<5>) -> Tensor<5> + 'a,
        input: Tensor<5>,
        tiling: &Tiling,
        direction: Direction,
    ) -> Self {
        let [_, _, size @ ..] = input.dims();
        let [time, height, width] = axes(size, tiling, direction);
        Self {
            pass: Box::new(pass),
            input,
            done: 0,
            row: Vec::new(),
            rows: Vec::new(),
            left: None,
            above: vec![None; width.tiles],
            before: None,
            time,
            height,
            width,
        }
    }

    /// Passes tile (`t`, `i`, `j`) and fades it into its neighbours above and to the left.
    fn tile(&mut self, t: usize, i: usize, j: usize) -> Tensor<5> {
        let region = [
            self.time.input(t),
            self.height.input(i),
            self.width.input(j),
        ];
        let tile = (self.pass)(cut(&self.input, region));
        let tile = fade(self.above[j].take(), tile, HEIGHT);
        let tile = fade(self.left.take(), tile, WIDTH);
        self.above[j] = self.height.edge(&tile, HEIGHT, i);
        self.left = self.width.edge(&tile, WIDTH, j);
        let tile = head(tile, HEIGHT, self.height.keep);
        head(tile, WIDTH, self.width.keep)
    }

    /// Fades stretch `t` of the clip into the one before.
    fn stretch(&mut self, t: usize, clip: Tensor<5>) -> Tensor<5> {
        if t == 0 {
            self.before = self.time.edge(&clip, TIME, t);
            return head(clip, TIME, self.time.keep + 1);
        }
        let frames = clip.dims()[TIME];
        let clip = fade(self.before.take(), clip.narrow(TIME, 1, frames - 1), TIME);
        self.before = self.time.edge(&clip, TIME, t);
        head(clip, TIME, self.time.keep)
    }
}

impl Iterator for Tiles<'_> {
    type Item = Option<Tensor<5>>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.len() == 0 {
            return None;
        }
        let (columns, rows) = (self.width.tiles, self.height.tiles);
        let (t, i, j) = (
            self.done / (rows * columns),
            self.done / columns % rows,
            self.done % columns,
        );
        self.done += 1;

        let tile = self.tile(t, i, j);
        self.row.push(tile);
        if j + 1 < columns {
            return Some(None);
        }
        self.rows
            .push(Tensor::cat(std::mem::take(&mut self.row), WIDTH));
        if i + 1 < rows {
            return Some(None);
        }
        let clip = Tensor::cat(std::mem::take(&mut self.rows), HEIGHT);
        Some(Some(self.stretch(t, clip)))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.time.tiles * self.height.tiles * self.width.tiles - self.done;
        (left, Some(left))
    }
}

impl ExactSizeIterator for Tiles<'_> {}

/// The tiles along one axis.
struct Axis {
    tiles: usize,
    /// Where tiles start, and their length, in input units.
    stride: usize,
    tile: usize,
    /// What they fade over, and what is kept of each, in output units.
    overlap: usize,
    keep: usize,
    /// Length of the input.
    length: usize,
}

/// The tiles along time, height and width of an input of this `size`.
fn axes(size: [usize; 3], tiling: &Tiling, direction: Direction) -> [Axis; 3] {
    // Units of input and of output for each latent.
    let (input, output) = match direction {
        Direction::Encode => (COMPRESSION, [1; 3]),
        Direction::Decode => ([1; 3], COMPRESSION),
    };
    // Everything in latents. In time, the first frame comes on top.
    let latents: [usize; 3] = std::array::from_fn(|axis| match axis {
        0 => (size[0] - 1).div_ceil(input[0]) + 1,
        _ => size[axis].div_ceil(input[axis]),
    });
    let tile: [usize; 3] = std::array::from_fn(|axis| tiling.tile()[axis] / COMPRESSION[axis]);
    let stride: [usize; 3] = std::array::from_fn(|axis| tiling.stride()[axis] / COMPRESSION[axis]);
    let in_time = latents[0] > tile[0];
    let in_space = latents[1] > tile[1] || latents[2] > tile[2];

    std::array::from_fn(|axis| {
        let first = usize::from(axis == 0);
        let cut = if axis == 0 { in_time } else { in_space };
        let (tile, stride) = if cut {
            (tile[axis], stride[axis])
        } else {
            (latents[axis], latents[axis])
        };
        Axis {
            // A last tile of nothing but the frame it would drop is left out.
            tiles: (latents[axis] - first).div_ceil(stride).max(1),
            stride: stride * input[axis],
            tile: tile * input[axis] + first,
            overlap: (tile - stride) * output[axis],
            keep: stride * output[axis],
            length: size[axis],
        }
    })
}

impl Axis {
    /// What tile `index` takes of the input.
    fn input(&self, index: usize) -> Range<usize> {
        let start = index * self.stride;
        start..(start + self.tile).min(self.length)
    }

    /// The end of tile `index`, for the next one to fade into; `None` after the last.
    fn edge(&self, tile: &Tensor<5>, axis: usize, index: usize) -> Option<Tensor<5>> {
        let length = tile.dims()[axis];
        let overlap = self.overlap.min(length);
        (index + 1 < self.tiles && overlap > 0)
            .then(|| tile.clone().narrow(axis, length - overlap, overlap))
    }
}

/// A region of a clip.
fn cut(clip: &Tensor<5>, region: [Range<usize>; 3]) -> Tensor<5> {
    let clip = clip.clone();
    region
        .into_iter()
        .zip([TIME, HEIGHT, WIDTH])
        .fold(clip, |clip, (range, axis)| {
            if range.len() == clip.dims()[axis] {
                clip
            } else {
                clip.narrow(axis, range.start, range.len())
            }
        })
}

/// The first `length` of a clip along `axis`, or all of it.
fn head(clip: Tensor<5>, axis: usize, length: usize) -> Tensor<5> {
    if clip.dims()[axis] <= length {
        clip
    } else {
        clip.narrow(axis, 0, length)
    }
}

/// Cross-fades the start of `tile` with the `edge` of the tile before it: over `n` positions,
/// position `i` takes `i / n` of the tile and the rest of the edge.
fn fade(edge: Option<Tensor<5>>, tile: Tensor<5>, axis: usize) -> Tensor<5> {
    let Some(edge) = edge else { return tile };
    let length = tile.dims()[axis];
    let n = edge.dims()[axis].min(length);
    let from = edge.dims()[axis] - n;
    let edge = edge.narrow(axis, from, n);

    let mut shape = [1; 5];
    shape[axis] = n;
    let ramp: Vec<f32> = (0..n).map(|i| i as f32 / n as f32).collect();
    let ramp = TensorData::new(ramp, shape);
    let ramp = Tensor::from_data(ramp, (&tile.device(), tile.dtype()));

    let start = tile.clone().narrow(axis, 0, n);
    let mixed = edge * (ramp.clone().neg() + 1.0) + start * ramp;
    if n == length {
        return mixed;
    }
    Tensor::cat(vec![mixed, tile.narrow(axis, n, length - n)], axis)
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{DType, Device, Distribution};

    /// A stand-in for the decoder without a receptive field: repeats every latent 8 times in height
    /// and width, 4 times in time but the first frame once.
    fn repeat(latents: Tensor<5>) -> Tensor<5> {
        let frames = latents.dims()[TIME];
        let x = nearest(nearest(nearest(latents, TIME, 4), HEIGHT, 8), WIDTH, 8);
        x.narrow(TIME, 3, 4 * (frames - 1) + 1)
    }

    fn nearest(x: Tensor<5>, axis: usize, factor: usize) -> Tensor<5> {
        let index: Vec<i32> = (0..x.dims()[axis] * factor)
            .map(|i| (i / factor) as i32)
            .collect();
        let index = Tensor::from_data(&index[..], &x.device());
        x.select(axis, index)
    }

    fn values(x: Tensor<5>) -> Vec<f32> {
        x.into_data().try_to_vec().unwrap()
    }

    #[test]
    fn tiles_put_together_are_the_whole() {
        let device = Device::flex();
        for (tiling, size) in [
            (Tiling::new([8, 32, 32], [4, 24, 24]), [6, 7, 5]),
            (Tiling::new([8, 32, 32], [4, 8, 16]), [7, 5, 9]),
            (Tiling::new([8, 32, 32], [8, 32, 32]), [6, 9, 3]),
            (Tiling::new([12, 16, 64], [4, 16, 24]), [8, 4, 9]),
            (Ok(Tiling::FRAMEWISE), [12, 2, 3]),
            (Ok(Tiling::WHOLE), [3, 2, 3]),
        ] {
            let [frames, height, width] = size;
            let shape = [1, 2, frames, height, width];
            let latents = Tensor::random(shape, Distribution::Default, (&device, DType::F32));
            let tiles = Tiles::new(repeat, latents.clone(), &tiling.unwrap(), Direction::Decode);
            let expected = tiles.len();
            let steps: Vec<_> = tiles.collect();
            assert_eq!(steps.len(), expected);
            let clip = Tensor::cat(steps.into_iter().flatten().collect(), TIME);
            let whole = repeat(latents);
            assert_eq!(clip.dims(), whole.dims());
            for (a, b) in values(clip).into_iter().zip(values(whole)) {
                assert!((a - b).abs() < 1e-6, "{a} {b}");
            }
        }
    }

    #[test]
    fn an_overlap_fades_linearly() {
        let device = Device::flex();
        let row =
            |value: f32, width| Tensor::full([1, 1, 1, 1, width], value, (&device, DType::F32));
        let faded = |edge, tile| values(fade(Some(edge), tile, WIDTH));
        assert_eq!(
            faded(row(0.0, 4), row(1.0, 6)),
            [0.0, 0.25, 0.5, 0.75, 1.0, 1.0]
        );
        // A tile shorter than the overlap takes the end of the edge, over its own length.
        let edge = Tensor::cat(vec![row(9.0, 2), row(2.0, 2)], WIDTH);
        assert_eq!(faded(edge, row(4.0, 2)), [2.0, 3.0]);
    }

    #[test]
    fn stretches_come_as_they_are_finished() {
        // 9 latent frames in strides of 2: every stretch but the first has 8 frames.
        let latents = Tensor::zeros([1, 1, 9, 2, 2], (&Device::flex(), DType::F32));
        let tiling = Tiling::new([12, 16, 16], [8, 16, 16]).unwrap();
        let stretches = Tiles::new(repeat, latents, &tiling, Direction::Decode).flatten();
        let frames: Vec<usize> = stretches.map(|clip| clip.dims()[TIME]).collect();
        assert_eq!(frames, [9, 8, 8, 8]);
    }
}
