//! `burn-hunyuan bench`.

mod compare;
mod flops;
mod work;

use std::{path::PathBuf, time::Instant};

use burn::tensor::FloatDType;
use clap::{Args, Subcommand, ValueEnum};
use serde::{Deserialize, Serialize};

use super::{
    options::{Dtype, Size},
    print,
    watch::{host_peak, processor_time},
};
use crate::{
    device,
    error::{Error, Result},
    pipeline::{Request, dtype_name},
    tensors::TensorFile,
};
use compare::Compare;
use work::Work;

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(super) struct Bench {
    #[command(flatten)]
    workload: Option<Workload>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Time a component on several devices; writes a table, JSON and a chart
    Compare(Compare),
}

impl Bench {
    pub fn run(self) -> Result<()> {
        match (self.workload, self.command) {
            (_, Some(Command::Compare(compare))) => compare.run(),
            (Some(workload), None) => workload.run(),
            (None, None) => unreachable!("clap demands a component where there is no subcommand"),
        }
    }
}

#[derive(Debug, Args)]
struct Workload {
    /// What to time
    component: Component,
    /// auto, or BACKEND[:INDEX] as `burn-hunyuan devices` lists them
    #[arg(long, default_value = "auto", value_name = "NAME")]
    device: String,
    /// Number format to compute in
    #[arg(long, default_value = "f32")]
    dtype: Dtype,
    /// Height and width of the video in pixels
    #[arg(long, default_value = "128x128", value_name = "HxW")]
    size: Size,
    /// Number of frames, 4k+1
    #[arg(long, default_value_t = 9)]
    frames: usize,
    /// Sizes of the component
    #[arg(long, default_value = "official")]
    config: Sizes,
    /// Take sizes and weights from this checkpoint instead of random ones
    #[arg(long, value_name = "PATH", conflicts_with_all = ["double_blocks", "single_blocks", "layers"])]
    weights: Option<PathBuf>,
    /// Take the inputs from this safetensors file instead of random ones
    #[arg(long, value_name = "FILE")]
    inputs: Option<PathBuf>,
    /// Write what the component computes to this safetensors file, as `output`
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Number of dual-stream blocks [default: the configuration's]
    #[arg(long)]
    double_blocks: Option<usize>,
    /// Number of single-stream blocks [default: the configuration's]
    #[arg(long)]
    single_blocks: Option<usize>,
    /// Number of layers of a text encoder [default: the configuration's]
    #[arg(long)]
    layers: Option<usize>,
    /// Text tokens, padding included
    #[arg(long, default_value_t = 256)]
    text_tokens: usize,
    /// Text tokens that are not padding [default: all]
    #[arg(long)]
    text_valid: Option<usize>,
    /// Number of timed runs, after one that is not
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, ValueEnum)]
enum Component {
    VaeEncode,
    VaeDecode,
    Dit,
    /// LLaMA
    Text,
    Clip,
    /// The transformer's loss and its gradients, blocks computed again in the backward pass
    #[cfg(feature = "train")]
    TrainDit,
    /// The VAE's reconstruction error and its gradients
    #[cfg(feature = "train")]
    TrainVae,
}

#[derive(Debug, Clone, Copy, PartialEq, ValueEnum)]
enum Sizes {
    Official,
    Tiny,
}

/// The result, printed as JSON.
#[derive(Serialize, Deserialize)]
struct Report {
    component: String,
    device: String,
    dtype: String,
    size: [usize; 2],
    frames: usize,
    runs: usize,
    /// Of one run, by the clock.
    seconds: Seconds,
    /// Of one run, summed over the processor's cores; steadier on a machine with other work.
    processor_seconds: Option<Seconds>,
    /// Of the process since it began, in bytes.
    peak_memory: Option<u64>,
    /// Reserved by the device's allocator at the end, in bytes.
    device_memory: Option<u64>,
    /// Multiplications and additions of one run's matrix products and convolutions.
    flop: u64,
    /// At the median time.
    flop_per_second: f64,
}

#[derive(Serialize, Deserialize)]
struct Seconds {
    median: f64,
    min: f64,
    max: f64,
}

impl Seconds {
    fn of(mut seconds: Vec<f64>) -> Self {
        seconds.sort_by(f64::total_cmp);
        Self {
            median: seconds[seconds.len() / 2],
            min: seconds[0],
            max: seconds[seconds.len() - 1],
        }
    }
}

impl Workload {
    fn run(self) -> Result<()> {
        let device = device::open(&self.device)?;
        let dtype = FloatDType::from(self.dtype);
        if !device.supports_dtype(dtype) {
            return Err(Error::Dtype {
                dtype: dtype_name(dtype),
            });
        }
        let Size { height, width } = self.size;
        let request = Request::new("-")
            .with_size(height, width)
            .with_frames(self.frames);
        request.validate()?;

        // Before the work: a path that cannot be written is found at once.
        let output = self.output.as_deref().map(TensorFile::create).transpose()?;
        let work = Work::new(&self, &request, &device, dtype)?;
        let wait = || {
            device
                .sync()
                .map_err(|e| Error::Unusable(format!("the device failed: {e}")))
        };
        let mut result = (work.run)();
        wait()?;
        let (mut clock, mut processor) = (Vec::new(), Vec::new());
        for _ in 0..self.runs {
            let (start, busy) = (Instant::now(), processor_time());
            result = (work.run)();
            wait()?;
            clock.push(start.elapsed().as_secs_f64());
            let spent = processor_time().zip(busy);
            processor.extend(spent.map(|(end, start)| (end - start).as_secs_f64()));
        }
        if let Some(mut file) = output {
            file.insert("output", result);
            file.save()?;
        }
        let seconds = Seconds::of(clock);
        let median = seconds.median;
        let component = self.component.to_possible_value();
        let report = Report {
            component: component
                .map(|value| value.get_name().to_string())
                .unwrap_or_default(),
            device: device::description(&device),
            dtype: dtype_name(dtype).to_string(),
            size: [height, width],
            frames: self.frames,
            runs: self.runs as usize,
            seconds,
            processor_seconds: (!processor.is_empty()).then(|| Seconds::of(processor)),
            peak_memory: host_peak(),
            device_memory: device.memory_pool_usage().map(|usage| usage.bytes_reserved),
            flop: work.flop,
            flop_per_second: work.flop as f64 / median,
        };
        let json = serde_json::to_string_pretty(&report);
        print(json.map_err(|e| Error::Unusable(e.to_string()))?)
    }
}
