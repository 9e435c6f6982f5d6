//! What is known of a source beside its pictures.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Date, scrub, scrub_value};
use crate::{Error, Result, config};

/// The file beside a source: `film.mp4` is described by `film.mp4.json`, `film.mp4.toml`,
/// `film.json` or `film.toml`, the first that is there.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Sidecar {
    /// What the owner calls the source: a contract, an archive number, a person's case. Sources may
    /// share one; `erase` and `export-source` find them by it.
    pub id: Option<String>,
    /// The licence, best as an SPDX identifier: `CC-BY-4.0`.
    pub licence: Option<String>,
    /// Whether those who are seen agreed.
    pub consent: Option<bool>,
    /// The last day on which the source may be held.
    pub retention: Option<Date>,
    /// What is seen.
    pub caption: Option<String>,
    /// Whatever else came with the source.
    pub metadata: BTreeMap<String, Value>,
}

impl Sidecar {
    /// Reads the sidecar of a source; an empty one where there is none.
    ///
    /// # Errors
    /// If there is one and it cannot be read: a wish that is not understood must not be passed over.
    pub fn of(source: &Path) -> Result<Self> {
        for path in Self::places(source) {
            match fs::read_to_string(&path) {
                Ok(text) => return Self::parse(&path, &text),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(source) => {
                    let action = "read";
                    return Err(Error::File {
                        action,
                        path,
                        source,
                    });
                }
            }
        }
        Ok(Self::default())
    }

    /// Where the sidecar of a source may be, in the order of preference.
    fn places(source: &Path) -> [PathBuf; 4] {
        let beside = |extension: &str| {
            let mut name = source.as_os_str().to_owned();
            name.push(extension);
            PathBuf::from(name)
        };
        [
            beside(".json"),
            beside(".toml"),
            source.with_extension("json"),
            source.with_extension("toml"),
        ]
    }

    /// Without e-mail addresses, phone numbers, account numbers and positions in caption and metadata;
    /// see [`scrub`].
    pub fn scrubbed(self) -> Self {
        let metadata = Value::Object(self.metadata.into_iter().collect());
        let metadata = match scrub_value(&metadata) {
            Value::Object(fields) => fields.into_iter().collect(),
            _ => BTreeMap::new(),
        };
        let caption = self.caption.as_deref().map(scrub);
        Self {
            caption,
            metadata,
            ..self
        }
    }

    fn parse(path: &Path, text: &str) -> Result<Self> {
        // Some editors begin files with a byte order mark.
        let text = text.trim_start_matches('\u{feff}');
        let parsed = match path.extension() {
            Some(extension) if extension == "json" => from_json(text),
            _ => from_toml(text),
        };
        parsed.map_err(|(place, problem)| Error::Sidecar {
            path: path.into(),
            place,
            problem: config::with_suggestion(&problem),
        })
    }
}

/// What is wrong with a sidecar: where and of what kind, and in the parser's words.
type Fault = (String, String);

fn from_json(text: &str) -> Result<Sidecar, Fault> {
    serde_json::from_str(text).map_err(|error| {
        let well_formed = error.classify() == serde_json::error::Category::Data;
        let place = place(error.line(), error.column(), "JSON", well_formed);
        (place, error.to_string())
    })
}

fn from_toml(text: &str) -> Result<Sidecar, Fault> {
    toml::from_str(text).map_err(|error: toml::de::Error| {
        let start = error.span().map_or(0, |span| span.start);
        let before = text.get(..start).unwrap_or_default();
        let column = before.chars().rev().take_while(|c| *c != '\n').count();
        let well_formed = text.parse::<toml::Table>().is_ok();
        let line = before.matches('\n').count();
        let place = place(line + 1, column + 1, "TOML", well_formed);
        (place, error.to_string())
    })
}

fn place(line: usize, column: usize, notation: &str, well_formed: bool) -> String {
    let kind = match well_formed {
        true => "a key or a value that sidecars do not have".into(),
        false => format!("not {notation}"),
    };
    format!("line {line}, column {column}: {kind}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_notations_say_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let film = folder.path().join("film.mp4");
        assert_eq!(Sidecar::of(&film).unwrap(), Sidecar::default());
        let toml = "licence = 'CC0-1.0'\nconsent = true\nretention = '2027-01-31'\n\
                    [metadata]\ncamera = 'B'\n";
        fs::write(folder.path().join("film.toml"), toml).unwrap();
        let from_toml = Sidecar::of(&film).unwrap();
        let json = r#"{"licence": "CC0-1.0", "consent": true, "retention": "2027-01-31",
                       "metadata": {"camera": "B"}}"#;
        fs::write(folder.path().join("film.mp4.json"), json).unwrap();
        assert_eq!(Sidecar::of(&film).unwrap(), from_toml);
        assert_eq!(from_toml.licence.as_deref(), Some("CC0-1.0"));
        assert_eq!(from_toml.retention, Some("2027-01-31".parse().unwrap()));
        // With a byte order mark, and with TOML's own dates.
        fs::write(
            folder.path().join("film.mp4.json"),
            format!("\u{feff}{json}"),
        )
        .unwrap();
        assert_eq!(Sidecar::of(&film).unwrap(), from_toml);
        fs::remove_file(folder.path().join("film.mp4.json")).unwrap();
        let bare = toml.replace("'2027-01-31'", "2027-01-31");
        fs::write(folder.path().join("film.toml"), bare).unwrap();
        assert_eq!(Sidecar::of(&film).unwrap(), from_toml);
    }

    /// The place is for tables, which must not repeat what stands there.
    #[test]
    fn the_place_of_a_fault_says_nothing_of_the_content() {
        let folder = tempfile::tempdir().unwrap();
        let film = folder.path().join("film.mp4");
        for (name, text, expected) in [
            (
                "film.json",
                r#"{"jane@example.com": 1}"#,
                "line 1, column 19: a key or",
            ),
            (
                "film.json",
                r#"{"consent": "+49 30 1234567"}"#,
                "line 1, column 28: a key or",
            ),
            (
                "film.json",
                r#"{"caption": jane"#,
                "line 1, column 13: not JSON",
            ),
            (
                "film.toml",
                "licence = 'MIT'\njane = 1",
                "line 2, column 1: a key or",
            ),
            (
                "film.toml",
                "id = 'x'\n\nconsent = 'jane'",
                "line 3, column 11: a key or",
            ),
            ("film.toml", "caption = jane", "line 1, column 11: not TOML"),
        ] {
            fs::write(folder.path().join(name), text).unwrap();
            let error = Sidecar::of(&film).unwrap_err();
            let told = error.without_path(&film, "");
            assert!(told.starts_with(expected), "{told}");
            assert!(
                !told.contains("jane") && !told.contains("1234567"),
                "{told}"
            );
            fs::remove_file(folder.path().join(name)).unwrap();
        }
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let film = folder.path().join("film.mp4");
        for (text, part) in [
            (r#"{"license": "MIT"}"#, "did you mean `licence`?"),
            (r#"{"retention": "soon"}"#, "YYYY-MM-DD"),
            (r#"{"consent": "yes"}"#, "boolean"),
            ("[", "film.json"),
            (r#"{"jane": 1}"#, "line 1, column 7: a key or a value"),
            ("{\n  \"id\": 1,\n}", "line 2, column 9: a key or a value"),
            ("{\n  \"id\":", "line 2, column 7: not JSON"),
        ] {
            fs::write(folder.path().join("film.json"), text).unwrap();
            let error = Sidecar::of(&film).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }
}
