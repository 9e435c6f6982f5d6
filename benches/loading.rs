//! Loading a checkpoint of more than 2 GB that is not in the page cache: peak host memory as a multiple
//! of the model's size in the run's dtype, and how fast the file is read beside `dd`, which does
//! nothing else: `cargo bench --bench loading` (Linux, GNU `dd`).
//!
//! Each case runs in a process of its own, because a peak is one number for the life of a process.
//!
//! A virtual machine gets memory that was free for some seconds from its host again, which can be
//! slower than the disk. So that file reading is timed and not that, a process fills most of the memory
//! that is free, and ends, just before each timing, of `dd` as of ours: the host takes memory back for
//! seconds on end, from wherever it lies, so that what a load needs would not be enough. How fast memory
//! was filled is printed too.

use std::{
    io::{BufWriter, Write},
    ops::ControlFlow,
    path::Path,
    process::Command,
    time::Instant,
};

use burn::tensor::{Device, FloatDType, bf16};
use burn_hunyuan::checkpoint::{Model, load_module, parameters};
use burn_hunyuan_dit::DitConfig;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// The official width with fewer blocks: 1.1 billion parameters.
fn config() -> DitConfig {
    DitConfig::new().with_dual_blocks(1).with_single_blocks(4)
}

fn main() -> Result<()> {
    let arguments: Vec<_> = std::env::args().collect();
    if let [_, command, bytes] = arguments.as_slice()
        && command == "fill"
    {
        std::hint::black_box(vec![1u8; bytes.parse()?]);
        return Ok(());
    }
    if let [_, path, dtype] = arguments.as_slice()
        && Path::new(path).is_file()
    {
        return load(Path::new(path), dtype);
    }
    let folder = tempfile::tempdir()?;
    println!(
        "{:<6}{:<6}{:>10}{:>12}{:>8}{:>10}{:>8}{:>10}{:>8}{:>10}",
        "file",
        "run",
        "model GB",
        "peak GB",
        "ratio",
        "seconds",
        "GB/s",
        "dd GB/s",
        "ratio",
        "fill GB/s"
    );
    for (stored, dtypes) in [("f32", ["f32", "bf16"]), ("bf16", ["bf16", "f32"])] {
        let path = folder.path().join(format!("{stored}.safetensors"));
        write(&path, stored)?;
        for dtype in dtypes {
            print!("{stored:<6}{dtype:<6}");
            std::io::stdout().flush()?;
            let bytes = std::fs::metadata(&path)?.len();
            let size = bytes as f64 / 1e9;
            let cold = || {
                dd(&path, &["iflag=nocache", "count=0"])?;
                let available = memory("/proc/meminfo", "MemAvailable")?;
                fill(&arguments[0], available * 3 / 4)
            };
            let filled = cold()?;
            let start = Instant::now();
            dd(&path, &["bs=16M"])?;
            let disk = size / start.elapsed().as_secs_f64();
            cold()?;
            let run = Command::new(&arguments[0]).arg(&path).arg(dtype).output()?;
            let line = String::from_utf8(run.stdout)?;
            let seconds = line.split_whitespace().next_back().ok_or("no seconds")?;
            let rate = size / seconds.parse::<f64>()?;
            let ratio = rate / disk;
            let line = line.trim_end();
            println!("{line}{rate:>8.2}{disk:>10.2}{ratio:>8.2}{filled:>10.2}");
        }
        std::fs::remove_file(&path)?;
    }
    Ok(())
}

/// Lets a process fill this much memory and end; GB a second.
fn fill(program: &str, bytes: u64) -> Result<f64> {
    let start = Instant::now();
    let status = Command::new(program)
        .args(["fill", &bytes.to_string()])
        .status()?;
    let rate = bytes as f64 / 1e9 / start.elapsed().as_secs_f64();
    status
        .success()
        .then_some(rate)
        .ok_or("filling memory failed".into())
}

/// Reads `path` to nowhere; with `count=0` and `nocache`, drops what is cached of it.
fn dd(path: &Path, options: &[&str]) -> Result<()> {
    let mut command = Command::new("dd");
    command
        .arg(format!("if={}", path.display()))
        .arg("of=/dev/null");
    let status = command.args(options).arg("status=none").status()?;
    status.success().then_some(()).ok_or("dd failed".into())
}

/// Writes random weights.
fn write(path: &Path, dtype: &str) -> Result<()> {
    let parameters = parameters(&config().init(&Device::flex()));
    let (name, width) = if dtype == "f32" {
        ("F32", 4)
    } else {
        ("BF16", 2)
    };
    let mut header = serde_json::Map::new();
    let mut end = 0;
    for parameter in &parameters {
        let start = end;
        end += width * parameter.shape.iter().product::<usize>();
        let info = serde_json::json!({
            "dtype": name, "shape": parameter.shape, "data_offsets": [start, end],
        });
        header.insert(parameter.name.clone(), info);
    }
    let header = serde_json::to_vec(&header)?;
    let mut file = BufWriter::with_capacity(1 << 20, std::fs::File::create(path)?);
    file.write_all(&(header.len() as u64).to_le_bytes())?;
    file.write_all(&header)?;
    let mut state = 1u32;
    for _ in 0..end / width {
        state = state.wrapping_mul(1664525).wrapping_add(1013904223);
        let value = state as f32 / u32::MAX as f32 - 0.5;
        match width {
            4 => file.write_all(&value.to_le_bytes())?,
            _ => file.write_all(&bf16::from_f32(value).to_le_bytes())?,
        }
    }
    file.flush()?;
    // Pages that are not on the disk yet would stay in the cache.
    Ok(file.get_ref().sync_all()?)
}

/// Loads the file and prints the rest of its line.
fn load(path: &Path, dtype: &str) -> Result<()> {
    let (dtype, width) = match dtype {
        "f32" => (FloatDType::F32, 4),
        _ => (FloatDType::BF16, 2),
    };
    let start = Instant::now();
    let part = Model::open(&[path])?.transformer()?;
    let module = part.config.init(&Device::flex());
    let go = &mut |_, _| ControlFlow::Continue(());
    let module = load_module(module, &part.weights, dtype, go)?;
    let seconds = start.elapsed().as_secs_f64();
    let elements: usize = part
        .weights
        .iter()
        .map(|(_, tensor)| tensor.elements())
        .sum();
    let model = (width * elements) as f64 / 1e9;
    let peak = peak_memory()?;
    drop(module);
    println!(
        "{model:>10.2}{peak:>12.2}{:>8.3}{seconds:>10.2}",
        peak / model
    );
    Ok(())
}

/// The most memory that this process has held at once, in GB.
fn peak_memory() -> Result<f64> {
    Ok(memory("/proc/self/status", "VmHWM")? as f64 / 1e9)
}

/// An entry of one of Linux's files about memory, in bytes.
fn memory(file: &str, entry: &str) -> Result<u64> {
    let text = std::fs::read_to_string(file)?;
    let line = text.lines().find(|line| line.starts_with(entry));
    let kib = line.and_then(|line| line.split_whitespace().nth(1));
    Ok(kib.ok_or(format!("no {entry} in {file}"))?.parse::<u64>()? << 10)
}
