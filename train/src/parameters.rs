//! The parameters of a module by name: what optimizers work on and checkpoints hold.

use std::collections::BTreeMap;

use burn::{
    module::{Module, ModuleMapper, ModuleVisitor, Param},
    tensor::{DType, FloatDType, Tensor, TensorData},
};
use burn_hunyuan_kernels::ParameterPath;

/// A tensor of any rank that belongs to a parameter: its value, a moment, an average.
#[derive(Clone, Debug)]
pub struct Parameter {
    /// The values in f32, outside of autodiff, in the module's order.
    pub values: Tensor<1>,
    /// The extents in the module.
    pub shape: Vec<usize>,
    /// Whether files hold it transposed, as they do the weights of linear layers.
    pub transposed: bool,
}

/// Parameters by their dotted path, which is also their name in files.
pub type Parameters = BTreeMap<String, Parameter>;

impl Parameter {
    /// Other values of the same shape.
    pub fn with_values(&self, values: Tensor<1>) -> Self {
        Self {
            values,
            ..self.clone()
        }
    }

    /// The extents in a file.
    pub fn file_shape(&self) -> Vec<usize> {
        let mut shape = self.shape.clone();
        if self.transposed {
            shape.reverse();
        }
        shape
    }

    /// The values as a file holds them, f32 of [`file_shape`](Self::file_shape).
    pub fn to_file(&self) -> TensorData {
        let data = self.turned(self.values.clone(), &self.shape).into_data();
        TensorData::from_bytes(data.into_bytes(), self.file_shape(), DType::F32)
    }

    /// The parameter with the values of a file, of [`file_shape`](Self::file_shape).
    pub fn from_file(&self, data: TensorData) -> Self {
        let device = self.values.device();
        let elements = self.shape.iter().product::<usize>();
        let bytes = data.convert::<f32>().into_bytes();
        let data = TensorData::from_bytes(bytes, [elements], DType::F32);
        let values = Tensor::from_data(data, (&device, DType::F32));
        self.with_values(self.turned(values, &self.file_shape()))
    }

    /// Values of the given extents in the other order, where files and modules differ.
    fn turned(&self, values: Tensor<1>, shape: &[usize]) -> Tensor<1> {
        match (self.transposed, shape) {
            (true, &[rows, columns]) => values
                .reshape([rows, columns])
                .transpose()
                .reshape([rows * columns]),
            _ => values,
        }
    }
}

/// The parameters of `module`.
pub fn parameters<M: Module>(module: &M) -> Parameters {
    collect(module, |_| true)
}

/// The parameters of `module` that are to be trained: those that want a gradient.
pub fn trainable<M: Module>(module: &M) -> Parameters {
    collect(module, |wants_gradient| wants_gradient)
}

/// The parameters that are wanted, by whether they want a gradient.
fn collect<M: Module>(module: &M, wanted: fn(bool) -> bool) -> Parameters {
    struct Collect {
        path: ParameterPath,
        wanted: fn(bool) -> bool,
        parameters: Parameters,
    }
    impl ModuleVisitor for Collect {
        fn enter_module(&mut self, name: &str, container: &str) {
            self.path.enter(name, container);
        }
        fn exit_module(&mut self, _: &str, _: &str) {
            self.path.exit();
        }
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if !(self.wanted)(param.is_require_grad()) {
                return;
            }
            let value = param.val().without_autodiff();
            let shape = value.dims();
            let parameter = Parameter {
                values: value
                    .cast(DType::F32)
                    .reshape([shape.iter().product::<usize>()]),
                shape: shape.to_vec(),
                transposed: self.path.is_transposed(),
            };
            self.parameters.insert(self.path.name(), parameter);
        }
    }
    let mut collect = Collect {
        path: ParameterPath::default(),
        wanted,
        parameters: Parameters::new(),
    };
    module.visit(&mut collect);
    collect.parameters
}

/// `module` with the values of `parameters`, each cast to the module's own dtype and brought to its
/// device. Parameters that are not named keep their values.
pub fn with_parameters<M: Module>(module: M, parameters: &Parameters) -> M {
    struct Assign<'a> {
        path: ParameterPath,
        parameters: &'a Parameters,
    }
    impl ModuleMapper for Assign<'_> {
        fn enter_module(&mut self, name: &str, container: &str) {
            self.path.enter(name, container);
        }
        fn exit_module(&mut self, _: &str, _: &str) {
            self.path.exit();
        }
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            let Some(new) = self.parameters.get(&self.path.name()) else {
                return param;
            };
            param.map(|old| {
                let new = new.values.clone().reshape(old.dims()).cast(old.dtype());
                let new = new.to_device(&old.device());
                match old.is_autodiff() {
                    true => new.autodiff().set_require_grad(old.is_require_grad()),
                    false => new,
                }
            })
        }
    }
    module.map(&mut Assign {
        path: ParameterPath::default(),
        parameters,
    })
}

/// `module` with its parameters in another dtype.
pub fn cast<M: Module>(module: M, dtype: FloatDType) -> M {
    struct Cast(FloatDType);
    impl ModuleMapper for Cast {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            param.map(|old| {
                let new = old.clone().without_autodiff().cast(self.0);
                match old.is_autodiff() {
                    true => new.autodiff().set_require_grad(old.is_require_grad()),
                    false => new,
                }
            })
        }
    }
    module.map(&mut Cast(dtype))
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::{nn::LinearConfig, tensor::Device};

    #[test]
    fn files_hold_linear_weights_transposed() {
        let linear = LinearConfig::new(2, 3).init(&Device::flex());
        let weights = &parameters(&linear)["weight"];
        let values = |data: TensorData| data.try_to_vec::<f32>().unwrap();
        assert_eq!(weights.file_shape(), [3, 2]);
        let expected = values(linear.weight.val().transpose().into_data());
        assert_eq!(values(weights.to_file()), expected);

        let changed = expected.iter().map(|x| x + 1.0).collect();
        let read = weights.from_file(TensorData::new(changed, [3, 2]));
        let changed = with_parameters(linear.clone(), &[("weight".to_string(), read)].into());
        let difference = changed.weight.val() - linear.weight.val() - 1.0;
        assert!(difference.abs().max().into_scalar::<f32>() < 1e-6);
        assert_eq!(
            changed.bias.unwrap().val().into_data(),
            linear.bias.unwrap().val().into_data()
        );
    }
}
