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

use super::{CpuGradients, CpuOps, GroupNormOptions};

/// Takes an output of a node that is needed in the backward pass.
macro_rules! retrieve {
    ($checkpointer:ident, $($node:expr),+) => {
        ($($checkpointer.retrieve_node_output::<B::FloatTensorPrimitive>($node)),+)
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

    fn group_norm(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        options: GroupNormOptions,
    ) -> FloatTensor<Self> {
        #[derive(Debug)]
        struct GroupNorm;
        impl<B: CpuGradients> Backward<B, 3> for GroupNorm {
            type State = ([NodeId; 3], GroupNormOptions);

            fn backward(
                self,
                ops: Ops<Self::State, 3>,
                grads: &mut Gradients,
                checkpointer: &mut Checkpointer,
            ) {
                let gradient = grads.consume::<B>(&ops.node);
                let ([x, weight, bias], options) = ops.state;
                let (x, weight, bias) = retrieve!(checkpointer, x, weight, bias);
                let (x, weight, bias) = B::group_norm_backward(x, weight, bias, gradient, options);
                for (node, gradient) in ops.parents.into_iter().zip([x, weight, bias]) {
                    if let Some(node) = node {
                        grads.register::<B>(node.id, gradient);
                    }
                }
            }
        }
        let nodes = [x.node(), weight.node(), bias.node()];
        match GroupNorm.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(mut prep) => {
                let nodes = [&x, &weight, &bias].map(|tensor| prep.checkpoint(tensor));
                let out = B::group_norm(
                    x.into_primitive(),
                    weight.into_primitive(),
                    bias.into_primitive(),
                    options,
                );
                prep.finish((nodes, options), out)
            }
            OpsKind::UnTracked(prep) => prep.finish(B::group_norm(
                x.into_primitive(),
                weight.into_primitive(),
                bias.into_primitive(),
                options,
            )),
        }
    }
}
