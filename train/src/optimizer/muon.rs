//! Muon: steps whose matrices turn and stretch all directions alike.

use burn::tensor::Tensor;

use crate::parameters::Parameter;

/// Coefficients of the iteration's polynomial, and how often it is applied
/// (<https://kellerjordan.github.io/posts/muon/>).
const COEFFICIENTS: [f64; 3] = [3.4445, -4.7750, 2.0315];
const ITERATIONS: usize = 5;

/// Size of a step's values beside AdamW's, so that both take the same learning rate and weight
/// decay (arXiv 2502.16982, section 2.2).
const SIZE: f64 = 0.2;

/// Whether Muon moves the weight: a matrix or convolution of the blocks. Embeddings, the first and
/// last layers, norms and biases are AdamW's.
pub(super) fn applies(name: &str, weight: &Parameter) -> bool {
    weight.shape.len() >= 2 && name.split('.').any(|part| part.contains("block"))
}

/// The step that an average of gradients gives, in learning rates: its singular values made about
/// one by Newton and Schulz's iteration, then scaled. A convolution is a matrix with a row for each
/// channel that comes out.
pub(super) fn step(average: Tensor<1>, weight: &Parameter) -> Tensor<1> {
    let [rows, columns] = [weight.shape[0], weight.shape[1..].iter().product()];
    let wide = rows <= columns;
    let x: Tensor<2> = average.reshape([rows, columns]);
    let x = if wide { x } else { x.transpose() };
    let norm = x.clone().square().sum().sqrt() + 1e-7;
    let mut x = x / norm.unsqueeze();
    let [a, b, c] = COEFFICIENTS;
    for _ in 0..ITERATIONS {
        let square = x.clone().matmul(x.clone().transpose());
        let polynomial = square.clone() * b + square.clone().matmul(square) * c;
        x = x.clone() * a + polynomial.matmul(x);
    }
    let x = if wide { x } else { x.transpose() };
    x.reshape([rows * columns]) * (SIZE * (rows.max(columns) as f64).sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;

    /// Of a diagonal matrix the iteration moves every entry alone, by the polynomial.
    #[test]
    fn a_diagonal_matrix_moves_as_its_entries_do() {
        let entries = [3.0_f32, -1.0, 0.4];
        let norm = entries.iter().map(|x| x * x).sum::<f32>().sqrt();
        for shape in [&[3, 3][..], &[3, 5], &[5, 3], &[3, 2, 1, 2, 1]] {
            let [rows, columns] = [shape[0], shape[1..].iter().product()];
            let mut values = vec![0.0; rows * columns];
            for (i, x) in entries.iter().enumerate() {
                values[i * columns + i] = *x;
            }
            let weight = Parameter {
                values: Tensor::from_floats(values.as_slice(), &Device::flex()),
                shape: shape.to_vec(),
                transposed: false,
            };
            let step = step(weight.values.clone(), &weight).into_data();
            for (place, ours) in step.iter::<f32>().enumerate() {
                let (row, column) = (place / columns, place % columns);
                let mut x = match row == column {
                    true => f64::from(entries[row] / norm),
                    false => 0.0,
                };
                for _ in 0..ITERATIONS {
                    x = COEFFICIENTS[0] * x
                        + COEFFICIENTS[1] * x.powi(3)
                        + COEFFICIENTS[2] * x.powi(5);
                }
                let expected = x * SIZE * (rows.max(columns) as f64).sqrt();
                assert!(
                    (f64::from(ours) - expected).abs() < 1e-5,
                    "{ours} {expected}"
                );
                // Small and large directions come out about alike.
                assert!(row != column || (0.65..1.25).contains(&x.abs()), "{x}");
            }
        }
    }

    #[test]
    fn only_matrices_and_convolutions_of_blocks_are_moved() {
        let weight = |shape: &[usize]| Parameter {
            values: Tensor::zeros([shape.iter().product::<usize>()], &Device::flex()),
            shape: shape.to_vec(),
            transposed: false,
        };
        assert!(applies("dual_blocks.0.image.q.weight", &weight(&[2, 2])));
        assert!(applies(
            "decoder.mid_block.resnets.0.conv1.conv.weight",
            &weight(&[2, 2, 3, 3, 3])
        ));
        assert!(!applies("dual_blocks.0.image.q.bias", &weight(&[4])));
        assert!(!applies(
            "decoder.conv_out.conv.weight",
            &weight(&[3, 2, 3, 3, 3])
        ));
        assert!(!applies("final_layer.proj.weight", &weight(&[2, 2])));
    }
}
