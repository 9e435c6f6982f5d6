//! Near-duplicates: planted ones are found, the best copy stays, nothing else goes.

use burn::tensor::Device;
use burn_hunyuan_curate::{
    Error,
    duplicates::{self, best_first},
    embedding::{Embeddings, normalize},
    kmeans,
};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha12Rng;

use crate::common::device;

const WIDTH: usize = 64;
const ORIGINALS: usize = 3000;
const COPIES: usize = 600;

/// A random direction near `about`, the farther the larger `noise`.
fn near(about: &[f32], noise: f32, rng: &mut ChaCha12Rng) -> Vec<f32> {
    // A sum of uniform numbers is close enough to a normal one.
    let mut normal = || (0..12).map(|_| rng.random::<f32>()).sum::<f32>() - 6.0;
    let mut vector: Vec<f32> = about.iter().map(|v| v + noise * normal() / 8.0).collect();
    normalize(&mut vector);
    vector
}

/// Items around 40 concepts, then copies of some of them with a cosine of about 0.98.
fn planted(seed: u64) -> (Embeddings, Vec<u32>) {
    let mut rng = ChaCha12Rng::seed_from_u64(seed);
    let concepts: Vec<_> = (0..40)
        .map(|_| near(&[0.0; WIDTH], 1.0, &mut rng))
        .collect();
    let mut rows: Vec<Vec<f32>> = (0..ORIGINALS)
        .map(|i| near(&concepts[i % 40], 1.0, &mut rng))
        .collect();
    let mut originals = Vec::new();
    for _ in 0..COPIES {
        let original = rng.random_range(0..ORIGINALS);
        originals.push(original as u32);
        rows.push(near(&rows[original].clone(), 0.2, &mut rng));
    }
    (Embeddings::new(rows.concat(), WIDTH).unwrap(), originals)
}

fn cluster(items: &Embeddings, clusters: usize, device: &Device) -> kmeans::Clustering {
    let config = kmeans::Config {
        clusters,
        points_per_cluster: 1,
        ..kmeans::Config::default()
    };
    config.fit(items, device, &mut |_| Ok(())).unwrap()
}

fn cosine(items: &Embeddings, a: usize, b: usize) -> f32 {
    items
        .row(a)
        .iter()
        .zip(items.row(b))
        .map(|(a, b)| a * b)
        .sum()
}

#[test]
fn planted_duplicates_are_found() {
    let Some(device) = device() else { return };
    let (items, originals) = planted(0);
    let clustering = cluster(&items, 400, &device);
    let order: Vec<u32> = (0..items.len() as u32).collect();
    let recall = |cells| {
        let config = duplicates::Config {
            threshold: 0.95,
            cells,
        };
        let mut pairs = 0;
        let mut compared = |more: u64| {
            pairs += more;
            Ok(())
        };
        let found = config.find(&items, &clustering, &order, &device, &mut compared);
        let found = found.unwrap();
        assert!(pairs <= config.most_pairs(&clustering), "{pairs}");
        // Whatever is found is near, so precision is 1 by the definition of a duplicate.
        for (item, original) in found.iter().enumerate() {
            if let Some(original) = original {
                assert!(cosine(&items, item, *original as usize) >= 0.93);
                assert!(item >= ORIGINALS, "an original was given up");
            }
        }
        let copies = originals.iter().zip(&found[ORIGINALS..]);
        let hits = copies.filter(|(planted, found)| found.as_ref() == Some(planted));
        hits.count() as f64 / COPIES as f64
    };
    let recalls = [1, 2, 3].map(recall);
    println!("recall with 1, 2 and 3 cells: {recalls:?}");
    assert!(recalls[1] >= 0.98, "{recalls:?}");
    assert!(recalls.is_sorted());
}

/// With one cell the result is that of the plain comparison of all with all.
#[test]
fn one_cell_compares_all_with_all() {
    let Some(device) = device() else { return };
    let (items, _) = planted(1);
    let quality: Vec<usize> = (0..items.len()).map(|i| i * 7919 % 101).collect();
    let ids: Vec<usize> = (0..items.len()).collect();
    let order = best_first(&quality, &ids);
    let config = duplicates::Config {
        threshold: 0.95,
        cells: 1,
    };
    let found = config
        .find(
            &items,
            &cluster(&items, 1, &device),
            &order,
            &device,
            &mut |_| Ok(()),
        )
        .unwrap();

    let mut kept: Vec<usize> = Vec::new();
    for item in order.iter().map(|&item| item as usize) {
        let nearest = kept
            .iter()
            .map(|&other| (cosine(&items, item, other), other as u32))
            .max_by(|a, b| a.0.total_cmp(&b.0))
            .filter(|(cosine, _)| *cosine >= 0.95);
        assert_eq!(found[item], nearest.map(|(_, other)| other), "item {item}");
        if nearest.is_none() {
            kept.push(item);
        }
    }
}

/// With every cell searched no two kept items are near, and every duplicate has a kept original.
#[test]
fn all_cells_leave_no_pair() {
    let Some(device) = device() else { return };
    let (items, _) = planted(2);
    let order: Vec<u32> = (0..items.len() as u32).rev().collect();
    let config = duplicates::Config {
        threshold: 0.9,
        cells: 20,
    };
    let found = config
        .find(
            &items,
            &cluster(&items, 20, &device),
            &order,
            &device,
            &mut |_| Ok(()),
        )
        .unwrap();
    let kept: Vec<usize> = (0..items.len()).filter(|&i| found[i].is_none()).collect();
    for (place, &a) in kept.iter().enumerate() {
        for &b in &kept[..place] {
            assert!(cosine(&items, a, b) < 0.9 + 1e-6, "{a} and {b} stay");
        }
    }
    for (item, original) in found.iter().enumerate() {
        if let Some(original) = original {
            assert_eq!(found[*original as usize], None);
            assert!(*original as usize > item, "the worse copy of {item} stays");
        }
    }
}

#[test]
fn what_does_not_fit_together_is_refused() {
    let Some(device) = device() else { return };
    let (items, _) = planted(3);
    let clustering = cluster(&items.select(0..50), 4, &device);
    let items = items.select(0..50);
    let config = duplicates::Config::default();
    let orders: [Vec<u32>; 3] = [vec![], vec![0; 50], (1..51).collect()];
    for order in orders {
        let found = config.find(&items, &clustering, &order, &device, &mut |_| Ok(()));
        assert!(found.is_err());
    }
}

/// A search within cells and one across them end when told to.
#[test]
fn a_search_can_be_stopped() {
    let Some(device) = device() else { return };
    let (items, _) = planted(4);
    let clustering = cluster(&items, 20, &device);
    let order: Vec<u32> = (0..items.len() as u32).collect();
    let config = duplicates::Config::default();
    let stopped_after = |last| {
        let mut calls = 0;
        let mut compared = |_: u64| {
            calls += 1;
            match calls > last {
                true => Err(Error::Interrupted),
                false => Ok(()),
            }
        };
        let found = config.find(&items, &clustering, &order, &device, &mut compared);
        (found.map(drop), calls)
    };
    let (found, calls) = stopped_after(usize::MAX);
    found.unwrap();
    for last in [2, calls - 1] {
        let (found, calls) = stopped_after(last);
        assert!(matches!(found, Err(Error::Interrupted)), "{last}");
        assert_eq!(calls, last + 1);
    }
}
