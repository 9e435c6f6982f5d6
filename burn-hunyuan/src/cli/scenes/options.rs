//! The detectors' options.

use burn_hunyuan_curate::scenes::{Config, DetectorKind, FadeMethod, FilterMode, Length, Weights};
use clap::{Args, ValueEnum};

use crate::error::{Error, Result};

#[derive(Debug, Clone, Copy, PartialEq, ValueEnum)]
#[value(rename_all = "lower")]
pub(super) enum DetectorName {
    Content,
    Adaptive,
    Threshold,
    Hash,
    Histogram,
}

impl DetectorName {
    pub(super) fn kind(self) -> DetectorKind {
        match self {
            Self::Content => DetectorKind::Content,
            Self::Adaptive => DetectorKind::Adaptive,
            Self::Threshold => DetectorKind::Threshold,
            Self::Hash => DetectorKind::Hash,
            Self::Histogram => DetectorKind::Histogram,
        }
    }
}

/// Options of the detectors; each says which take it.
#[derive(Debug, Args)]
#[command(next_help_heading = "Detector options")]
pub(super) struct DetectorOptions {
    /// When there is a cut. content: score from which on, 0-255 [27]. adaptive: score as a multiple
    /// of its neighbours' [3]. threshold: mean brightness of faded-out pictures, 0-255 [12]. hash:
    /// share of differing bits, 0-1 [0.35]. histogram: 1 less the correlation, 0-1 [0.2]
    #[arg(long, value_name = "T")]
    threshold: Option<f64>,
    /// content, adaptive: weights of hue, saturation, brightness and edges [1,1,1,0]
    #[arg(long, value_delimiter = ',', value_name = "H,S,L,E")]
    weights: Option<Vec<f64>>,
    /// content, adaptive: go by brightness alone
    #[arg(long, conflicts_with = "weights")]
    luma_only: bool,
    /// content, adaptive: widen edges by a square of this many pixels, odd, at least 3 [by size]
    #[arg(long, value_name = "N")]
    kernel_size: Option<u32>,
    /// content: of cuts closer together than the minimum length, keep the last of a burst (merge)
    /// or the first (suppress) [merge]
    #[arg(long, value_enum, value_name = "MODE")]
    filter_mode: Option<FilterName>,
    /// adaptive: score that a cut needs in any case, 0-255 [15]
    #[arg(long, value_name = "SCORE")]
    min_content_val: Option<f64>,
    /// adaptive: neighbours on either side that a picture is compared with [2]
    #[arg(long, value_name = "N")]
    frame_window: Option<usize>,
    /// threshold: where in a fade the cut is put, from -1 (fade-out) to 1 (fade-in) [0]
    #[arg(long, allow_negative_numbers = true, value_name = "BIAS")]
    fade_bias: Option<f64>,
    /// threshold: fades go to white instead of black
    #[arg(long)]
    fade_to_white: bool,
    /// threshold: shortest time faded out, as --min-scene-len takes it [0.1s]
    #[arg(long, value_name = "LENGTH")]
    min_out_len: Option<String>,
    /// threshold: no cut where the video ends faded out
    #[arg(long)]
    no_last_scene: bool,
    /// hash: side of the square of frequencies in the hash, 1-256 [8]
    #[arg(long, value_name = "N")]
    size: Option<usize>,
    /// hash: how many times more frequencies are computed than kept, 1-256, times size at most 1024 [2]
    #[arg(long, value_name = "N")]
    lowpass: Option<usize>,
    /// histogram: bins, 1-256 [128]
    #[arg(long, value_name = "N")]
    bins: Option<usize>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum FilterName {
    Merge,
    Suppress,
}

impl DetectorOptions {
    /// An error for an option that the detector does not take.
    pub(super) fn check(&self, detector: DetectorName) -> Result<()> {
        use DetectorName::*;
        let options: [(&str, bool, &[DetectorName]); 13] = [
            ("weights", self.weights.is_some(), &[Content, Adaptive]),
            ("luma-only", self.luma_only, &[Content, Adaptive]),
            (
                "kernel-size",
                self.kernel_size.is_some(),
                &[Content, Adaptive],
            ),
            ("filter-mode", self.filter_mode.is_some(), &[Content]),
            (
                "min-content-val",
                self.min_content_val.is_some(),
                &[Adaptive],
            ),
            ("frame-window", self.frame_window.is_some(), &[Adaptive]),
            ("fade-bias", self.fade_bias.is_some(), &[Threshold]),
            ("fade-to-white", self.fade_to_white, &[Threshold]),
            ("min-out-len", self.min_out_len.is_some(), &[Threshold]),
            ("no-last-scene", self.no_last_scene, &[Threshold]),
            ("size", self.size.is_some(), &[Hash]),
            ("lowpass", self.lowpass.is_some(), &[Hash]),
            ("bins", self.bins.is_some(), &[Histogram]),
        ];
        let stray = options
            .iter()
            .find(|(_, given, takers)| *given && !takers.contains(&detector));
        match stray {
            Some((name, ..)) => Err(Error::Request(format!(
                "the {} detector takes no --{name}",
                format!("{detector:?}").to_lowercase()
            ))),
            None => Ok(()),
        }
    }

    /// Sets what is given. Options that the chosen detector does not take have been refused, so it
    /// does no harm to set them for all.
    pub(super) fn apply(&self, config: &mut Config) -> Result<()> {
        fn set<T: Copy>(value: &mut T, given: Option<T>) {
            *value = given.unwrap_or(*value);
        }
        let Config {
            content,
            adaptive,
            threshold,
            hash,
            histogram,
            ..
        } = config;
        for value in [
            &mut content.threshold,
            &mut adaptive.threshold,
            &mut threshold.threshold,
            &mut hash.threshold,
            &mut histogram.threshold,
        ] {
            set(value, self.threshold);
        }
        let weights = match self.weights.as_deref() {
            Some(&[hue, saturation, luma, edges]) => Some(Weights {
                hue,
                saturation,
                luma,
                edges,
            }),
            Some(given) => {
                return Err(Error::Request(format!(
                    "--weights takes four numbers, as 1,1,1,0; {} are given",
                    given.len()
                )));
            }
            None => None,
        };
        set(&mut content.weights, weights);
        set(&mut adaptive.weights, weights);
        (content.luma_only, adaptive.luma_only) = (self.luma_only, self.luma_only);
        (content.kernel_size, adaptive.kernel_size) = (self.kernel_size, self.kernel_size);
        let filter = self.filter_mode.map(|mode| match mode {
            FilterName::Merge => FilterMode::Merge,
            FilterName::Suppress => FilterMode::Suppress,
        });
        set(&mut content.filter, filter);
        set(&mut adaptive.min_content_val, self.min_content_val);
        set(&mut adaptive.window_width, self.frame_window);
        set(&mut threshold.fade_bias, self.fade_bias);
        if self.fade_to_white {
            threshold.method = FadeMethod::Ceiling;
        }
        set(
            &mut threshold.min_out_len,
            self.min_out_len.as_deref().map(length).transpose()?,
        );
        threshold.add_final_scene = !self.no_last_scene;
        set(&mut hash.size, self.size);
        set(&mut hash.lowpass, self.lowpass);
        set(&mut histogram.bins, self.bins);
        Ok(())
    }
}

/// A length as `--min-scene-len` takes it.
pub(super) fn length(text: &str) -> Result<Length> {
    Ok(text.parse::<Length>()?)
}
