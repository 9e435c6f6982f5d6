//! The gradients of the causal 3×3×3 convolution for its weight and bias: products of planes of the
//! input with planes of the output's gradient, summed up over all positions.

use burn::{backend::flex::FlexTensor, tensor::TensorData};
use rayon::prelude::*;

use super::{
    conv::{K, TAPS, add, sources, taps},
    conv_wide, conv_winograd,
    planes::{Extents, Planes},
    simd::{for_each_cpu, multiply_add},
};

/// Output channels whose weight gradients are summed up side by side.
const ROWS: usize = 4;
/// Positions of a vector in the sums of weight gradients.
const VECTOR: usize = 16;

/// The gradients for weight and bias.
pub(super) fn weight_backward(x: FlexTensor, gradient: FlexTensor) -> (FlexTensor, FlexTensor) {
    let (x, gradient) = (x.to_contiguous(), gradient.to_contiguous());
    let (extents, out_extents) = (Extents::of(&x), Extents::of(&gradient));
    let taps = taps(extents.frames);
    let planes = Planes::new(x.storage(), extents, extents.margins(1), true);
    // Zero where a row of the padded input has its margins.
    let [_, [below, beside]] = out_extents.margins(0);
    let margins = [[0, 0], [below, 2 + beside]];
    let gradients = Planes::new(gradient.storage(), out_extents, margins, false);
    let (inputs, outputs) = (extents.channels, out_extents.channels);
    let sums = if conv_winograd::pays(inputs, outputs, out_extents) {
        conv_winograd::correlate_channels(&planes, &gradients, taps, out_extents)
    } else if conv_wide::pays(inputs, outputs) {
        conv_wide::correlate_channels(&planes, &gradients, taps)
    } else {
        correlate_channels(&planes, &gradients, taps)
    };
    // A place in time has the gradients of all taps that it is part of.
    let mut weights = vec![0.0; outputs * inputs * K * K * K];
    let all = weights.par_chunks_exact_mut(K * K * K);
    let all = all.zip(sums.par_chunks_exact(taps * K * K));
    all.with_min_len(256).for_each(|(weights, sums)| {
        for (tap, sums) in TAPS.iter().zip(sums.chunks_exact(K * K)) {
            for place in tap.clone() {
                add(&mut weights[place * K * K..][..K * K], sums);
            }
        }
    });
    let weight = TensorData::new(weights, [outputs, inputs, K, K, K]);
    (
        FlexTensor::from_data(weight),
        bias_backward(gradient.storage(), out_extents),
    )
}

/// For each tap and shift, the products of every channel of `gradients` with every channel of
/// `planes`, summed up over frames and positions: `[out, in, taps, 3, 3]`.
fn correlate_channels(planes: &Planes, gradients: &Planes, taps: usize) -> Vec<f32> {
    let (inputs, outputs) = (planes.channels, gradients.channels);
    let per_output = inputs * taps * K * K;
    let mut sums = vec![0.0; outputs * per_output];
    let blocks = sums.par_chunks_mut(ROWS * per_output).enumerate();
    blocks.for_each(|(block, sums)| {
        let rows = sums.len() / per_output;
        for batch in 0..gradients.batch {
            for frame in 0..planes.frames {
                let first = gradients.start(batch, block * ROWS, frame);
                let sources = sources(frame);
                let step = gradients.plane * gradients.frames;
                // A block may have fewer rows; the first stands in and is not used.
                let starts =
                    std::array::from_fn(|row| first + if row < rows { row * step } else { 0 });
                for input in 0..inputs {
                    for &(source, tap) in &sources {
                        let start = planes.start(batch, input, source);
                        for shift in 0..K {
                            let mut products = [[0.0; K]; ROWS];
                            let from = start + shift * planes.width;
                            let length = gradients.plane;
                            multiply_shifted(
                                &gradients.values,
                                starts,
                                &planes.values[from..],
                                length,
                                &mut products,
                            );
                            let at = ((input * taps + tap) * K + shift) * K;
                            for (sums, products) in sums.chunks_exact_mut(per_output).zip(&products)
                            {
                                for (sum, product) in sums[at..at + K].iter_mut().zip(products) {
                                    *sum += product;
                                }
                            }
                        }
                    }
                }
            }
        }
    });
    sums
}

/// The sum of the gradient over everything but channels.
fn bias_backward(gradient: &[f32], extents: Extents) -> FlexTensor {
    let per_channel = extents.frames * extents.plane();
    let sums: Vec<f64> = gradient
        .par_chunks_exact(per_channel)
        .map(|values| {
            let chunks = values
                .chunks(1024)
                .map(|chunk| f64::from(chunk.iter().sum::<f32>()));
            chunks.sum()
        })
        .collect();
    let channel = |c: usize| sums.iter().skip(c).step_by(extents.channels).sum::<f64>() as f32;
    let values: Vec<f32> = (0..extents.channels).map(channel).collect();
    FlexTensor::from_data(TensorData::new(values, [extents.channels]))
}

for_each_cpu! {
    /// For each row of gradients, the products with the plane shifted by 0, 1 and 2, summed up over
    /// `length` positions.
    fn multiply_shifted(
        gradients: &[f32],
        starts: [usize; ROWS],
        plane: &[f32],
        length: usize,
        products: &mut [[f32; K]; ROWS],
    ) = multiply_shifted_body
}

#[inline(always)]
fn multiply_shifted_body<const FUSED: bool>(
    gradients: &[f32],
    starts: [usize; ROWS],
    plane: &[f32],
    length: usize,
    products: &mut [[f32; K]; ROWS],
) {
    let rows = starts.map(|start| &gradients[start..start + length]);
    let whole = length / VECTOR * VECTOR;
    fn vectors(values: &[f32], length: usize) -> std::slice::Iter<'_, [f32; VECTOR]> {
        values[..length].as_chunks().0.iter()
    }
    let [mut s0, mut s1, mut s2, mut s3] = [[[0.0_f32; VECTOR]; K]; ROWS];
    let gradients = vectors(rows[0], whole)
        .zip(vectors(rows[1], whole))
        .zip(vectors(rows[2], whole).zip(vectors(rows[3], whole)));
    let shifted = vectors(plane, whole)
        .zip(vectors(&plane[1..], whole))
        .zip(vectors(&plane[2..], whole));
    for (((g0, g1), (g2, g3)), ((a, b), c)) in gradients.zip(shifted) {
        add_products::<FUSED>(g0, [a, b, c], &mut s0);
        add_products::<FUSED>(g1, [a, b, c], &mut s1);
        add_products::<FUSED>(g2, [a, b, c], &mut s2);
        add_products::<FUSED>(g3, [a, b, c], &mut s3);
    }
    let sums = [s0, s1, s2, s3];
    for ((row, sums), products) in rows.iter().zip(&sums).zip(products) {
        for ((k, sums), product) in sums.iter().enumerate().zip(products) {
            let rest = (whole..length).map(|at| row[at] * plane[at + k]);
            *product = sums.iter().sum::<f32>() + rest.sum::<f32>();
        }
    }
}

#[inline(always)]
fn add_products<const FUSED: bool>(
    gradient: &[f32; VECTOR],
    [a, b, c]: [&[f32; VECTOR]; K],
    [sa, sb, sc]: &mut [[f32; VECTOR]; K],
) {
    for lane in 0..VECTOR {
        sa[lane] = multiply_add::<FUSED>(gradient[lane], a[lane], sa[lane]);
    }
    for lane in 0..VECTOR {
        sb[lane] = multiply_add::<FUSED>(gradient[lane], b[lane], sb[lane]);
    }
    for lane in 0..VECTOR {
        sc[lane] = multiply_add::<FUSED>(gradient[lane], c[lane], sc[lane]);
    }
}
