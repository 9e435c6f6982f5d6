//! `burn-hunyuan synth`.

use std::{
    fs,
    path::{Path, PathBuf},
};

use burn_hunyuan_train::synth::{
    Triple, captions, held_out_scene, render, structured_caption, training_scene,
};
use clap::Args;
use rand::SeedableRng;
use rand_chacha::ChaCha12Rng;
use serde_json::json;

use super::{options::Size, print};
use crate::{
    error::{Error, Result},
    video::{Quality, VideoWriter, frame_from_planar},
};

/// Frames a second of the files.
const FPS: f64 = 8.0;

#[derive(Debug, Args)]
pub(super) struct Synth {
    /// The folder to write: clips and their captions
    #[arg(
        long,
        short,
        value_name = "DIR",
        required_unless_present = "list_held_out"
    )]
    output: Option<PathBuf>,
    /// Number of clips
    #[arg(long, default_value_t = 100)]
    clips: u64,
    /// Seed of what they show
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Height and width
    #[arg(long, value_name = "HxW", default_value = "64x64")]
    size: Size,
    /// Frames of a clip
    #[arg(long, default_value_t = 17)]
    frames: usize,
    /// Draw only combinations of shape, colour and motion that training never sees
    #[arg(long)]
    held_out: bool,
    /// Print the combinations that training never sees, and draw nothing
    #[arg(long)]
    list_held_out: bool,
}

impl Synth {
    pub fn run(self) -> Result<()> {
        if self.list_held_out {
            let words =
                |t: Triple| format!("{} {} {}", t.colour.word(), t.shape.word(), t.motion.word());
            let lines: Vec<_> = Triple::all()
                .filter(Triple::is_held_out)
                .map(words)
                .collect();
            return print(lines.join("\n"));
        }
        let Some(folder) = &self.output else {
            return Ok(());
        };
        let Size { height, width } = self.size;
        let fits = |side: usize| side >= 16 && side.is_multiple_of(2);
        if !fits(height) || !fits(width) {
            let message = format!("--size is {height}x{width}; a clip has even sizes from 16x16");
            return Err(Error::Request(message));
        }
        fs::create_dir_all(folder).map_err(failed(folder))?;
        let mut found = fs::read_dir(folder).map_err(failed(folder))?;
        if found.next().is_some() {
            let message = format!("{} is not empty; give another folder", folder.display());
            return Err(Error::Unusable(message));
        }
        for index in 0..self.clips {
            self.clip(index, folder)?;
        }
        print(format!("{} clips in {}", self.clips, folder.display()))
    }

    /// Writes a clip and `NAME.json` with its captions, the plain one first, and what it shows.
    fn clip(&self, index: u64, folder: &Path) -> Result<()> {
        let Size { height, width } = self.size;
        let scene = match self.held_out {
            true => held_out_scene(self.seed, index),
            false => training_scene(self.seed, index),
        };
        let name = folder.join(format!("{index:06}"));
        let path = name.with_extension("mp4");
        let (columns, rows) = (width as u32, height as u32);
        let mut writer = VideoWriter::create(&path, columns, rows, FPS, Quality::default())?;
        for frame in render(&scene, self.frames, height, width).chunks(height * width * 3) {
            let channel = |c: usize| frame.iter().skip(c).step_by(3).copied();
            let planar: Vec<f32> = (0..3).flat_map(channel).collect();
            if let Some(frame) = frame_from_planar(&planar, columns, rows) {
                writer.write(&frame)?;
            }
        }
        writer.finish()?;

        let mut rng = ChaCha12Rng::seed_from_u64(self.seed);
        rng.set_stream(index);
        let facts = json!({
            "caption": captions(&scene, &mut rng),
            "structured": structured_caption(&scene),
            "shape": scene.shape.word(),
            "colour": scene.colour.word(),
            "motion": scene.motion.word(),
            "background": scene.background.colour.word(),
        });
        write(&name.with_extension("json"), &format!("{facts:#}\n"))
    }
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).map_err(failed(path))
}

/// For `map_err`: what could not be written.
fn failed(path: &Path) -> impl FnOnce(std::io::Error) -> Error {
    move |e| Error::Unusable(format!("cannot write {}: {e}", path.display()))
}
