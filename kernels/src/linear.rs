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
    let [inputs, outputs] = layer.weight.base().dims();
    let mut shape = x.dims();
    // As a matrix: to meet an `x` of more axes, burn's CPU backend copies the weight.
    let x = x.reshape([shape.iter().product::<usize>() / inputs, inputs]);
    shape[D - 1] = outputs;
    let bias = layer.bias.as_ref().map(Param::val);
    let Some(lora) = layer.weight.adapter() else {
        return product(x, layer.weight.val(), bias).reshape(shape);
    };
    let thin = module::linear(x.clone(), lora.a.val(), None); // [rows, rank]
    let update = module::linear(thin, lora.b.val(), None) * lora.scale;
    (product(x, layer.weight.base(), bias) + update).reshape(shape)
}

/// `x · weight + bias`, by products of our own where they are faster.
fn product(x: Tensor<2>, weight: Tensor<2>, bias: Option<Tensor<1>>) -> Tensor<2> {
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
    use crate::random::random;
    use burn::{
        module::{LoraAdapter, Module, Reparameterizer},
        nn::LinearConfig,
    };

    /// Hangs a LoRA of rank 3 on a weight.
    struct Attach;
    impl Reparameterizer for Attach {
        type Reparam = LoraAdapter;

        fn reparameterize<const D: usize>(
            &mut self,
            _: &str,
            param: Param<Tensor<D>>,
        ) -> (Param<Tensor<D>>, Option<LoraAdapter>) {
            let dims = param.dims();
            let &[inputs, outputs] = dims.as_slice() else {
                return (param, None);
            };
            let matrix = |shape| Param::from_tensor(random::<2>(shape).autodiff());
            let adapter = LoraAdapter {
                a: matrix([inputs, 3]),
                b: matrix([3, outputs]),
                scale: 0.7,
            };
            (param, Some(adapter))
        }
    }

    /// Without a LoRA and with one, `x (W + s A B) + b`; outputs and gradients of all that is learned.
    #[test]
    fn a_lora_is_added_to_the_weight() {
        let tracked = |x: Tensor<2>| x.autodiff().require_grad();
        let mut layer = LinearConfig::new(5, 4).init(&random::<1>([1]).autodiff().device());
        layer.weight = Param::from_tensor(random([5, 4]).autodiff());
        layer.bias = Some(Param::from_tensor(random([4]).autodiff()));
        let x = tracked(random([6, 5]));
        let layer = layer.apply_reparameterization(Attach);

        let lora = layer.weight.adapter().unwrap();
        let (weight, bias) = (layer.weight.base(), layer.bias.as_ref().unwrap().val());
        let (a, b) = (lora.a.val(), lora.b.val());
        let sum = weight + a.clone().matmul(b.clone()) * 0.7;
        let expected = x.clone().matmul(sum) + bias.clone().unsqueeze();
        let out = linear(&layer, x.clone().reshape([2, 3, 5])).reshape([6, 4]);

        let probe = random([6, 4]).autodiff();
        let gradients = |out: &Tensor<2>| {
            let all = (out.clone() * probe.clone()).sum().backward();
            let matrices = [&x, &a, &b].map(|x| x.grad(&all).unwrap());
            (matrices, bias.grad(&all).unwrap())
        };
        let (ours, ours_of_bias) = gradients(&out);
        let (theirs, theirs_of_bias) = gradients(&expected);
        let mut pairs = vec![(out.inner(), expected.inner())];
        pairs.extend(ours.into_iter().zip(theirs));
        pairs.push((ours_of_bias.unsqueeze(), theirs_of_bias.unsqueeze()));
        for (i, (ours, theirs)) in pairs.into_iter().enumerate() {
            let error = (ours - theirs).abs().max().into_scalar::<f32>();
            assert!(error < 1e-4, "{i}: {error}");
        }
    }
}
