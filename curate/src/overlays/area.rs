//! Rectangles and neighbourhoods of pixels.

use super::Rect;

/// Side of a cell in pixels: what lies in one is counted together.
pub(super) const CELL: usize = 8;

/// A rectangle of pixels; `right` and `bottom` are the first ones outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Area {
    pub(super) left: usize,
    pub(super) top: usize,
    pub(super) right: usize,
    pub(super) bottom: usize,
}

impl Area {
    pub(super) fn pixel(x: usize, y: usize) -> Self {
        Self {
            left: x,
            top: y,
            right: x + 1,
            bottom: y + 1,
        }
    }

    pub(super) fn width(&self) -> usize {
        self.right - self.left
    }

    pub(super) fn height(&self) -> usize {
        self.bottom - self.top
    }

    pub(super) fn overlaps(&self, other: &Self) -> bool {
        let across = self.left < other.right && other.left < self.right;
        across && self.top < other.bottom && other.top < self.bottom
    }

    /// The least area that holds both.
    pub(super) fn union(&self, other: &Self) -> Self {
        Self {
            left: self.left.min(other.left),
            top: self.top.min(other.top),
            right: self.right.max(other.right),
            bottom: self.bottom.max(other.bottom),
        }
    }

    /// Grown on both sides, across and down.
    pub(super) fn grown(&self, across: usize, down: usize) -> Self {
        Self {
            left: self.left.saturating_sub(across),
            top: self.top.saturating_sub(down),
            right: self.right + across,
            bottom: self.bottom + down,
        }
    }

    /// As fractions of a picture.
    pub(super) fn fractions(&self, width: u32, height: u32) -> Rect {
        let part = |at: usize, of: u32| (at as f32 / of as f32).min(1.0);
        Rect {
            left: part(self.left, width),
            top: part(self.top, height),
            right: part(self.right, width),
            bottom: part(self.bottom, height),
        }
    }
}

/// Groups of cells that are on and at most `reach` columns and one row apart.
pub(super) fn components(on: &[bool], columns: usize, reach: usize) -> Vec<Vec<usize>> {
    let rows = on.len() / columns.max(1);
    let mut open = on.to_vec();
    let mut components = Vec::new();
    for start in 0..on.len() {
        if !open[start] {
            continue;
        }
        open[start] = false;
        let mut component = vec![start];
        let mut next = 0;
        while let Some(&cell) = component.get(next) {
            next += 1;
            let (x, y) = (cell % columns, cell / columns);
            for y in y.saturating_sub(1)..(y + 2).min(rows) {
                for x in x.saturating_sub(reach)..(x + reach + 1).min(columns) {
                    let neighbour = y * columns + x;
                    if open[neighbour] {
                        open[neighbour] = false;
                        component.push(neighbour);
                    }
                }
            }
        }
        components.push(component);
    }
    components
}
