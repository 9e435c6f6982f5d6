//! The page.

use std::{collections::BTreeMap, fs, path::Path};

use base64::{Engine, prelude::BASE64_STANDARD};
use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::charts;
use crate::{
    Result,
    run::{Plan, Record},
    tables::{Row, number, text},
    tiers::{Medium, Tier, funnel},
};

/// Thumbnails shown of each tier and of each reason.
const SHOWN: usize = 12;

const STYLE: &str = "
    body { font: 15px/1.5 sans-serif; color: #333; max-width: 60em; margin: 2em auto; padding: 0 1em }
    table { border-collapse: collapse } td, th { padding: .15em 1em .15em 0; text-align: left }
    figure { display: inline-block; margin: 0 .5em 1em 0; width: 192px; vertical-align: top }
    figcaption { font-size: 11px; line-height: 1.3; overflow-wrap: anywhere }
    img { max-width: 192px; max-height: 192px } svg { max-width: 100%; height: auto }
    h2 { margin-top: 2em } pre { overflow: auto; background: #f6f6f6; padding: 1em }";

pub(super) fn page(folder: &Path, record: &Record, plan: &Plan) -> Result<String> {
    let tiers = &record.configuration.tiers;
    let kinds = [
        ("Clips", Medium::Video, &plan.clips),
        ("Images", Medium::Image, &plan.images),
    ];
    let mut sections = Vec::new();
    for (title, kind, rows) in kinds {
        if !rows.is_empty() {
            let tiers: Vec<&Tier> = tiers.iter().filter(|tier| tier.kind == kind).collect();
            sections.push(html! {
                h1 { (title) }
                (sieves(tiers.as_slice(), kind, rows)?)
                (histograms(&tiers, rows)?)
                (clusters(rows)?)
                (galleries(folder, &tiers, rows))
            });
        }
    }
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                title { "Curation report" }
                style { (PreEscaped(STYLE)) }
            }
            body {
                (sources(plan))
                @for section in &sections { (section) }
                h2 { "Configuration" }
                p { "burn-hunyuan " (record.version) "; " (record.ffmpeg) }
                pre { (toml::to_string(&record.configuration).unwrap_or_default()) }
            }
        }
    };
    Ok(page.into_string())
}

fn sources(plan: &Plan) -> Markup {
    let seconds: f64 = plan
        .sources
        .iter()
        .filter_map(|row| number(row, "seconds"))
        .sum();
    let faulty: Vec<&Row> = plan
        .sources
        .iter()
        .filter(|row| !text(row, "error").is_empty())
        .collect();
    let copies = plan
        .sources
        .iter()
        .filter(|row| !text(row, "identical_to").is_empty())
        .count();
    html! {
        h1 { "Sources" }
        p {
            (plan.sources.len()) " files, " (copies) " of them copies of another; "
            (format!("{:.1}", seconds / 60.0)) " minutes of footage; " (plan.clips.len()) " clips and "
            (plan.images.len()) " images."
        }
        @if !faulty.is_empty() {
            h2 { "Files with errors" }
            table {
                @for row in faulty { tr { td { (text(row, "name")) } td { (text(row, "error")) } } }
            }
        }
    }
}

fn sieves(tiers: &[&Tier], kind: Medium, rows: &[Row]) -> Result<Markup> {
    let tiers: Vec<Tier> = tiers.iter().map(|tier| (*tier).clone()).collect();
    let chart = charts::funnel(&funnel(&tiers, kind, rows))?;
    Ok(html! { h2 { "What each stage left" } (PreEscaped(chart)) })
}

/// A histogram of every column on which a rule sets bounds.
fn histograms(tiers: &[&Tier], rows: &[Row]) -> Result<Markup> {
    let mut limits = BTreeMap::<&str, Vec<(String, f64)>>::new();
    for tier in tiers {
        for rule in &tier.rules {
            for limit in [rule.min, rule.max].into_iter().flatten() {
                limits
                    .entry(&rule.column)
                    .or_default()
                    .push((tier.name.clone(), limit));
            }
        }
    }
    let mut charts = Vec::new();
    for (column, limits) in limits {
        let values: Vec<f64> = rows.iter().filter_map(|row| number(row, column)).collect();
        if !values.is_empty() {
            charts.push((column, charts::histogram(&values, &limits)?));
        }
    }
    Ok(html! {
        h2 { "Values and thresholds" }
        @for (column, chart) in charts { h3 { (column) } (PreEscaped(chart)) }
    })
}

fn clusters(rows: &[Row]) -> Result<Markup> {
    let mut sizes = BTreeMap::<u64, usize>::new();
    for cluster in rows.iter().filter_map(|row| row.get("cluster")?.as_u64()) {
        *sizes.entry(cluster).or_default() += 1;
    }
    let chart = charts::sizes(sizes.into_values().collect())?;
    Ok(html! { h2 { "Sizes of the concepts" } (PreEscaped(chart)) })
}

/// Some of what each tier keeps, and of what each of its rules rejects.
fn galleries(folder: &Path, tiers: &[&Tier], rows: &[Row]) -> Markup {
    // By the number of tiers passed before.
    let mut rejected = BTreeMap::<(usize, &str, &str), Vec<&Row>>::new();
    for row in rows.iter().filter(|row| !text(row, "reason").is_empty()) {
        let column = text(row, "reason").split(' ').next().unwrap_or_default();
        let highest = tiers.iter().position(|tier| tier.name == text(row, "tier"));
        let passed = highest.map_or(0, |highest| highest + 1);
        let rule = (passed, text(row, "stage"), column);
        rejected.entry(rule).or_default().push(row);
    }
    html! {
        @for tier in tiers {
            @let kept: Vec<&Row> = rows.iter().filter(|row| text(row, "tier") == tier.name).collect();
            @if !kept.is_empty() {
                h2 { "Kept for " (tier.name) ": " (kept.len()) }
                (gallery(folder, &kept))
            }
        }
        @for ((passed, stage, column), rows) in &rejected {
            @let tier = tiers.get(*passed).map_or("", |tier| &tier.name);
            h2 { "Rejected from " (tier) ": " (stage) ", " (column) ": " (rows.len()) }
            (gallery(folder, rows))
        }
    }
}

fn gallery(folder: &Path, rows: &[&Row]) -> Markup {
    html! {
        @for row in rows.iter().take(SHOWN) {
            figure {
                @if let Some(address) = thumbnail(folder, text(row, "id")) { img src=(address) alt=""; }
                figcaption { (text(row, "id")) br; (text(row, "reason")) }
            }
        }
    }
}

/// A thumbnail as a data URI; none where its file is gone.
fn thumbnail(folder: &Path, id: &str) -> Option<String> {
    let jpeg = fs::read(folder.join("thumbnails").join(format!("{id}.jpg"))).ok()?;
    Some(format!(
        "data:image/jpeg;base64,{}",
        BASE64_STANDARD.encode(jpeg)
    ))
}
