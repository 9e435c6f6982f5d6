//! Linear layers, with LoRAs beside them.

use burn::{
    backend::{Dispatch, ops::QTensorOps},
    module::Param,
    nn::Linear,
    tensor::{DType, Tensor, module},
};

/// `layer` applied to `x`; where its weight has a LoRA (burn's `LoraAdapter`), `x W + b + s (x A) B`
/// (arXiv 2106.09685).
///
/// burn's own forward composes `W + s A B` first. Learning two thin matrices would then cost the
/// gradient of the whole weight, and in half precision the sum rounds small updates away.
///
/// # Shapes
/// - `x`: `[.., inputs]`
/// - output: `[.., outputs]`
pub fn linear<const D: usize>(layer: &Linear, x: Tensor<D>) -> Tensor<D> {
    let bias = layer.bias.as_ref().map(Param::val);
    let Some(lora) = layer.weight.adapter() else {
        return product(x, layer.weight.val(), bias);
    };
    let thin = module::linear(x.clone(), lora.a.val(), None); // [.., rank]
    let update = module::linear(thin, lora.b.val(), None) * lora.scale;
    product(x, layer.weight.base(), bias) + update
}

/// `x · weight + bias`, by products of our own where they are faster.
fn product<const D: usize>(x: Tensor<D>, weight: Tensor<2>, bias: Option<Tensor<1>>) -> Tensor<D> {
    let weight = decoded(weight, x.dtype());
    #[cfg(feature = "cpu")]
    if let Some(out) = crate::cpu::linear(&x, weight.clone(), bias.clone()) {
        return out;
    }
    module::linear(x, weight, bias)
}

/// A quantised weight in full, for one product. burn's own product of such a weight unpacks numbers as
/// it goes, by slower kernels: that pays for a few rows of `x`, and here there are thousands.
fn decoded(weight: Tensor<2>, dtype: DType) -> Tensor<2> {
    match weight.dtype() {
        DType::QFloat(_) => {
            let weight = weight.into_dispatch();
            Tensor::from_dispatch(Dispatch::dequantize(weight, dtype.into()))
        }
        _ => weight,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::{
        module::{Module, ModuleMapper, Param},
        nn::LinearConfig,
        tensor::{DType, Device, Distribution},
    };

    struct Cast(DType);
    impl ModuleMapper for Cast {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            param.map(|x| x.cast(self.0))
        }
    }

    /// Against the product of the same values in f64: bf16 keeps eight bits of it.
    #[test]
    fn values_are_multiplied_and_rounded_once() {
        for (dtype, bound) in [(DType::F32, 1e-6), (DType::BF16, 1.0 / 256.0)] {
            assert_is_the_product(dtype, bound);
        }
    }

    fn assert_is_the_product(dtype: DType, bound: f64) {
        let device = Device::flex();
        for (rows, inputs, outputs, bias) in [
            (1, 1, 1, true),
            (7, 33, 5, false),
            (13, 2_100, 67, true),
            (200, 64, 130, false),
        ] {
            let layer = LinearConfig::new(inputs, outputs).with_bias(bias);
            let mut layer = layer.init(&device).map(&mut Cast(dtype));
            let x = Tensor::<3>::random([2, rows, inputs], Distribution::Default, &device);
            let x = x.cast(dtype);
            let f64 = |x: Tensor<2>| x.cast(DType::F64);
            let mut expected = x.clone().cast(DType::F64);
            expected = expected.matmul(f64(layer.weight.val()).unsqueeze());
            if let Some(bias) = &layer.bias {
                expected = expected + bias.val().cast(DType::F64).unsqueeze();
            }
            // As initialised, and as files have it: transposed.
            for _ in 0..2 {
                let out = linear(&layer, x.clone()).cast(DType::F64);
                let error = (out - expected.clone()).abs();
                let bound = expected.clone().abs() * bound + 1e-5;
                let excess = (error - bound).max().into_scalar::<f64>();
                assert!(excess <= 0.0, "{rows} x {inputs} to {outputs}: {excess}");
                let rows = Tensor::<2>::from_data(
                    layer.weight.val().transpose().into_data(),
                    (&device, dtype),
                );
                layer.weight = Param::from_tensor(rows.transpose());
            }
        }
    }
}
