//! Weights of the filters of [`super::farneback`], along one axis.

/// OpenCV's trust in the outermost pixels of a picture, from the edge inwards.
const EDGE_TRUST: [f64; 5] = [0.14, 0.14, 0.4472, 0.4472, 0.4472];

/// Weights of the smoothing before a picture is reduced to `scale`.
pub(super) fn smoothing(scale: f64) -> Vec<f64> {
    let sigma = (1.0 / scale - 1.0) / 2.0;
    if sigma == 0.0 {
        return vec![0.25, 0.5, 0.25];
    }
    let size = ((sigma * 5.0).round_ties_even() as i32 | 1).max(3);
    normalised(
        (-(size / 2)..=size / 2)
            .map(|i| gaussian(f64::from(i), sigma))
            .collect(),
    )
}

/// Weights that give the coefficients of 1, x and x² of the fit to a neighbourhood of `radius`.
///
/// They are Gaussian-weighted and orthogonal polynomials, so that the coefficients of two axes are
/// products. The last two are halved: the flow takes the mean of both pictures' fits, and the
/// matrix `A` half the coefficient of xy.
pub(super) fn expansion(radius: usize, sigma: f64) -> [Vec<f64>; 3] {
    let radius = radius as i32;
    let at: Vec<f64> = (-radius..=radius).map(f64::from).collect();
    let weights = normalised(at.iter().map(|x| gaussian(*x, sigma)).collect());
    let taps = |of: &dyn Fn(f64) -> f64| -> Vec<f64> {
        at.iter().zip(&weights).map(|(x, w)| of(*x) * w).collect()
    };
    let moment = |power| taps(&|x| x.powi(power)).iter().sum::<f64>();
    let (second, fourth) = (moment(2), moment(4));
    [
        taps(&|_| 1.0),
        taps(&|x| x / second / 2.0),
        taps(&|x| (x * x - second) / (fourth - second * second) / 2.0),
    ]
}

/// Weights of the window over which motion is the same, `size` pixels wide.
pub(super) fn window(size: usize, gaussian_window: bool) -> Vec<f64> {
    let radius = (size / 2) as i32;
    let places = (-radius..=radius).map(f64::from);
    if gaussian_window {
        let sigma = 0.3 * f64::from(radius);
        normalised(places.map(|i| gaussian(i, sigma)).collect())
    } else {
        places.map(|_| 1.0 / size as f64).collect()
    }
}

fn gaussian(x: f64, sigma: f64) -> f64 {
    (-x * x / (2.0 * sigma * sigma)).exp()
}

fn normalised(weights: Vec<f64>) -> Vec<f64> {
    let sum: f64 = weights.iter().sum();
    weights.into_iter().map(|w| w / sum).collect()
}

/// Trust in the equations of each pixel of an axis: they are quadratic in the trusted coefficients.
pub(super) fn edge_trust(size: usize) -> Vec<f64> {
    let edge = |distance: usize| EDGE_TRUST.get(distance).copied().unwrap_or(1.0);
    (0..size)
        .map(|i| (edge(i) * edge(size - 1 - i)).powi(2))
        .collect()
}
