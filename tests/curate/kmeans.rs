//! k-means against scikit-learn (`tests/reference/kmeans.py`).

use burn::tensor::Device;
use burn_hunyuan_curate::{
    Error,
    embedding::Embeddings,
    kmeans::{Config, nearest},
};

use crate::common::{Fixture, device, values};

fn rows(fixture: &Fixture, key: &str, device: &Device) -> Embeddings {
    let tensor = fixture.tensor::<2>(key, device);
    Embeddings::new(values(&tensor), tensor.dims()[1]).unwrap()
}

fn config(clusters: usize) -> Config {
    Config {
        clusters,
        points_per_cluster: 1,
        ..Config::default()
    }
}

#[track_caller]
fn assert_near(ours: f64, reference: f64, bound: f64) {
    let deviation = (ours / reference - 1.0).abs();
    assert!(deviation <= bound, "{ours} is not {reference}: {deviation}");
}

#[test]
fn lloyd_takes_the_references_steps() {
    let Some(device) = device() else { return };
    let fixture = Fixture::open("kmeans.safetensors");
    let points = rows(&fixture, "points", &device);
    for (case, expected) in fixture.config()["cases"].as_object().unwrap() {
        let start = rows(&fixture, &format!("{case}.start"), &device);
        let config = Config {
            iterations: expected["most"].as_u64().unwrap() as usize,
            ..config(start.len())
        };
        let found = config.fit_from(&points, start, &device, &mut |_| Ok(()));
        let found = found.unwrap();

        let labels = values(&fixture.tensor::<1>(&format!("{case}.labels"), &device));
        let ours: Vec<f32> = found.assignment.iter().map(|&c| c as f32).collect();
        assert_eq!(ours, labels, "{case}");
        let centres = rows(&fixture, &format!("{case}.centres"), &device);
        for (ours, reference) in found.centres.values().iter().zip(centres.values()) {
            assert!(
                (ours - reference).abs() < 1e-4,
                "{case}: {ours} {reference}"
            );
        }
        assert_near(found.inertia, expected["inertia"].as_f64().unwrap(), 1e-5);
        assert_eq!(
            found.iterations as u64,
            expected["iterations"].as_u64().unwrap()
        );
    }
}

/// The mean inertia over seeds: single runs end in different local minima.
fn mean_inertia(points: &Embeddings, config: &Config, device: &Device) -> f64 {
    let runs = (0..200).map(|seed| {
        let config = Config {
            seed,
            ..config.clone()
        };
        let found = config.fit(points, device, &mut |_| Ok(()));
        found.unwrap().inertia
    });
    runs.sum::<f64>() / 200.0
}

#[test]
fn plus_plus_starts_as_well_as_the_reference() {
    let Some(device) = device() else { return };
    let fixture = Fixture::open("kmeans.safetensors");
    let points = rows(&fixture, "points", &device);
    let ours = mean_inertia(&points, &config(12), &device);
    let reference = fixture.config()["plus_plus"].as_f64().unwrap();
    println!("k-means++: {ours}, scikit-learn {reference}");
    assert!(ours <= 1.01 * reference, "{ours} {reference}");
}

#[test]
fn mini_batches_end_as_well_as_the_reference() {
    let Some(device) = device() else { return };
    let fixture = Fixture::open("kmeans.safetensors");
    let points = rows(&fixture, "points", &device);
    let config = Config {
        mini_batch_above: 0,
        mini_batch: 128,
        ..config(12)
    };
    let ours = mean_inertia(&points, &config, &device);
    let reference = fixture.config()["mini_batch"].as_f64().unwrap();
    println!("mini-batches: {ours}, scikit-learn {reference}");
    assert!(ours <= 1.01 * reference, "{ours} {reference}");
}

#[test]
fn result_does_not_depend_on_the_number_of_threads() {
    let Some(device) = device() else { return };
    // Large enough for every step to be spread over threads, and for more than one block.
    let mut state = 1_u64;
    let mut next = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1);
        (state >> 40) as f32 / 16_777_216.0
    };
    let points = Embeddings::new((0..5000 * 48).map(|_| next()).collect(), 48).unwrap();
    for mini_batch_above in [usize::MAX, 0] {
        let config = Config {
            iterations: 4,
            mini_batch: 2500,
            mini_batch_above,
            ..config(100)
        };
        let runs = [1, 2, 5].map(|threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
            let pool = pool.build().unwrap();
            pool.install(|| config.fit(&points, &device, &mut |_| Ok(())).unwrap())
        });
        assert_eq!(runs[0], runs[1]);
        assert_eq!(runs[0], runs[2]);
    }
}

/// All ways to the clusters tell what they compare, no more than they promise, and end when told to.
#[test]
fn what_is_compared_is_told_and_can_be_stopped() {
    let Some(device) = device() else { return };
    let values = (0..6000 * 3).map(|i: u32| (i.wrapping_mul(2654435761) >> 16) as f32);
    let points = Embeddings::new(values.collect(), 3).unwrap();
    for mini_batch_above in [usize::MAX, 0] {
        let config = Config {
            iterations: 5,
            tolerance: 0.0,
            mini_batch: 3000,
            mini_batch_above,
            ..config(20)
        };
        let mut told = Vec::new();
        let mut compared = |pairs: u64| {
            told.push(pairs);
            Ok(())
        };
        let found = config.fit(&points, &device, &mut compared).unwrap();
        let pairs: u64 = told.iter().sum();
        assert!(pairs <= config.most_pairs(6000), "{pairs}");
        // Each iteration compares its points with all centres, the end all points.
        let batch = if mini_batch_above == 0 { 3000 } else { 6000 };
        let least = (found.iterations * batch + 6000) * 20;
        assert!(pairs >= least as u64, "{pairs} {least}");

        // In the choice of the first centres, in the iterations, at the very end.
        for last in [2, told.len() / 2, told.len() - 1] {
            let mut calls = 0;
            let mut compared = |_: u64| {
                calls += 1;
                match calls > last {
                    true => Err(Error::Interrupted),
                    false => Ok(()),
                }
            };
            let result = config.fit(&points, &device, &mut compared);
            assert!(matches!(result, Err(Error::Interrupted)), "{last}");
            assert_eq!(calls, last + 1);
        }
    }
}

#[test]
fn fewer_distinct_points_than_clusters() {
    let Some(device) = device() else { return };
    let points = Embeddings::new([[1.0, 2.0], [5.0, 5.0]].concat().repeat(4), 2).unwrap();
    let cluster = |points: &Embeddings| config(5).fit(points, &device, &mut |_| Ok(()));
    let found = cluster(&points).unwrap();
    assert!(found.inertia < 1e-9, "{}", found.inertia);
    assert_eq!(found.assignment.len(), 8);
    assert!(cluster(&points.select([])).is_err());
}

#[test]
fn nearest_centres_come_in_order() {
    let Some(device) = device() else { return };
    let centres = Embeddings::new(vec![0.0, 10.0, 20.0, 40.0], 1).unwrap();
    let points = Embeddings::new(vec![11.0, 31.0, -5.0], 1).unwrap();
    let found = nearest(&points, &centres, 3, &device, &mut |_| Ok(())).unwrap();
    assert_eq!(found, [1, 2, 0, 3, 2, 1, 0, 1, 2]);
}
