//! How a clip is cut into tiles.

use std::{
    fmt::{self, Display, Formatter},
    str::FromStr,
};

use crate::{VaeConfig, config::COMPRESSION};

/// Size and spacing of tiles, `[frames, height, width]` in frames and pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tiling {
    tile: [usize; 3],
    stride: [usize; 3],
}

/// Why a [`Tiling`] is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TilingError {
    /// Not a tiling's name or sizes.
    #[error(
        "VAE tiling {0:?} is none of auto, off, tencent, diffusers, framewise, or tile/stride as in \
         256x256x64/192x192x48 (height x width x frames)"
    )]
    Syntax(String),
    /// A tile or stride that is not a positive multiple of the compression.
    #[error("{what} {got} of the VAE tiling is not a positive multiple of {multiple}")]
    Multiple {
        /// For example "tile height".
        what: String,
        /// The refused value.
        got: usize,
        /// What it has to be a multiple of.
        multiple: usize,
    },
    /// A stride longer than the tile, which would leave gaps.
    #[error("{axis} stride {stride} of the VAE tiling is larger than its tile {tile}")]
    Gap {
        /// "height", "width" or "frames".
        axis: &'static str,
        /// The refused stride.
        stride: usize,
        /// The tile's size on that axis.
        tile: usize,
    },
}

impl Tiling {
    /// Not tiled: the whole clip in one pass.
    pub const WHOLE: Self = Self {
        tile: [usize::MAX; 3],
        stride: [usize::MAX; 3],
    };

    /// The default of Tencent's code: 64 frames of 256×256, a quarter of it overlap.
    pub const TENCENT: Self = Self {
        tile: [64, 256, 256],
        stride: [48, 192, 192],
    };

    /// diffusers after `enable_tiling()`: 16 frames of 256×256, a quarter of it overlap.
    pub const DIFFUSERS: Self = Self {
        tile: [16, 256, 256],
        stride: [12, 192, 192],
    };

    /// diffusers without `enable_tiling()`: cut in time only.
    pub const FRAMEWISE: Self = Self {
        tile: [16, usize::MAX, usize::MAX],
        stride: [12, usize::MAX, usize::MAX],
    };

    /// A quarter of [`DIFFUSERS`](Self::DIFFUSERS)' area, for little memory: more seams to blend.
    pub const SMALL: Self = Self {
        tile: [16, 128, 128],
        stride: [12, 96, 96],
    };

    /// A tiling of one's own, `[frames, height, width]`: frames in multiples of 4, height and width
    /// in multiples of 8, no stride larger than its tile. [`usize::MAX`] for both tile and stride
    /// leaves an axis whole.
    ///
    /// # Errors
    /// A tile or stride that is not as said.
    pub fn new(tile: [usize; 3], stride: [usize; 3]) -> Result<Self, TilingError> {
        for (i, axis) in ["frames", "height", "width"].into_iter().enumerate() {
            if tile[i] == usize::MAX && stride[i] == usize::MAX {
                continue;
            }
            for (kind, got) in [("tile", tile[i]), ("stride", stride[i])] {
                if got == 0 || !got.is_multiple_of(COMPRESSION[i]) {
                    let what = format!("{kind} {axis}");
                    return Err(TilingError::Multiple {
                        what,
                        got,
                        multiple: COMPRESSION[i],
                    });
                }
            }
            if stride[i] > tile[i] {
                return Err(TilingError::Gap {
                    axis,
                    stride: stride[i],
                    tile: tile[i],
                });
            }
        }
        Ok(Self { tile, stride })
    }

    /// Size of a tile, `[frames, height, width]`; [`usize::MAX`] where an axis is whole.
    pub fn tile(&self) -> [usize; 3] {
        self.tile
    }

    /// Distance between tiles, `[frames, height, width]`.
    pub fn stride(&self) -> [usize; 3] {
        self.stride
    }
}

/// How passes are to be tiled, as `--vae-tiling` takes it:
/// `auto|off|tencent|diffusers|framewise|HxWxT/HxWxT`, the last a tile and a stride in pixels and
/// frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TilingMode {
    /// Whole where that fits in memory, else tiled.
    #[default]
    Auto,
    /// As given.
    Fixed(Tiling),
}

impl TilingMode {
    /// The tiling for a clip of `size` frames, height and width, when a pass may take `budget`
    /// bytes.
    ///
    /// `Auto` takes the first of whole, Tencent's, diffusers' and a smaller tiling whose
    /// [peak](VaeConfig::peak_bytes) is within the budget, or the last.
    pub fn resolve(self, config: &VaeConfig, size: [usize; 3], budget: u64) -> Tiling {
        let Self::Fixed(tiling) = self else {
            return [Tiling::WHOLE, Tiling::TENCENT, Tiling::DIFFUSERS]
                .into_iter()
                .find(|tiling| config.peak_bytes(size, tiling) <= budget)
                .unwrap_or(Tiling::SMALL);
        };
        tiling
    }
}

impl FromStr for TilingMode {
    type Err = TilingError;

    fn from_str(text: &str) -> Result<Self, TilingError> {
        let tiling = match text {
            "auto" => return Ok(Self::Auto),
            "off" => Tiling::WHOLE,
            "tencent" => Tiling::TENCENT,
            "diffusers" => Tiling::DIFFUSERS,
            "framewise" => Tiling::FRAMEWISE,
            _ => {
                let sizes = text
                    .split_once('/')
                    .and_then(|(tile, stride)| Some((parse_size(tile)?, parse_size(stride)?)));
                let Some((tile, stride)) = sizes else {
                    return Err(TilingError::Syntax(text.to_string()));
                };
                Tiling::new(tile, stride)?
            }
        };
        Ok(Self::Fixed(tiling))
    }
}

/// `HxWxT` as `[T, H, W]`.
fn parse_size(text: &str) -> Option<[usize; 3]> {
    let numbers: Vec<usize> = text
        .split('x')
        .map(|n| n.parse().ok())
        .collect::<Option<_>>()?;
    let [height, width, frames] = numbers.try_into().ok()?;
    Some([frames, height, width])
}

impl Display for TilingMode {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => write!(f, "auto"),
            Self::Fixed(Tiling::WHOLE) => write!(f, "off"),
            Self::Fixed(Tiling::TENCENT) => write!(f, "tencent"),
            Self::Fixed(Tiling::DIFFUSERS) => write!(f, "diffusers"),
            Self::Fixed(Tiling::FRAMEWISE) => write!(f, "framewise"),
            Self::Fixed(Tiling {
                tile: [t, h, w],
                stride: [dt, dh, dw],
            }) => {
                write!(f, "{h}x{w}x{t}/{dh}x{dw}x{dt}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_read_as_they_are_written() {
        for text in [
            "auto",
            "off",
            "tencent",
            "diffusers",
            "framewise",
            "64x128x8/48x96x4",
        ] {
            assert_eq!(text.parse::<TilingMode>().unwrap().to_string(), text);
        }
        let numbers: TilingMode = "256x256x64/192x192x48".parse().unwrap();
        assert_eq!(numbers, TilingMode::Fixed(Tiling::TENCENT));
    }

    #[test]
    fn errors_say_what_is_wrong() {
        for (text, says) in [
            ("", "none of auto"),
            ("256x256x64", "none of auto"),
            ("256x256/192x192", "none of auto"),
            ("256x256x-4/192x192x4", "none of auto"),
            ("250x256x64/192x192x48", "tile height 250"),
            ("256x256x64/192x100x48", "stride width 100"),
            ("256x256x64/192x192x0", "stride frames 0"),
            ("256x256x6/192x192x4", "multiple of 4"),
            (
                "256x256x64/192x264x48",
                "width stride 264 of the VAE tiling is larger than its tile 256",
            ),
        ] {
            let error = text.parse::<TilingMode>().unwrap_err().to_string();
            assert!(error.contains(says), "{text}: {error}");
        }
    }

    #[test]
    fn auto_tiles_only_what_does_not_fit() {
        let config = VaeConfig::new();
        let resolve = |size, gib: u64| TilingMode::Auto.resolve(&config, size, gib << 30);
        assert_eq!(resolve([9, 128, 128], 16), Tiling::WHOLE);
        assert_eq!(resolve([129, 720, 1280], 80), Tiling::TENCENT);
        assert_eq!(resolve([129, 720, 1280], 16), Tiling::DIFFUSERS);
        assert_eq!(resolve([129, 720, 1280], 4), Tiling::SMALL);
        // The peak of a tiled pass does not grow with the clip.
        let peak = |frames| config.peak_bytes([frames, 720, 1280], &Tiling::TENCENT);
        assert_eq!(peak(129), peak(1025));
    }
}
