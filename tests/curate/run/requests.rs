//! What a run can be asked for in an output folder: what may change on resume, what is refused.

use std::{collections::BTreeSet, fs, ops::ControlFlow, sync::Mutex};

use burn_hunyuan_curate::{
    Error,
    run::{self, Plan, Request, Stage},
    tiers,
};
use tempfile::TempDir;

use super::{config, curate, request};
use crate::films;

/// Tiers, duplicates, clusters and concepts can change on resume: the tables are those of a fresh
/// run, and nothing is measured again.
#[test]
fn what_is_decided_last_can_change_on_resume() {
    let footage = tempfile::tempdir().unwrap();
    let (resumed, fresh) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let at = |name: &str| footage.path().join(name);
    films::write(&at("film.mp4"), &films::take(71, 3.0, 60.0));
    films::filtered(&at("film.mp4"), &at("copy.mp4"), "scale=304:172", 30);
    for seed in [72, 73] {
        films::ground(seed)
            .save(at(&format!("{seed}.png")))
            .unwrap();
    }
    let Some(first) = request(footage.path(), resumed.path(), config()) else {
        return;
    };
    curate(&first);
    let measured = |folder: &str| -> Vec<_> {
        let entries = fs::read_dir(resumed.path().join(folder)).unwrap();
        let written =
            |entry: fs::DirEntry| (entry.path(), entry.metadata().unwrap().modified().unwrap());
        let mut written: Vec<_> = entries.map(|entry| written(entry.unwrap())).collect();
        written.sort();
        written
    };
    let before = (measured("sources"), measured("thumbnails"));
    assert_eq!(
        fs::read_dir(resumed.path().join("images")).unwrap().count(),
        2
    );

    let mut other = config();
    // No image is large enough, and the smaller film counts no longer as a copy.
    for rule in other.tiers.iter_mut().flat_map(|tier| &mut tier.rules) {
        match rule.column.as_str() {
            "short_side" => rule.min = Some(160.0),
            "seconds" => rule.min = Some(1.0),
            _ => {}
        }
    }
    other.tiers.retain(|tier| tier.kind == tiers::Medium::Video);
    other.duplicates.threshold = 1.0;
    other.concepts.temperature = 0.0;
    other.clusters.seed = 1;
    let changed = Request {
        config: other.clone(),
        resume: true,
        ..first.clone()
    };
    curate(&changed);
    assert_eq!((measured("sources"), measured("thumbnails")), before);
    curate(&request(footage.path(), fresh.path(), other).unwrap());
    for name in [
        "clips.parquet",
        "images.parquet",
        "sources.parquet",
        "manifest.jsonl",
        "run.json",
    ] {
        let read = |folder: &TempDir| fs::read(folder.path().join(name)).unwrap();
        assert!(read(&resumed) == read(&fresh), "{name}");
    }
    for folder in ["clips", "images"] {
        let names = |out: &TempDir| -> BTreeSet<_> {
            let entries = fs::read_dir(out.path().join(folder)).unwrap();
            entries.map(|entry| entry.unwrap().file_name()).collect()
        };
        assert_eq!(names(&resumed), names(&fresh), "{folder}");
    }
    assert_eq!(
        fs::read_dir(resumed.path().join("clips")).unwrap().count(),
        2
    );

    let mut measuring = config();
    measuring.clips.longest = 3.5;
    let refused = Request {
        config: measuring,
        ..changed
    };
    let error = run::curate(&refused, &|_| ControlFlow::Continue(())).unwrap_err();
    assert!(
        error.to_string().contains("another configuration"),
        "{error}"
    );
}

/// A run stops while its clips are compared, and goes on to the tables later.
#[test]
fn a_run_stops_while_it_plans() {
    let (footage, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for seed in 74..77 {
        let path = footage.path().join(format!("{seed}.png"));
        films::ground(seed).save(path).unwrap();
    }
    let Some(request) = request(footage.path(), out.path(), config()) else {
        return;
    };
    // Not at once: it is heard between the beginning and the end.
    let planned = Mutex::new(Vec::new());
    let result = run::curate(&request, &|progress| {
        let mut planned = planned.lock().unwrap();
        if progress.stage == Stage::Plan {
            planned.push(progress.done);
        }
        match planned.len() {
            0..4 => ControlFlow::Continue(()),
            _ => ControlFlow::Break(()),
        }
    });
    assert!(matches!(result, Err(Error::Interrupted)), "{result:?}");
    let planned = planned.into_inner().unwrap();
    assert!(planned.len() == 4 && planned[3] < 3, "{planned:?}");
    assert!(Plan::read(out.path()).is_err());
    assert!(!out.path().join("manifest.jsonl").exists());
    let resumed = Request {
        resume: true,
        ..request
    };
    assert_eq!(curate(&resumed).counts.unwrap().images, 3);
}

/// What cannot be carried out leaves no output that would stand in the way of the next try.
#[test]
fn a_request_that_fails_at_once_leaves_nothing() {
    let footage = tempfile::tempdir().unwrap();
    let out = footage.path().join("out");
    films::ground(81)
        .save(footage.path().join("picture.png"))
        .unwrap();
    let mut no_weights = config();
    no_weights.aesthetics.clip = Some(footage.path().join("absent.safetensors"));
    let mut no_number = config();
    no_number.transitions.longest = f64::NAN;
    for (config, said) in [
        (no_weights, "absent.safetensors"),
        (no_number, "[transitions] longest"),
    ] {
        let Some(request) = request(footage.path(), &out, config) else {
            return;
        };
        let error = run::curate(&request, &|_| ControlFlow::Continue(())).unwrap_err();
        assert!(error.to_string().contains(said), "{error}");
        assert!(!out.exists(), "{said}");
    }
    curate(&request(footage.path(), &out, config()).unwrap());
}

#[cfg(unix)]
#[test]
fn two_runs_do_not_share_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    films::write(&folder.path().join("a.mp4"), &films::take(1, 1.0, 60.0));
    let out = folder.path().join("out");
    let Some(first) = request(folder.path(), &out, config()) else {
        return;
    };
    let second = Request {
        resume: true,
        ..first.clone()
    };
    let refusals = Mutex::new(Vec::new());
    let record = run::curate(&first, &|_| {
        let error = run::curate(&second, &|_| ControlFlow::Continue(())).unwrap_err();
        refusals.lock().unwrap().push(error.to_string());
        ControlFlow::Continue(())
    });
    assert_eq!(record.unwrap().counts.unwrap().sources, 1);
    let refusals = refusals.into_inner().unwrap();
    let told = "another run is at work";
    assert!(!refusals.is_empty() && refusals.iter().all(|refusal| refusal.contains(told)));
    curate(&second);
}
