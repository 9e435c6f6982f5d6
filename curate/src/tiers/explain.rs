//! A clip's way through the rules, in words.

use std::path::Path;

use super::{Medium, journey};
use crate::{
    Error, Result,
    run::{Plan, Record},
    tables::{self, Row, text},
};

/// Tells the way of the clip or image whose id is, or begins with, `id`: each rule with the value
/// and the threshold, up to the one that stopped it.
///
/// # Errors
/// If the folder holds no finished run, or no clip or more than one fits.
pub fn explain(folder: &Path, id: &str) -> Result<String> {
    let record = Record::open(folder)?;
    let plan = Plan::read(folder)?;
    let (kind, row) = find(&plan, id)?;
    let mut story = String::new();
    let mut line = |text: String| {
        story.push_str(&text);
        story.push('\n');
    };
    line(text(row, "id").to_string());
    line(format!("  of {}", text(row, "source_name")));
    if kind == Medium::Video {
        let value = |name: &str| tables::short(tables::number(row, name).unwrap_or(0.0));
        line(format!("  from {} s to {} s", value("start"), value("end")));
    }
    let tiers = &record.configuration.tiers;
    let steps = journey(tiers, kind, row);
    for tier in tiers.iter().filter(|tier| tier.kind == kind) {
        let steps: Vec<_> = steps.iter().filter(|step| step.tier == tier).collect();
        if steps.is_empty() {
            break;
        }
        line(format!("\n{}", tier.name));
        for step in steps {
            let value = tables::display(
                row.get(&step.rule.column)
                    .unwrap_or(&serde_json::Value::Null),
            );
            let verdict = if step.passed { "passes" } else { "FAILS" };
            line(format!(
                "  {verdict:<7}{:<12}{}: {value}",
                step.rule.stage,
                step.rule.demand()
            ));
        }
    }
    let weight = tables::number(row, "weight").map(tables::short);
    line(match (text(row, "tier"), weight) {
        ("", _) => "\nin no tier".into(),
        (tier, Some(weight)) => format!("\nin tier {tier}, drawn with weight {weight}"),
        (tier, None) => format!("\nin tier {tier}"),
    });
    Ok(story)
}

fn find<'a>(plan: &'a Plan, id: &str) -> Result<(Medium, &'a Row)> {
    let clips = plan.clips.iter().map(|row| (Medium::Video, row));
    let rows = clips.chain(plan.images.iter().map(|row| (Medium::Image, row)));
    let fitting: Vec<_> = rows
        .filter(|(_, row)| text(row, "id").starts_with(id))
        .collect();
    let exact = fitting.iter().find(|(_, row)| text(row, "id") == id);
    match (exact, fitting.as_slice()) {
        (Some(found), _) | (None, [found]) => Ok(*found),
        (None, []) => Err(Error::Request(format!(
            "there is no clip or image `{id}`; the column `id` of the tables has them all"
        ))),
        (None, many) => Err(Error::Request(format!(
            "{} clips begin with `{id}`: {}, …",
            many.len(),
            text(many[0].1, "id")
        ))),
    }
}
