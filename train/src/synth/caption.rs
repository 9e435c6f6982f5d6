//! Scenes in words.

use rand::{Rng, seq::IndexedRandom};

use super::scene::{Motion, Scene, Texture};
use crate::data::StructuredCaption;

/// `a <colour> <shape> <motion> over a <colour> background`, for example `a red circle moves left
/// over a blue background`. The article is always `a`.
pub fn plain_caption(scene: &Scene) -> String {
    format!(
        "a {} {} {} over a {} background",
        scene.colour.word(),
        scene.shape.word(),
        scene.motion.word(),
        scene.background.colour.word(),
    )
}

/// The plain caption first, then others that say the same.
pub fn captions(scene: &Scene, rng: &mut impl Rng) -> Vec<String> {
    let thing = thing(scene);
    let backdrop = backdrop(scene);
    let colour = scene.background.colour.word();
    let (motion, synonym) = (scene.motion.word(), synonym(scene.motion));
    let bare = [
        format!("{thing} {motion} over {backdrop}"),
        format!("{thing} {motion}, the background is {colour}"),
        format!("over {backdrop}, {thing} {motion}"),
    ];
    let varied = [
        format!("a video of {thing} that {synonym} over {backdrop}"),
        format!("{thing} {synonym} in front of {backdrop}"),
    ];
    let one_of_each = [bare.choose(rng), varied.choose(rng)];
    let others = one_of_each.into_iter().flatten().cloned();
    std::iter::once(plain_caption(scene))
        .chain(others)
        .collect()
}

/// The caption in the fields of HunyuanVideo's own captions (section 3 of the paper).
pub fn structured_caption(scene: &Scene) -> StructuredCaption {
    let (thing, backdrop) = (thing(scene), backdrop(scene));
    let synonym = synonym(scene.motion);
    let atmosphere = match scene.motion {
        Motion::Still => "calm",
        _ => "lively",
    };
    StructuredCaption {
        short_description: plain_caption(scene),
        dense_description: format!("{thing} {synonym} over {backdrop}, the camera is still"),
        background: backdrop,
        style: "flat computer graphics".into(),
        shot_type: "static shot".into(),
        lighting: "even".into(),
        atmosphere: atmosphere.into(),
    }
}

/// The shape with its colour.
fn thing(scene: &Scene) -> String {
    with_article(&format!("{} {}", scene.colour.word(), scene.shape.word()))
}

/// The background with its texture.
fn backdrop(scene: &Scene) -> String {
    let colour = scene.background.colour.word();
    match scene.background.texture {
        Texture::Flat => with_article(&format!("{colour} background")),
        texture => with_article(&format!("{} {colour} background", texture.word())),
    }
}

/// Another way to say a motion.
fn synonym(motion: Motion) -> &'static str {
    match motion {
        Motion::Left => "moves to the left",
        Motion::Right => "moves to the right",
        Motion::Up => "moves upwards",
        Motion::Down => "moves downwards",
        Motion::Grow => "becomes larger",
        Motion::Shrink => "becomes smaller",
        Motion::Spin => "turns around",
        Motion::Still => "does not move",
    }
}

/// Puts `a` or `an` before a phrase.
fn with_article(phrase: &str) -> String {
    match phrase.starts_with(['a', 'e', 'i', 'o', 'u']) {
        true => format!("an {phrase}"),
        false => format!("a {phrase}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::synth::{Background, Colour, Shape, Triple};
    use rand::SeedableRng;
    use rand_chacha::ChaCha12Rng;

    #[test]
    fn every_caption_names_what_is_seen() {
        let mut rng = ChaCha12Rng::seed_from_u64(3);
        let triple = Triple {
            shape: Shape::Star,
            colour: Colour::Orange,
            motion: Motion::Left,
        };
        let scene = Scene {
            background: Background {
                colour: Colour::Cyan,
                texture: Texture::Stripes,
            },
            ..Scene::of(triple, &mut rng)
        };
        let all = captions(&scene, &mut rng);
        assert_eq!(all[0], "a orange star moves left over a cyan background");
        for caption in all
            .iter()
            .chain([&structured_caption(&scene).dense_description])
        {
            for word in ["orange star", "moves", "left", "cyan"] {
                assert!(caption.contains(word), "{caption}");
            }
        }
        assert!(all[2].contains("an orange star"), "{}", all[2]);
        assert!(all[2].contains("a striped cyan background"), "{}", all[2]);
    }
}
