//! What the configuration of a resumed run changes.

use std::collections::{BTreeMap, BTreeSet};

use toml::{Table, Value};

/// Sections and fields that a run keeps: what its weights mean depends on them.
const KEPT: [&str; 4] = ["model", "lora.rank", "lora.alpha", "lora.targets"];

/// But for these, which trade time for memory.
const FREE: [&str; 1] = ["model.recompute"];

/// A line for each field that differs between two configurations in TOML, `FIELD: BEFORE -> AFTER`.
///
/// A field that only one of them has is `none` in the other; it comes from another version of the
/// program, or may be left out.
///
/// # Errors
/// A text that is no TOML; a change of what a run keeps. Both in words.
pub(super) fn between(before: &str, after: &str) -> Result<Vec<String>, String> {
    let [before, after] = [before, after].map(fields);
    let (before, after) = (before?, after?);
    let shown = |value: Option<&Value>| value.map_or("none".into(), Value::to_string);
    let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let (mut lines, mut refused) = (Vec::new(), Vec::new());
    for name in names {
        let (before, after) = (before.get(name), after.get(name));
        if before == after {
            continue;
        }
        let line = format!("{name}: {} -> {}", shown(before), shown(after));
        match is_kept(name) && before.is_some() && after.is_some() {
            true => refused.push(line),
            false => lines.push(line),
        }
    }
    match refused.is_empty() {
        true => Ok(lines),
        false => Err(format!(
            "a run keeps its model, without which its weights mean nothing, but now {}; leave it as \
             this file has it, or begin another run; where only a path has moved, correct it in this \
             file",
            refused.join(", ")
        )),
    }
}

fn is_kept(name: &str) -> bool {
    let within = |kept: &&str| {
        let rest = name.strip_prefix(*kept);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    KEPT.iter().any(within) && !FREE.contains(&name)
}

/// All fields by their names, `section.field` and `list.0.field`.
fn fields(text: &str) -> Result<BTreeMap<String, Value>, String> {
    let table: Table = toml::from_str(text).map_err(|e| e.to_string())?;
    let mut fields = BTreeMap::new();
    for (name, value) in table {
        flatten(name, value, &mut fields);
    }
    Ok(fields)
}

fn flatten(name: String, value: Value, fields: &mut BTreeMap<String, Value>) {
    match value {
        Value::Table(table) => {
            for (key, value) in table {
                flatten(format!("{name}.{key}"), value, fields);
            }
        }
        Value::Array(list) if list.iter().any(Value::is_table) => {
            for (i, value) in list.into_iter().enumerate() {
                flatten(format!("{name}.{i}"), value, fields);
            }
        }
        value => {
            fields.insert(name, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_changed_field_is_named() {
        let before = "shards = \"a\"\n[run]\nsteps = 5\nseed = 1\n[optimizer]\n\
                      learning_rate = 1e-4\nbetas = [0.9, 0.95]\nold = true\n\
                      [[stages]]\nsteps = 2\n[[stages]]\nsteps = 3\n\
                      [model]\nsizes = \"tiny\"\nrecompute = true";
        let after = before
            .replace("\"a\"", "\"b\"")
            .replace("1e-4", "5e-5")
            .replace("0.95", "0.99")
            .replace("old = true", "new = 2")
            .replace("steps = 3", "steps = 4")
            .replace("recompute = true", "recompute = false\ndtype = \"f32\"");
        let lines = between(before, &after).unwrap();
        assert_eq!(
            lines,
            [
                "model.dtype: none -> \"f32\"",
                "model.recompute: true -> false",
                "optimizer.betas: [0.9, 0.95] -> [0.9, 0.99]",
                "optimizer.learning_rate: 0.0001 -> 0.00005",
                "optimizer.new: none -> 2",
                "optimizer.old: true -> none",
                "shards: \"a\" -> \"b\"",
                "stages.1.steps: 3 -> 4",
            ]
        );
        assert!(between(before, before).unwrap().is_empty());
    }

    #[test]
    fn what_the_weights_mean_is_kept() {
        let config = "[model]\nsizes = \"tiny\"\n[lora]\nrank = 4\nalpha = 4.0\n\
                      targets = [\"q\"]\n[run]\nsteps = 1";
        for (from, to, field) in [
            ("tiny", "13b", "model.sizes: \"tiny\" -> \"13b\""),
            ("rank = 4", "rank = 8", "lora.rank: 4 -> 8"),
            ("alpha = 4.0", "alpha = 8.0", "lora.alpha: 4.0 -> 8.0"),
            (
                "\"q\"",
                "\"q\", \"k\"",
                "lora.targets: [\"q\"] -> [\"q\", \"k\"]",
            ),
        ] {
            let after = config.replace(from, to).replace("steps = 1", "steps = 2");
            let message = between(config, &after).unwrap_err();
            assert!(message.contains(field), "{message}");
            assert!(!message.contains("run.steps"), "{message}");
        }
        assert!(between("[model", config).is_err());
    }
}
