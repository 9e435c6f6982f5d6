//! Captions in parts.

use rand::{RngExt, seq::SliceRandom};
use rand_chacha::ChaCha12Rng;
use serde::{Deserialize, Serialize};

/// A caption in the fields of HunyuanVideo's captioner (section 3 of the paper), of which training
/// drops and permutes some. A field may be empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct StructuredCaption {
    /// The main content in a sentence.
    pub short_description: String,
    /// What happens, with transitions and camera movements.
    pub dense_description: String,
    /// The surroundings.
    pub background: String,
    /// Documentary, cinematic, realistic, computer graphics.
    pub style: String,
    /// Aerial shot, close-up, static shot.
    pub shot_type: String,
    /// The light.
    pub lighting: String,
    /// The mood.
    pub atmosphere: String,
}

impl StructuredCaption {
    /// The fields that are not empty.
    fn fields(&self) -> Vec<&str> {
        let fields = [
            &self.short_description,
            &self.dense_description,
            &self.background,
            &self.style,
            &self.shot_type,
            &self.lighting,
            &self.atmosphere,
        ];
        let fields = fields.into_iter().map(|field| field.trim());
        fields.filter(|field| !field.is_empty()).collect()
    }

    /// The caption in words: its fields in a random order, each left out with probability
    /// `dropout`, but never all of them. Empty where all fields are.
    ///
    /// Trained on these, a model obeys short and long prompts in any order (arXiv 2412.03603,
    /// "Data annotation").
    pub fn tell(&self, dropout: f64, rng: &mut ChaCha12Rng) -> String {
        let mut fields = self.fields();
        fields.shuffle(rng);
        let mut rest = fields.into_iter();
        let first = rest.next();
        let rest = rest.filter(|_| rng.random::<f64>() >= dropout);
        let told: Vec<String> = first.into_iter().chain(rest).map(sentence).collect();
        told.join(" ")
    }
}

/// `text` with an end.
fn sentence(text: &str) -> String {
    match text.ends_with(['.', '!', '?']) {
        true => text.to_string(),
        false => format!("{text}."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use std::collections::HashSet;

    #[test]
    fn fields_are_permuted_and_dropped_at_their_rate() {
        let caption = StructuredCaption {
            short_description: "a cat".into(),
            style: " old. ".into(),
            lighting: "dim".into(),
            ..StructuredCaption::default()
        };
        let mut rng = ChaCha12Rng::seed_from_u64(0);
        let whole: HashSet<_> = (0..200).map(|_| caption.tell(0.0, &mut rng)).collect();
        assert_eq!(whole.len(), 6); // 3! orders
        assert!(whole.contains("old. dim. a cat."));

        let told: Vec<_> = (0..2000).map(|_| caption.tell(0.3, &mut rng)).collect();
        let count = |text| told.iter().filter(|told| told.contains(text)).count() as f64;
        // First with probability 1/3, else kept with probability 0.7.
        for field in ["a cat.", "old.", "dim."] {
            assert!((count(field) / 2000.0 - 0.8).abs() < 0.04, "{field}");
        }
        assert!(told.iter().all(|told| !told.is_empty()));
        assert_eq!(StructuredCaption::default().tell(0.3, &mut rng), "");
    }
}
