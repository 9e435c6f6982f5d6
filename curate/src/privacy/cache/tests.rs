//! Shards parted, lists shortened, what cannot be understood refused.

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
    assert_eq!(held::files(folder.path(), None).unwrap().len(), 2);
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
