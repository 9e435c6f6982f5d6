//! What a dataset lists: a folder of videos and images with captions beside them, or a manifest.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use serde::Deserialize;
use serde_json::Value;

use super::StructuredCaption;
use crate::error::{Error, Result};

/// What a clip shows, as its author told it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Caption {
    /// Texts that say the same.
    pub texts: Vec<String>,
    /// The same in fields.
    pub fields: Option<StructuredCaption>,
}

/// A clip of a dataset.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// A video or an image.
    pub path: PathBuf,
    /// The part of it that is the clip; all of it if absent.
    pub part: Option<Part>,
    /// Its caption, or why there is none.
    pub caption: Result<Caption, String>,
    /// How often to train on it, compared with the others: a manifest's `weight`, else 1.
    pub weight: f64,
}

/// A part of a video, as curation names it where it cuts no files.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
pub struct Part {
    /// Seconds in the video.
    pub start: f64,
    /// Seconds in the video.
    pub end: f64,
    /// x, y, width and height in pixels.
    pub crop: [u32; 4],
}

/// File extensions that are taken for videos.
const VIDEOS: [&str; 7] = ["mp4", "mov", "mkv", "webm", "avi", "m4v", "gif"];

/// File extensions that are taken for images.
const IMAGES: [&str; 5] = ["png", "jpg", "jpeg", "webp", "bmp"];

/// The lists that a folder may hold: curation's, and captions for its clips.
const MANIFEST: &str = "manifest.jsonl";
const CAPTIONS: &str = "captions.jsonl";

impl Entry {
    /// Whether it is an image, by its name.
    pub fn is_image(&self) -> bool {
        has_extension(&self.path, &IMAGES)
    }

    /// Whether it belongs to the given share of a dataset that is not trained on. Its file's name
    /// decides, wherever the file lies and whatever lies beside it.
    pub fn is_held_out(&self, share: f64) -> bool {
        let name = self.path.file_name().unwrap_or_default();
        let hash = crc32c::crc32c(name.as_encoded_bytes());
        f64::from(hash) < share * f64::from(u32::MAX)
    }

    fn whole(path: PathBuf, caption: Result<Caption, String>) -> Self {
        Self {
            path,
            part: None,
            caption,
            weight: 1.0,
        }
    }
}

/// Lists `path`, in an order that does not change.
///
/// It is a folder of clips, each with `NAME.txt` or `NAME.json` or both beside it, or with a line in
/// the folder's `captions.jsonl`; or a list of lines, or a folder with one, as `burn-hunyuan curate`
/// writes `manifest.jsonl`.
///
/// A line is `{"file": PATH, "caption": CAPTION}` or `{"path": …}`, with the path relative to the
/// list; where curation cut no files the line has a `range`, and the path is as curation was given
/// it. A caption in JSON is a text, a list of texts, or an object with the fields of
/// [`StructuredCaption`]; a `.json` beside a clip is that object, or one with a `caption`. A `.txt`
/// holds a text in each line.
///
/// # Errors
/// A folder or list that cannot be read, or in which there is no clip.
pub fn list(path: &Path) -> Result<Vec<Entry>> {
    let manifest = path.join(MANIFEST);
    let entries = if !path.is_dir() {
        read_lines(path)?
    } else if manifest.is_file() {
        read_lines(&manifest)?
    } else {
        let lines = path.join(CAPTIONS);
        let lines = match lines.is_file() {
            true => read_lines(&lines)?,
            false => Vec::new(),
        };
        let listed = lines.into_iter().map(|line| (line.path, line.caption));
        let mut entries = Vec::new();
        list_folder(path, &listed.collect(), &mut entries)?;
        entries
    };
    match entries.is_empty() {
        true => Err(Error::file(path, "there is no video or image here")),
        false => Ok(entries),
    }
}

/// A number that changes with the clips of a list, their order and their captions.
pub fn checksum(entries: &[Entry]) -> u32 {
    let append = |sum, entry| crc32c::crc32c_append(sum, format!("{entry:?}").as_bytes());
    entries.iter().fold(0, append)
}

fn list_folder(
    folder: &Path,
    listed: &BTreeMap<PathBuf, Result<Caption, String>>,
    entries: &mut Vec<Entry>,
) -> Result<()> {
    let found = fs::read_dir(folder).map_err(Error::io("read", folder))?;
    let mut found: Vec<fs::DirEntry> = found
        .collect::<io::Result<_>>()
        .map_err(Error::io("read", folder))?;
    found.sort_by_key(fs::DirEntry::path);
    for entry in found {
        let path = entry.path();
        // A linked folder may lead back to this one.
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            list_folder(&path, listed, entries)?;
        } else if has_extension(&path, &VIDEOS) || has_extension(&path, &IMAGES) {
            let caption = match listed.get(&path) {
                Some(caption) => caption.clone(),
                None => caption_beside(&path),
            };
            entries.push(Entry::whole(path, caption));
        }
    }
    Ok(())
}

fn has_extension(path: &Path, extensions: &[&str]) -> bool {
    let extension = path.extension().and_then(|e| e.to_str());
    extension.is_some_and(|e| extensions.contains(&e.to_lowercase().as_str()))
}

/// The caption in the files beside a clip.
fn caption_beside(clip: &Path) -> Result<Caption, String> {
    let read = |extension| {
        let path = clip.with_extension(extension);
        match fs::read_to_string(&path) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(format!("cannot read {}: {error}", path.display())),
        }
    };
    let (text, json) = (read("txt")?, read("json")?);
    if text.is_none() && json.is_none() {
        return Err("there is no .txt or .json beside it".into());
    }
    let mut caption = Caption::default();
    if let Some(json) = json {
        let json: Value = serde_json::from_str(&json).map_err(|e| format!("its .json: {e}"))?;
        caption = parse(json.get("caption").unwrap_or(&json))?;
    }
    caption
        .texts
        .extend(texts(text.unwrap_or_default().lines()));
    told(caption)
}

/// A caption in JSON.
fn parse(json: &Value) -> Result<Caption, String> {
    let mut caption = Caption::default();
    match json {
        Value::Array(list) => caption.texts = texts(list.iter().filter_map(Value::as_str)),
        Value::Object(_) => {
            let fields = serde_json::from_value(json.clone()).map_err(|e| e.to_string())?;
            caption.fields = Some(fields).filter(|f| *f != StructuredCaption::default());
        }
        json => caption.texts = texts(json.as_str()),
    }
    Ok(caption)
}

/// The texts that are not empty.
fn texts<'a>(texts: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let texts = texts.into_iter().map(str::trim);
    texts.filter(|t| !t.is_empty()).map(String::from).collect()
}

/// The caption, unless it says nothing.
fn told(caption: Caption) -> Result<Caption, String> {
    match caption == Caption::default() {
        true => Err("its caption is empty".into()),
        false => Ok(caption),
    }
}

/// The clips of a list of lines.
fn read_lines(path: &Path) -> Result<Vec<Entry>> {
    let text = fs::read_to_string(path).map_err(Error::io("read", path))?;
    let folder = path.parent().unwrap_or(Path::new(""));
    let lines = text.lines().enumerate();
    lines
        .filter(|(_, line)| !line.trim().is_empty())
        .map(|(number, line)| {
            read_line(folder, line)
                .map_err(|why| Error::file(path, format!("line {}: {why}", number + 1)))
        })
        .collect()
}

fn read_line(folder: &Path, line: &str) -> Result<Entry, String> {
    let json: Value = serde_json::from_str(line).map_err(|e| e.to_string())?;
    let file = json["file"].as_str().or(json["path"].as_str());
    let file = file.ok_or("it has no `file`, and no `path`")?;
    let part = json.get("range").map(Part::deserialize).transpose();
    let part = part.map_err(|e| format!("`range`: {e}"))?;
    let weight = match &json["weight"] {
        Value::Null => 1.0,
        value => value
            .as_f64()
            .filter(|weight| *weight >= 0.0)
            .ok_or_else(|| format!("`weight` is {value}, not a number from 0"))?,
    };
    Ok(Entry {
        path: match part {
            Some(_) => file.into(),
            None => folder.join(file),
        },
        part,
        weight,
        caption: parse(&json["caption"]).and_then(told),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caption(texts: &[&str], fields: Option<StructuredCaption>) -> Result<Caption, String> {
        let texts = texts.iter().map(ToString::to_string).collect();
        Ok(Caption { texts, fields })
    }

    #[test]
    fn captions_come_from_beside_or_from_a_list_and_the_rest_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        for clip in ["a.mp4", "b.png", "c.gif", "d.mov", "e.jpg", "f.jpg"] {
            write(clip, "");
        }
        write("a.txt", " a cat \n\na pet\n");
        write("b.json", r#"{"style": "old", "background": "sea"}"#);
        write("b.txt", "the sea");
        write(
            "captions.jsonl",
            r#"{"file": "c.gif", "caption": ["one", "two"]}"#,
        );
        write("d.txt", " ");
        // Not UTF-8: é of another encoding.
        let unreadable = folder.path().join("f.txt");
        fs::write(&unreadable, b"caf\xe9").unwrap();
        let entries = list(folder.path()).unwrap();
        let images: Vec<bool> = entries.iter().map(Entry::is_image).collect();
        assert_eq!(images, [false, true, false, false, true, true]);
        let fields = StructuredCaption {
            style: "old".into(),
            background: "sea".into(),
            ..StructuredCaption::default()
        };
        let mut captions: Vec<_> = entries.into_iter().map(|entry| entry.caption).collect();
        let why = captions.pop().unwrap().unwrap_err();
        let told = format!("cannot read {}: ", unreadable.display());
        assert!(why.starts_with(&told) && why.contains("UTF-8"), "{why}");
        let expected = [
            caption(&["a cat", "a pet"], None),
            caption(&["the sea"], Some(fields)),
            caption(&["one", "two"], None),
            Err("its caption is empty".into()),
            Err("there is no .txt or .json beside it".into()),
        ];
        assert_eq!(captions, expected);

        let listed = list(&folder.path().join("captions.jsonl")).unwrap();
        assert_eq!(listed.len(), 1);
        let message = list(&folder.path().join("d.txt")).unwrap_err().to_string();
        assert!(message.contains("no video or image"), "{message}");
    }

    #[test]
    fn names_decide_what_is_held_out() {
        let entry = |n: usize| Entry::whole(format!("{n:05}.mp4").into(), Err(String::new()));
        let held_out = |share| (0..4000).filter(|n| entry(*n).is_held_out(share)).count();
        assert_eq!((held_out(0.0), held_out(1.0)), (0, 4000));
        assert!(held_out(0.1).abs_diff(400) < 60, "{}", held_out(0.1));
        // What is held out at a small share is at a larger one.
        assert!((0..4000).all(|n| !entry(n).is_held_out(0.1) || entry(n).is_held_out(0.2)));
    }

    /// As `curate` writes it, with cut files and without.
    #[test]
    fn a_manifest_lists_files_and_parts_of_files() {
        let folder = tempfile::tempdir().unwrap();
        let lines = concat!(
            r#"{"path":"clips/1.mp4","kind":"video","caption":"a cat","tier":"720p","weight":0.5,"id":"1"}"#,
            "\n",
            r#"{"path":"films/a.mp4","caption":"","range":{"start":1.5,"end":3.0,"#,
            r#""crop":[0,8,64,48]},"id":"2"}"#,
            "\n",
        );
        fs::write(folder.path().join("manifest.jsonl"), lines).unwrap();
        // The folder's other files are in the manifest or were left out of it.
        fs::write(folder.path().join("other.mp4"), "").unwrap();
        let entries = list(folder.path()).unwrap();
        let expected = [
            Entry {
                weight: 0.5,
                ..Entry::whole(folder.path().join("clips/1.mp4"), caption(&["a cat"], None))
            },
            Entry {
                path: "films/a.mp4".into(),
                part: Some(Part {
                    start: 1.5,
                    end: 3.0,
                    crop: [0, 8, 64, 48],
                }),
                caption: Err("its caption is empty".into()),
                weight: 1.0,
            },
        ];
        assert_eq!(entries, expected);

        let damaged = r#"{"path":"a.mp4","range":{"start":1}}"#;
        fs::write(folder.path().join("manifest.jsonl"), damaged).unwrap();
        let message = list(folder.path()).unwrap_err().to_string();
        assert!(
            message.contains("line 1") && message.contains("end"),
            "{message}"
        );
    }
}
