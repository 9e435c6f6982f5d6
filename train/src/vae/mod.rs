//! Training of the VAE (section 4.1 of the paper).
//!
//! | file | what is in it |
//! | --- | --- |
//! | `config` | what a run is configured by |
//! | `curriculum` | which clips a step is trained on |
//! | `initial` | the weights that training from nothing begins with |
//! | `inflate` | from weights that were trained on images to weights for clips |
//! | `step` | a step's losses |
//! | `parallel` | what each of several devices does of a step |
//! | `evaluate` | how well held-out clips are reconstructed |
//! | `samples` | held-out clips and their reconstructions as pictures |
//! | `task` | the model, its critic, data and optimizers, as a run takes them |
//! | `export` | the weights as a checkpoint that everything else loads |

mod config;
mod curriculum;
mod evaluate;
mod export;
mod inflate;
mod initial;
mod parallel;
mod samples;
mod step;
mod task;

pub use config::{DataConfig, LossConfig, LpipsWeights, ModelConfig, VaeTraining};
pub use curriculum::{Batch, Curriculum, Stage};
pub use evaluate::{Evaluation, evaluate};
pub use export::export;
pub use inflate::inflate;
pub use initial::initialise;
pub use samples::{SamplesConfig, samples};
pub use step::{Losses, losses};
pub use task::{VaeData, VaeTask};
