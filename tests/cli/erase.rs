//! `burn-hunyuan curate erase` and `export-source` with a cache that was trained on.

use std::{collections::BTreeMap, fs, path::Path};

use safetensors::SafeTensors;

use crate::{
    films,
    program::{Desk, names},
};

const TRAIN: &str = "train dit --config dit.toml --device flex --output run";

const CONFIG: &str = r#"
shards = "shards"
[model]
sizes = "tiny"
[run]
steps = 2
log_every = 1
[batch]
tokens = 12
"#;

/// Five pictures with captions, curated and cached; one of them is listed but damaged.
fn desk(shards: &str) -> Desk {
    let desk = Desk::new();
    for seed in 1..=5 {
        let path = |extension: &str| desk.path(&format!("in/{seed}.{extension}"));
        fs::create_dir_all(desk.path("in")).unwrap();
        films::ground(seed).save(path("png")).unwrap();
        let caption = format!(r#"{{"caption": "view {seed}"}}"#);
        fs::write(path("json"), caption).unwrap();
    }
    desk.run("curate in --output out --device flex -q")
        .succeeds();
    let damaged = format!("out/images/{}.png", id(&desk, 5));
    fs::write(desk.path(&damaged), "no picture").unwrap();
    desk.run(&cache(shards)).succeeds();
    fs::write(desk.path("dit.toml"), CONFIG).unwrap();
    desk
}

fn cache(shards: &str) -> String {
    format!("cache --dataset out --size 32x32 --frames 1 --output {shards} --device flex -q")
}

const SHARD: &str = "shards/shard-00000.safetensors";

/// The id of a picture, by the manifest.
fn id(desk: &Desk, seed: usize) -> String {
    let manifest = fs::read_to_string(desk.path("out/manifest.jsonl")).unwrap();
    let mut lines = manifest
        .lines()
        .map(|line| -> serde_json::Value { serde_json::from_str(line).unwrap() });
    let caption = format!("view {seed}");
    let line = lines
        .find(|line| line["caption"] == caption.as_str())
        .unwrap();
    line["id"].as_str().unwrap().to_string()
}

/// The tensors of a file.
fn tensors(path: &Path) -> BTreeMap<String, Vec<u8>> {
    let bytes = fs::read(path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let tensors = file.iter();
    tensors
        .map(|(name, view)| (name.to_string(), view.data().to_vec()))
        .collect()
}

/// The tensors and texts of a shard that come from a picture begin with this.
fn clip(shard: &Path, id: &str) -> String {
    let bytes = fs::read(shard).unwrap();
    let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
    let texts = header.metadata().clone().unwrap();
    let file = format!("out/images/{id}.png");
    let (name, _) = texts.iter().find(|(_, text)| **text == file).unwrap();
    name.strip_suffix("file").unwrap().to_string()
}

/// Whether any file in a folder has these bytes in it.
fn tells(folder: &Path, text: &str) -> bool {
    names(folder).iter().any(|name| {
        let bytes = fs::read(folder.join(name)).unwrap();
        name.contains(text)
            || bytes
                .windows(text.len())
                .any(|part| part == text.as_bytes())
    })
}

#[test]
fn erased_clips_leave_the_shards_and_training_goes_on() {
    let desk = desk("shards");
    let shards = desk.path("shards");
    desk.run(TRAIN).succeeds();
    let before = tensors(&desk.path(SHARD));
    let (gone, damaged) = (id(&desk, 3), id(&desk, 5));
    let clip = clip(&desk.path(SHARD), &gone);
    for text in [&gone, "view 3", &damaged] {
        assert!(tells(&shards, text), "{text}");
    }

    desk.run("curate export-source out --source in/3.png --cache shards --output copy")
        .succeeds();
    let handed = tensors(&desk.path("copy/cache/shard-00000.safetensors"));
    let mut rest = before.clone();
    let ours: BTreeMap<_, _> = rest
        .extract_if(.., |name, _| name.starts_with(&clip))
        .collect();
    assert_eq!(handed, ours);
    assert_eq!(names(&desk.path("copy/cache")), ["shard-00000.safetensors"]);

    // What a write that was killed left may hold anything.
    fs::write(shards.join("shard-00001.partial"), "begun").unwrap();
    // First without the cache: it can be named later, by the source's id.
    let erase = "curate erase out --device flex --source";
    desk.run(&format!("{erase} in/3.png")).succeeds();
    let source = &gone[..16];
    let proof = desk.run(&format!("{erase} {source} --cache shards"));
    let proof = proof.succeeds().stdout;
    let told = format!("removed from {SHARD}: {}", clip.trim_end_matches('.'));
    for part in [&told, &gone, "rewrote shards/shard", ": 0 name the source"] {
        assert!(proof.contains(part), "{part}: {proof}");
    }
    assert_eq!(tensors(&desk.path(SHARD)), rest);
    // A file that could not be used, with the cache from the start.
    let proof = desk.run(&format!("{erase} in/5.png --cache shards"));
    let proof = proof.succeeds().stdout;
    assert!(
        proof.contains("removed from shards/skipped.txt: out/images/"),
        "{proof}"
    );
    assert_eq!(tensors(&desk.path(SHARD)), rest);
    for text in [&gone, "view 3", &damaged, "no picture"] {
        assert!(!tells(&shards, text), "{text}");
    }
    let left = [
        "cache.json",
        "empty.safetensors",
        "shard-00000.safetensors",
        "skipped.txt",
    ];
    assert_eq!(names(&shards), left);

    desk.run(&format!("{TRAIN} --resume --set run.steps=4"))
        .succeeds();
    desk.run(TRAIN.replace("output run", "output anew").as_str())
        .succeeds();
    // The dataset is another: these shards cannot be gone on with.
    desk.run(&format!("{} --resume", cache("shards")))
        .fails(1, &["clips was 5, now it is 3", "another folder"]);
    desk.run(&format!("{erase} {source} --cache shards"))
        .fails(2, &["nothing is held"]);
}

/// A cache may lie in the run's folder, whatever it is called there: its files are still one each.
#[test]
fn a_cache_within_the_run_is_gone_through_once() {
    let desk = desk("out/shards");
    let shard = desk.path("out").join(SHARD);
    let mut rest = tensors(&shard);
    for (seed, cache) in [(2, "out/shards"), (3, "./out/images/../shards"), (4, ".")] {
        let gone = id(&desk, seed);
        let clip = clip(&shard, &gone);
        rest.retain(|name, _| !name.starts_with(&clip));
        let erase =
            format!("curate erase out --device flex --source in/{seed}.png --cache {cache}");
        let proof = desk.run(&erase).succeeds().stdout;
        assert_eq!(proof.matches("removed from ").count(), 1, "{proof}");
        assert_eq!(proof.matches("rewrote ").count(), 1, "{proof}");
        assert!(proof.contains(": 0 name the source"), "{proof}");
        assert_eq!(tensors(&shard), rest, "{cache}");
        assert!(!tells(&desk.path("out/shards"), &gone));
    }
}
