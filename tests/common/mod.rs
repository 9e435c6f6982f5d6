//! Shared by the parity tests: the device under test, fixtures, comparison.

#![allow(dead_code)] // each test binary uses its own part

use std::{
    io::Write,
    path::{Path, PathBuf},
    sync::LazyLock,
};

use burn::tensor::{DType, Device, Shape, Tensor, TensorData};
use burn_hunyuan::device::{self, DeviceError};
use safetensors::SafeTensors;

/// The device under test, as `--device` takes it.
pub fn device_name() -> String {
    std::env::var("BURN_HUNYUAN_TEST_DEVICE").unwrap_or_else(|_| "flex".into())
}

/// The device named by `BURN_HUNYUAN_TEST_DEVICE` (as `--device` takes it), else flex.
///
/// `None` where its backend finds no device at all: the test has nothing to run on and returns.
/// Either way the first call of a test binary says what it found.
pub fn device() -> Option<Device> {
    static DEVICE: LazyLock<Option<Device>> = LazyLock::new(|| {
        let name = device_name();
        match device::open(&name) {
            Ok(device) => {
                let adapter = device::description(&device);
                let kind = match device::is_software_adapter(&device) {
                    true => ", a software adapter",
                    false => "",
                };
                report(&format!("tested on {name}: {adapter}{kind}"));
                Some(device)
            }
            Err(error @ DeviceError::Missing { found: 0, .. }) => {
                report(&format!("tests that need a device are skipped: {error}"));
                None
            }
            Err(error) => panic!("BURN_HUNYUAN_TEST_DEVICE={name}: {error}"),
        }
    });
    DEVICE.clone()
}

/// Whether the device computes in `dtype`; says so where it does not.
pub fn supports(device: &Device, dtype: impl Into<DType>) -> bool {
    let dtype = dtype.into();
    let supported = device.supports_dtype(dtype);
    if !supported {
        let device = device::description(device);
        let test = std::thread::current();
        let test = test.name().unwrap_or_default();
        report(&format!("{test} skipped: no {} on {device}", dtype.name()));
    }
    supported
}

/// Prints a line that the test harness does not keep back when the test passes.
pub fn report(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// A file of `tests/fixtures/`.
pub fn fixture_path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../tests/fixtures")
        .join(name)
}

/// A safetensors file of inputs, weights and expected outputs written by `tests/reference/`.
pub struct Fixture {
    path: PathBuf,
    bytes: Vec<u8>,
}

impl Fixture {
    pub fn open(name: &str) -> Self {
        let path = fixture_path(name);
        let bytes = std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        Self { path, bytes }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The `config` entry of the file's metadata: the reference's configuration as JSON.
    pub fn config(&self) -> serde_json::Value {
        let (_, header) = SafeTensors::read_metadata(&self.bytes).unwrap();
        let metadata = header.metadata().as_ref().expect("fixture has metadata");
        serde_json::from_str(&metadata["config"]).unwrap()
    }

    /// An f32 tensor of the file.
    pub fn tensor<const D: usize>(&self, key: &str, device: &Device) -> Tensor<D> {
        let file = SafeTensors::deserialize(&self.bytes).unwrap();
        let view = file.tensor(key).unwrap_or_else(|e| panic!("{key}: {e}"));
        assert_eq!(view.dtype(), safetensors::Dtype::F32, "{key}");
        let values: Vec<f32> = view
            .data()
            .chunks_exact(4)
            .map(|b| f32::from_le_bytes(b.try_into().unwrap()))
            .collect();
        let data = TensorData::new(values, Shape::from(view.shape().to_vec()));
        Tensor::from_data(data, (device, DType::F32))
    }
}

/// The values of a tensor as f32.
pub fn values<const D: usize>(tensor: &Tensor<D>) -> Vec<f32> {
    tensor
        .clone()
        .cast(DType::F32)
        .into_data()
        .try_to_vec::<f32>()
        .unwrap()
}

/// max |ours − reference| / max |reference|.
pub fn deviation<const D: usize>(ours: &Tensor<D>, reference: &Tensor<D>) -> f32 {
    assert_eq!(ours.dims(), reference.dims());
    let (ours, reference) = (values(ours), values(reference));
    assert!(ours.iter().all(|v| v.is_finite()), "non-finite output");
    let error = ours
        .iter()
        .zip(&reference)
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, f32::max);
    error
        / reference
            .iter()
            .map(|v| v.abs())
            .fold(f32::MIN_POSITIVE, f32::max)
}

/// Asserts that the deviation is at most `bound`, and prints it.
pub fn assert_close<const D: usize>(
    what: &str,
    ours: &Tensor<D>,
    reference: &Tensor<D>,
    bound: f32,
) {
    let deviation = deviation(ours, reference);
    println!("{what}: deviation {deviation:.2e} (bound {bound:.1e})");
    assert!(
        deviation <= bound,
        "{what}: deviation {deviation:.3e} exceeds {bound:.1e}"
    );
}
