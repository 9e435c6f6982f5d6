//! The files of `burn-hunyuan cache`, which hold what comes from many sources.
//!
//! A shard, `shard-*.safetensors`, says in its metadata under `CLIP.file` from which file all its tensors
//! and texts were made whose names begin with `CLIP.`, and under `passed_over` which files could not be
//! used, in lines `FILE: why`. `skipped.txt` has the lines of all shards.

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io::{self, BufWriter, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use safetensors::tensor::{Metadata, TensorInfo};
use serde_json::json;

use super::held::{self, Held};
use crate::{Error, Result};

/// The list of what was passed over, in a file of its own and in a shard's metadata.
const SKIPPED: &str = "skipped.txt";
const PASSED_OVER: &str = "passed_over";

/// A file of a cache.
pub(super) struct CacheFile {
    pub path: PathBuf,
    /// All that it says in words: a shard's header, or the whole list.
    pub text: String,
    shard: Option<Shard>,
}

/// What a shard's header tells.
struct Shard {
    /// Where the tensors' bytes begin.
    start: u64,
    texts: BTreeMap<String, String>,
    /// In the order of their bytes.
    tensors: Vec<(String, TensorInfo)>,
}

/// A part of a file.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// What comes from the sources in question.
    Held,
    /// All else.
    Rest,
}

impl CacheFile {
    /// Opens a file if it is one of a cache.
    ///
    /// # Errors
    /// If it cannot be read, or is a shard that does not tell what its clips were made from.
    pub fn open(path: &Path) -> Result<Option<Self>> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let path = path.to_path_buf();
        if name.starts_with("shard-") && name.ends_with(".safetensors") {
            return Self::open_shard(path).map(Some);
        }
        if name != SKIPPED {
            return Ok(None);
        }
        // A list that is no text is of another program.
        let text = String::from_utf8(held::read(&path)?).ok();
        Ok(text.map(|text| Self {
            path,
            text,
            shard: None,
        }))
    }

    fn open_shard(path: PathBuf) -> Result<Self> {
        let refuse = |why: &str| {
            let problem = format!(
                "{why}; delete the whole cache, leave out --cache, and run `burn-hunyuan cache` again \
                 afterwards"
            );
            let path = path.clone();
            Error::Unusable { path, problem }
        };
        let (header, bytes) = read_header(&path).map_err(failed("read", &path))?;
        let damaged = |why: &dyn ToString| refuse(&format!("it is damaged ({})", why.to_string()));
        let text = String::from_utf8(header).map_err(|error| damaged(&error))?;
        let header: Metadata = serde_json::from_str(&text).map_err(|error| damaged(&error))?;
        let start = 8 + text.len() as u64;
        if start + header.data_len() as u64 != bytes {
            return Err(damaged(&"it has another length than its header says"));
        }
        let tensors = header.offset_keys().into_iter();
        let shard = Shard {
            start,
            texts: header.metadata().clone().into_iter().flatten().collect(),
            tensors: tensors
                .filter_map(|name| Some((name.clone(), header.info(&name)?.clone())))
                .collect(),
        };
        let tells = |name: &String| shard.texts.contains_key(&format!("{}.file", clip(name)));
        if !shard.tensors.iter().all(|(name, _)| tells(name)) {
            return Err(refuse(
                "it holds many clips and does not tell which file each is made from, as of an earlier \
                 version",
            ));
        }
        Ok(Self {
            path,
            text,
            shard: Some(shard),
        })
    }

    /// What it holds of the sources: clips with their files, and lines on what was passed over.
    pub fn entries(&self, held: &Held) -> Vec<String> {
        let Some(shard) = &self.shard else {
            return lines(&self.text, |line| held.in_line(line)).collect();
        };
        let clips = shard.clips_of(held).into_iter();
        let clips = clips.map(|clip| format!("{clip} of {}", shard.texts[&format!("{clip}.file")]));
        let passed_over = shard.texts.get(PASSED_OVER).map_or("", String::as_str);
        clips
            .chain(lines(passed_over, |line| held.in_line(line)))
            .collect()
    }

    /// Writes a part of the file to `to`, which may be the file itself. The bytes of the tensors stay
    /// as they are, and so do the clips' names.
    ///
    /// # Errors
    /// If the file cannot be read or the other not written.
    pub fn write(&self, part: Part, held: &Held, to: &Path) -> Result<()> {
        let wanted = |line: &str| held.in_line(line) == (part == Part::Held);
        let Some(shard) = &self.shard else {
            let lines: String = lines(&self.text, wanted).map(|line| line + "\n").collect();
            return replace(to, |aside| fs::write(aside, lines));
        };
        let clips = shard.clips_of(held);
        let keeps = |name: &str| clips.contains(clip(name)) == (part == Part::Held);
        let mut texts = shard.texts.clone();
        texts.retain(|name, _| keeps(name) || name == PASSED_OVER);
        if let Some(list) = texts.get_mut(PASSED_OVER) {
            *list = lines(list, wanted).map(|line| line + "\n").collect();
        }
        let tensors = shard.tensors.iter().filter(|(name, _)| keeps(name));
        replace(to, |aside| {
            copy(&self.path, shard.start, &texts, tensors, aside)
        })
    }
}

impl Shard {
    /// The clips that come from the sources.
    fn clips_of(&self, held: &Held) -> BTreeSet<&str> {
        let files = self.texts.iter();
        let files = files.filter_map(|(name, file)| Some((name.strip_suffix(".file")?, file)));
        let ours = files.filter(|(_, file)| held.in_text(file));
        ours.map(|(clip, _)| clip).collect()
    }
}

/// Whether this is a file of a cache that was left unfinished: nobody knows what is in it.
pub(super) fn is_unfinished(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let ours = name.starts_with("shard-") || name.starts_with("skipped.");
    ours && name.ends_with(".partial")
}

/// Writes a file aside, as `burn-hunyuan cache` does, then renames it: who reads the cache does not see
/// what is unfinished.
fn replace(path: &Path, fill: impl FnOnce(&Path) -> io::Result<()>) -> Result<()> {
    let aside = path.with_extension("partial");
    // A name can outlive a power failure that its contents do not: they have to be there first.
    let sync = || File::options().write(true).open(&aside)?.sync_all();
    let replaced = fill(&aside)
        .and_then(|()| sync())
        .and_then(|()| fs::rename(&aside, path));
    if replaced.is_err() {
        // What is not there needs no removal.
        let _ = fs::remove_file(&aside);
    }
    replaced.map_err(failed("write", path))
}

/// The clip that a tensor or text of this name belongs to.
fn clip(name: &str) -> &str {
    name.split('.').next().unwrap_or_default()
}

/// The lines of a text that are wanted.
fn lines(text: &str, wanted: impl Fn(&str) -> bool) -> impl Iterator<Item = String> {
    text.lines()
        .filter(move |line| wanted(line))
        .map(String::from)
}

/// The header of a safetensors file, and the length of the file.
fn read_header(path: &Path) -> io::Result<(Vec<u8>, u64)> {
    let mut file = File::open(path)?;
    let bytes = file.metadata()?.len();
    let mut length = [0; 8];
    file.read_exact(&mut length)?;
    let mut header = Vec::new();
    file.take(u64::from_le_bytes(length))
        .read_to_end(&mut header)?;
    Ok((header, bytes))
}

/// Writes a safetensors file with some tensors of another, where their bytes begin at `start`.
fn copy<'a>(
    from: &Path,
    start: u64,
    texts: &BTreeMap<String, String>,
    tensors: impl Iterator<Item = &'a (String, TensorInfo)> + Clone,
    to: &Path,
) -> io::Result<()> {
    let (mut header, mut end) = (BTreeMap::new(), 0);
    header.insert("__metadata__", json!(texts));
    for (name, info) in tensors.clone() {
        let begin = end;
        end += info.data_offsets.1 - info.data_offsets.0;
        let moved = TensorInfo {
            data_offsets: (begin, end),
            ..info.clone()
        };
        header.insert(name, serde_json::to_value(moved)?);
    }
    let mut header = json!(header).to_string();
    // Spaces keep the values aligned.
    header += &" ".repeat(header.len().next_multiple_of(8) - header.len());
    let (mut from, mut file) = (File::open(from)?, BufWriter::new(File::create(to)?));
    file.write_all(&(header.len() as u64).to_le_bytes())?;
    file.write_all(header.as_bytes())?;
    for (_, info) in tensors {
        let (begin, end) = info.data_offsets;
        from.seek(SeekFrom::Start(start + begin as u64))?;
        let wanted = (end - begin) as u64;
        if io::copy(&mut (&mut from).take(wanted), &mut file)? < wanted {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    file.flush()
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_path_buf();
    move |source| Error::File {
        action,
        path,
        source,
    }
}
