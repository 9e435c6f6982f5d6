//! What is known of a source beside its pictures.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Date;
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

    fn parse(path: &Path, text: &str) -> Result<Self> {
        let parsed = if path
            .extension()
            .is_some_and(|extension| extension == "json")
        {
            serde_json::from_str(text).map_err(|error| error.to_string())
        } else {
            toml::from_str(text).map_err(|error| error.to_string())
        };
        parsed.map_err(|problem| Error::Unusable {
            path: path.into(),
            problem: config::with_suggestion(&problem),
        })
    }
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
        ] {
            fs::write(folder.path().join("film.json"), text).unwrap();
            let error = Sidecar::of(&film).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }
}
