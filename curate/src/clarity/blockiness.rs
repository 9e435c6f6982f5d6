//! The block grid of compression.

use image::GrayImage;

/// Differences count up to this many gray levels: larger ones are edges of the picture.
const LARGEST_STEP: u8 = 12;

/// Grids looked for, in pixels: blocks of 8 in a picture reduced to three quarters, up to blocks of 8
/// enlarged to two and a half times, or blocks of 16.
const PERIODS: [usize; 2] = [6, 20];

/// The step at the edges of compression blocks beyond that between other neighbours, in gray levels.
///
/// After Wang, Bovik and Evans (*Blind measurement of blocking artifacts in images*, ICIP 2000): the
/// mean differences of neighbouring columns, and of rows, have the grid's period, and it shows in
/// their spectrum at its frequency and the multiples thereof. A grid that went through resizing is
/// found as well, because its period is sought between 6 and 20 pixels. Four multiples have to agree
/// on both axes, which stripes or windows seldom do.
pub fn blockiness(picture: &GrayImage) -> f64 {
    let width = picture.width() as usize;
    if width < 2 || picture.height() < 2 {
        return 0.0;
    }
    let rows: Vec<&[u8]> = picture.as_raw().chunks_exact(width).collect();
    let mut columns = vec![0u32; width - 1];
    for row in &rows {
        let pairs = row.iter().zip(&row[1..]);
        for (sum, (a, b)) in columns.iter_mut().zip(pairs) {
            *sum += u32::from(a.abs_diff(*b).min(LARGEST_STEP));
        }
    }
    let lines = rows.windows(2).map(|two| {
        let pairs = two[0].iter().zip(two[1]);
        pairs
            .map(|(a, b)| u32::from(a.abs_diff(*b).min(LARGEST_STEP)))
            .sum::<u32>()
    });
    let mean = |sum: u32, count: usize| f64::from(sum) / count as f64;
    let columns: Vec<f64> = columns.iter().map(|sum| mean(*sum, rows.len())).collect();
    let lines: Vec<f64> = lines.map(|sum| mean(sum, width)).collect();
    grid_step(&columns).min(grid_step(&lines))
}

/// The height of the strongest train of impulses in a profile of differences.
fn grid_step(profile: &[f64]) -> f64 {
    let [shortest, longest] = PERIODS;
    if profile.len() < 4 * longest {
        return 0.0;
    }
    // Twice as fine as the profile's own frequencies: entry `j` is a period of 2 n / j.
    let spectrum = spectrum(profile);
    let doubled = 2 * profile.len();
    let candidates = doubled.div_ceil(longest)..=doubled / shortest;
    let steps = candidates.map(|j| {
        let weakest = (1..=3)
            .map(|k| spectrum[k * j])
            .fold(f64::INFINITY, f64::min);
        // Every harmonic of impulses of height s at distance p has the amplitude 2 s / p.
        weakest * doubled as f64 / j as f64 / 2.0
    });
    steps.fold(0.0, f64::max)
}

/// Amplitudes at frequencies of `j / 2n`, under a Hann window.
fn spectrum(profile: &[f64]) -> Vec<f64> {
    let doubled = 2 * profile.len();
    let angle = |i: usize| std::f64::consts::TAU * i as f64 / doubled as f64;
    let circle: Vec<[f64; 2]> = (0..doubled)
        .map(|i| [angle(i).cos(), angle(i).sin()])
        .collect();
    let mean = profile.iter().sum::<f64>() / profile.len() as f64;
    let windowed: Vec<f64> = profile
        .iter()
        .enumerate()
        .map(|(i, value)| (value - mean) * (1.0 - circle[2 * i][0]))
        .collect();
    let amplitude = |j: usize| {
        let (mut cosine, mut sine, mut position) = (0.0, 0.0, 0);
        for value in &windowed {
            let [c, s] = circle[position];
            cosine += value * c;
            sine += value * s;
            position += j;
            if position >= doubled {
                position -= doubled;
            }
        }
        // The window sums to n.
        2.0 * f64::hypot(cosine, sine) / profile.len() as f64
    };
    (0..=profile.len()).map(amplitude).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Differences of `step` every `period` samples, else 1.
    fn grid(step: f64, period: f64) -> Vec<f64> {
        let edge = |i: usize| (i as f64 / period).floor() != ((i + 1) as f64 / period).floor();
        (0..400)
            .map(|i| if edge(i) { 1.0 + step } else { 1.0 })
            .collect()
    }

    #[test]
    fn the_step_of_a_grid_is_found() {
        for period in [6.0, 8.0, 12.0, 16.0, 20.0] {
            let found = grid_step(&grid(2.0, period));
            // A period between two entries of the spectrum loses some of its height.
            assert!((1.6..2.1).contains(&found), "{found} at {period}");
        }
        // Enlarged by 4/3: the places of the edges are rounded.
        let found = grid_step(&grid(2.0, 32.0 / 3.0));
        assert!(found > 1.5, "{found}");
    }

    #[test]
    fn other_periods_are_no_grid() {
        assert!(grid_step(&grid(2.0, 3.0)) < 0.05);
        assert!(grid_step(&vec![1.0; 400]) < 1e-9);
        let wave: Vec<f64> = (0..400).map(|i| 2.0 + (0.8 * f64::from(i)).sin()).collect();
        assert!(grid_step(&wave) < 0.05);
    }
}
