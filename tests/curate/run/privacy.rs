//! What is held on persons: erased, handed out, required.

use std::fs;

use burn_hunyuan_curate::{
    config::Config,
    privacy, report,
    run::{Plan, Request},
    tables::text,
};
use tempfile::TempDir;

use super::{config, curate, only, request};
use crate::films;

/// A small set with a name to forget: two sources, one a worse copy of the other, and one of the
/// same person besides.
fn personal() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    films::write(&at("jane.mp4"), &films::take(21, 3.0, 60.0));
    fs::write(
        at("jane.json"),
        r#"{"id": "case 7", "caption": "mail jane@example.com"}"#,
    )
    .unwrap();
    films::filtered(&at("jane.mp4"), &at("worse.mp4"), "scale=380:212", 28);
    films::ground(22).save(at("portrait.png")).unwrap();
    fs::write(at("portrait.toml"), "id = 'case 7'").unwrap();
    films::write(&at("landscape.mp4"), &films::take(23, 3.0, 60.0));
    folder
}

#[test]
fn an_erased_source_was_never_there() {
    let footage = personal();
    let (out, never, cache) = (
        tempfile::tempdir().unwrap(),
        tempfile::tempdir().unwrap(),
        tempfile::tempdir().unwrap(),
    );
    let Some(request) = request(footage.path(), out.path(), config()) else {
        return;
    };
    curate(&request);
    let page = report::write(out.path()).unwrap();
    let plan = Plan::read(out.path()).unwrap();
    let jane = text(only(&plan.clips, "jane.mp4"), "id").to_string();
    let landscape = text(only(&plan.clips, "landscape.mp4"), "id").to_string();
    assert_eq!(text(only(&plan.clips, "worse.mp4"), "duplicate_of"), jane);
    assert_eq!(only(&plan.clips, "jane.mp4")["caption"], "mail [email]");
    for id in [&jane, &landscape] {
        fs::create_dir_all(cache.path().join("latents")).unwrap();
        fs::write(
            cache.path().join(format!("latents/{id}.safetensors")),
            "numbers",
        )
        .unwrap();
    }

    let export = tempfile::tempdir().unwrap();
    let handed = privacy::export(out.path(), Some(cache.path()), "case 7", export.path()).unwrap();
    assert_eq!(handed.rows, [("sources", 2), ("clips", 1), ("images", 1)]);
    for file in [
        format!("clips/{jane}.mp4"),
        format!("cache/latents/{jane}.safetensors"),
    ] {
        assert!(export.path().join(&file).exists(), "{file}");
        assert!(handed.files.contains(&file.into()));
    }
    let rows = fs::read_to_string(export.path().join("rows.json")).unwrap();
    assert!(rows.contains(&jane) && !rows.contains(&landscape));

    let erasure =
        privacy::erase(out.path(), Some(cache.path()), "case 7", &request.device).unwrap();
    assert_eq!(erasure.sources.len(), 2);
    assert_eq!(erasure.rows, [("sources", 2), ("clips", 1), ("images", 1)]);
    assert_eq!(erasure.left, Vec::<std::path::PathBuf>::new());
    let page = fs::read_to_string(page).unwrap();
    // The copy has come into its own and has no file yet. No line names a source in place of one.
    let plan = Plan::read(out.path()).unwrap();
    assert_ne!(text(only(&plan.clips, "worse.mp4"), "tier"), "");
    let manifest = fs::read_to_string(out.path().join("manifest.jsonl")).unwrap();
    let paths: Vec<String> = manifest
        .lines()
        .map(|line| {
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            line["path"].as_str().unwrap().into()
        })
        .collect();
    assert_eq!(paths, [format!("clips/{landscape}.mp4")]);
    // Shard, thumbnail and file of each, and the cached latent.
    assert_eq!(erasure.removed.len(), 7, "{:#?}", erasure.removed);
    assert!(
        !cache
            .path()
            .join(format!("latents/{jane}.safetensors"))
            .exists()
    );
    assert!(
        cache
            .path()
            .join(format!("latents/{landscape}.safetensors"))
            .exists()
    );

    for name in ["jane.mp4", "portrait.png"] {
        fs::remove_file(footage.path().join(name)).unwrap();
    }
    let resumed = Request {
        resume: true,
        ..request.clone()
    };
    curate(&resumed);
    curate(&Request {
        output: never.path().into(),
        ..request
    });
    let tables = [
        "clips.parquet",
        "images.parquet",
        "sources.parquet",
        "manifest.jsonl",
    ];
    for table in tables {
        let read = |folder: &TempDir| fs::read(folder.path().join(table)).unwrap();
        assert!(read(&out) == read(&never), "{table}");
    }
    let never = report::write(never.path()).unwrap();
    assert!(page == fs::read_to_string(never).unwrap());
    let again = privacy::erase(out.path(), None, "case 7", &resumed.device);
    assert!(again.unwrap_err().to_string().contains("nothing is held"));
}

/// An erasure that ends early, here since a table cannot be written, can be done again.
#[test]
fn an_erasure_that_failed_can_be_repeated() {
    let (footage, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for seed in [24, 25] {
        let path = footage.path().join(format!("{seed}.png"));
        films::ground(seed).save(path).unwrap();
    }
    let Some(request) = request(footage.path(), out.path(), config()) else {
        return;
    };
    curate(&request);
    report::write(out.path()).unwrap();
    let table = out.path().join("images.parquet");
    fs::remove_file(&table).unwrap();
    fs::create_dir(&table).unwrap();
    let name = footage.path().join("24.png");
    let erase = || privacy::erase(out.path(), None, &name.to_string_lossy(), &request.device);
    let error = erase().unwrap_err().to_string();
    assert!(error.contains("images.parquet"), "{error}");
    fs::remove_dir(&table).unwrap();
    let erasure = erase().unwrap();
    assert_eq!(erasure.left, Vec::<std::path::PathBuf>::new());
    let plan = Plan::read(out.path()).unwrap();
    assert_eq!((plan.sources.len(), plan.images.len()), (1, 1));
    let page = fs::read_to_string(report::path(out.path())).unwrap();
    assert_eq!(page.matches("data:image/jpeg").count(), 1);
}

#[test]
fn tiers_can_require_what_sidecars_say() {
    let folder = tempfile::tempdir().unwrap();
    for (seed, sidecar) in [
        (
            31,
            Some(r#"{"licence": "CC0-1.0", "consent": true, "retention": "2027-01-01"}"#),
        ),
        (32, Some(r#"{"licence": "proprietary", "consent": true}"#)),
        (33, Some(r#"{"licence": "CC0-1.0", "consent": false}"#)),
        (
            34,
            Some(r#"{"licence": "CC0-1.0", "consent": true, "retention": "2026-11-20"}"#),
        ),
        (35, None),
    ] {
        films::ground(seed)
            .save(folder.path().join(format!("{seed}.png")))
            .unwrap();
        if let Some(sidecar) = sidecar {
            fs::write(folder.path().join(format!("{seed}.json")), sidecar).unwrap();
        }
    }
    let rules = folder.path().join("rules.toml");
    let text_of_rules = "
        [privacy]
        date = '2026-11-21'
        [[tier]]
        name = 'free'
        kind = 'image'
        rules = [
            { stage = 'licence', column = 'licence', one_of = ['CC0-1.0'] },
            { stage = 'consent', column = 'consent', is = true },
            { stage = 'retention', column = 'expired', is = false },
        ]";
    fs::write(&rules, text_of_rules).unwrap();
    let out = tempfile::tempdir().unwrap();
    let config = Config::open(&rules).unwrap();
    let Some(request) = request(folder.path(), out.path(), config) else {
        return;
    };
    curate(&request);
    let plan = Plan::read(out.path()).unwrap();
    for (name, tier, stage) in [
        ("31.png", "free", ""),
        ("32.png", "", "licence"),
        ("33.png", "", "consent"),
        ("34.png", "", "retention"),
        ("35.png", "", "licence"),
    ] {
        let row = only(&plan.images, name);
        assert_eq!(
            (text(row, "tier"), text(row, "stage")),
            (tier, stage),
            "{name}"
        );
    }
}
