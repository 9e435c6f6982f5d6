//! The page.

use std::{fs, path::Path};

use base64::{Engine, prelude::BASE64_STANDARD};
use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::charts::{chart, number};
use crate::{
    error::{Error, Result},
    run::{Curve, Curves, SAMPLES},
};

/// Skipped steps that are listed, the latest.
const SKIPPED: usize = 20;

const STYLE: &str = "
    body { font: 15px/1.5 sans-serif; color: #333; max-width: 62em; margin: 2em auto; padding: 0 1em }
    figure { display: inline-block; margin: 0 0 1em; width: 30em; vertical-align: top }
    figcaption { font-weight: bold } img, svg { max-width: 100%; height: auto }
    td { padding: .15em 1em .15em 0 } h2 { margin-top: 2em }
    pre { overflow: auto; background: #f6f6f6; padding: 1em }";

pub(super) fn page(folder: &Path, curves: &Curves) -> Result<String> {
    let name = folder.file_name().unwrap_or(folder.as_os_str());
    let title = format!("Training: {}", name.to_string_lossy());
    let config = fs::read_to_string(folder.join("config.toml")).unwrap_or_default();
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                title { (title) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                h1 { (title) }
                p { (curves.last) " steps" }
                h2 { "Steps" }
                (charts(&curves.steps, curves.last)?)
                @if !curves.evaluations.is_empty() {
                    h2 { "Held-out data" }
                    (charts(&curves.evaluations, curves.last)?)
                }
                (skipped(curves))
                (samples(folder)?)
                h2 { "Configuration" }
                pre { (config) }
            }
        }
    };
    Ok(page.into_string())
}

fn charts(curves: &[Curve], last: u64) -> Result<Markup> {
    let drawn = curves.iter().map(|curve| Ok((curve, chart(curve, last)?)));
    let drawn = drawn.collect::<Result<Vec<_>>>()?;
    Ok(html! {
        @for (curve, svg) in drawn {
            figure {
                figcaption {
                    (curve.name)
                    @if let Some((_, value)) = curve.points.last() { ": " (number(*value)) }
                }
                (PreEscaped(svg))
            }
        }
    })
}

fn skipped(curves: &Curves) -> Markup {
    let skipped = &curves.skipped;
    let latest = skipped.iter().rev().take(SKIPPED);
    html! {
        @if !skipped.is_empty() {
            h2 { "Skipped steps: " (skipped.len()) }
            table { @for (step, reason) in latest { tr { td { (step) } td { (reason) } } } }
        }
    }
}

/// The contact sheets, the latest first.
fn samples(folder: &Path) -> Result<Markup> {
    let all = folder.join(SAMPLES);
    let Ok(entries) = fs::read_dir(&all) else {
        return Ok(html! {});
    };
    let mut sheets = Vec::new();
    for entry in entries {
        let folder = entry.map_err(Error::io("read", &all))?.path();
        // A folder without one is of samples that could not be made.
        if let Ok(png) = fs::read(folder.join("sheet.png")) {
            let name = folder.file_name().unwrap_or_default();
            let address = format!("data:image/png;base64,{}", BASE64_STANDARD.encode(png));
            sheets.push((name.to_string_lossy().into_owned(), address));
        }
    }
    sheets.sort_unstable_by(|a, b| b.0.cmp(&a.0));
    Ok(html! {
        @if !sheets.is_empty() { h2 { "Samples" } }
        @for (name, address) in &sheets { h3 { (name) } img src=(address) alt=(name); }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_one_file_and_what_others_wrote_is_escaped() {
        let folder = tempfile::tempdir().unwrap();
        let run = folder.path().join("<b>");
        let samples = run.join("samples/step-00000020");
        fs::create_dir_all(&samples).unwrap();
        fs::write(samples.join("sheet.png"), b"PNG").unwrap();
        fs::create_dir(run.join("samples/step-00000040")).unwrap();
        fs::write(run.join("config.toml"), "prompts = [\"<script>\"]").unwrap();
        let curve = |name: &str| Curve {
            name: name.into(),
            points: vec![(1, 3.0), (20, 0.125)],
        };
        let curves = Curves {
            steps: vec![curve("loss"), curve("grad_norm")],
            evaluations: vec![curve("psnr")],
            skipped: vec![(7, "loss is NaN".into())],
            last: 20,
        };
        let page = page(&run, &curves).unwrap();
        for part in [
            "loss: 0.1250",
            "grad_norm",
            "psnr",
            "loss is NaN",
            "step-00000020",
            "base64,UE5H",
            "&lt;script&gt;",
        ] {
            assert!(page.contains(part), "no {part} in {page}");
        }
        assert_eq!(page.matches("<svg").count(), 3);
        for foreign in ["<script", "<b>", "step-00000040", "href=", "src=\"http"] {
            assert!(!page.contains(foreign), "{foreign} in {page}");
        }
    }
}
