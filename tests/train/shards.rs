//! Cached clips: what is written comes back, and an interrupted cache goes on to the same bytes.

use std::{collections::BTreeMap, fs, path::Path};

use burn::tensor::{DType, TensorData};
use burn_hunyuan_train::dit::{CachedCaption, ShardWriter, Shards};
use safetensors::{SafeTensors, tensor::serialize_to_file};
use serde_json::json;

use crate::toy::flex;

fn caption(tokens: usize) -> CachedCaption {
    CachedCaption {
        text: format!("{tokens} words"),
        states: TensorData::new(vec![0.5_f32; tokens * 4], [tokens, 4]).convert_dtype(DType::BF16),
        pooled: TensorData::new(vec![2.0_f32; 5], [5]),
    }
}

/// Tensors come back as they went in, whatever float they are stored as.
#[test]
fn shards_keep_latents_and_captions() {
    let folder = tempfile::tempdir().unwrap();
    let values: Vec<f32> = (0..24).map(|i| i as f32 / 8.0).collect();
    let latents = TensorData::new(values.clone(), [2, 3, 2, 2]);
    let mut writer = ShardWriter::create(folder.path(), &json!({}), &caption(1)).unwrap();
    let captions = [caption(7), caption(2)];
    writer.add(latents, &captions, 0.5, "a.mp4").unwrap();
    writer.finish().unwrap();
    assert!(ShardWriter::create(folder.path(), &json!({}), &caption(1)).is_err());

    let (shards, device) = (Shards::open(folder.path()).unwrap(), flex());
    assert_eq!(
        (shards.len(), shards.captions(0), shards.longest_text()),
        (1, 2, 7)
    );
    assert_eq!(shards.weight(0), 0.5);
    assert_eq!(
        (shards.latent_shape(0), shards.text_dims()),
        ([2, 3, 2, 2], [4, 5])
    );
    let read = shards.latents(0, &device).unwrap().into_data();
    assert_eq!(read.try_to_vec::<f32>().unwrap(), values);
    let (states, pooled) = shards.caption(0, Some(1), &device).unwrap();
    assert_eq!((states.dims(), pooled.dims()), ([2, 4], [5]));
    assert_eq!(states.into_data().try_to_vec::<f32>().unwrap(), [0.5; 8]);
    assert_eq!(shards.caption(0, None, &device).unwrap().0.dims(), [1, 4]);
}

/// A list of folders is one set of clips; files put together by hand are refused.
#[test]
fn folders_are_mixed_by_naming_them() {
    let folder = tempfile::tempdir().unwrap();
    let folders = ["a", "b"].map(|name| folder.path().join(name));
    let write = |folder: &Path, values: &[f32], tokens| {
        let mut writer = ShardWriter::create(folder, &json!({}), &caption(tokens)).unwrap();
        for &value in values {
            let latents = TensorData::new(vec![value; 8], [2, 1, 2, 2]);
            writer.add(latents, &[caption(3)], 1.0, "a.mp4").unwrap();
        }
        writer.finish().unwrap();
    };
    write(&folders[0], &[1.0, 2.0], 1);
    write(&folders[1], &[3.0, 4.0, 5.0], 1);
    let (shards, device) = (Shards::open_all(&folders).unwrap(), flex());
    let first = |clip| {
        let latents = shards.latents(clip, &device).unwrap();
        latents.max().into_scalar::<f32>()
    };
    let values: Vec<f32> = shards.numbers().map(first).collect();
    assert_eq!(values, [1.0, 2.0, 3.0, 4.0, 5.0]);
    assert_eq!(shards.numbers().take(2).collect::<Vec<_>>(), [0, 1]);

    let shard = |folder: &Path, number| folder.join(format!("shard-0000{number}.safetensors"));
    fs::copy(shard(&folders[0], 0), shard(&folders[1], 1)).unwrap();
    let error = Shards::open(&folders[1]).unwrap_err().to_string();
    assert!(error.contains("shards = [\"a\", \"b\"]"), "{error}");
}

/// Deals with the clips of a dataset of 80, of which every seventh cannot be used, up to `end`.
fn cache(writer: &mut ShardWriter, end: usize) {
    for number in writer.done()..end {
        if number % 7 == 3 {
            writer.skip(Path::new(&format!("{number}.mp4")), "it is\ndamaged");
            continue;
        }
        let latents = TensorData::new(vec![number as f32; 8], [2, 1, 2, 2]);
        let captions = [caption(1 + number % 3), caption(2)];
        let file = format!("{number}.mp4");
        writer.add(latents, &captions, 1.0, &file).unwrap();
    }
}

fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let file = |entry: fs::DirEntry| {
        let name = entry.file_name().into_string().unwrap();
        (name, fs::read(entry.path()).unwrap())
    };
    let entries = fs::read_dir(folder).unwrap();
    entries.map(|entry| file(entry.unwrap())).collect()
}

#[test]
fn an_interrupted_cache_goes_on_to_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let [whole, parts] = ["whole", "parts"].map(|name| folder.path().join(name));
    let settings = json!({"size": [64, 64], "seed": 1});
    let mut writer = ShardWriter::create(&whole, &settings, &caption(1)).unwrap();
    let second = ShardWriter::resume(&whole, &settings, &caption(1));
    assert!(second.err().unwrap().to_string().contains("another run"));
    cache(&mut writer, 80);
    assert_eq!(writer.finish().unwrap(), (69, 11));
    let expected = files(&whole);
    let names: Vec<_> = expected.keys().map(String::as_str).collect();
    let shards = [
        "shard-00000.safetensors",
        "shard-00001.safetensors",
        "shard-00002.safetensors",
    ];
    assert_eq!(
        names,
        [
            &["cache.json", "empty.safetensors"][..],
            &shards,
            &["skipped.txt"]
        ]
        .concat()
    );
    let skipped = String::from_utf8(expected["skipped.txt"].clone()).unwrap();
    assert!(
        skipped.starts_with("3.mp4: it is damaged\n10.mp4:"),
        "{skipped}"
    );

    // Each writer but the last is dropped as a kill would leave it: with a shard begun.
    for end in [0, 20, 41, 41, 75, 80] {
        let mut writer = ShardWriter::resume(&parts, &settings, &caption(1)).unwrap();
        cache(&mut writer, end);
        fs::write(parts.join("shard-00002.partial"), "begun").unwrap();
        let message = Shards::open(&parts).unwrap_err().to_string();
        assert!(message.contains("--resume"), "{message}");
        if end == 80 {
            assert_eq!(writer.finish().unwrap(), (69, 11));
        }
    }
    assert_eq!(files(&parts), expected);
    assert_eq!(Shards::open(&parts).unwrap().len(), 69);

    // Everything is done: nothing changes.
    let mut writer = ShardWriter::resume(&parts, &settings, &caption(1)).unwrap();
    assert_eq!(writer.done(), 80);
    cache(&mut writer, 80);
    assert_eq!(writer.finish().unwrap(), (69, 11));
    assert_eq!(files(&parts), expected);

    // A setting that an earlier version did not have, and that nobody gives.
    let newer = json!({"size": [64, 64], "seed": 1, "rate": null});
    assert!(ShardWriter::resume(&parts, &newer, &caption(1)).is_ok());
    let other = json!({"size": [64, 96], "seed": 1});
    let refused = ShardWriter::resume(&parts, &other, &caption(1));
    let message = refused.err().unwrap().to_string();
    assert!(
        message.contains("size was [64,64], now it is [64,96]"),
        "{message}"
    );
    let refused = ShardWriter::create(&parts, &settings, &caption(1));
    assert!(refused.err().unwrap().to_string().contains("--resume"));
}

/// Writes a shard anew without some of its clips, as curation erases them.
pub fn erase(shard: &Path, clips: &[usize]) {
    let bytes = fs::read(shard).unwrap();
    let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
    let gone: Vec<String> = clips.iter().map(|n| format!("clip-{n:08}.")).collect();
    let stays = |name: &str| !gone.iter().any(|clip| name.starts_with(clip));
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let tensors = file.iter().filter(|(name, _)| stays(name));
    let mut texts = header.metadata().clone().unwrap();
    texts.retain(|name, _| stays(name));
    serialize_to_file(tensors, Some(texts), shard).unwrap();
}

/// Gaps in the numbers: the other clips stay as they are, and a cache that is resumed does not give
/// numbers twice.
#[test]
fn clips_can_be_erased_from_shards() {
    let folder = tempfile::tempdir().unwrap();
    let [whole, erased] = ["whole", "erased"].map(|name| folder.path().join(name));
    let settings = json!({});
    for path in [&whole, &erased] {
        let mut writer = ShardWriter::create(path, &settings, &caption(1)).unwrap();
        let end = if path == &whole { 80 } else { 50 };
        cache(&mut writer, end);
        if path == &whole {
            writer.finish().unwrap();
        }
    }
    // 43 clips are made of the first 50, of which one shard is written; its last clip is among these.
    erase(&erased.join("shard-00000.safetensors"), &[0, 7, 31]);
    let mut writer = ShardWriter::resume(&erased, &settings, &caption(1)).unwrap();
    cache(&mut writer, 80);
    assert_eq!(writer.finish().unwrap(), (66, 11));
    let (mut all, left) = (files(&whole), files(&erased));
    for (name, bytes) in &left {
        let changed = name == "shard-00000.safetensors";
        assert_eq!(all.remove(name).as_ref() != Some(bytes), changed, "{name}");
    }
    assert!(all.is_empty());

    // A shard of which nothing is left does no harm either.
    let second: Vec<usize> = (32..64).collect();
    erase(&erased.join("shard-00001.safetensors"), &second);
    let (all, left) = (
        Shards::open(&whole).unwrap(),
        Shards::open(&erased).unwrap(),
    );
    let expected = all
        .numbers()
        .filter(|n| ![0, 7, 31].contains(n) && !second.contains(n));
    assert_eq!(
        left.numbers().collect::<Vec<_>>(),
        expected.collect::<Vec<_>>()
    );
    assert_eq!(left.len(), 69 - 3 - 32);
    let device = flex();
    for clip in left.numbers() {
        let read = |shards: &Shards| shards.latents(clip, &device).unwrap().into_data();
        assert_eq!(read(&left), read(&all), "{clip}");
        assert_eq!(left.captions(clip), all.captions(clip));
    }
    for shard in 0..3 {
        let path = erased.join(format!("shard-0000{shard}.safetensors"));
        erase(&path, &(0..69).collect::<Vec<_>>());
    }
    let message = Shards::open(&erased).unwrap_err().to_string();
    assert!(message.contains("no clips"), "{message}");
}
