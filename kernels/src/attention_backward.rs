//! Attention in training, in memory linear in the length.
//!
//! burn's automatic differentiation keeps the scores and the weights of all queries for the
//! backward pass. Here only queries, keys and values are kept, and the weights are computed again,
//! for a few queries at a time (arXiv 2112.05682; the formulas are those of arXiv 2205.14135,
//! algorithm 4).

use burn::{
    backend::{
        Autodiff, Backend, Dispatch, TensorMetadata,
        autodiff::{
            NodeId,
            checkpoint::{base::Checkpointer, strategy::CheckpointStrategy},
            grads::Gradients,
            ops::{Backward, Ops, OpsKind},
        },
        backend_extension,
        tensor::FloatTensor,
    },
    tensor::{FloatDType, Slice, Tensor, ops::AttentionModuleOptions},
};

/// Queries whose attention weights are in memory at a time: of these and what becomes of them, three
/// matrices of `batch · heads · QUERIES · keys` values in f32.
const QUERIES: usize = 128;

/// As [`attention`](crate::attention), for tensors under automatic differentiation.
pub(crate) fn differentiable(q: Tensor<4>, k: Tensor<4>, v: Tensor<4>) -> Tensor<4> {
    let [q, k, v] = [q, k, v].map(Tensor::into_dispatch);
    Tensor::from_dispatch(Dispatch::attend(q, k, v))
}

/// Attention with a backward pass of its own.
#[backend_extension(
    Cube: cfg(feature = "cubecl"),
    Flex: cfg(feature = "flex"),
    NdArray: cfg(feature = "ndarray"),
    LibTorch: cfg(feature = "tch"),
    Remote: cfg(feature = "remote"),
    Autodiff
)]
pub trait Attend: Backend {
    /// `softmax(q kᵀ / √d) v`, all `[batch, heads, tokens, d]`.
    fn attend(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        Self::attention(q, k, v, None, None, AttentionModuleOptions::default())
    }
}

#[cfg(feature = "cubecl")]
impl Attend for burn::backend::Cube {}
#[cfg(feature = "flex")]
impl Attend for burn::backend::Flex {}
#[cfg(feature = "ndarray")]
#[allow(deprecated)] // by burn, in favour of flex; offered all the same
impl Attend for burn::backend::NdArray {}
#[cfg(feature = "tch")]
#[allow(deprecated)]
impl Attend for burn::backend::LibTorch {}
#[cfg(feature = "remote")]
impl Attend for burn::backend::Remote {}

impl<B: Attend, C: CheckpointStrategy> Attend for Autodiff<B, C> {
    fn attend(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        #[derive(Debug)]
        struct Recomputed;

        impl<B: Backend> Backward<B, 3> for Recomputed {
            type State = [NodeId; 3];

            fn backward(
                self,
                ops: Ops<Self::State, 3>,
                grads: &mut Gradients,
                checkpointer: &mut Checkpointer,
            ) {
                let gradient = grads.consume::<B>(&ops.node);
                let [q, k, v] = ops
                    .state
                    .map(|node| checkpointer.retrieve_node_output::<FloatTensor<B>>(node));
                let gradients = attention_backward::<B>(q, k, v, gradient);
                for (parent, gradient) in ops.parents.into_iter().zip(gradients) {
                    if let Some(parent) = parent {
                        grads.register::<B>(parent.id, gradient);
                    }
                }
            }
        }

        let nodes = [q.node(), k.node(), v.node()];
        match Recomputed.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(mut prep) => {
                let state = [&q, &k, &v].map(|x| prep.checkpoint(x));
                let [q, k, v] = [q, k, v].map(|x| x.into_primitive());
                prep.finish(state, B::attend(q, k, v))
            }
            OpsKind::UnTracked(prep) => {
                let [q, k, v] = [q, k, v].map(|x| x.into_primitive());
                prep.finish(B::attend(q, k, v))
            }
        }
    }
}

/// The gradients of `q`, `k` and `v`, in their dtype; computed in f32.
///
/// With weights `P = softmax(q kᵀ / √d)` and the output's gradient `dO`:
/// `dV = Pᵀ dO`, `dP = dO vᵀ`, `dS = P ∘ (dP − rowsum(P ∘ dP))`, `dQ = dS k / √d`,
/// `dK = dSᵀ q / √d`.
fn attention_backward<B: Backend>(
    q: FloatTensor<B>,
    k: FloatTensor<B>,
    v: FloatTensor<B>,
    gradient: FloatTensor<B>,
) -> [FloatTensor<B>; 3] {
    let dtype: FloatDType = q.dtype().into();
    let [q, k, v, gradient] = [q, k, v, gradient].map(|x| B::float_cast(x, FloatDType::F32));
    let [batch, heads, queries, d] = q.shape().dims();
    let scale = 1.0 / (d as f64).sqrt();

    let (mut grad_q, mut grad_k, mut grad_v) = (Vec::new(), None, None);
    for start in (0..queries).step_by(QUERIES) {
        let end = queries.min(start + QUERIES);
        let range = [0..batch, 0..heads, start..end, 0..d].map(Slice::from);
        let rows = |x: &FloatTensor<B>| B::float_slice(x.clone(), &range);
        // 1/√d goes into the few queries, so that no pass over the scores is needed for it.
        let q = B::float_mul_scalar(rows(&q), scale.into());
        let gradient = rows(&gradient); // [batch, heads, rows, d]

        let scores = B::float_matmul(q.clone(), B::float_transpose(k.clone()));
        let weights = softmax::<B>(scores); // [batch, heads, rows, keys]
        let part_v = B::float_matmul(B::float_transpose(weights.clone()), gradient.clone());
        let grad_weights = B::float_matmul(gradient, B::float_transpose(v.clone()));
        let weighted = B::float_mul(weights.clone(), grad_weights);
        let sums = B::float_sum_dim(weighted.clone(), 3);
        let grad_scores = B::float_sub(weighted, B::float_mul(weights, sums));
        let part_q = B::float_matmul(grad_scores.clone(), k.clone());
        let part_k = B::float_matmul(B::float_transpose(grad_scores), q);

        grad_q.push(B::float_mul_scalar(part_q, scale.into()));
        grad_k = Some(add::<B>(grad_k, part_k));
        grad_v = Some(add::<B>(grad_v, part_v));
    }
    let grad_q = B::float_cat(grad_q, 2);
    // There is at least one query, as burn has no empty tensors here.
    let gradients = [grad_q, grad_k.unwrap_or(k), grad_v.unwrap_or(v)];
    gradients.map(|x| B::float_cast(x, dtype))
}

fn add<B: Backend>(sum: Option<FloatTensor<B>>, part: FloatTensor<B>) -> FloatTensor<B> {
    match sum {
        Some(sum) => B::float_add(sum, part),
        None => part,
    }
}

/// Softmax over the last of four axes.
fn softmax<B: Backend>(scores: FloatTensor<B>) -> FloatTensor<B> {
    let largest = B::float_max_dim(scores.clone(), 3);
    let weights = B::float_exp(B::float_sub(scores, largest));
    let sums = B::float_sum_dim(weights.clone(), 3);
    B::float_div(weights, sums)
}
