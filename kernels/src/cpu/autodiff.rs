//! The operations in burn's automatic differentiation.

use burn::backend::{
    Autodiff,
    autodiff::{
        NodeId,
        checkpoint::{base::Checkpointer, strategy::CheckpointStrategy},
        grads::Gradients,
        ops::{Backward, Ops, OpsKind},
    },
    tensor::FloatTensor,
};

use super::{Activation, CpuGradients, CpuOps, GroupNormOptions};

/// Takes an output of a node that is needed in the backward pass.
macro_rules! retrieve {
    ($checkpointer:ident, $($node:expr),+) => {
        ($($checkpointer.retrieve_node_output::<B::FloatTensorPrimitive>($node)),+)
    };
}

/// Defines an operation whose inputs are kept for its backward pass.
macro_rules! with_gradient {
    ($name:ident($($input:ident),+ $(; $option:ident: $kind:ty)?) => $backward:ident) => {
        fn $name($($input: FloatTensor<Self>,)+ $($option: $kind)?) -> FloatTensor<Self> {
            const INPUTS: usize = [$(stringify!($input)),+].len();
            #[derive(Debug)]
            struct Node;
            impl<B: CpuGradients> Backward<B, INPUTS> for Node {
                type State = ([NodeId; INPUTS], ($($kind,)?));

                fn backward(
                    self,
                    ops: Ops<Self::State, INPUTS>,
                    grads: &mut Gradients,
                    checkpointer: &mut Checkpointer,
                ) {
                    let gradient = grads.consume::<B>(&ops.node);
                    let (inputs, ($($option,)?)) = ops.state;
                    let inputs = inputs.map(|node| retrieve!(checkpointer, node));
                    let gradients = B::$backward(inputs, gradient $(, $option)?);
                    for (node, gradient) in ops.parents.into_iter().zip(gradients) {
                        if let (Some(node), Some(gradient)) = (node, gradient) {
                            grads.register::<B>(node.id, gradient);
                        }
                    }
                }
            }
            let nodes = [$($input.node()),+];
            match Node.prepare::<C>(nodes).compute_bound().stateful() {
                OpsKind::Tracked(mut prep) => {
                    let inputs = [$(prep.checkpoint(&$input)),+];
                    let state = (inputs, ($(Clone::clone(&$option),)?));
                    prep.finish(state, B::$name($($input.into_primitive(),)+ $($option)?))
                }
                OpsKind::UnTracked(prep) => {
                    prep.finish(B::$name($($input.into_primitive(),)+ $($option)?))
                }
            }
        }
    };
}

impl<B: CpuOps + CpuGradients, C: CheckpointStrategy> CpuOps for Autodiff<B, C> {
    fn causal_conv3d(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        #[derive(Debug)]
        struct CausalConv3d;
        impl<B: CpuGradients> Backward<B, 3> for CausalConv3d {
            type State = [NodeId; 2];

            fn backward(
                self,
                ops: Ops<Self::State, 3>,
                grads: &mut Gradients,
                checkpointer: &mut Checkpointer,
            ) {
                let [node_x, node_weight, node_bias] = ops.parents;
                let gradient = grads.consume::<B>(&ops.node);
                let [x, weight] = ops.state;
                let (x, weight) = retrieve!(checkpointer, x, weight);
                if let Some(node) = node_x {
                    let gradient = B::causal_conv3d_x_backward(weight, gradient.clone());
                    grads.register::<B>(node.id, gradient);
                }
                if node_weight.is_some() || node_bias.is_some() {
                    let (weight, bias) = B::causal_conv3d_weight_backward(x, gradient);
                    for (node, gradient) in [(node_weight, weight), (node_bias, bias)] {
                        if let Some(node) = node {
                            grads.register::<B>(node.id, gradient);
                        }
                    }
                }
            }
        }
        let nodes = [x.node(), weight.node(), bias.node()];
        match CausalConv3d.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(mut prep) => {
                let state = [prep.checkpoint(&x), prep.checkpoint(&weight)];
                let out = B::causal_conv3d(
                    x.into_primitive(),
                    weight.into_primitive(),
                    bias.into_primitive(),
                );
                prep.finish(state, out)
            }
            OpsKind::UnTracked(prep) => prep.finish(B::causal_conv3d(
                x.into_primitive(),
                weight.into_primitive(),
                bias.into_primitive(),
            )),
        }
    }

    with_gradient!(group_norm(x, weight, bias; options: GroupNormOptions) => group_norm_backward);
    with_gradient!(modulated_norm(x, shift, scale; eps: f32) => modulated_norm_backward);
    with_gradient!(rms_norm(x, weight; eps: f32) => rms_norm_backward);
    with_gradient!(rotate_pairs(x, cos, sin) => rotate_pairs_backward);
    with_gradient!(activate(x; activation: Activation) => activate_backward);
    with_gradient!(add_gated(x, y, gate) => add_gated_backward);
    with_gradient!(attention_within(q, k, v; lengths: Vec<usize>) => attention_within_backward);
}
