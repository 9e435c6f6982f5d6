//! Charts as SVG.

use plotters::{
    coord::Shift,
    prelude::*,
    style::text_anchor::{HPos, Pos, VPos},
};

use crate::{Error, Result, tables::short, tiers::Sieve};

/// Width of every chart in pixels.
const WIDTH: u32 = 720;

const BAR: RGBColor = RGBColor(0x4c, 0x78, 0xa8);
const LOST: RGBColor = RGBColor(0xe4, 0xe4, 0xe4);
const LIMIT: RGBColor = RGBColor(0xc2, 0x3b, 0x22);
const TEXT: RGBColor = RGBColor(0x33, 0x33, 0x33);

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Drawn = std::result::Result<(), Box<dyn std::error::Error>>;

/// Draws on a white canvas.
fn svg(height: u32, draw: impl FnOnce(&Area) -> Drawn) -> Result<String> {
    let mut text = String::new();
    let drawn = {
        let area = SVGBackend::with_string(&mut text, (WIDTH, height)).into_drawing_area();
        let drawn = area
            .fill(&WHITE)
            .map_err(Into::into)
            .and_then(|()| draw(&area));
        drawn.and_then(|()| area.present().map_err(Into::into))
    };
    drawn.map_err(|error| Error::Request(format!("a chart cannot be drawn: {error}")))?;
    Ok(text)
}

fn style(size: i32, color: RGBColor, from: HPos) -> TextStyle<'static> {
    ("sans-serif", size)
        .into_font()
        .color(&color)
        .pos(Pos::new(from, VPos::Center))
}

/// The funnel: a bar for each stage, as long as what it left, beside what came to it.
///
/// # Errors
/// If it cannot be drawn.
pub fn funnel(sieves: &[Sieve]) -> Result<String> {
    const ROW: i32 = 22;
    const LEFT: i32 = 210;
    const LENGTH: f64 = 400.0;
    let all = sieves.first().map_or(1, |sieve| sieve.before.max(1));
    svg(sieves.len() as u32 * ROW as u32 + 10, |area| {
        let length = |count: usize| (count as f64 / all as f64 * LENGTH).round() as i32;
        let mut tier = "";
        for (sieve, row) in sieves.iter().zip(0..) {
            let top = 5 + row * ROW;
            let middle = top + ROW / 2;
            let bar = |to: i32| [(LEFT, top + 3), (LEFT + to, top + ROW - 3)];
            area.draw(&Rectangle::new(bar(length(sieve.before)), LOST.filled()))?;
            area.draw(&Rectangle::new(bar(length(sieve.after)), BAR.filled()))?;
            if tier != sieve.tier {
                tier = &sieve.tier;
                area.draw(&Text::new(
                    tier.to_string(),
                    (6, middle),
                    style(14, TEXT, HPos::Left),
                ))?;
            }
            let stage = style(13, TEXT, HPos::Right);
            area.draw(&Text::new(sieve.stage.clone(), (LEFT - 8, middle), stage))?;
            let lost = sieve.before - sieve.after;
            let count = match lost {
                0 => sieve.after.to_string(),
                lost => format!("{} (−{lost})", sieve.after),
            };
            let place = (LEFT + length(sieve.before) + 8, middle);
            area.draw(&Text::new(count, place, style(13, TEXT, HPos::Left)))?;
        }
        Ok(())
    })
}

/// Bars of a histogram.
const BINS: usize = 60;

/// How often each value occurs, with the thresholds and the tiers that set them drawn in. The
/// outermost bars hold the outermost hundredths of the values, so that a stray one does not press
/// the rest together.
///
/// # Errors
/// If it cannot be drawn.
pub(super) fn histogram(values: &[f64], limits: &[(String, f64)]) -> Result<String> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let quantile = |share: f64| sorted[((sorted.len() - 1) as f64 * share).round() as usize];
    let marks = || limits.iter().map(|(_, limit)| *limit);
    let low = marks().fold(quantile(0.01), f64::min);
    let high = marks().fold(quantile(0.99), f64::max);
    let margin = ((high - low) * 0.02).max(1e-6);
    let (low, high) = (low - margin, high + margin);
    let mut counts = [0_u32; BINS];
    for value in values {
        // Saturates at both ends.
        let bin = ((value - low) / (high - low) * BINS as f64) as usize;
        counts[bin.min(BINS - 1)] += 1;
    }
    let most = counts.iter().copied().max().unwrap_or(1);
    svg(190, |area| {
        let mut chart = ChartBuilder::on(area)
            .margin(8)
            .x_label_area_size(24)
            .y_label_area_size(44)
            .build_cartesian_2d(low..high, 0..most + most / 6 + 1)?;
        chart
            .configure_mesh()
            .disable_x_mesh()
            .light_line_style(WHITE)
            .y_labels(4)
            .x_label_formatter(&|value| short(*value))
            .draw()?;
        let edge = |bin: usize| low + (high - low) * bin as f64 / BINS as f64;
        chart.draw_series(counts.iter().enumerate().map(|(bin, &count)| {
            Rectangle::new([(edge(bin), 0), (edge(bin + 1), count)], BAR.filled())
        }))?;
        let top = most + most / 6 + 1;
        for (tier, limit) in limits {
            let line = [(*limit, 0), (*limit, top)];
            chart.draw_series(LineSeries::new(line, LIMIT.stroke_width(2)))?;
            let label = Text::new(
                format!(" {tier}"),
                (*limit, top - top / 12),
                style(12, LIMIT, HPos::Left),
            );
            chart.draw_series([label])?;
        }
        Ok(())
    })
}

/// The sizes of clusters, the largest first.
///
/// # Errors
/// If it cannot be drawn.
pub(super) fn sizes(mut sizes: Vec<usize>) -> Result<String> {
    sizes.sort_unstable_by(|a, b| b.cmp(a));
    let most = sizes.first().copied().unwrap_or(1);
    svg(190, |area| {
        let mut chart = ChartBuilder::on(area)
            .margin(8)
            .x_label_area_size(24)
            .y_label_area_size(44)
            .build_cartesian_2d(0.0..sizes.len() as f64, 0..most + 1)?;
        chart
            .configure_mesh()
            .disable_x_mesh()
            .light_line_style(WHITE)
            .y_labels(4)
            .x_label_formatter(&|value| short(*value))
            .draw()?;
        chart.draw_series(sizes.iter().enumerate().map(|(place, &size)| {
            let place = place as f64;
            Rectangle::new([(place, 0), (place + 1.0, size)], BAR.filled())
        }))?;
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_funnel_names_every_stage_and_escapes_it() {
        let sieve = |stage: &str, before, after| Sieve {
            tier: "a<b".into(),
            stage: stage.into(),
            before,
            after,
        };
        let svg = funnel(&[sieve("length", 10, 8), sieve("<script>", 8, 8)]).unwrap();
        for part in ["length", "8 (−2)", "a&lt;b", "&lt;script&gt;"] {
            assert!(svg.contains(part), "no {part} in {svg}");
        }
        assert!(!svg.contains("<script>"));
        assert_eq!(svg.matches("a&lt;b").count(), 1, "a tier is named once");
        funnel(&[]).unwrap();
    }

    #[test]
    fn histograms_show_their_limits() {
        let values: Vec<f64> = (0..1000).map(|n| f64::from(n) / 100.0).collect();
        let limits = [("256p".to_string(), 2.5), ("far".to_string(), 50.0)];
        let svg = histogram(&values, &limits).unwrap();
        assert!(svg.contains("256p") && svg.contains("far"));
        for few in [&values[..1], &[0.0; 7]] {
            histogram(few, &[]).unwrap();
        }
        assert!(sizes(vec![3, 9, 1]).unwrap().contains("svg"));
    }
}
