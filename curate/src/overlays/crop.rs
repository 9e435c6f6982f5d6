//! Which part of a picture to keep.

use serde::{Deserialize, Serialize};

use super::{Config, Overlays, Rect};

/// What to do with a clip.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    /// Nothing lies over it.
    Keep,
    /// This part is free of borders and overlays.
    Crop(Rect),
    /// No good part is.
    Reject(Reason),
}

/// Why a clip cannot be cropped.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// The largest free part is this share of the picture within the borders: too small.
    TooLittleLeft(f32),
}

impl Rect {
    pub(super) fn width(&self) -> f32 {
        self.right - self.left
    }

    pub(super) fn height(&self) -> f32 {
        self.bottom - self.top
    }

    fn area(&self) -> f32 {
        self.width() * self.height()
    }

    fn overlaps(&self, other: &Self) -> bool {
        self.left < other.right
            && other.left < self.right
            && self.top < other.bottom
            && other.top < self.bottom
    }
}

impl Overlays {
    /// The largest part of the picture that is free of borders and regions and has an allowed shape;
    /// kept if it is at least [`Config::min_area`] of what lies within the borders. Whether enough
    /// pixels remain is for the tiers to say.
    pub fn crop(&self, config: &Config) -> Decision {
        let inside = self.inside();
        if self.borders.is_empty() && self.regions.is_empty() {
            return Decision::Keep;
        }
        let free = self.largest_free(inside, config);
        let left = free.area() / inside.area();
        if left >= config.min_area {
            Decision::Crop(free)
        } else {
            Decision::Reject(Reason::TooLittleLeft(left))
        }
    }

    /// The picture within the borders, without the line of pixels that mixes both.
    fn inside(&self) -> Rect {
        let (width, height) = (self.width as f32, self.height as f32);
        let mixed = |border: u32| if border > 0 { border as f32 + 1.0 } else { 0.0 };
        Rect {
            left: mixed(self.borders.left) / width,
            top: mixed(self.borders.top) / height,
            right: 1.0 - mixed(self.borders.right) / width,
            bottom: 1.0 - mixed(self.borders.bottom) / height,
        }
    }

    /// The largest rectangle of an allowed shape that overlaps no region. Its edges lie on those of
    /// regions or of `inside`, except where the shape has to be narrowed.
    fn largest_free(&self, inside: Rect, config: &Config) -> Rect {
        let edges = |low: f32, high: f32, of: fn(&Rect) -> [f32; 2]| {
            let mut edges = vec![low, high];
            edges.extend(
                self.regions
                    .iter()
                    .flat_map(|r| of(&r.area))
                    .filter(|e| (low..high).contains(e)),
            );
            edges
        };
        let across = edges(inside.left, inside.right, |r| [r.left, r.right]);
        let down = edges(inside.top, inside.bottom, |r| [r.top, r.bottom]);
        let mut best = Rect {
            left: 0.0,
            top: 0.0,
            right: 0.0,
            bottom: 0.0,
        };
        for &left in &across {
            for &right in across.iter().filter(|&&right| right > left) {
                for &top in &down {
                    for &bottom in down.iter().filter(|&&bottom| bottom > top) {
                        let candidate = Rect {
                            left,
                            top,
                            right,
                            bottom,
                        };
                        let shaped = self.shape(candidate, config);
                        if shaped.area() > best.area()
                            && !self.regions.iter().any(|r| r.area.overlaps(&candidate))
                        {
                            best = shaped;
                        }
                    }
                }
            }
        }
        best
    }

    /// The rectangle, narrowed about its centre to an allowed aspect ratio.
    fn shape(&self, rect: Rect, config: &Config) -> Rect {
        let picture = self.width as f32 / self.height as f32;
        let aspect = rect.width() / rect.height() * picture;
        let across = rect.width() * (1.0 - (config.max_aspect / aspect).min(1.0)) / 2.0;
        let down = rect.height() * (1.0 - (aspect / config.min_aspect).min(1.0)) / 2.0;
        Rect {
            left: rect.left + across,
            top: rect.top + down,
            right: rect.right - across,
            bottom: rect.bottom - down,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{Borders, Kind, Region},
        *,
    };

    fn rect([left, top, right, bottom]: [f32; 4]) -> Rect {
        Rect {
            left,
            top,
            right,
            bottom,
        }
    }

    fn overlays(borders: Borders, areas: &[[f32; 4]]) -> Overlays {
        let region = |&area: &[f32; 4]| Region {
            kind: Kind::Logo,
            area: rect(area),
            strength: 1.0,
        };
        Overlays {
            width: 640,
            height: 360,
            borders,
            regions: areas.iter().map(region).collect(),
            stillness: 0.0,
        }
    }

    #[test]
    fn the_largest_free_part_is_kept() {
        let found = overlays(
            Borders::default(),
            &[[0.2, 0.85, 0.8, 0.95], [0.9, 0.0, 1.0, 0.1]],
        );
        let decision = found.crop(&Config::default());
        // Below the logo, above the subtitle 0.75; beside the logo 0.9 x 0.85.
        assert_eq!(decision, Decision::Crop(rect([0.0, 0.0, 0.9, 0.85])));
    }

    #[test]
    fn borders_are_cut_with_the_mixed_line_and_not_counted_as_loss() {
        let borders = Borders {
            left: 200,
            right: 200,
            ..Borders::default()
        };
        let Decision::Crop(kept) = overlays(borders, &[]).crop(&Config::default()) else {
            panic!("not cropped");
        };
        assert_eq!(
            (kept.left, kept.right),
            (201.0 / 640.0, 1.0 - 201.0 / 640.0)
        );
    }

    #[test]
    fn the_shape_is_brought_within_the_limits() {
        let found = overlays(Borders::default(), &[[0.0, 0.7, 1.0, 0.8]]);
        let Decision::Crop(kept) = found.crop(&Config::default()) else {
            panic!("not cropped");
        };
        // 640 x 252 is wider than 2.4.
        assert!(
            (kept.width() * 640.0 / (kept.height() * 360.0) - 2.4).abs() < 1e-4,
            "{kept:?}"
        );
        assert!((kept.left + kept.right - 1.0).abs() < 1e-6, "{kept:?}");
    }

    #[test]
    fn what_leaves_too_little_is_rejected_with_what_is_left() {
        let found = overlays(Borders::default(), &[[0.4, 0.4, 0.6, 0.6]]);
        let Decision::Reject(Reason::TooLittleLeft(left)) = found.crop(&Config::default()) else {
            panic!("not rejected");
        };
        assert!((left - 0.4).abs() < 1e-6, "{left}");
        assert_eq!(
            overlays(Borders::default(), &[]).crop(&Config::default()),
            Decision::Keep
        );
    }
}
