//! Concepts: clusters of clips and the weights that balance them.
//!
//! The paper (arXiv 2412.03603, section 3.1) clusters the embeddings of its clips into about ten
//! thousand concepts and resamples them so that no concept dominates. It publishes no rule; this
//! one raises the concepts' frequencies to a power, as is usual for languages in text corpora
//! (arXiv 1911.02116, section 3.1).

use serde::{Deserialize, Serialize};

use crate::{
    Error, Result,
    range::{Checked, within},
};

/// How far the concepts are evened out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// A concept of `n` clips is drawn in proportion to `n^temperature`: 1 as often as it occurs,
    /// 0 as often as any other concept. Our choice.
    pub temperature: f64,
    /// Greatest weight of a clip; the mean is 1. It keeps the clips of rare concepts from being
    /// repeated too often. At least 1. Our choice.
    pub maximum: f64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            temperature: 0.5,
            maximum: 5.0,
        }
    }
}

impl Config {
    pub(crate) fn check(&self) -> Checked {
        within("temperature", self.temperature, 0.0..=1.0)?;
        // The mean weight is 1.
        within("maximum", self.maximum, 1.0..)
    }

    /// The sampling weight of each clip: `min(a · n^(temperature − 1), maximum)` with the number
    /// `n` of clips of its concept, and `a` such that the mean is 1.
    ///
    /// # Errors
    /// When the temperature is not in `0..=1`, or the maximum is below 1 or not finite.
    pub fn weights(&self, concepts: &[u32]) -> Result<Vec<f64>> {
        self.check().map_err(Error::Request)?;
        let count = concepts.iter().max().map_or(0, |&last| last as usize + 1);
        let mut sizes = vec![0_usize; count];
        for &concept in concepts {
            sizes[concept as usize] += 1;
        }
        let scale = self.scale(&sizes);
        let weight = |&concept: &u32| self.weight(scale, sizes[concept as usize]);
        Ok(concepts.iter().map(weight).collect())
    }

    fn weight(&self, scale: f64, size: usize) -> f64 {
        (scale * (size as f64).powf(self.temperature - 1.0)).min(self.maximum)
    }

    /// The factor that makes the mean weight 1: the clips of the rarest concepts are at the
    /// maximum, and the others share what is left.
    fn scale(&self, sizes: &[usize]) -> f64 {
        let mut sizes: Vec<usize> = sizes.iter().copied().filter(|&size| size > 0).collect();
        sizes.sort_unstable();
        let mut left: f64 = sizes.iter().sum::<usize>() as f64;
        let mut shares: f64 = sizes
            .iter()
            .map(|&n| (n as f64).powf(self.temperature))
            .sum();
        for size in sizes {
            let scale = left / shares;
            if scale * (size as f64).powf(self.temperature - 1.0) <= self.maximum {
                return scale;
            }
            left -= self.maximum * size as f64;
            shares -= (size as f64).powf(self.temperature);
        }
        // No clips, or rounding where all weights are 1.
        f64::INFINITY
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn concepts(sizes: &[usize]) -> Vec<u32> {
        let repeated = (0..).zip(sizes).map(|(concept, &size)| vec![concept; size]);
        repeated.flatten().collect()
    }

    #[test]
    fn temperature_0_draws_every_concept_alike() {
        let concepts = concepts(&[1, 10, 100]);
        let config = Config {
            temperature: 0.0,
            maximum: 100.0,
        };
        let weights = config.weights(&concepts).unwrap();
        for (concept, size) in [(0, 1.0), (1, 10.0), (2, 100.0)] {
            let place = concepts.iter().position(|&c| c == concept).unwrap();
            assert!((weights[place] - 37.0 / size).abs() < 1e-12);
        }
    }

    #[test]
    fn weights_beyond_the_maximum_go_to_the_others() {
        // Unbounded, the first clip would weigh 50.5; the hundred others take what it gives up.
        let config = Config {
            temperature: 0.0,
            maximum: 11.0,
        };
        let weights = config.weights(&concepts(&[1, 100])).unwrap();
        assert_eq!(weights[0], 11.0);
        assert!(weights[1..].iter().all(|w| (w - 0.9).abs() < 1e-12));
    }

    #[test]
    fn impossible_settings_are_refused() {
        for (temperature, maximum) in [(-0.1, 5.0), (1.1, 5.0), (f64::NAN, 5.0), (0.5, 0.9)] {
            let config = Config {
                temperature,
                maximum,
            };
            assert!(config.weights(&[0]).is_err());
        }
        assert!(Config::default().weights(&[]).unwrap().is_empty());
    }

    proptest! {
        #[test]
        fn weights_balance(
            sizes in proptest::collection::vec(0_usize..200, 1..30),
            temperature in 0.0..=1.0,
            maximum in 1.0..20.0,
        ) {
            let concepts = concepts(&sizes);
            prop_assume!(!concepts.is_empty());
            let weights = Config { temperature, maximum }.weights(&concepts).unwrap();

            let mean = weights.iter().sum::<f64>() / weights.len() as f64;
            prop_assert!((mean - 1.0).abs() < 1e-9, "mean {mean}");
            prop_assert!(weights.iter().all(|&w| w > 0.0 && w <= maximum));

            // The share of the largest concept does not grow, that of the smallest does not shrink.
            let share = |concept: usize| {
                let of = concepts.iter().zip(&weights).filter(|(c, _)| **c as usize == concept);
                of.map(|(_, weight)| weight).sum::<f64>()
            };
            let present = (0..sizes.len()).filter(|&c| sizes[c] > 0);
            let largest = present.clone().max_by_key(|&c| sizes[c]).unwrap();
            let smallest = present.min_by_key(|&c| sizes[c]).unwrap();
            prop_assert!(share(largest) <= sizes[largest] as f64 + 1e-9);
            prop_assert!(share(smallest) >= sizes[smallest] as f64 - 1e-9);
        }
    }
}
