//! Devices by name: the one place that knows which backends a build has.
//!
//! A name is `BACKEND` or `BACKEND:INDEX`, `remote:ws://HOST:PORT`, or `auto`. Everything else in the
//! project takes a [`Device`] and never asks what is behind it.

use burn::{
    backend::DispatchDevice,
    tensor::{DType, Device},
};
use sysinfo::{ProcessRefreshKind, ProcessesToUpdate, System};

/// A backend's name on the command line, and the cargo feature that compiles it in.
///
/// In the order in which `auto` tries the accelerators.
pub const BACKENDS: [&str; 10] = [
    "cuda", "rocm", "metal", "vulkan", "webgpu", "wgpu", "tch", "flex", "ndarray", "cpu",
];

/// Backends that `auto` considers as accelerators; the rest run on the CPU or are chosen by name.
const ACCELERATORS: [&str; 6] = ["cuda", "rocm", "metal", "vulkan", "webgpu", "wgpu"];

/// Why a device could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// The name is none of [`BACKENDS`].
    #[error("unknown device `{0}`; expected `auto`, or one of {list} with an optional :INDEX", list = BACKENDS.join(", "))]
    Unknown(String),
    /// The index is not a number.
    #[error("`{0}` is not a device index; write for example `cuda:0`")]
    Index(String),
    /// The backend is not compiled in.
    #[error("this build has no `{0}` backend; rebuild with `--features {0}`")]
    NotBuilt(String),
    /// The backend is compiled in and sees no such device.
    #[error(
        "the `{backend}` backend sees {found} device(s), so there is no `{backend}:{index}`; `burn-hunyuan devices` lists them"
    )]
    Missing {
        /// The backend's name.
        backend: String,
        /// The index asked for.
        index: usize,
        /// The number of devices it sees.
        found: usize,
    },
    /// Another machine's device cannot be used.
    #[error("cannot use the device at {address}: {reason}")]
    Remote {
        /// Where it should be.
        address: String,
        /// Why it cannot be used.
        reason: String,
    },
    /// The build has no backend at all.
    #[error("this build has no backend; rebuild with at least `--features flex`")]
    NoBackend,
}

/// What is known of a device without running anything on it.
#[derive(Debug, Clone)]
pub struct DeviceInfo {
    /// The name that [`open`] takes, such as `wgpu:0`.
    pub name: String,
    /// The part as it names itself, such as `NVIDIA H200`.
    pub description: String,
    /// True for a processor that only imitates a GPU (llvmpipe, SwiftShader).
    pub software_adapter: bool,
    /// Memory in bytes, where the backend reports it.
    pub memory: Option<u64>,
    /// Element types in which the device can compute.
    pub dtypes: Vec<DType>,
}

/// Opens the device called `name`: `auto`, `BACKEND`, `BACKEND:INDEX`, or `remote:ws://HOST:PORT`
/// for one that `burn-hunyuan worker` serves there.
///
/// `auto` takes the first real GPU that an enabled backend sees, else a CPU backend; it never
/// takes a software adapter, which is slower than a CPU backend on the same cores. `BACKEND` alone
/// prefers a real GPU but settles for a software adapter, since it was asked for by name.
///
/// # Errors
/// A name that no enabled backend answers to, with those that do; a device that is not there or does
/// not start.
pub fn open(name: &str) -> Result<Device, DeviceError> {
    if name == "auto" {
        return auto();
    }
    if let Some(address) = name.strip_prefix("remote:") {
        return remote(address);
    }
    let (backend, index) = match name.split_once(':') {
        Some((backend, index)) => {
            let index = index
                .parse()
                .map_err(|_| DeviceError::Index(index.to_string()))?;
            (backend, Some(index))
        }
        None => (name, None),
    };
    let mut devices = enumerate(backend)?;
    let chosen = match index {
        Some(index) => index,
        None => devices
            .iter()
            .position(|d| !is_software_adapter(d))
            .unwrap_or(0),
    };
    if chosen >= devices.len() {
        let (backend, found) = (backend.to_string(), devices.len());
        return Err(DeviceError::Missing {
            backend,
            index: chosen,
            found,
        });
    }
    Ok(devices.swap_remove(chosen))
}

/// The device that `burn-hunyuan worker` serves at `address`, such as `ws://gpu:3000`.
#[cfg(feature = "remote")]
fn remote(address: &str) -> Result<Device, DeviceError> {
    use burn::remote::RemoteHost;
    let connected = Device::remote_options(&RemoteHost::websocket(address)).init();
    connected.map_err(|e| DeviceError::Remote {
        address: address.to_string(),
        reason: e.to_string(),
    })
}

#[cfg(not(feature = "remote"))]
fn remote(_address: &str) -> Result<Device, DeviceError> {
    Err(DeviceError::NotBuilt("remote".into()))
}

/// The first real GPU, else the first CPU backend of the build.
fn auto() -> Result<Device, DeviceError> {
    for backend in ACCELERATORS {
        let devices = enumerate(backend).unwrap_or_default();
        if let Some(gpu) = devices.into_iter().find(|d| !is_software_adapter(d)) {
            return Ok(gpu);
        }
    }
    let cpu = ["flex", "tch", "ndarray", "cpu"];
    cpu.iter()
        .find_map(|backend| open(backend).ok())
        .ok_or(DeviceError::NoBackend)
}

/// Every device that this build can see, in the order of [`BACKENDS`].
pub fn list() -> Vec<DeviceInfo> {
    let mut infos = Vec::new();
    for backend in BACKENDS {
        for (index, device) in enumerate(backend).unwrap_or_default().iter().enumerate() {
            let name = match backend {
                "flex" | "ndarray" | "cpu" => backend.to_string(),
                _ => format!("{backend}:{index}"),
            };
            infos.push(describe(name, device));
        }
    }
    infos
}

/// The devices of one backend, in the backend's order.
fn enumerate(backend: &str) -> Result<Vec<Device>, DeviceError> {
    #[allow(unused_imports)] // a build without backends uses none of it
    use burn::tensor::DeviceType;
    #[allow(unused_variables)]
    let seen = |kind: DeviceType| Ok(Device::enumerate(kind).into_vec());
    match backend {
        #[cfg(feature = "cuda")]
        "cuda" => seen(DeviceType::Cuda),
        #[cfg(feature = "rocm")]
        "rocm" => seen(DeviceType::Rocm),
        #[cfg(feature = "metal")]
        "metal" => seen(DeviceType::Metal),
        #[cfg(feature = "vulkan")]
        "vulkan" => seen(DeviceType::Vulkan),
        #[cfg(feature = "webgpu")]
        "webgpu" => seen(DeviceType::WebGpu),
        #[cfg(feature = "wgpu")]
        "wgpu" => seen(DeviceType::Wgpu),
        #[cfg(feature = "tch")]
        "tch" => seen(DeviceType::LibTorch),
        #[cfg(feature = "flex")]
        "flex" => seen(DeviceType::Flex),
        #[cfg(feature = "ndarray")]
        "ndarray" => seen(DeviceType::NdArray),
        #[cfg(feature = "cpu")]
        "cpu" => seen(DeviceType::Cpu),
        known if BACKENDS.contains(&known) => Err(DeviceError::NotBuilt(known.to_string())),
        unknown => Err(DeviceError::Unknown(unknown.to_string())),
    }
}

/// Whether `device` is a graphics adapter without a card behind it.
pub fn is_software_adapter(device: &Device) -> bool {
    accelerator(device).is_some_and(|accelerator| !accelerator.is_card)
}

/// The memory of `device` in bytes: what this program may use for a CPU backend, the card's where its
/// backend reports it.
pub fn memory(device: &Device) -> Option<u64> {
    match is_host(device) {
        true => Some(HostMemory::now().total),
        false => accelerator(device)?.memory,
    }
}

/// Whether the memory of `device` is the program's own: not a card's, nor another machine's.
pub fn is_host(device: &Device) -> bool {
    match device.as_dispatch().clone().inner() {
        #[cfg(feature = "flex")]
        DispatchDevice::Flex(_) => true,
        #[cfg(feature = "ndarray")]
        DispatchDevice::NdArray(_) => true,
        // Its default is the CPU; the others are cards.
        #[cfg(feature = "tch")]
        DispatchDevice::LibTorch(device) => device == Default::default(),
        #[allow(unreachable_patterns)] // there may be no other backend in the build
        _ => false,
    }
}

/// What a computation on `device` may take, in bytes: the memory that is not
/// in use, and four times the largest single allocation, since a pass holds several tensors of the
/// largest size.
pub fn working_memory(device: &Device) -> u64 {
    if let Some(accelerator) = accelerator(device) {
        let used = device
            .memory_pool_usage()
            .map_or(0, |usage| usage.bytes_in_use);
        let allocations = accelerator.largest_allocation.saturating_mul(4);
        let free = accelerator.memory.map(|memory| memory.saturating_sub(used));
        return free.unwrap_or(UNKNOWN_MEMORY).min(allocations);
    }
    match is_host(device) {
        true => HostMemory::now().available,
        false => UNKNOWN_MEMORY,
    }
}

/// What this program may use of the machine's memory, in bytes.
#[derive(Debug)]
struct HostMemory {
    total: u64,
    available: u64,
}

impl HostMemory {
    fn now() -> Self {
        let mut system = System::new();
        system.refresh_memory();
        // A container's or a service's limit is one of the process; where the system's files show
        // only the container's own, it is the one that they begin with.
        let own = sysinfo::get_current_pid().ok().and_then(|pid| {
            let (pids, nothing) = ([pid], ProcessRefreshKind::nothing());
            system.refresh_processes_specifics(ProcessesToUpdate::Some(&pids), false, nothing);
            system.process(pid)?.cgroup_limits()
        });
        let limits = own.or_else(|| system.cgroup_limits());
        let (total, available) = (system.total_memory(), system.available_memory());
        match limits {
            None => Self { total, available },
            // Beside what is resident there are copies of files, which make room where it is needed.
            Some(limits) => Self {
                total: total.min(limits.total_memory),
                available: available.min(limits.total_memory.saturating_sub(limits.rss)),
            },
        }
    }
}

/// What is assumed of an accelerator that does not tell its memory, in bytes.
const UNKNOWN_MEMORY: u64 = 8 << 30;

/// What an accelerator tells of itself. There is none behind the CPU backends, nor does LibTorch or
/// another machine tell.
struct Accelerator {
    name: String,
    /// Whether there is a card behind it.
    is_card: bool,
    memory: Option<u64>,
    largest_allocation: u64,
}

#[cfg(feature = "cubecl")]
fn accelerator(device: &Device) -> Option<Accelerator> {
    #[allow(irrefutable_let_patterns)] // there may be no other backend in the build
    let DispatchDevice::Cube(device) = device.as_dispatch().clone().inner() else {
        return None;
    };
    let client = device.client();
    let properties = client.properties();
    Some(Accelerator {
        name: properties.identity.name.clone(),
        is_card: properties.identity.physical.is_some(),
        memory: properties.memory.max_memory(),
        largest_allocation: properties.memory.max_page_size,
    })
}

#[cfg(not(feature = "cubecl"))]
fn accelerator(_: &Device) -> Option<Accelerator> {
    None
}

/// The part behind `device`, as it names itself.
pub fn description(device: &Device) -> String {
    if let Some(accelerator) = accelerator(device) {
        return accelerator.name;
    }
    // Debug reads `Device<Flex(Cpu)>`.
    let text = format!("{device:?}");
    let inner = text
        .strip_prefix("Device<")
        .and_then(|text| text.strip_suffix('>'));
    let inner = inner.unwrap_or(&text);
    match is_host(device) {
        true => format!("{inner} on the processor"),
        false => inner.to_string(),
    }
}

fn describe(name: String, device: &Device) -> DeviceInfo {
    let mut description = description(device);
    let software_adapter = is_software_adapter(device);
    if software_adapter {
        description += ", a software adapter";
    }
    let dtypes = [DType::F32, DType::F16, DType::BF16];
    DeviceInfo {
        name,
        description,
        software_adapter,
        memory: memory(device),
        dtypes: dtypes
            .into_iter()
            .filter(|dtype| device.supports_dtype(*dtype))
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_understood() {
        assert!(matches!(open("teapot"), Err(DeviceError::Unknown(_))));
        assert!(matches!(open("flex:one"), Err(DeviceError::Index(_))));
        assert!(matches!(
            open("flex:7"),
            Err(DeviceError::Missing {
                index: 7,
                found: 1,
                ..
            })
        ));
        assert!(open("flex").is_ok());
    }

    #[cfg(not(feature = "rocm"))]
    #[test]
    fn a_missing_backend_names_its_feature() {
        let message = open("rocm").unwrap_err().to_string();
        assert!(message.contains("--features rocm"), "{message}");
    }

    #[test]
    fn the_processor_is_the_host() {
        let flex = open("flex").unwrap();
        assert!(is_host(&flex));
        #[cfg(feature = "train")]
        assert!(is_host(&flex.autodiff()), "with its gradients");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn no_more_memory_is_told_than_the_machine_has() {
        let HostMemory { total, available } = HostMemory::now();
        let machine = std::fs::read_to_string("/proc/meminfo").unwrap();
        let line = machine.lines().find(|line| line.starts_with("MemTotal:"));
        let kibibytes: u64 = line
            .unwrap()
            .split_whitespace()
            .nth(1)
            .unwrap()
            .parse()
            .unwrap();
        assert!(0 < available && available <= total && total <= kibibytes * 1024);
    }

    #[test]
    fn auto_is_never_a_software_adapter() {
        assert!(!is_software_adapter(&open("auto").unwrap()));
    }

    #[test]
    fn the_list_can_be_opened_by_name() {
        let infos = list();
        assert!(!infos.is_empty());
        for info in infos {
            let device = open(&info.name).unwrap();
            assert_eq!(info.software_adapter, is_software_adapter(&device));
            assert!(info.dtypes.contains(&DType::F32), "{info:?}");
        }
    }
}
