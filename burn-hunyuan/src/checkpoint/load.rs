//! Weights into modules, one tensor at a time.

use std::{collections::HashSet, ops::ControlFlow};

use burn::{
    module::{Module, ModuleMapper, ModuleVisitor, Param},
    tensor::{DType, Device, FloatDType, Tensor, TensorData},
};
use burn_hunyuan_kernels::ParameterPath;
use burn_hunyuan_vae::{Vae, VaeConfig};

use super::{Error, Part, StoredTensor, Weights, convert, packed};

/// A parameter of a module as a checkpoint stores it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameter {
    /// Dotted path in the module; in a [`Mismatch`], the name in the file.
    pub name: String,
    /// Extents in a file: linear weights are `[out, in]` there.
    pub shape: Vec<usize>,
}

/// What differs between a module and a checkpoint.
#[derive(Clone, Debug, Default)]
pub struct Mismatch {
    /// Parameters that the checkpoint lacks.
    pub missing: Vec<Parameter>,
    /// Parameters that have another shape in the checkpoint, and that shape.
    pub misshapen: Vec<(Parameter, Vec<usize>)>,
    /// Tensors of the checkpoint that the module has no parameter for.
    pub unexpected: Vec<String>,
}

impl Mismatch {
    /// Whether the checkpoint fits exactly.
    pub fn is_empty(&self) -> bool {
        self.missing.is_empty() && self.misshapen.is_empty() && self.unexpected.is_empty()
    }
}

/// The parameters of a module in its order, none of them initialised by this.
pub fn parameters<M: Module>(module: &M) -> Vec<Parameter> {
    let mut list = List::default();
    module.visit(&mut list);
    list.parameters
}

/// Compares a checkpoint with the module it is to be loaded into. Names are those of the file.
pub fn check<M: Module>(module: &M, weights: &Weights) -> Mismatch {
    let parameters = parameters(module);
    let known: HashSet<_> = parameters.iter().map(|p| p.name.clone()).collect();
    let unexpected = weights.names().filter(|name| !known.contains(*name));
    let mut mismatch = Mismatch {
        unexpected: unexpected.map(|name| weights.name_in_file(name)).collect(),
        ..Mismatch::default()
    };
    for Parameter { name, shape } in parameters {
        let found = weights.get(&name).map(|tensor| tensor.shape().to_vec());
        let parameter = Parameter {
            name: weights.name_in_file(&name),
            shape,
        };
        match found {
            None => mismatch.missing.push(parameter),
            Some(found) if found != parameter.shape => mismatch.misshapen.push((parameter, found)),
            Some(_) => {}
        }
    }
    mismatch
}

/// Loads every parameter of `module` from `weights` onto the parameter's device, as `dtype`.
///
/// Reads and converts one tensor at a time, so that beside the module itself no more than one
/// tensor is in memory. `progress` hears the bytes done and the bytes in all (of the file) after
/// each tensor, and may break off.
///
/// # Errors
/// Before anything is read: missing, misshapen or unexpected tensors, an unsupported dtype. While
/// reading: NaN or infinite weights, an unreadable file, or [`Error::Cancelled`].
pub fn load_module<M: Module>(
    module: M,
    weights: &Weights,
    dtype: FloatDType,
    progress: &mut dyn FnMut(u64, u64) -> ControlFlow<()>,
) -> Result<M, Error> {
    Loader::new(weights, dtype, progress).run(module)
}

/// As [`load_module`], but the weights of linear layers remain compressed if they are stored so that
/// the device [can decode](super::Encoding::is_decoded_by_devices) them, which it then does for each
/// product.
///
/// Weights with [updates](super::Model::add_lora) are decoded to add them.
///
/// # Errors
/// As [`load_module`].
pub fn load_compressed<M: Module>(
    module: M,
    weights: &Weights,
    dtype: FloatDType,
    progress: &mut dyn FnMut(u64, u64) -> ControlFlow<()>,
) -> Result<M, Error> {
    let mut loader = Loader::new(weights, dtype, progress);
    loader.keep_compressed = true;
    loader.run(module)
}

impl Part<VaeConfig> {
    /// The VAE in f32, as training and its evaluation take it.
    ///
    /// # Errors
    /// As [`load_module`].
    pub fn load(&self, device: &Device) -> Result<Vae, Error> {
        let go_on = &mut |_, _| ControlFlow::Continue(());
        let vae = self.config.init(device);
        load_module(vae, &self.weights, FloatDType::F32, go_on)
    }
}

/// Reads a tensor with the updates that were added to it, as it is stored: `[out, in]` if linear.
pub(super) fn read<const D: usize>(
    weights: &Weights,
    name: &str,
    stored: &StoredTensor,
    dtype: FloatDType,
    device: &Device,
) -> Result<Tensor<D>, Error> {
    let in_file = weights.name_in_file(name);
    let updates = weights.updates(name);
    if updates.is_empty() {
        let data = convert::read(&in_file, stored, dtype)?;
        return Ok(Tensor::from_data(data, (device, DType::from(dtype))));
    }
    // In f32, so that small updates survive beside large weights until the sum is rounded once.
    let data = convert::read(&in_file, stored, FloatDType::F32)?;
    let mut sum = Tensor::from_data(data, (device, DType::F32));
    for update in updates {
        sum = update.add_to(sum, &in_file)?;
    }
    Ok(sum.cast(dtype))
}

/// As [`read`], for the host to use, with any number of axes. The device may not compute in `dtype`, so that the host converts.
pub(super) fn read_on_host(
    weights: &Weights,
    name: &str,
    stored: &StoredTensor,
    dtype: FloatDType,
    device: &Device,
) -> Result<TensorData, Error> {
    if weights.updates(name).is_empty() {
        return convert::read(&weights.name_in_file(name), stored, dtype);
    }
    let Some(flat) = stored.clone().reshaped(vec![stored.elements()]) else {
        unreachable!("it has as many elements");
    };
    let sum: Tensor<1> = read(weights, name, &flat, FloatDType::F32, device)?;
    let sum = sum.into_data().convert_dtype(DType::from(dtype));
    let (bytes, _, dtype) = sum.into_parts();
    Ok(TensorData::from_bytes(
        bytes,
        stored.shape().to_vec(),
        dtype,
    ))
}

/// Collects the parameters.
#[derive(Default)]
struct List {
    path: ParameterPath,
    parameters: Vec<Parameter>,
}

impl ModuleVisitor for List {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.exit();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let mut shape = param.lazy_shape().as_slice().to_vec();
        if self.path.is_transposed() {
            shape.reverse();
        }
        self.parameters.push(Parameter {
            name: self.path.name(),
            shape,
        });
    }
}

/// Replaces the parameters. A mapper cannot fail, so the first error is kept and the rest of the
/// module passed over.
struct Loader<'a> {
    weights: &'a Weights,
    dtype: FloatDType,
    progress: &'a mut dyn FnMut(u64, u64) -> ControlFlow<()>,
    path: ParameterPath,
    /// Whether weights may stay compressed.
    keep_compressed: bool,
    done: u64,
    total: u64,
    error: Option<Error>,
}

impl<'a> Loader<'a> {
    fn new(
        weights: &'a Weights,
        dtype: FloatDType,
        progress: &'a mut dyn FnMut(u64, u64) -> ControlFlow<()>,
    ) -> Self {
        Self {
            weights,
            dtype,
            progress,
            path: ParameterPath::default(),
            keep_compressed: false,
            done: 0,
            total: 0,
            error: None,
        }
    }

    fn run<M: Module>(mut self, module: M) -> Result<M, Error> {
        convert::check_dtypes(self.weights)?;
        let mismatch = check(&module, self.weights);
        if !mismatch.is_empty() {
            return Err(Error::Mismatch {
                origin: self.weights.origin().to_path_buf(),
                mismatch,
            });
        }
        self.total = parameters(&module)
            .iter()
            .filter_map(|p| self.weights.get(&p.name))
            .map(|tensor| tensor.byte_len() as u64)
            .sum();
        let module = module.map(&mut self);
        match self.error {
            Some(error) => Err(error),
            None => Ok(module),
        }
    }

    fn load<const D: usize>(&mut self, param: &Param<Tensor<D>>) -> Result<Tensor<D>, Error> {
        let name = self.path.name();
        let Some(stored) = self.weights.get(&name) else {
            unreachable!("`check` found `{name}`");
        };
        let device = param.lazy_device();
        let keep = self.keep_compressed
            && self.path.is_transposed()
            && self.weights.updates(&name).is_empty();
        let packed = match keep {
            true => packed::read(&self.weights.name_in_file(&name), stored, &device)?,
            false => None,
        };
        let tensor = match packed {
            Some(data) => Tensor::from_data(data, &device),
            None => read(self.weights, &name, stored, self.dtype, &device)?,
        };
        self.done += stored.byte_len() as u64;
        if (self.progress)(self.done, self.total).is_break() {
            return Err(Error::Cancelled);
        }
        // A view: matrix products read either order, so nothing is copied.
        Ok(if self.path.is_transposed() {
            tensor.transpose()
        } else {
            tensor
        })
    }
}

impl ModuleMapper for Loader<'_> {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.exit();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        if self.error.is_some() {
            return param;
        }
        match self.load(&param) {
            Ok(tensor) => {
                let id = param.id;
                param.transform_for_load(tensor, id)
            }
            Err(error) => {
                self.error = Some(error);
                param
            }
        }
    }
}
