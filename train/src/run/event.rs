//! What a step amounts to, and what is told about it.

use super::Curves;

/// The numbers of a step, or of an evaluation.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metrics {
    /// What is minimised.
    pub loss: f64,
    /// Whatever else is to be logged, by name.
    pub terms: Vec<(&'static str, f64)>,
}

impl Metrics {
    /// A loss without further terms.
    pub fn new(loss: f64) -> Self {
        Self {
            loss,
            terms: Vec::new(),
        }
    }

    /// Adds a term.
    pub fn with(mut self, name: &'static str, value: f64) -> Self {
        self.terms.push((name, value));
        self
    }
}

/// What a run tells those who watch it.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// The run goes on from a checkpoint; this is what it logged until then.
    Resumed(&'a Curves),
    /// A step that is done.
    Step {
        /// Its number, from 1.
        step: u64,
        /// Its losses.
        metrics: &'a Metrics,
        /// How long it took.
        seconds: f64,
    },
    /// A line for people.
    Line(&'a str),
}
