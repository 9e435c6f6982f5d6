//! Procedural captioned clips: one shape, one colour, one motion, one background.
//!
//! Enough to train a small model from nothing and to measure what it learned: every fact of a
//! caption can be read back from the pixels.
//!
//! | file | what is in it |
//! | --- | --- |
//! | `scene` | what a clip shows, drawn at random, and which combinations are held out |
//! | `render` | the picture of a scene at a moment, anti-aliased |
//! | `caption` | the same scene in words, plain, varied and structured |
//! | `check` | from pixels back to background, colour, motion and shape |

mod caption;
pub mod check;
mod render;
mod scene;

pub use caption::{captions, plain_caption, structured_caption};
pub use render::{frame, render};
pub use scene::{Background, Colour, Motion, Pose, Scene, Shape, Texture, Triple};

use rand::SeedableRng;
use rand_chacha::ChaCha12Rng;

/// The scene of clip `index` of the dataset with this seed, none of them held out. The same on
/// every machine, in any order.
pub fn training_scene(seed: u64, index: u64) -> Scene {
    let mut rng = ChaCha12Rng::seed_from_u64(seed);
    rng.set_stream(index);
    loop {
        let scene = Scene::random(&mut rng);
        if !scene.triple().is_held_out() {
            return scene;
        }
    }
}

/// The scene of clip `index` of the held-out set with this seed: only triples that training never
/// sees.
pub fn held_out_scene(seed: u64, index: u64) -> Scene {
    let mut rng = ChaCha12Rng::seed_from_u64(!seed);
    rng.set_stream(index);
    let triples: Vec<Triple> = Triple::all().filter(Triple::is_held_out).collect();
    Scene::of(triples[index as usize % triples.len()], &mut rng)
}
