//! Curves as SVG.

use plotters::prelude::*;

use crate::{
    error::{Error, Result},
    run::Curve,
};

/// Width and height of a chart in pixels.
const SIZE: (u32, u32) = (460, 220);
/// Points that a curve is drawn with at most; of more, each is the mean of its neighbours.
const POINTS: usize = 400;
const LINE: RGBColor = RGBColor(0x4c, 0x78, 0xa8);

/// Draws a curve over the steps up to `last`.
///
/// # Errors
/// If it cannot be drawn.
pub(super) fn chart(curve: &Curve, last: u64) -> Result<String> {
    let mut svg = String::new();
    let drawn = draw(&mut svg, &thinned(&curve.points), last);
    drawn.map_err(|e| Error::Data(format!("the curve of {} cannot be drawn: {e}", curve.name)))?;
    Ok(svg)
}

fn draw(
    svg: &mut String,
    points: &[(f64, f64)],
    last: u64,
) -> std::result::Result<(), Box<dyn std::error::Error>> {
    let (low, high) = range(points);
    let area = SVGBackend::with_string(svg, SIZE).into_drawing_area();
    area.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&area)
        .margin(8)
        .x_label_area_size(24)
        .y_label_area_size(60)
        .build_cartesian_2d(0.0..last.max(1) as f64, low..high)?;
    chart
        .configure_mesh()
        .light_line_style(WHITE)
        .x_labels(5)
        .y_labels(5)
        .x_label_formatter(&|step| format!("{step:.0}"))
        .y_label_formatter(&|value| number(*value))
        .draw()?;
    chart.draw_series(LineSeries::new(
        points.iter().copied(),
        LINE.stroke_width(1),
    ))?;
    if let [point] = points {
        chart.draw_series([Circle::new(*point, 3, LINE.filled())])?;
    }
    area.present()?;
    Ok(())
}

/// The values that are shown: the outermost hundredths are cut off, so that the first steps, or a
/// stray one, do not press the rest together.
fn range(points: &[(f64, f64)]) -> (f64, f64) {
    let mut sorted: Vec<f64> = points.iter().map(|(_, value)| *value).collect();
    sorted.sort_by(f64::total_cmp);
    let Some(last) = sorted.len().checked_sub(1) else {
        return (0.0, 1.0);
    };
    let (low, high) = (sorted[last / 100], sorted[last - last / 100]);
    let margin = (0.05 * (high - low)).max(1e-3 * high.abs()).max(1e-9);
    (low - margin, high + margin)
}

/// At most [`POINTS`] points, each the mean of a stretch of the curve.
fn thinned(points: &[(u64, f64)]) -> Vec<(f64, f64)> {
    let stretch = points.len().div_ceil(POINTS).max(1);
    let mean = |points: &[(u64, f64)]| {
        let count = points.len() as f64;
        let sum = points.iter().fold((0.0, 0.0), |sum, (step, value)| {
            (sum.0 + *step as f64, sum.1 + value)
        });
        (sum.0 / count, sum.1 / count)
    };
    points.chunks(stretch).map(mean).collect()
}

/// A number in few characters.
pub(super) fn number(value: f64) -> String {
    match value.abs() {
        0.0 => "0".into(),
        size if !(1e-3..1e5).contains(&size) => format!("{value:.1e}"),
        size if size < 10.0 => format!("{value:.4}"),
        _ => format!("{value:.1}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_curves_are_thinned_to_means_and_short_ones_kept() {
        let line: Vec<(u64, f64)> = (1..=10_000).map(|step| (step, 2.0 * step as f64)).collect();
        let thin = thinned(&line);
        assert_eq!(thin.len(), POINTS);
        assert!(thin.iter().all(|(step, value)| *value == 2.0 * step));
        assert_eq!(thinned(&line[..3]), [(1.0, 2.0), (2.0, 4.0), (3.0, 6.0)]);
    }

    #[test]
    fn a_stray_value_does_not_set_the_range() {
        let mut points: Vec<(f64, f64)> = (0..1000).map(|x| (f64::from(x), 1.0)).collect();
        points[0].1 = 1e6;
        let (low, high) = range(&points);
        assert!(low < 1.0 && 1.0 < high && high < 2.0, "{low} {high}");
    }

    #[test]
    fn whatever_the_points_there_is_a_chart() {
        for points in [vec![], vec![(1, 0.0)], vec![(1, 2.0), (2, 2.0)]] {
            let name = "loss".to_string();
            let svg = chart(&Curve { name, points }, 2).unwrap();
            assert!(svg.starts_with("<svg"), "{svg}");
        }
    }
}
