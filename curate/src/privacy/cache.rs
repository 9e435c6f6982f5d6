//! The files of `burn-hunyuan cache`, which hold what comes from many sources.
//!
//! A shard, `shard-*.safetensors`, says in its metadata under `CLIP.file` from which file all its tensors
//! and texts were made whose names begin with `CLIP.`, and under `passed_over` which files could not be
//! used, in lines `FILE: why`. `skipped.txt` has the lines of all shards.

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
    let replaced = fill(&aside).and_then(|()| fs::rename(&aside, path));
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

/// Writes a safetensors file with some tensors of another, where their bytes begin at `start`. When
/// this returns the file is on the disk.
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
    file.into_inner()?.sync_all()
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_path_buf();
    move |source| Error::File {
        action,
        path,
        source,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use safetensors::{Dtype, SafeTensors, tensor::TensorView};

    use super::*;

    const ID: &str = "0123456789abcdef";

    /// A cut clip of the source, one of another, and a part of the source's file.
    const TEXTS: [(&str, &str); 8] = [
        ("clip-00000000.file", "out/clips/0123456789abcdef-0-9.mp4"),
        ("clip-00000000.caption-0", "Jane waves"),
        ("clip-00000000.weight", "0.5"),
        ("clip-00000001.file", "out/clips/aaaaaaaaaaaaaaaa-0-9.mp4"),
        ("clip-00000001.caption-0", "a \"boat\""),
        ("clip-00000002.file", "films/jane.mp4"),
        ("dataset_clips_done", "5"),
        ("passed_over", LIST),
    ];

    const LIST: &str = "films/jane.mp4: too short\nfilms/jane.mp4.mov: damaged\n\
                        out/clips/0123456789abcdef-9-12.mp4: no caption\n";

    fn held() -> Held {
        Held {
            ids: [ID.to_string()].into(),
            names: ["films/jane.mp4".to_string()].into(),
            files: BTreeSet::new(),
            cached: Vec::new(),
        }
    }

    /// A shard as another program writes it: its tensors lie in the order of their types.
    fn shard(path: &Path, texts: &[(&str, &str)]) {
        let values: Vec<u8> = (0..96).collect();
        let tensors = [
            ("clip-00000000.latents", Dtype::F32, 0..16),
            ("clip-00000000.caption-0.states", Dtype::BF16, 16..22),
            ("clip-00000001.latents", Dtype::F32, 24..40),
            ("clip-00000001.caption-0.states", Dtype::BF16, 40..50),
            ("clip-00000002.latents", Dtype::F32, 64..96),
        ];
        let tensors = tensors.map(|(name, dtype, range)| {
            let shape = vec![range.len() * 8 / dtype.bitsize()];
            (name, TensorView::new(dtype, shape, &values[range]).unwrap())
        });
        let texts = texts
            .iter()
            .map(|(name, text)| (name.to_string(), text.to_string()));
        safetensors::serialize_to_file(tensors, Some(texts.collect()), path).unwrap();
    }

    /// Everything in a shard, as the `safetensors` crate reads it.
    fn read(path: &Path) -> (BTreeMap<String, Vec<u8>>, HashMap<String, String>) {
        let bytes = fs::read(path).unwrap();
        let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let tensors = file.iter();
        let tensors = tensors.map(|(name, view)| (name.to_string(), view.data().to_vec()));
        (tensors.collect(), header.metadata().clone().unwrap())
    }

    #[test]
    fn a_shard_is_parted_into_what_is_of_the_source_and_the_rest() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        shard(&at("shard-00000.safetensors"), &TEXTS);
        let (tensors, texts) = read(&at("shard-00000.safetensors"));
        let file = CacheFile::open(&at("shard-00000.safetensors"));
        let file = file.unwrap().unwrap();
        let entries = [
            "clip-00000000 of out/clips/0123456789abcdef-0-9.mp4",
            "clip-00000002 of films/jane.mp4",
            "films/jane.mp4: too short",
            "out/clips/0123456789abcdef-9-12.mp4: no caption",
        ];
        assert_eq!(file.entries(&held()), entries);
        file.write(Part::Held, &held(), &at("held.safetensors"))
            .unwrap();
        file.write(Part::Rest, &held(), &file.path).unwrap();

        let (ours, rest) = (read(&at("held.safetensors")), read(&file.path));
        let names: Vec<&str> = rest.0.keys().map(String::as_str).collect();
        assert_eq!(
            names,
            ["clip-00000001.caption-0.states", "clip-00000001.latents"]
        );
        let both: BTreeMap<_, _> = ours.0.iter().chain(&rest.0).collect();
        assert_eq!(
            both,
            tensors.iter().collect(),
            "all bytes are in one of them"
        );
        assert_eq!(ours.0.len() + rest.0.len(), tensors.len());

        let left = "films/jane.mp4.mov: damaged\n";
        for (name, text) in texts {
            let kept = name.starts_with("clip-00000001") || name == "dataset_clips_done";
            match name.as_str() {
                PASSED_OVER => assert_eq!(rest.1[PASSED_OVER], left),
                name => assert_eq!(rest.1.get(name), kept.then_some(&text), "{name}"),
            }
        }
        let bytes = fs::read(&file.path).unwrap();
        for gone in [
            ID,
            "Jane waves",
            "clip-00000000",
            "clip-00000002",
            "too short",
        ] {
            let found = bytes
                .windows(gone.len())
                .any(|part| part == gone.as_bytes());
            assert!(!found, "{gone}");
        }
        let bytes = fs::read(at("held.safetensors")).unwrap();
        for others in ["boat", "aaaaaaaa", "damaged"] {
            let found = bytes
                .windows(others.len())
                .any(|part| part == others.as_bytes());
            assert!(!found, "{others}");
        }

        // Nothing of the source is left, and nothing unfinished; the rest can be erased as well.
        let file = CacheFile::open(&file.path).unwrap().unwrap();
        assert_eq!(file.entries(&held()), [""; 0]);
        let other = Held {
            ids: ["aaaaaaaaaaaaaaaa".to_string()].into(),
            ..held()
        };
        file.write(Part::Rest, &other, &file.path).unwrap();
        assert!(read(&file.path).0.is_empty());
        assert_eq!(held::files_below(folder.path()).unwrap().len(), 2);
    }

    #[test]
    fn lists_lose_the_lines_about_the_source() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("skipped.txt");
        fs::write(&path, LIST).unwrap();
        let file = CacheFile::open(&path).unwrap().unwrap();
        assert_eq!(file.entries(&held()).len(), 2);
        file.write(Part::Rest, &held(), &path).unwrap();
        assert_eq!(
            fs::read_to_string(&path).unwrap(),
            "films/jane.mp4.mov: damaged\n"
        );
    }

    #[test]
    fn shards_that_do_not_tell_their_clips_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("shard-00000.safetensors");
        let refused = || CacheFile::open(&path).err().unwrap().to_string();
        shard(&path, &TEXTS[..5]);
        let error = refused();
        assert!(
            error.contains("shard-00000") && error.contains("does not tell"),
            "{error}"
        );
        assert!(error.contains("delete the whole cache"), "{error}");
        shard(&path, &TEXTS);
        let bytes = fs::read(&path).unwrap();
        for damaged in [&bytes[..bytes.len() - 1], &bytes[..100], b"numbers"] {
            fs::write(&path, damaged).unwrap();
            let error = CacheFile::open(&path).err().unwrap().to_string();
            assert!(error.contains("shard-00000"), "{error}");
        }
    }
}
