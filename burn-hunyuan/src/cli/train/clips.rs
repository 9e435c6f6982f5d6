//! The clips of a dataset, for training the VAE.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use burn::tensor::{DType, Device, Tensor, TensorData};
use burn_hunyuan_train::{
    Error, Result,
    data::{ClipRequest, Clips, Entry},
};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha12Rng;
use rayon::prelude::*;

use super::super::clips::{self, cropped};

/// Whole clips of a dataset, scaled and cropped to the size asked for: images for requests of one
/// frame, if there are any, and videos for the others.
///
/// Which clip a number stands for follows from the seed. One that cannot be read, or is too short,
/// is listed, and another takes its place; it is an error if they are more than half.
pub(super) struct DatasetClips {
    entries: Vec<Entry>,
    seed: u64,
    /// How many frames a clip has, or why it cannot be read, by its number: known once it was read.
    lengths: Mutex<BTreeMap<usize, Result<usize, String>>>,
    skipped: Arc<Skipped>,
}

impl DatasetClips {
    pub fn new(entries: Vec<Entry>, seed: u64, skipped: Arc<Skipped>) -> Self {
        Self {
            entries,
            seed,
            lengths: Mutex::default(),
            skipped,
        }
    }

    /// Whether there are clips for requests of so many frames.
    ///
    /// # Errors
    /// When there are none.
    pub fn check(&self, frames: usize) -> Result<()> {
        self.pool(frames).map(|_| ())
    }

    /// The numbers of the clips for requests of so many frames.
    fn pool(&self, frames: usize) -> Result<Vec<usize>> {
        let of_kind = |images: bool| -> Vec<usize> {
            let all = self.entries.iter().enumerate();
            let fitting = all.filter(|(_, entry)| entry.is_image() == images);
            fitting.map(|(number, _)| number).collect()
        };
        let pool = match (frames, of_kind(true)) {
            (1, images) if !images.is_empty() => images,
            _ => of_kind(false),
        };
        match pool.is_empty() {
            false => Ok(pool),
            true => {
                let message = format!(
                    "there are no videos for clips of {frames} frames among the {} clips of this \
                     part of the dataset; see data.dataset and data.held_out_share",
                    self.entries.len()
                );
                Err(Error::Data(message))
            }
        }
    }

    /// The clip that `index` stands for, `[frames, height, width, 3]` in [−1, 1].
    fn clip(&self, index: u64, pool: &[usize], request: &ClipRequest) -> Result<Vec<f32>> {
        let mut rng = ChaCha12Rng::seed_from_u64(self.seed);
        rng.set_stream(index);
        loop {
            let number = pool[rng.random_range(0..pool.len())];
            let entry = &self.entries[number];
            let why = match self.length(number) {
                Err(why) => why,
                Ok(length) if length < request.frames => {
                    format!("it has {length} frames, {} are needed", request.frames)
                }
                Ok(length) => match read(entry, length, request, &mut rng) {
                    Ok(values) => return Ok(values),
                    Err(why) => {
                        self.set_length(number, Err(why.clone()));
                        why
                    }
                },
            };
            self.skipped.add(&entry.path, &why)?;
            self.refuse_if_too_many(pool, request.frames)?;
        }
    }

    /// The frames of a clip; every frame is decoded the first time.
    fn length(&self, number: usize) -> Result<usize, String> {
        let lengths = self.lengths.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = lengths.get(&number) {
            return known.clone();
        }
        drop(lengths);
        let count = || {
            let clip = clips::open(&self.entries[number], None)?;
            let mut frames = clip.frames;
            frames.try_fold(0, |count, frame| frame.map(|_| count + 1))
        };
        let length = count();
        self.set_length(number, length.clone());
        length
    }

    fn set_length(&self, number: usize, length: Result<usize, String>) {
        let mut lengths = self.lengths.lock().unwrap_or_else(PoisonError::into_inner);
        lengths.insert(number, length);
    }

    fn refuse_if_too_many(&self, pool: &[usize], frames: usize) -> Result<()> {
        let lengths = self.lengths.lock().unwrap_or_else(PoisonError::into_inner);
        let is_bad = |number: &&usize| match lengths.get(number) {
            Some(Ok(length)) => *length < frames,
            Some(Err(_)) => true,
            None => false,
        };
        let bad = pool.iter().filter(is_bad).count();
        match 2 * bad > pool.len() {
            true => Err(Error::Data(format!(
                "{bad} of {} clips could not be used for clips of {frames} frames; see {}",
                pool.len(),
                self.skipped.path.display()
            ))),
            false => Ok(()),
        }
    }
}

impl Clips for DatasetClips {
    fn batch(&mut self, request: &ClipRequest, device: &Device) -> Result<Tensor<5>> {
        let pool = self.pool(request.frames)?;
        let indices = request.first..request.first + request.count as u64;
        let clips = indices
            .into_par_iter()
            .map(|index| self.clip(index, &pool, request))
            .collect::<Result<Vec<_>>>()?;
        let [height, width] = request.size;
        let shape = [request.count, request.frames, height, width, 3];
        let data = TensorData::new(clips.concat(), shape);
        let clips = Tensor::<5>::from_data(data, (device, DType::F32));
        Ok(clips.permute([0, 4, 1, 2, 3]))
    }
}

/// A stretch of a clip of `length` frames, beginning anywhere. Where the frame interval is too long
/// for the clip, the longest that fits takes its place.
fn read(
    entry: &Entry,
    length: usize,
    request: &ClipRequest,
    rng: &mut ChaCha12Rng,
) -> Result<Vec<f32>, String> {
    let steps = request.frames - 1;
    let interval = match steps {
        0 => 1,
        _ => request.frame_interval.min((length - 1) / steps),
    };
    let begin = rng.random_range(0..length - steps * interval);
    let frames = clips::open(entry, None)?.frames;
    let wanted = frames.skip(begin).step_by(interval).take(request.frames);
    let mut values = Vec::new();
    for frame in wanted {
        let bytes = cropped(frame?, request.size).into_raw();
        values.extend(bytes.iter().map(|&byte| f32::from(byte) / 127.5 - 1.0));
    }
    match values.len() == request.frames * request.size[0] * request.size[1] * 3 {
        true => Ok(values),
        false => Err("it has become shorter".into()),
    }
}

/// The list of the clips that a run passed over, in a file.
pub(super) struct Skipped {
    path: PathBuf,
    lines: Mutex<BTreeSet<String>>,
}

impl Skipped {
    /// Goes on with the list in `path`, if there is one.
    pub fn open(path: PathBuf) -> Self {
        let text = fs::read_to_string(&path).unwrap_or_default();
        let lines = text.lines().map(String::from).collect();
        Self {
            path,
            lines: Mutex::new(lines),
        }
    }

    /// Adds a clip; the first time with a warning.
    fn add(&self, clip: &Path, why: &str) -> Result<()> {
        let line = format!("{}: {}", clip.display(), why.replace('\n', " "));
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.contains(&line) {
            return Ok(());
        }
        tracing::warn!("skipped {line}");
        lines.insert(line);
        let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
        fs::write(&self.path, text).map_err(Error::io("write", &self.path))
    }
}
