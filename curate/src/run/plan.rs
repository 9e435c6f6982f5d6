//! What needs the whole set: duplicates, concepts, tiers.

use std::path::Path;

use burn::tensor::Device;
use serde_json::Value;

use super::{Clip, Measured, Meter, Observer, Shard, Stage, progress::Told};
use crate::{
    Result,
    config::Config,
    duplicates::best_first,
    embedding::Embeddings,
    tables::{self, CLIPS, IMAGES, Row, SOURCES, number, text},
    tiers::{self, Medium},
};

/// The share of the work that clustering takes, about; the search for duplicates takes the rest.
const CLUSTERED: f64 = 0.9;

/// The tables of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// A row for each file.
    pub sources: Vec<Row>,
    /// A row for each clip.
    pub clips: Vec<Row>,
    /// A row for each image.
    pub images: Vec<Row>,
}

/// Finds duplicates, concepts and tiers: a function of what was measured, whatever the order in
/// which it was.
///
/// # Errors
/// If the configuration cannot be carried out, or the observer stops the run.
pub fn plan(
    shards: &[Shard],
    config: &Config,
    device: &Device,
    observer: Observer,
) -> Result<Plan> {
    let rows = shards.iter().map(|shard| shard.clips.len() as u64).sum();
    let meter = Meter::new(observer, Stage::Plan, rows);
    let kind = |kind| sorted(shards, kind, config, device, &meter);
    Ok(Plan {
        sources: shards.iter().flat_map(source_rows).collect(),
        clips: kind(Medium::Video)?,
        images: kind(Medium::Image)?,
    })
}

impl Plan {
    /// Writes the tables.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn write(&self, output: &Path) -> Result<()> {
        tables::write(&output.join("sources.parquet"), &SOURCES, &self.sources)?;
        tables::write(&output.join("clips.parquet"), &CLIPS, &self.clips)?;
        tables::write(&output.join("images.parquet"), &IMAGES, &self.images)
    }

    /// Reads the tables of a run.
    ///
    /// # Errors
    /// If one is not there or cannot be read.
    pub fn read(output: &Path) -> Result<Self> {
        Ok(Self {
            sources: tables::read(&output.join("sources.parquet"))?,
            clips: tables::read(&output.join("clips.parquet"))?,
            images: tables::read(&output.join("images.parquet"))?,
        })
    }
}

fn source_rows(shard: &Shard) -> Vec<Row> {
    let first = shard.sources.first().map(|source| source.name.clone());
    let rows = shard.sources.iter().enumerate().map(|(copy, source)| {
        let mut row = tables::row(source);
        row.append(&mut tables::row(&shard.media));
        row.insert("clips".into(), Value::from(shard.clips.len()));
        // A file whose SHA-256 only begins as the first one's is left out, with an error.
        let identical = copy > 0 && source.sha256 == shard.sources[0].sha256;
        let identical = first.clone().filter(|_| identical);
        row.insert("identical_to".into(), Value::from(identical));
        if source.error.is_none() {
            row.insert("error".into(), Value::from(shard.error.clone()));
        }
        row
    });
    rows.collect()
}

/// The rows of one kind, in the order of their ids, with everything decided.
fn sorted(
    shards: &[Shard],
    kind: Medium,
    config: &Config,
    device: &Device,
    meter: &Meter,
) -> Result<Vec<Row>> {
    let measured = shards.iter().flat_map(|shard| {
        let of_kind = shard
            .clips
            .iter()
            .filter(move |measured| measured.clip.kind == kind);
        of_kind.map(move |measured| (shard, measured))
    });
    let mut measured: Vec<(&Shard, &Measured)> = measured.collect();
    measured.sort_by_key(|(_, measured)| &measured.clip.id);
    let clips: Vec<&Measured> = measured.iter().map(|(_, measured)| *measured).collect();
    let mut told = Told::new(meter, clips.len() as u64);
    told.share(0.0)?;
    let mut rows: Vec<Row> = measured
        .iter()
        .map(|(shard, m)| clip_row(shard, &m.clip))
        .collect();
    let Some(first) = clips.first() else {
        return Ok(rows);
    };
    let values = clips
        .iter()
        .flat_map(|measured| measured.embedding.iter().copied());
    let embeddings = Embeddings::new(values.collect(), first.embedding.len())?.normalized();
    let most = config.clusters.most_pairs(embeddings.len());
    let clustering =
        config
            .clusters
            .fit(&embeddings, device, &mut told.within(0.0..CLUSTERED, most))?;

    let order = by_quality(&rows, kind, config);
    let most = config.duplicates.most_pairs(&clustering);
    let originals = config.duplicates.find(
        &embeddings,
        &clustering,
        &order,
        device,
        &mut told.within(CLUSTERED..1.0, most),
    )?;
    for (item, original) in originals.into_iter().enumerate() {
        let original = original.map(|original| original as usize);
        let id = original.map(|original| clips[original].clip.id.as_str());
        let cosine = original.map(|other| cosine(embeddings.row(item), embeddings.row(other)));
        let row = &mut rows[item];
        row.insert("cluster".into(), Value::from(clustering.assignment[item]));
        row.insert("duplicate_of".into(), Value::from(id));
        row.insert("duplicate_cosine".into(), Value::from(cosine));
    }
    for row in &mut rows {
        let outcome = tiers::sort(&config.tiers, kind, row);
        row.append(&mut tables::row(&outcome));
    }
    weigh(&mut rows, &clustering.assignment, config)?;
    told.all()?;
    Ok(rows)
}

/// A clip's row, with what is known of its source.
fn clip_row(shard: &Shard, clip: &Clip) -> Row {
    let mut row = tables::row(clip);
    if let Some(source) = shard.sources.first() {
        let source = tables::row(source);
        row.insert("source_name".into(), source["name"].clone());
        for column in [
            "sha256",
            "origin",
            "licence",
            "consent",
            "retention",
            "expired",
            "caption",
            "metadata",
        ] {
            row.insert(column.into(), source[column].clone());
        }
    }
    row
}

/// The rows from the best to the worst: of copies, the one stays that gets furthest through the
/// tiers, then the largest, then the longest.
fn by_quality(rows: &[Row], kind: Medium, config: &Config) -> Vec<u32> {
    // Whole numbers, so that they can be compared: times are in microseconds to begin with.
    let whole = |row: &Row, column: &str, unit: f64| {
        (number(row, column).unwrap_or(0.0) * unit).round() as u64
    };
    let quality: Vec<(usize, u64, u64)> = rows
        .iter()
        .map(|row| {
            let rank = tiers::sort(&config.tiers, kind, row).rank;
            let pixels = whole(row, "crop_width", 1.0) * whole(row, "crop_height", 1.0);
            (rank, pixels, whole(row, "seconds", 1e6))
        })
        .collect();
    let ids: Vec<&str> = rows.iter().map(|row| text(row, "id")).collect();
    best_first(&quality, &ids)
}

/// The cosine of two vectors of length one.
fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let products = a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b));
    products.sum()
}

/// Gives the kept rows the weights that balance their concepts.
fn weigh(rows: &mut [Row], clusters: &[u32], config: &Config) -> Result<()> {
    let kept: Vec<usize> = (0..rows.len())
        .filter(|&item| !text(&rows[item], "tier").is_empty())
        .collect();
    let concepts: Vec<u32> = kept.iter().map(|&item| clusters[item]).collect();
    for (item, weight) in kept.into_iter().zip(config.concepts.weights(&concepts)?) {
        rows[item].insert("weight".into(), Value::from(weight));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use image::GrayImage;

    use super::*;
    use crate::run::output;
    use crate::{
        aesthetics::{dover::DoverScores, statistics::Statistics},
        clarity::Clarity,
        media::Crop,
        motion::{Camera, Motion},
        run::{Media, OverlaySummary, Source},
        tables::Column,
    };

    fn clip() -> Clip {
        Clip {
            id: "a-0-1".into(),
            source: "a".into(),
            kind: Medium::Video,
            first_picture: 0,
            end_picture: 1,
            pictures: 1,
            start: 0.0,
            end: 0.1,
            seconds: 0.1,
            rate: 10.0,
            width: 8,
            height: 8,
            crop: Crop {
                x: 0,
                y: 0,
                width: 8,
                height: 8,
            },
            crop_share: 1.0,
            short_side: 8,
            aspect: 1.0,
            transition: 0.0,
            overlays: OverlaySummary::new(&Default::default(), &crate::overlays::Decision::Keep),
            clarity: Some(Clarity::of(&GrayImage::new(8, 8))),
            motion: Some(Motion {
                speed: 0.0,
                fastest: 0.0,
                still: 1.0,
                repeated: 0.0,
                dynamic: false,
                subject: 0.0,
                camera: Camera::STILL,
            }),
            statistics: Statistics::default(),
            aesthetic: None,
            dover: Some(DoverScores::from_raw(0.0, 0.0)),
        }
    }

    fn shard() -> Shard {
        let source = Source {
            id: "a".into(),
            name: "a.mp4".into(),
            kind: Medium::Video,
            sha256: None,
            bytes: None,
            origin: None,
            licence: None,
            consent: None,
            retention: None,
            expired: false,
            caption: None,
            metadata: None,
            error: None,
        };
        Shard {
            sources: vec![source],
            media: Some(Media::default()),
            error: None,
            clips: vec![],
        }
    }

    /// JSON has no infinity; the other clips of the source are none the worse for it.
    #[test]
    fn a_number_that_is_none_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        output::create_folder(&folder.path().join("sources")).unwrap();
        let measured = |id: &str| Measured {
            clip: Clip {
                id: id.into(),
                ..clip()
            },
            embedding: vec![0.6, 0.8],
        };
        let mut clips = ["a-0-1", "a-1-2", "a-2-3", "a-3-4"].map(measured);
        clips[1].clip.aspect = f64::INFINITY;
        clips[2].clip.statistics.contrast = f32::NAN;
        clips[3].embedding[1] = f32::NAN;
        let good = clips[0].clone();
        for (bad, column) in clips[1..]
            .iter()
            .zip(["aspect", "statistics_contrast", "embedding"])
        {
            let shard = Shard {
                clips: vec![good.clone(), bad.clone()],
                ..shard()
            };
            shard.write(folder.path()).unwrap();
            let read = Shard::read_all(folder.path()).unwrap().remove(0);
            assert_eq!(read.clips, std::slice::from_ref(&good));
            let error = read.error.unwrap();
            assert!(
                error.contains(column) && error.contains(&bad.clip.id),
                "{error}"
            );
        }
    }

    fn names(columns: &[Column]) -> BTreeSet<&str> {
        columns.iter().map(|column| column.name).collect()
    }

    /// A value under a name that is no column would be lost without a word.
    #[test]
    fn every_value_has_its_column() {
        let source = source_rows(&shard()).remove(0);
        let found: BTreeSet<&str> = source.keys().map(String::as_str).collect();
        assert_eq!(found, names(&SOURCES));
        let clip = clip_row(&shard(), &clip());
        let mut found: BTreeSet<&str> = clip.keys().map(String::as_str).collect();
        // What the plan and the writing of files add.
        found.extend(["cluster", "duplicate_of", "duplicate_cosine"]);
        found.extend(["tier", "stage", "reason", "weight", "file", "file_error"]);
        assert_eq!(found, names(&CLIPS));
    }
}
