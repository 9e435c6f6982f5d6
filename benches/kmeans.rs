//! Lloyd's algorithm, k-means++ and mini-batches on the points that `benches/kmeans.py` wrote.
//!
//! `python benches/kmeans.py` writes them, times scikit-learn on them and then runs this.

use std::{path::Path, time::Instant};

use burn::tensor::Device;
use burn_hunyuan_curate::{
    embedding::Embeddings,
    kmeans::{Clustering, Config},
};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> Result<()> {
    let Some(folder) = std::env::args().nth(1).filter(|a| !a.starts_with("--")) else {
        println!("run `python benches/kmeans.py`, which writes the points and starts this");
        return Ok(());
    };
    let folder = Path::new(&folder);
    let sizes: Vec<usize> = std::fs::read_to_string(folder.join("sizes.txt"))?
        .split_whitespace()
        .map(str::parse)
        .collect::<std::result::Result<_, _>>()?;
    let [width, iterations] = sizes[..] else {
        return Err("sizes.txt has to hold the width and the iterations".into());
    };
    let points = read(&folder.join("points.f32"), width)?;
    let centres = read(&folder.join("centres.f32"), width)?;
    let device = Device::flex();
    let config = Config {
        clusters: centres.len(),
        points_per_cluster: 1,
        mini_batch_above: usize::MAX,
        iterations,
        tolerance: 0.0,
        ..Config::default()
    };

    timed("lloyd", || {
        config.fit_from(&points, centres, &device, &mut |_| Ok(()))
    })?;
    let started = Config {
        iterations: 0,
        ..config.clone()
    };
    timed("k-means++ alone", || {
        started.fit(&points, &device, &mut |_| Ok(()))
    })?;
    let batches = Config {
        mini_batch_above: 0,
        mini_batch: 10_000,
        iterations: 100,
        ..config
    };
    timed("mini-batch, its own start", || {
        batches.fit(&points, &device, &mut |_| Ok(()))
    })
}

/// Runs and prints the seconds, the iterations and the inertia.
fn timed(what: &str, run: impl FnOnce() -> burn_hunyuan_curate::Result<Clustering>) -> Result<()> {
    let (started, busy) = (Instant::now(), processor_seconds());
    let clustering = run()?;
    let (seconds, used) = (started.elapsed().as_secs_f64(), processor_seconds() - busy);
    println!(
        "burn-hunyuan  {what:<28}{seconds:>8.2} s {used:>8.2} s of the processor {:>5} iterations   \
         inertia {:.6e}",
        clustering.iterations, clustering.inertia
    );
    Ok(())
}

/// Seconds that all threads of this process have had of the processor; not a number where the system
/// does not tell them as Linux does, in hundredths.
fn processor_seconds() -> f64 {
    let told = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // After the program's name in brackets: the 12th and 13th values, user and system.
    let values = told.rsplit(')').next().unwrap_or_default();
    let values = values.split_whitespace().skip(11).take(2);
    let ticks: Option<Vec<f64>> = values.map(|value| value.parse().ok()).collect();
    match ticks.as_deref() {
        Some(&[user, system]) => (user + system) / 100.0,
        _ => f64::NAN,
    }
}

/// Reads rows of little-endian f32.
fn read(path: &Path, width: usize) -> Result<Embeddings> {
    let bytes = std::fs::read(path)?;
    let values = bytes
        .chunks_exact(4)
        .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
    Ok(Embeddings::new(values.collect(), width)?)
}
