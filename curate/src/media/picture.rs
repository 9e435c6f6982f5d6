//! A decoded picture and its reductions.

use image::{GrayImage, RgbImage};

/// A decoded picture: Y'CbCr 4:2:0 in limited range (16 to 235), 8 bits each.
///
/// It becomes RGB by the BT.601 matrix whatever the file says, as in OpenCV: the detectors'
/// thresholds are made for that.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Picture {
    /// Number of the picture in its source, from 0.
    pub index: u64,
    /// Presentation time in seconds from the start of the video stream, a multiple of 1e-6.
    pub time: f64,
    width: u32,
    height: u32,
    /// Y, Cb and Cr one after the other; chroma is half as wide and high, rounded up.
    planes: Vec<u8>,
}

/// One plane and its width.
#[derive(Clone, Copy)]
struct Plane<'a> {
    samples: &'a [u8],
    width: usize,
    height: usize,
}

impl Picture {
    /// A picture of `planes`: Y, Cb and Cr one after the other, chroma half as wide and high,
    /// rounded up. `None` where their length is not that.
    pub fn new(width: u32, height: u32, planes: Vec<u8>) -> Option<Self> {
        let whole = width > 0 && height > 0 && planes.len() == length(width, height);
        whole.then_some(Self {
            index: 0,
            time: 0.0,
            width,
            height,
            planes,
        })
    }

    /// Width in pixels.
    pub fn width(&self) -> u32 {
        self.width
    }

    /// Height in pixels.
    pub fn height(&self) -> u32 {
        self.height
    }

    /// Takes this size; the planes, for a picture to be read into.
    pub(super) fn resize(&mut self, width: u32, height: u32) -> &mut [u8] {
        (self.width, self.height) = (width, height);
        self.planes.resize(length(width, height), 0);
        &mut self.planes
    }

    /// Y, Cb, Cr.
    fn planes(&self) -> [Plane<'_>; 3] {
        let (width, height) = (self.width as usize, self.height as usize);
        let (half_width, half_height) = (width.div_ceil(2), height.div_ceil(2));
        let (y, chroma) = self.planes.split_at(width * height);
        let (cb, cr) = chroma.split_at(half_width * half_height);
        let plane = |samples, width, height| Plane {
            samples,
            width,
            height,
        };
        [
            plane(y, width, height),
            plane(cb, half_width, half_height),
            plane(cr, half_width, half_height),
        ]
    }

    /// Brightness at full size in 0..=255.
    pub fn luma(&self) -> GrayImage {
        let stretched: [u8; 256] = std::array::from_fn(|y| stretch(y as i32));
        let pixels = self.planes()[0].samples.iter();
        let pixels = pixels.map(|&y| stretched[usize::from(y)]).collect();
        GrayImage::from_raw(self.width, self.height, pixels).unwrap_or_default()
    }

    /// The RGB picture that OpenCV's `resize` with `INTER_LINEAR` makes of its own conversion of
    /// this one, exactly where the height is even. Only the pixels it needs are converted.
    pub fn downscaled(&self, width: u32, height: u32) -> RgbImage {
        let mut image = RgbImage::new(width, height);
        Downscale::default().run(self, &mut image);
        image
    }

    /// The picture averaged over areas, for sizes below its own: each pixel is the mean of what it
    /// covers, parts of pixels counted by their share.
    pub fn reduced(&self, width: u32, height: u32) -> RgbImage {
        let (width, height) = (width as usize, height as usize);
        let [y, cb, cr] = self.planes().map(|plane| plane.average(width, height));
        let chroma = cb.iter().zip(&cr);
        let pixels = y.iter().zip(chroma).flat_map(|(&y, (&cb, &cr))| {
            let y = 255.0 / 219.0 * (y - 16.0);
            let (cb, cr) = (255.0 / 224.0 * (cb - 128.0), 255.0 / 224.0 * (cr - 128.0));
            let green = y - 0.344_136 * cb - 0.714_136 * cr;
            [y + 1.402 * cr, green, y + 1.772 * cb].map(|v| v.round() as u8)
        });
        RgbImage::from_raw(width as u32, height as u32, pixels.collect()).unwrap_or_default()
    }
}

/// Samples of all planes together.
fn length(width: u32, height: u32) -> usize {
    let (width, height) = (width as usize, height as usize);
    width * height + 2 * width.div_ceil(2) * height.div_ceil(2)
}

/// Luma of limited range to 0..=255.
fn stretch(y: i32) -> u8 {
    ((y - 16) as f32 * (255.0 / 219.0)).round() as u8
}

impl Plane<'_> {
    fn row(&self, y: usize) -> &[u8] {
        &self.samples[y * self.width..][..self.width]
    }

    /// Area averages on a grid of `width` x `height`.
    fn average(&self, width: usize, height: usize) -> Vec<f32> {
        let columns: Vec<_> = (0..width)
            .map(|x| Span::new(x, width, self.width))
            .collect();
        let mut averages = Vec::with_capacity(width * height);
        let mut sums = vec![0.0f32; self.width];
        for y in 0..height {
            sums.fill(0.0);
            let rows = Span::new(y, height, self.height);
            for (row, weight) in rows.weights() {
                for (sum, &sample) in sums.iter_mut().zip(self.row(row)) {
                    *sum += weight * f32::from(sample);
                }
            }
            averages.extend(columns.iter().map(|columns| {
                let terms = columns.weights().map(|(x, weight)| weight * sums[x]);
                terms.sum::<f32>()
            }));
        }
        averages
    }
}

/// The samples that one sample of a coarser grid covers, and their shares.
struct Span {
    from: f32,
    to: f32,
}

impl Span {
    fn new(index: usize, coarse: usize, fine: usize) -> Self {
        let edge = |i: usize| (i as f64 * fine as f64 / coarse as f64) as f32;
        Self {
            from: edge(index),
            to: edge(index + 1),
        }
    }

    /// Each covered sample with its share; the shares sum to 1.
    fn weights(&self) -> impl Iterator<Item = (usize, f32)> {
        let (from, to) = (self.from, self.to);
        let last = (to.ceil() as usize).max(from as usize + 1);
        (from as usize..last).map(move |i| {
            let share = to.min(i as f32 + 1.0) - from.max(i as f32);
            (i, share / (to - from))
        })
    }
}

/// Reduces pictures as OpenCV would, keeping its tables and buffers from one to the next.
///
/// Rows are arrays of 16-bit numbers, one a channel: eight go through the processor's vector unit at
/// once.
#[derive(Debug, Default)]
pub(crate) struct Downscale {
    /// Source and target sizes that the tables are made for.
    sizes: [(u32, u32); 2],
    columns: Taps,
    rows: Taps,
    /// Two source rows, blended across: red, green and blue one after the other, in 1/128.
    blended: [Vec<i16>; 2],
    /// What luma gives to a source row's pixels, at the first and at the second tap of every column.
    luma: [Vec<i16>; 2],
    /// What chroma adds to their red, green and blue.
    chroma: [[Vec<i16>; 3]; 2],
    /// The row of the chroma planes that `chroma` is made of: as a rule it serves two rows.
    chroma_row: Option<usize>,
}

/// For each target place two neighbouring source places and their weights in 1/2048.
#[derive(Debug, Default)]
struct Taps {
    /// The former of the two.
    places: Vec<usize>,
    /// How far the latter is from it: 1, or 0 where the source has one place.
    next: usize,
    weights: [Vec<i16>; 2],
}

impl Downscale {
    /// Fills `image`, at its size.
    pub(crate) fn run(&mut self, picture: &Picture, image: &mut RgbImage) {
        let (width, height) = image.dimensions();
        self.fit([(picture.width, picture.height), (width, height)]);
        let planes = picture.planes();
        let width = width as usize;
        for (row, target) in image.chunks_exact_mut(3 * width).enumerate() {
            for i in [0, 1] {
                self.blend(&planes, self.rows.places[row] + i * self.rows.next, i);
            }
            let [first, second] = &mut self.blended;
            let [a, b] = [0, 1].map(|i| self.rows.weights[i][row]);
            // OpenCV's vector code for 8 bits: four bits are gone, 16 more go here, two at the end.
            for (first, second) in first.iter_mut().zip(&*second) {
                *first = (upper_half(*first, a) + upper_half(*second, b) + 2) >> 2;
            }
            let (red, rest) = first.split_at(width);
            let (green, blue) = rest.split_at(width);
            let channels = red.iter().zip(green).zip(blue);
            for (pixel, ((&red, &green), &blue)) in target.chunks_exact_mut(3).zip(channels) {
                pixel.copy_from_slice(&[red as u8, green as u8, blue as u8]);
            }
        }
    }

    /// Makes tables and buffers for a new picture of these sizes.
    fn fit(&mut self, sizes: [(u32, u32); 2]) {
        self.chroma_row = None;
        if self.sizes == sizes {
            return;
        }
        let [source, target] = sizes;
        let row = || vec![0; target.0 as usize];
        *self = Self {
            sizes,
            columns: Taps::new(source.0, target.0),
            rows: Taps::new(source.1, target.1),
            blended: std::array::from_fn(|_| vec![0; 3 * target.0 as usize]),
            luma: std::array::from_fn(|_| row()),
            chroma: std::array::from_fn(|_| std::array::from_fn(|_| row())),
            chroma_row: None,
        };
    }

    /// Blends a source row across, by swscale's conversion to RGB: 13-bit coefficients of BT.601 on
    /// values shifted by three bits, each product cut to its upper half.
    fn blend(&mut self, [y, cb, cr]: &[Plane; 3], row: usize, into: usize) {
        let y = y.row(row);
        let Taps { places, next, .. } = &self.columns;
        let [first, second] = &mut self.luma;
        for ((first, second), &x) in first.iter_mut().zip(second).zip(places) {
            (*first, *second) = (i16::from(y[x]), i16::from(y[x + next]));
        }
        for luma in &mut self.luma {
            for luma in luma {
                *luma = upper_half(*luma * 8 - 128, 9539);
            }
        }
        if self.chroma_row.replace(row / 2) != Some(row / 2) {
            let (cb, cr) = (cb.row(row / 2), cr.row(row / 2));
            for (i, chroma) in self.chroma.iter_mut().enumerate() {
                add_chroma(chroma, cb, cr, places.iter().map(|x| (x + i * next) / 2));
            }
        }
        let width = self.luma[0].len();
        let blended = self.blended[into].chunks_exact_mut(width);
        let [first, second] = &self.chroma;
        for (blended, chroma) in blended.zip(first.iter().zip(second)) {
            let pixels = |i: usize, chroma| {
                let pixels = self.luma[i].iter().zip::<&Vec<i16>>(chroma);
                pixels.zip(&self.columns.weights[i])
            };
            let pixels = pixels(0, chroma.0).zip(pixels(1, chroma.1));
            for (blended, (((l, c), u), ((m, d), v))) in blended.iter_mut().zip(pixels) {
                let (first, second) = ((l + c).clamp(0, 255), (m + d).clamp(0, 255));
                let sum = i32::from(first) * i32::from(*u) + i32::from(second) * i32::from(*v);
                *blended = (sum >> 4) as i16;
            }
        }
    }
}

/// The upper 16 bits of a product.
fn upper_half(a: i16, b: i16) -> i16 {
    ((i32::from(a) * i32::from(b)) >> 16) as i16
}

/// What a row's chroma adds to red, green and blue at `places` of its planes.
fn add_chroma(
    [red, green, blue]: &mut [Vec<i16>; 3],
    cb: &[u8],
    cr: &[u8],
    places: impl Iterator<Item = usize>,
) {
    for ((blue, red), x) in blue.iter_mut().zip(&mut *red).zip(places) {
        (*blue, *red) = (i16::from(cb[x]), i16::from(cr[x]));
    }
    for ((red, green), blue) in red.iter_mut().zip(green).zip(blue) {
        let (u, v) = (*blue * 8 - 1024, *red * 8 - 1024);
        *red = upper_half(v, 13075);
        *green = upper_half(u, -3209) + upper_half(v, -6660);
        *blue = upper_half(u, 16525);
    }
}

impl Taps {
    /// Where OpenCV's linear interpolation takes its samples: centres of pixels on centres, edges
    /// held.
    fn new(source: u32, target: u32) -> Self {
        let scale = f64::from(source) / f64::from(target);
        let next = usize::from(source > 1);
        let last = source as usize - 1;
        let mut taps = Self {
            next,
            ..Self::default()
        };
        for i in 0..target {
            let position = ((f64::from(i) + 0.5) * scale - 0.5) as f32;
            // At the far edge all weight is on the last place.
            let first = position.max(0.0).floor().min((last - next) as f32);
            let fraction = (position - first).clamp(0.0, 1.0);
            let weight = (fraction * 2048.0).round_ties_even() as i16;
            taps.places.push(first as usize);
            taps.weights[0].push(2048 - weight);
            taps.weights[1].push(weight);
        }
        taps
    }
}
