//! Gradients by parameter.

use std::collections::BTreeMap;

use burn::{
    module::{Module, ModuleVisitor, Param},
    tensor::{DType, Device, Tensor},
};
use burn_hunyuan_kernels::ParameterPath;

/// The gradients of a module's parameters, flat and in f32, by the parameters' names.
#[derive(Clone, Debug, Default)]
pub struct Gradients(BTreeMap<String, Tensor<1>>);

impl Gradients {
    /// Takes the gradients of `module`'s parameters out of a backward pass.
    pub fn of<M: Module>(module: &M, backward: &mut burn::tensor::Gradients) -> Self {
        Self::of_part(module, "", backward)
    }

    /// As [`of`](Self::of) for a part of a module, whose names begin with `prefix`.
    pub fn of_part<M: Module>(
        part: &M,
        prefix: &str,
        backward: &mut burn::tensor::Gradients,
    ) -> Self {
        struct Take<'a> {
            path: ParameterPath,
            prefix: &'a str,
            backward: &'a mut burn::tensor::Gradients,
            gradients: Gradients,
        }
        impl ModuleVisitor for Take<'_> {
            fn enter_module(&mut self, name: &str, container: &str) {
                self.path.enter(name, container);
            }
            fn exit_module(&mut self, _: &str, _: &str) {
                self.path.exit();
            }
            fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
                // A parameter that took no part in the loss has none.
                if let Some(gradient) = param.val().grad_remove(self.backward) {
                    let elements = gradient.shape().num_elements();
                    let flat = gradient.cast(DType::F32).reshape([elements]);
                    let name = format!("{}{}", self.prefix, self.path.name());
                    self.gradients.0.insert(name, flat);
                }
            }
        }
        let mut take = Take {
            path: ParameterPath::default(),
            prefix,
            backward,
            gradients: Self::default(),
        };
        part.visit(&mut take);
        take.gradients
    }

    /// The gradient of one parameter.
    pub fn get(&self, name: &str) -> Option<&Tensor<1>> {
        self.0.get(name)
    }

    /// All gradients by name.
    pub fn iter(&self) -> impl Iterator<Item = (&String, &Tensor<1>)> {
        self.0.iter()
    }

    /// Adds the gradients of another part of the batch, or of other parameters.
    pub fn add(&mut self, other: Self) {
        for (name, gradient) in other.0 {
            let sum = match self.0.remove(&name) {
                Some(sum) => sum + gradient,
                None => gradient,
            };
            self.0.insert(name, sum);
        }
    }

    /// The same gradients on another device.
    pub fn to_device(self, device: &Device) -> Self {
        let moved = |(name, gradient): (String, Tensor<1>)| (name, gradient.to_device(device));
        self.0.into_iter().map(moved).collect()
    }

    /// The length of all gradients as one vector.
    pub fn norm(&self) -> f64 {
        let squares = self
            .0
            .values()
            .map(|gradient| gradient.clone().square().sum());
        let mut squares: Vec<_> = squares.collect();
        let Some(device) = squares.first().map(Tensor::device) else {
            return 0.0;
        };
        // A model may be on several devices.
        squares = squares.into_iter().map(|x| x.to_device(&device)).collect();
        // One read for the whole model: each waits for the device.
        let sum = Tensor::cat(squares, 0).sum().into_scalar::<f32>();
        f64::from(sum).sqrt()
    }

    /// Shortens gradients of length `norm` to `max_norm` (torch's `clip_grad_norm_`).
    pub fn clip(&mut self, max_norm: f64, norm: f64) {
        let factor = max_norm / (norm + 1e-6);
        if factor < 1.0 {
            self.0 = std::mem::take(&mut self.0)
                .into_iter()
                .map(|(name, gradient)| (name, gradient * factor))
                .collect();
        }
    }
}

impl FromIterator<(String, Tensor<1>)> for Gradients {
    fn from_iter<I: IntoIterator<Item = (String, Tensor<1>)>>(gradients: I) -> Self {
        Self(gradients.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gradients(values: [[f32; 2]; 2]) -> Gradients {
        let tensor = |x| Tensor::from_floats(x, &Device::flex());
        let [a, b] = values.map(tensor);
        [("a".to_string(), a), ("b".to_string(), b)]
            .into_iter()
            .collect()
    }

    #[test]
    fn the_norm_is_of_all_parameters_together() {
        let mut gradients = gradients([[3.0, 0.0], [0.0, 4.0]]);
        assert_eq!(gradients.norm(), 5.0);
        gradients.clip(10.0, 5.0);
        assert_eq!(gradients.norm(), 5.0);
        gradients.clip(1.0, 5.0);
        assert!((gradients.norm() - 1.0).abs() < 1e-6);
    }

    #[test]
    fn gradients_of_parts_add_up() {
        let mut sum = gradients([[1.0, 2.0], [3.0, 4.0]]);
        sum.add(gradients([[2.0, 2.0], [1.0, 0.0]]));
        let values = |name| {
            sum.get(name)
                .unwrap()
                .to_data()
                .try_to_vec::<f32>()
                .unwrap()
        };
        assert_eq!((values("a"), values("b")), (vec![3.0, 4.0], vec![4.0, 4.0]));
    }
}
