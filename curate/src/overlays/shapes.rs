//! Shapes that stay while the scene moves: logos, watermarks, faint text.

use image::GrayImage;

use super::{
    area::{Area, CELL, components},
    coherence::{Differences, Edges},
};

/// Edges that stay and lie together.
pub(super) struct Shape {
    pub(super) area: Area,
    /// Share of the edges inside that stay.
    pub(super) strength: f32,
    /// Number of pixels on edges that stay.
    pixels: usize,
    /// How far they run in more than one direction: the smaller over the larger eigenvalue of the
    /// structure tensor, 0 for parallel lines, which stay when the scene moves along them.
    spread: f32,
    /// Share of the edges around that stay.
    around: f32,
    /// How alike the first and the last third of the clip are, over how alike neighbouring thirds
    /// are: 1 for what never moves, less where the scene turns or grows around this place.
    lasting: f32,
}

impl Shape {
    /// The limits lie between what was measured on overlays and on parts of scenes that pan, turn,
    /// grow and shake.
    fn stands_out(&self) -> bool {
        self.pixels >= 60
            && self.strength >= 0.3
            && self.around <= 0.3
            && self.spread >= 0.1
            && self.lasting >= 0.75
    }

    /// Whether this is a logo in a row of text whose lines change. What stays along half of the row or
    /// more is the text, and of what lines have in common most edges belong to letters that change.
    pub(super) fn is_beside(&self, text: &Area) -> bool {
        let short = 2 * self.area.width() < text.width();
        self.area.overlaps(text) && short && self.strength >= 0.5
    }
}

/// Counts of edge pixels by cell.
pub(super) struct Cells<'a> {
    edges: &'a Edges,
    /// The mean picture.
    mean: &'a GrayImage,
    columns: usize,
    rows: usize,
    staying: Vec<u32>,
    moving: Vec<u32>,
}

impl<'a> Cells<'a> {
    pub(super) fn new(edges: &'a Edges, mean: &'a GrayImage) -> Self {
        let (columns, rows) = (edges.width.div_ceil(CELL), edges.height.div_ceil(CELL));
        let mut cells = Self {
            edges,
            mean,
            columns,
            rows,
            staying: vec![0; columns * rows],
            moving: vec![0; columns * rows],
        };
        for y in 0..edges.height {
            for x in 0..edges.width {
                let (cell, pixel) = (y / CELL * columns + x / CELL, y * edges.width + x);
                cells.staying[cell] += u32::from(edges.staying[pixel]);
                cells.moving[cell] += u32::from(edges.moving[pixel]);
            }
        }
        cells
    }

    /// The median, over the cells with edges, of the share that stays; 1 if there are none.
    pub(super) fn stillness(&self) -> f32 {
        let counts = self.staying.iter().zip(&self.moving);
        let mut shares: Vec<f32> = counts
            .filter(|(staying, moving)| **staying + **moving >= 4)
            .map(|(&staying, &moving)| share(staying, moving))
            .collect();
        let middle = shares.len() / 2;
        match shares.is_empty() {
            true => 1.0,
            false => *shares.select_nth_unstable_by(middle, f32::total_cmp).1,
        }
    }

    /// The shapes that stand out from a scene that moves. `thirds` are those of the clip.
    pub(super) fn shapes(&self, thirds: &[Differences; 3]) -> Vec<Shape> {
        let counts = self.staying.iter().zip(&self.moving);
        let on: Vec<bool> = counts
            .map(|(&staying, &moving)| staying >= 4 && 3 * staying >= moving)
            .collect();
        components(&on, self.columns, 4)
            .iter()
            .filter_map(|cells| self.shape(cells, thirds))
            .filter(Shape::stands_out)
            .collect()
    }

    fn shape(&self, cells: &[usize], [first, middle, last]: &[Differences; 3]) -> Option<Shape> {
        let width = self.edges.width;
        let pixels: Vec<usize> = cells
            .iter()
            .flat_map(|&cell| self.staying_in(cell))
            .collect();
        let places = pixels.iter().map(|p| Area::pixel(p % width, p / width));
        let area = places.reduce(|a, b| a.union(&b))?;
        let [xx, yy, xy] = pixels.iter().fold([0.0; 3], |[xx, yy, xy], &pixel| {
            let level = |pixel: usize| f32::from(self.mean.as_raw()[pixel]);
            let x = level(pixel + 1) - level(pixel - 1);
            let y = level(pixel + width) - level(pixel - width);
            [xx + x * x, yy + y * y, xy + x * y]
        });
        let (mean, half) = ((xx + yy) / 2.0, ((xx - yy).powi(2) / 4.0 + xy * xy).sqrt());
        let near = (first.product(middle, &pixels) + middle.product(last, &pixels)) / 2.0;
        let around = self.around(&area).filter(|cell| !cells.contains(cell));
        Some(Shape {
            area,
            strength: self.share(cells.iter().copied()),
            pixels: pixels.len(),
            spread: (mean - half) / (mean + half),
            around: self.share(around),
            lasting: first.product(last, &pixels) / near,
        })
    }

    /// The pixels of a cell on edges that stay.
    fn staying_in(&self, cell: usize) -> impl Iterator<Item = usize> {
        let Edges { width, height, .. } = *self.edges;
        let (x, y) = (cell % self.columns * CELL, cell / self.columns * CELL);
        let pixels = (y..(y + CELL).min(height))
            .flat_map(move |y| (x..(x + CELL).min(width)).map(move |x| y * width + x));
        pixels.filter(|&pixel| self.edges.staying[pixel])
    }

    /// The cells of an area and six more in each direction.
    fn around(&self, area: &Area) -> impl Iterator<Item = usize> + use<> {
        let columns = self.columns;
        let span = |low: usize, high: usize, all: usize| {
            (low / CELL).saturating_sub(6)..(high / CELL + 7).min(all)
        };
        let across = span(area.left, area.right, columns);
        let down = span(area.top, area.bottom, self.rows);
        down.flat_map(move |y| across.clone().map(move |x| y * columns + x))
    }

    /// Share of the edges in some cells that stays.
    fn share(&self, cells: impl Iterator<Item = usize>) -> f32 {
        let (staying, moving) = cells.fold((0, 0), |(staying, moving), cell| {
            (staying + self.staying[cell], moving + self.moving[cell])
        });
        share(staying, moving)
    }
}

fn share(staying: u32, moving: u32) -> f32 {
    staying as f32 / (staying + moving).max(1) as f32
}
