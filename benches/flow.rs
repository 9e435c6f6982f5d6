//! Time of optical flow on the default device: `benches/flow.py` draws pictures, runs this and
//! OpenCV on them and prints both.
//!
//! `cargo bench --bench flow -- PICTURES WIDTH HEIGHT`, where PICTURES is a file of raw gray
//! pictures, prints the milliseconds for a pair in the fastest of several rounds.

use std::{error::Error, time::Instant};

use burn::tensor::{DType, Tensor, TensorData};
use burn_hunyuan::device;
use burn_hunyuan_curate::motion::{Farneback, FarnebackConfig};

const ROUNDS: usize = 15;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().filter(|a| a != "--bench").collect();
    let [_, path, width, height] = arguments.as_slice() else {
        return Err("run it through benches/flow.py".into());
    };
    let (width, height) = (width.parse()?, height.parse()?);
    let device = device::open("flex")?;
    let farneback = Farneback::new(&FarnebackConfig::default(), [height, width], &device)?;
    let levels: Vec<f32> = std::fs::read(path)?.into_iter().map(f32::from).collect();
    let count = levels.len() / (width * height);
    let data = TensorData::new(levels, [count, height, width]);
    let pictures = Tensor::<3>::from_data(data, (&device, DType::F32));
    let times = (0..ROUNDS).map(|_| {
        let start = Instant::now();
        drop(farneback.flow(pictures.clone()).into_data());
        start.elapsed().as_secs_f64() * 1e3 / (count - 1) as f64
    });
    println!("{:.2}", times.fold(f64::INFINITY, f64::min));
    Ok(())
}
