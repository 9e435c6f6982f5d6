//! Which clips make a batch.

use std::collections::BTreeMap;

use rand::{RngExt, SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha12Rng;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result, require};

/// Section `[batch]` of a configuration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BatchConfig {
    /// Tokens, image and text, that a batch may have: each bucket's batch size follows from it.
    /// A clip that is larger is a batch alone.
    pub tokens: usize,
    /// Batches whose gradients are added up to one step.
    pub accumulate: usize,
    /// Share of the batches that are images. Absent: as there are clips.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_share: Option<f64>,
    /// How often a caption is replaced by the empty one, which classifier-free guidance needs.
    pub caption_dropout: f64,
    /// Clips, the first of the shards by their numbers, that are not trained on but evaluated. Where one
    /// of them was erased, none that was trained on takes its place.
    pub held_out: usize,
}

impl Default for BatchConfig {
    fn default() -> Self {
        Self {
            tokens: 16_384,
            accumulate: 1,
            image_share: None,
            caption_dropout: 0.1,
            held_out: 0,
        }
    }
}

impl BatchConfig {
    /// Refuses values that cannot be meant.
    ///
    /// # Errors
    /// [`Error::Config`] with the field's name.
    pub fn validate(&self) -> Result<()> {
        let share = |x: f64| (0.0..=1.0).contains(&x);
        require(&[
            (self.tokens > 0, "batch.tokens has to be above 0"),
            (self.accumulate > 0, "batch.accumulate has to be above 0"),
            (
                self.image_share.is_none_or(share),
                "batch.image_share has to be from 0 to 1",
            ),
            (
                share(self.caption_dropout),
                "batch.caption_dropout has to be from 0 to 1",
            ),
        ])
    }
}

/// Clips of one size, so that they make a batch without padding or cropping.
#[derive(Clone, Debug)]
struct Bucket {
    /// Channels, frames, height and width of the latents.
    shape: [usize; 4],
    /// Their numbers, and how often each is to be taken compared with the others.
    clips: Vec<(usize, f64)>,
    /// The sum of these weights.
    weight: f64,
    /// Clips of a batch.
    batch: usize,
}

impl Bucket {
    fn is_images(&self) -> bool {
        self.shape[1] == 1
    }

    /// The clips of a round, as many as there are: each as often as there are whole numbers, shifted
    /// by `offset`, in its stretch of the sum of all weights (systematic sampling).
    fn round(&self, offset: f64) -> Vec<usize> {
        let unit = self.clips.len() as f64 / self.weight;
        let (mut sum, mut clips) = (offset, Vec::with_capacity(self.clips.len()));
        for (clip, weight) in &self.clips {
            sum += weight * unit;
            while clips.len() as f64 + 1.0 <= sum {
                clips.push(*clip);
            }
        }
        // Rounding may leave the last place empty.
        while let (true, Some((clip, _))) = (clips.len() < self.clips.len(), self.clips.last()) {
            clips.push(*clip);
        }
        clips
    }

    /// What [`Position`] calls it.
    fn name(&self) -> String {
        let [_, frames, height, width] = self.shape;
        format!("{frames}x{height}x{width}")
    }
}

/// How many clips of each bucket have been taken, by its size.
pub type Position = BTreeMap<String, u64>;

/// Deals clips into batches: every batch from one bucket, in an order that follows from the seed.
///
/// A round through a bucket of `n` clips takes each `n` times its share of the bucket's weight, rounded
/// up or down, so that the mean over the rounds is exact. Where all weights are the same that is once.
#[derive(Clone, Debug)]
pub struct Batches {
    buckets: Vec<Bucket>,
    seed: u64,
    image_share: Option<f64>,
}

impl Batches {
    /// Sorts clips, given by number, latent shape and weight, into buckets. `tokens` counts the
    /// tokens of a clip of a shape, its text included. A clip of weight 0 is never taken.
    ///
    /// # Errors
    /// No clips; a share of images or videos where there are none.
    pub fn new(
        config: &BatchConfig,
        seed: u64,
        clips: impl IntoIterator<Item = (usize, [usize; 4], f64)>,
        tokens: impl Fn([usize; 4]) -> usize,
    ) -> Result<Self> {
        let mut by_shape: BTreeMap<[usize; 4], Vec<(usize, f64)>> = BTreeMap::new();
        for (clip, shape, weight) in clips.into_iter().filter(|(.., weight)| *weight > 0.0) {
            by_shape.entry(shape).or_default().push((clip, weight));
        }
        let buckets: Vec<Bucket> = by_shape
            .into_iter()
            .map(|(shape, clips)| Bucket {
                shape,
                weight: clips.iter().map(|(_, weight)| weight).sum(),
                clips,
                batch: (config.tokens / tokens(shape)).max(1),
            })
            .collect();
        if buckets.is_empty() {
            return Err(Error::Data(format!(
                "there are no clips to train on: batch.held_out keeps the first {} away, and those of \
                 weight 0 are never taken",
                config.held_out
            )));
        }
        let any = |images| buckets.iter().any(|bucket| bucket.is_images() == images);
        if let Some(share) = config.image_share {
            let absent = match share {
                share if share > 0.0 && !any(true) => Some("images"),
                share if share < 1.0 && !any(false) => Some("videos"),
                _ => None,
            };
            if let Some(absent) = absent {
                let message = format!("batch.image_share is {share}, but there are no {absent}");
                return Err(Error::Config(message));
            }
        }
        Ok(Self {
            buckets,
            seed,
            image_share: config.image_share,
        })
    }

    /// The clips of the next batch; `rng` is the step's.
    pub fn next(&self, position: &mut Position, rng: &mut ChaCha12Rng) -> Vec<usize> {
        let images = self.image_share.map(|share| rng.random::<f64>() < share);
        let fits = |bucket: &&Bucket| images.is_none_or(|images| bucket.is_images() == images);
        let buckets = self.buckets.iter().enumerate();
        let buckets: Vec<_> = buckets.filter(|(_, bucket)| fits(bucket)).collect();
        let total: f64 = buckets.iter().map(|(_, bucket)| bucket.weight).sum();
        let mut ticket = rng.random_range(0.0..total);
        let drawn = buckets.iter().find(|(_, bucket)| {
            ticket -= bucket.weight;
            ticket < 0.0
        });
        // Rounding may leave a ticket for nobody.
        let Some((index, bucket)) = drawn.or(buckets.last()).copied() else {
            unreachable!("`new` refuses a share of what is not there");
        };
        let taken = position.entry(bucket.name()).or_default();
        let clips = self.deal(index, *taken);
        *taken += clips.len() as u64;
        clips
    }

    /// A batch from a bucket's endless order, which is one shuffled round after the other, after
    /// the `taken` clips before it.
    fn deal(&self, index: usize, taken: u64) -> Vec<usize> {
        let bucket = &self.buckets[index];
        let length = bucket.clips.len();
        let (mut round, mut place) = (taken / length as u64, (taken % length as u64) as usize);
        let mut clips = Vec::with_capacity(bucket.batch);
        while clips.len() < bucket.batch {
            let mut rng = ChaCha12Rng::seed_from_u64(self.seed ^ ORDER);
            rng.set_stream((index as u64) << 40 | round);
            let mut order = bucket.round(rng.random());
            order.shuffle(&mut rng);
            let end = length.min(place + bucket.batch - clips.len());
            clips.extend(&order[place..end]);
            (round, place) = (round + 1, 0);
        }
        clips
    }
}

/// Keeps the order's draws apart from the steps'.
const ORDER: u64 = 0x6f72_6465_7200_0000;

#[cfg(test)]
mod tests {
    use super::*;

    /// Four images of 4 tokens, six videos of 12.
    fn clips() -> Vec<(usize, [usize; 4], f64)> {
        (0..10)
            .map(|i| (i, [8, if i < 4 { 1 } else { 3 }, 4, 4], 1.0))
            .collect()
    }

    fn batches(config: &BatchConfig) -> Batches {
        Batches::new(config, 7, clips(), |[_, t, h, w]| t * h * w / 4).unwrap()
    }

    #[test]
    fn a_batch_is_one_bucket_within_the_budget_and_rounds_are_complete() {
        let config = BatchConfig {
            tokens: 30,
            ..BatchConfig::default()
        };
        let (batches, mut position) = (batches(&config), Position::new());
        let mut rng = ChaCha12Rng::seed_from_u64(0);
        let (mut images, mut videos) = (Vec::<usize>::new(), Vec::<usize>::new());
        for _ in 0..200 {
            let batch = batches.next(&mut position, &mut rng);
            match batch[0] < 4 {
                true => images.extend(batch.iter().inspect(|_| assert_eq!(batch.len(), 7))),
                false => videos.extend(batch.iter().inspect(|_| assert_eq!(batch.len(), 2))),
            }
        }
        for (dealt, expected) in [
            (images, (0..4).collect::<Vec<_>>()),
            (videos, (4..10).collect()),
        ] {
            for round in dealt.chunks_exact(expected.len()) {
                let mut round = round.to_vec();
                round.sort_unstable();
                assert_eq!(round, expected);
            }
        }
    }

    #[test]
    fn the_share_of_images_is_kept_and_the_position_resumes() {
        let config = BatchConfig {
            image_share: Some(0.2),
            tokens: 1,
            ..BatchConfig::default()
        };
        let batches = batches(&config);
        let (mut position, mut rng) = (Position::new(), ChaCha12Rng::seed_from_u64(1));
        let drawn: Vec<_> = (0..2000)
            .map(|_| batches.next(&mut position, &mut rng))
            .collect();
        let images = drawn.iter().filter(|batch| batch[0] < 4).count() as f64;
        assert!((images / 2000.0 - 0.2).abs() < 0.03, "{images}");

        let mut rng = ChaCha12Rng::seed_from_u64(2);
        let (mut other, mut same) = (position.clone(), rng.clone());
        assert_eq!(
            batches.next(&mut position, &mut rng),
            batches.next(&mut other, &mut same)
        );
        assert_eq!(position, other);
    }

    #[test]
    fn clips_are_taken_by_their_weights() {
        let weights = [0.5, 2.0, 1.25, 0.0, 3.0, 0.25];
        let clips = weights.iter().enumerate();
        let clips = clips.map(|(i, w)| (i, [8, 3, 4, 4 + (i / 3)], *w));
        let config = BatchConfig {
            tokens: 1,
            ..BatchConfig::default()
        };
        let batches = Batches::new(&config, 7, clips, |_| 1).unwrap();
        let (mut position, mut rng) = (Position::new(), ChaCha12Rng::seed_from_u64(1));
        let mut counts = [0.0; 6];
        for _ in 0..7000 {
            counts[batches.next(&mut position, &mut rng)[0]] += 1.0;
        }
        for (count, weight) in counts.into_iter().zip(weights) {
            assert!((count - 1000.0 * weight).abs() <= 100.0, "{count} {weight}");
        }
    }

    #[test]
    fn a_share_of_what_is_not_there_is_refused() {
        let config = BatchConfig {
            image_share: Some(0.2),
            ..BatchConfig::default()
        };
        let videos = clips().into_iter().filter(|(_, shape, _)| shape[1] > 1);
        let message = Batches::new(&config, 0, videos, |_| 1)
            .unwrap_err()
            .to_string();
        assert!(message.contains("no images"), "{message}");
        let none = Batches::new(&BatchConfig::default(), 0, [], |_| 1);
        let message = none.unwrap_err().to_string();
        assert!(message.contains("batch.held_out"), "{message}");
    }
}
