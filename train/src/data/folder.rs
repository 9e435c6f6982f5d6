//! Folders of videos and images with captions beside them.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

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
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// A video or an image.
    pub path: PathBuf,
    /// Its caption.
    pub caption: Caption,
}

/// What a folder holds.
#[derive(Clone, Debug, Default)]
pub struct Dataset {
    /// The clips, in the order of their paths.
    pub entries: Vec<Entry>,
    /// What cannot be used, and why.
    pub skipped: Vec<(PathBuf, String)>,
}

/// File extensions that are taken for clips.
const CLIPS: [&str; 12] = [
    "mp4", "mov", "mkv", "webm", "avi", "m4v", "gif", "png", "jpg", "jpeg", "webp", "bmp",
];

/// Lists `path`: a folder of clips, each with `NAME.txt` or `NAME.json` or both beside it, or with a
/// line in the folder's `captions.jsonl`; or such a list of lines itself.
///
/// A line is `{"file": PATH, "caption": CAPTION}` with the path relative to the list. A caption in
/// JSON is a text, a list of texts, or an object with the fields of [`StructuredCaption`]; a `.json`
/// beside a clip is that object, or one with a `caption`. A `.txt` holds a text in each line.
///
/// # Errors
/// A folder or list that cannot be read, or in which there is no clip with a caption.
pub fn list(path: &Path) -> Result<Dataset> {
    let mut dataset = Dataset::default();
    if path.is_dir() {
        let lines = path.join("captions.jsonl");
        let listed = match lines.is_file() {
            true => read_lines(&lines, &mut dataset.skipped)?,
            false => BTreeMap::new(),
        };
        list_folder(path, &listed, &mut dataset)?;
    } else {
        for (path, caption) in read_lines(path, &mut dataset.skipped)? {
            dataset.entries.push(Entry { path, caption });
        }
    }
    if dataset.entries.is_empty() {
        let first = dataset.skipped.first();
        let why = first.map_or(String::new(), |(path, why)| {
            format!(
                "; the first of {}: {}: {why}",
                dataset.skipped.len(),
                path.display()
            )
        });
        let reason = format!("there is no clip with a caption here{why}");
        return Err(Error::file(path, reason));
    }
    Ok(dataset)
}

fn list_folder(
    folder: &Path,
    listed: &BTreeMap<PathBuf, Caption>,
    dataset: &mut Dataset,
) -> Result<()> {
    let entries = fs::read_dir(folder).map_err(Error::io("read", folder))?;
    let mut paths: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .collect();
    paths.sort();
    for path in paths {
        let extension = path
            .extension()
            .and_then(|e| e.to_str())
            .unwrap_or_default();
        if path.is_dir() {
            list_folder(&path, listed, dataset)?;
        } else if CLIPS.contains(&extension.to_lowercase().as_str()) {
            match listed
                .get(&path)
                .cloned()
                .map_or_else(|| caption_beside(&path), Ok)
            {
                Ok(caption) => dataset.entries.push(Entry { path, caption }),
                Err(why) => dataset.skipped.push((path, why)),
            }
        }
    }
    Ok(())
}

/// The caption in the files beside a clip.
fn caption_beside(clip: &Path) -> Result<Caption, String> {
    let read = |extension| fs::read_to_string(clip.with_extension(extension)).ok();
    let (text, json) = (read("txt"), read("json"));
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

/// The captions of a list of lines, by path.
fn read_lines(
    path: &Path,
    skipped: &mut Vec<(PathBuf, String)>,
) -> Result<BTreeMap<PathBuf, Caption>> {
    let text = fs::read_to_string(path).map_err(Error::io("read", path))?;
    let folder = path.parent().unwrap_or(Path::new(""));
    let mut captions = BTreeMap::new();
    for (number, line) in text
        .lines()
        .enumerate()
        .filter(|(_, line)| !line.trim().is_empty())
    {
        let json: Value = serde_json::from_str(line)
            .map_err(|e| Error::file(path, format!("line {}: {e}", number + 1)))?;
        let Some(file) = json["file"].as_str() else {
            let reason = format!("line {} has no `file`", number + 1);
            return Err(Error::file(path, reason));
        };
        match parse(&json["caption"]).and_then(told) {
            Ok(caption) => {
                captions.insert(folder.join(file), caption);
            }
            Err(why) => skipped.push((folder.join(file), why)),
        }
    }
    Ok(captions)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn captions_come_from_beside_or_from_a_list_and_the_rest_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        for clip in ["a.mp4", "b.png", "c.gif", "d.mov", "e.jpg"] {
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
        let dataset = list(folder.path()).unwrap();
        let captions: Vec<_> = dataset
            .entries
            .into_iter()
            .map(|entry| entry.caption)
            .collect();
        let caption = |texts: &[&str], fields| Caption {
            texts: texts.iter().map(ToString::to_string).collect(),
            fields,
        };
        let fields = StructuredCaption {
            style: "old".into(),
            background: "sea".into(),
            ..StructuredCaption::default()
        };
        let expected = [
            caption(&["a cat", "a pet"], None),
            caption(&["the sea"], Some(fields)),
            caption(&["one", "two"], None),
        ];
        assert_eq!(captions, expected);
        let skipped: Vec<_> = dataset
            .skipped
            .iter()
            .map(|(path, _)| path.file_name())
            .collect();
        assert_eq!(skipped, [Some("d.mov".as_ref()), Some("e.jpg".as_ref())]);

        let listed = list(&folder.path().join("captions.jsonl")).unwrap();
        assert_eq!(listed.entries.len(), 1);
        let message = list(&folder.path().join("d.txt")).unwrap_err().to_string();
        assert!(message.contains("no clip"), "{message}");
    }
}
