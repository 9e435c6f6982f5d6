//! Files in, sources out: found, hashed, described.

use std::{
    fs::{self, File},
    io::{self, Read},
    ops::ControlFlow,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::fault::guarded;
use crate::{
    Error, Result,
    privacy::{self, Date, Pseudonyms, Sidecar},
    tiers::Medium,
};

/// Extensions by which videos are found in folders. A file named on the command line is taken
/// whatever it is called.
const VIDEOS: [&str; 18] = [
    "mp4", "m4v", "mov", "mkv", "webm", "avi", "mpg", "mpeg", "ts", "m2ts", "mts", "wmv", "flv",
    "ogv", "3gp", "mxf", "vob", "gif",
];

/// Extensions of images.
const IMAGES: [&str; 4] = ["png", "jpg", "jpeg", "webp"];

/// Digits of a file's SHA-256 that name it within a run.
const ID_DIGITS: usize = 16;

/// One file of the input. `sources.parquet` has a row for each.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Source {
    /// The first 16 digits of the file's SHA-256: identical files are one source under many names.
    pub id: String,
    /// The file's path as it was given, or its pseudonym.
    pub name: String,
    /// Clips or an image.
    pub kind: Medium,
    /// SHA-256 of the file; none where it cannot be read.
    pub sha256: Option<String>,
    /// Its size.
    pub bytes: Option<u64>,
    /// The owner's id from the sidecar, or its pseudonym.
    pub origin: Option<String>,
    /// From the sidecar.
    pub licence: Option<String>,
    /// From the sidecar.
    pub consent: Option<bool>,
    /// From the sidecar.
    pub retention: Option<Date>,
    /// Whether the retention date lies before the day of the run.
    pub expired: bool,
    /// From the sidecar, scrubbed.
    pub caption: Option<String>,
    /// From the sidecar, scrubbed, as JSON.
    pub metadata: Option<String>,
    /// Why it cannot be used.
    pub error: Option<String>,
}

/// A source with the place of its file, which no table holds.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// The row.
    pub source: Source,
    /// The file.
    pub path: PathBuf,
}

/// The files that `inputs` stand for, in order, each once: files, folders with all that is in them,
/// and lists (`.txt`, one path a line, relative to the list; `#` begins a comment).
///
/// Within folders, files are taken by their extension; hidden ones, linked folders and what lies in
/// `output` are passed over.
///
/// # Errors
/// If an input does not exist or a folder or list cannot be read.
pub fn list(inputs: &[PathBuf], output: &Path) -> Result<Vec<PathBuf>> {
    let output = fs::canonicalize(output).ok();
    let mut files = Vec::new();
    for input in inputs {
        let metadata = fs::metadata(input).map_err(|source| failed(input, source))?;
        if metadata.is_dir() {
            walk(input, output.as_deref(), &mut files)?;
        } else if has_extension(input, &["txt"]) {
            let text = fs::read_to_string(input).map_err(|source| failed(input, source))?;
            let lines = text.lines().map(str::trim);
            let lines = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
            files.extend(lines.map(|line| input.with_file_name("").join(line)));
        } else {
            files.push(input.clone());
        }
    }
    files.sort();
    files.dedup();
    Ok(files)
}

fn failed(path: &Path, source: io::Error) -> Error {
    Error::File {
        action: "read",
        path: path.into(),
        source,
    }
}

fn walk(folder: &Path, output: Option<&Path>, files: &mut Vec<PathBuf>) -> Result<()> {
    if output.is_some_and(|output| fs::canonicalize(folder).is_ok_and(|folder| folder == output)) {
        return Ok(());
    }
    for entry in fs::read_dir(folder).map_err(|source| failed(folder, source))? {
        let entry = entry.map_err(|source| failed(folder, source))?;
        let path = entry.path();
        // Of the entry itself, so that a link to a folder above does not lead round in circles.
        let kind = entry.file_type().map_err(|source| failed(&path, source))?;
        if entry.file_name().as_encoded_bytes().starts_with(b".") {
            continue;
        }
        if kind.is_dir() {
            walk(&path, output, files)?;
        } else if has_extension(&path, &VIDEOS) || has_extension(&path, &IMAGES) {
            files.push(path);
        }
    }
    Ok(())
}

fn has_extension(path: &Path, extensions: &[&str]) -> bool {
    let extension = path.extension().unwrap_or_default().to_string_lossy();
    extensions
        .iter()
        .any(|known| extension.eq_ignore_ascii_case(known))
}

/// Reads files into rows.
pub struct Ingest {
    scrub: bool,
    pseudonyms: Option<Pseudonyms>,
    today: Date,
}

impl Ingest {
    /// Prepares by the run's configuration.
    ///
    /// # Errors
    /// If the pseudonyms' key cannot be read.
    pub fn new(config: &privacy::Config) -> Result<Self> {
        let key = config.pseudonym_key.as_deref();
        Ok(Self {
            scrub: config.scrub,
            pseudonyms: key.map(Pseudonyms::open).transpose()?,
            today: config.date.unwrap_or_else(Date::today),
        })
    }

    /// The row of a file. What is wrong with it stands in the row. `read` hears of every part read,
    /// in bytes, and can stop the reading.
    ///
    /// # Errors
    /// Only [`Error::Interrupted`], where `read` breaks.
    pub fn source(&self, path: &Path, read: impl Fn(u64) -> ControlFlow<()>) -> Result<Found> {
        let hashed = match guarded(path, || sha256(path, read)) {
            Err(Error::Interrupted) => return Err(Error::Interrupted),
            hashed => hashed,
        };
        let sidecar = guarded(path, || {
            let sidecar = Sidecar::of(path)?;
            Ok(if self.scrub {
                sidecar.scrubbed()
            } else {
                sidecar
            })
        });
        if let Err(error) = &sidecar {
            // What it says is for who runs this, not for the tables.
            tracing::warn!("{error}");
        }
        let name = path.to_string_lossy();
        let pseudonym = |name: &str| match &self.pseudonyms {
            Some(pseudonyms) => pseudonyms.of(name),
            None => name.to_string(),
        };
        let told = |error: &Error| error.without_path(path, &pseudonym(&name));
        let error = match (&hashed, &sidecar) {
            (Err(error), _) => Some(told(error)),
            (_, Err(error)) => Some(format!("its sidecar: {}", told(error))),
            _ => None,
        };
        let (sha256, bytes) = hashed.ok().unzip();
        let sidecar = sidecar.unwrap_or_default();
        let id = match &sha256 {
            Some(sha256) => sha256[..ID_DIGITS].to_string(),
            None => unread_id(&pseudonym(&name)),
        };
        let metadata = (!sidecar.metadata.is_empty()).then(|| {
            let metadata = sidecar.metadata.into_iter().collect();
            serde_json::Value::Object(metadata).to_string()
        });
        let source = Source {
            id,
            kind: match has_extension(path, &IMAGES) {
                true => Medium::Image,
                false => Medium::Video,
            },
            sha256,
            bytes,
            origin: sidecar.id.map(|id| pseudonym(&id)),
            licence: sidecar.licence,
            consent: sidecar.consent,
            retention: sidecar.retention,
            expired: sidecar.retention.is_some_and(|last| last < self.today),
            caption: sidecar.caption,
            metadata,
            error,
            name: pseudonym(&name),
        };
        let path = path.into();
        Ok(Found { source, path })
    }
}

/// The id of a file that could not be read: by its name in the tables.
pub(super) fn unread_id(name: &str) -> String {
    super::hex(&Sha256::digest(name))[..ID_DIGITS].to_string()
}

/// SHA-256 of a file, and its size. `read` hears of the bytes read since it was last called, and can
/// stop the work.
///
/// # Errors
/// A file that cannot be read, or is none; a stop.
pub(crate) fn sha256(path: &Path, read: impl Fn(u64) -> ControlFlow<()>) -> Result<(String, u64)> {
    // Opening a pipe would wait for its writer.
    let regular = fs::metadata(path).map(|metadata| metadata.is_file());
    if !regular.map_err(|source| failed(path, source))? {
        return Err(failed(path, io::Error::other("not a regular file")));
    }
    let mut file = File::open(path).map_err(|source| failed(path, source))?;
    let mut hash = Sha256::new();
    let mut part = vec![0; 1 << 20];
    let mut bytes = 0;
    loop {
        let count = file
            .read(&mut part)
            .map_err(|source| failed(path, source))?;
        if count == 0 {
            return Ok((super::hex(&hash.finalize()), bytes));
        }
        hash.update(&part[..count]);
        bytes += count as u64;
        if read(count as u64).is_break() {
            return Err(Error::Interrupted);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn touch(folder: &Path, name: &str, text: &str) -> PathBuf {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }

    fn ingest(config: &privacy::Config) -> impl Fn(&Path) -> Source {
        let ingest = Ingest::new(config).unwrap();
        move |path| {
            let found = ingest.source(path, |_| ControlFlow::Continue(()));
            found.unwrap().source
        }
    }

    #[test]
    fn folders_files_and_lists_are_inputs() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let (b, a) = (
            touch(&at(""), "in/b.mp4", ""),
            touch(&at(""), "in/deep/a.JPG", ""),
        );
        for passed_over in [
            "in/b.mp4.json",
            "in/.hidden.mp4",
            "in/out/clip.mp4",
            "in/notes.md",
        ] {
            touch(&at(""), passed_over, "");
        }
        #[cfg(unix)]
        std::os::unix::fs::symlink(at("in"), at("in/deep/round")).unwrap();
        let odd = touch(&at(""), "odd.bin", "");
        let named = touch(&at(""), "in/list.txt", "# films\n\nb.mp4\n  ../odd.bin\n");
        let found = list(&[at("in"), odd.clone(), at("in")], &at("in/out")).unwrap();
        assert_eq!(found, [b.clone(), a, odd]);
        let found = list(&[named], &at("in/out")).unwrap();
        assert_eq!(found, [at("in/../odd.bin"), b]);
        let error = list(&[at("absent")], &at("out")).unwrap_err().to_string();
        assert!(error.contains("absent"), "{error}");
    }

    #[test]
    fn a_source_is_its_bytes_and_its_sidecar() {
        let folder = tempfile::tempdir().unwrap();
        let path = touch(folder.path(), "film.mp4", "abc");
        let sidecar = r#"{"id": "case 7", "licence": "MIT", "retention": "2026-11-20",
                          "caption": "call +49 30 1234567", "metadata": {"lat": 1.5}}"#;
        touch(folder.path(), "film.json", sidecar);
        let config = privacy::Config {
            date: Some("2026-11-21".parse().unwrap()),
            ..Default::default()
        };
        let source = ingest(&config)(&path);
        // FIPS 180-2, appendix B.1.
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(source.sha256.as_deref(), Some(abc));
        assert_eq!(source.id, abc[..16]);
        assert_eq!(source.bytes, Some(3));
        assert_eq!(source.name, path.to_string_lossy());
        assert_eq!(source.caption.as_deref(), Some("call [phone]"));
        assert_eq!(source.metadata.as_deref(), Some(r#"{"lat":"[position]"}"#));
        assert!(source.expired);
        assert_eq!(source.error, None);
        let last_day = privacy::Config {
            date: Some("2026-11-20".parse().unwrap()),
            ..config
        };
        assert!(
            !ingest(&last_day)(&path).expired,
            "held to the end of the day"
        );
    }

    #[test]
    fn with_a_key_no_name_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let film = touch(folder.path(), "jane.mp4", "abc");
        touch(folder.path(), "jane.json", r#"{"id": "jane"}"#);
        let config = privacy::Config {
            pseudonym_key: Some(touch(folder.path(), "key", "a secret of many bytes")),
            ..Default::default()
        };
        let ingest = ingest(&config);
        let good = ingest(&film);
        let absent = ingest(&folder.path().join("jane-2.mp4"));
        touch(
            folder.path(),
            "jane.json",
            r#"{"jane@example.com": "jane"}"#,
        );
        let bad_sidecar = ingest(&film);
        touch(folder.path(), "jane.json", r#"{"caption": "jane" "jane"}"#);
        let malformed = ingest(&film);
        for source in [&good, &absent, &bad_sidecar, &malformed] {
            let row = serde_json::to_string(source).unwrap();
            assert!(!row.contains("jane"), "{row}");
            assert_eq!(source.name.len(), 64);
        }
        assert_eq!(good.name, bad_sidecar.name);
        assert!(absent.error.is_some());
        for (source, column) in [(&bad_sidecar, "column 19"), (&malformed, "column 20")] {
            let error = source.error.as_deref().unwrap();
            assert!(
                error.starts_with("its sidecar: line 1, ") && error.contains(column),
                "{error}"
            );
        }
        assert_eq!(good.error, None);
    }

    #[test]
    fn a_fault_of_the_program_stands_in_the_row() {
        let folder = tempfile::tempdir().unwrap();
        let path = touch(folder.path(), "film.mp4", "abc");
        let ingest = Ingest::new(&privacy::Config::default()).unwrap();
        let found = ingest.source(&path, |_| panic!("on purpose"));
        let source = found.unwrap().source;
        assert_eq!(source.sha256, None);
        let error = source.error.unwrap();
        assert!(error.ends_with("this is a fault of the program"), "{error}");
    }
}
