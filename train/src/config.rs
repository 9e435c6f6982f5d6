//! Configuration files: TOML, strict, with defaults.

use std::{fs, path::Path};

use serde::{Serialize, de::DeserializeOwned};
use toml::{Table, Value};

use crate::error::{Error, Result};

/// Reads a configuration from a TOML file and applies `--set` overrides, `key.of.field=value`.
///
/// # Errors
/// A file that cannot be read, a key that does not exist (the nearest one is named), a value of
/// the wrong kind.
pub fn read<C: DeserializeOwned>(path: &Path, overrides: &[String]) -> Result<C> {
    let text = fs::read_to_string(path).map_err(Error::io("read", path))?;
    parse(&text, overrides).map_err(|reason| Error::file(path, reason))
}

/// The configuration as TOML, every default written out.
///
/// # Errors
/// A value that TOML cannot hold.
pub fn resolved<C: Serialize>(config: &C) -> Result<String> {
    toml::to_string(config).map_err(|e| Error::Config(e.to_string()))
}

fn parse<C: DeserializeOwned>(text: &str, overrides: &[String]) -> Result<C, String> {
    if overrides.is_empty() {
        // With the text at hand the message shows the line.
        return toml::from_str(text).map_err(|e| explain(&e));
    }
    let mut table: Table = toml::from_str(text).map_err(|e| explain(&e))?;
    for item in overrides {
        set(&mut table, item)?;
    }
    Value::Table(table).try_into().map_err(|e| explain(&e))
}

/// Sets one `key.of.field=value`; a value that is not TOML is taken as text.
fn set(table: &mut Table, item: &str) -> Result<(), String> {
    let (key, text) = item
        .split_once('=')
        .ok_or_else(|| format!("`--set {item}` is not KEY=VALUE"))?;
    let value = match toml::from_str::<Table>(&format!("value = {text}")) {
        Ok(mut parsed) => parsed.remove("value"),
        Err(_) => None,
    };
    let value = value.unwrap_or_else(|| Value::String(text.to_string()));
    let mut parts: Vec<&str> = key.trim().split('.').collect();
    let last = parts.pop().unwrap_or_default();
    let mut section = table;
    for part in parts {
        let entry = section
            .entry(part)
            .or_insert_with(|| Value::Table(Table::new()));
        section = match entry {
            Value::Table(section) => section,
            Value::Array(_) => {
                return Err(format!(
                    "`--set {item}`: `{part}` is a list, whose parts can be changed in the file only"
                ));
            }
            _ => return Err(format!("`--set {item}`: `{part}` is no section")),
        };
    }
    section.insert(last.to_string(), value);
    Ok(())
}

/// serde's message; where it lists what it had expected, with the nearest of these.
fn explain(error: &toml::de::Error) -> String {
    let text = error.to_string();
    let mut quoted = error.message().split('`').skip(1).step_by(2);
    let nearest = quoted.next().and_then(|found| {
        quoted
            .map(|known| (strsim::jaro_winkler(found, known), known))
            .filter(|(likeness, _)| *likeness > 0.7)
            .max_by(|a, b| a.0.total_cmp(&b.0))
    });
    match nearest {
        Some((_, known)) => format!("{}\ndid you mean `{known}`?", text.trim_end()),
        None => text.trim_end().to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{optimizer::OptimizerConfig, run::RunConfig};
    use serde::Deserialize;

    #[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    struct Config {
        run: RunConfig,
        optimizer: OptimizerConfig,
    }

    fn message(text: &str, overrides: &[&str]) -> String {
        let overrides: Vec<String> = overrides.iter().map(ToString::to_string).collect();
        parse::<Config>(text, &overrides).unwrap_err()
    }

    #[test]
    fn unknown_keys_are_refused_with_a_suggestion() {
        let typo = message("[optimizer]\nlerning_rate = 1.0", &[]);
        assert!(
            typo.contains("line 2") && typo.contains("did you mean `learning_rate`?"),
            "{typo}"
        );
        let typo = message("", &["run.step=3"]);
        assert!(typo.contains("did you mean `steps`?"), "{typo}");
        let typo = message("", &["optimizer.decay=cosin"]);
        assert!(typo.contains("did you mean `cosine`?"), "{typo}");
        assert!(message("", &["run"]).contains("KEY=VALUE"));
        assert!(message("run = 1", &["run.steps=3"]).contains("`run` is no section"));
        let list = message("[[stages]]\nsteps = 1", &["stages.0.steps=3"]);
        assert!(list.contains("in the file"), "{list}");
    }

    /// A letter too many in any key of any section.
    #[test]
    fn every_key_is_suggested() {
        fn check<C: Serialize + DeserializeOwned>(config: &C) {
            let table: Table = toml::from_str(&resolved(config).unwrap()).unwrap();
            for (section, value) in &table {
                let (header, keys) = match value {
                    Value::Table(keys) => (format!("[{section}]"), keys),
                    Value::Array(list) if list.first().is_some_and(Value::is_table) => {
                        (format!("[[{section}]]"), list[0].as_table().unwrap())
                    }
                    _ => (String::new(), &table),
                };
                for key in keys.keys() {
                    let text = format!("{header}\n{key}z = 1");
                    let message = parse::<C>(&text, &[]).err().unwrap();
                    let suggestion = format!("did you mean `{key}`?");
                    assert!(message.contains(&suggestion), "{text}: {message}");
                }
            }
        }
        check(&crate::dit::Recipe::default());
        let stages = "[[stages]]\nsteps = 1\nsize = [8, 8]\nframes = 1\nbatch = 1";
        check(&parse::<crate::vae::VaeTraining>(stages, &[]).unwrap());
    }

    #[test]
    fn overrides_win_and_the_resolved_form_reads_back() {
        let overrides = [
            "run.steps=7",
            "optimizer.decay=cosine",
            "optimizer.betas=[0.5, 0.6]",
        ];
        let overrides = overrides.map(String::from);
        let config: Config = parse("[run]\nsteps = 3\nseed = 2", &overrides).unwrap();
        assert_eq!((config.run.steps, config.run.seed), (7, 2));
        assert_eq!(config.optimizer.betas, [0.5, 0.6]);
        let text = resolved(&config).unwrap();
        assert!(text.contains("eps"), "{text}");
        assert_eq!(parse::<Config>(&text, &[]).unwrap(), config);
    }
}
