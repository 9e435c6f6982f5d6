//! Frame rates as fractions.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Pictures a second, as a fraction in lowest terms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FrameRate {
    /// Pictures in `denominator` seconds.
    pub numerator: u64,
    /// Seconds.
    pub denominator: u64,
}

impl FrameRate {
    /// Lowest terms; `None` where one of them is zero.
    pub fn new(numerator: u64, denominator: u64) -> Option<Self> {
        let divisor = gcd(numerator, denominator);
        (numerator > 0 && denominator > 0).then(|| Self {
            numerator: numerator / divisor,
            denominator: denominator / divisor,
        })
    }

    /// `24000/1001`, as ffprobe prints it; `None` for `0/0` and for what is no fraction.
    pub fn parse(text: &str) -> Option<Self> {
        let (numerator, denominator) = text.split_once('/')?;
        Self::new(numerator.parse().ok()?, denominator.parse().ok()?)
    }

    /// Pictures a second.
    pub fn per_second(self) -> f64 {
        self.numerator as f64 / self.denominator as f64
    }

    /// The rate that PySceneDetect makes of a nominal one (`framerate_to_fraction`): whole rates as
    /// they are, near `N * 1000/1001` that, others with a denominator of at most 10 000.
    pub(super) fn canonical(self) -> Self {
        if self.denominator == 1 {
            return self;
        }
        let base = (self.per_second() * 1001.0 / 1000.0).round_ties_even();
        if base > 0.0 && (base * 1000.0 / 1001.0 - self.per_second()).abs() < 1e-3 {
            return Self::new(base as u64 * 1000, 1001).unwrap_or(self);
        }
        self.limit_denominator(10_000)
    }

    /// The nearest fraction with a denominator of at most `limit`, by continued fractions.
    fn limit_denominator(self, limit: u64) -> Self {
        if self.denominator <= limit {
            return self;
        }
        let (mut n, mut d) = (self.numerator, self.denominator);
        let (mut p0, mut q0, mut p1, mut q1) = (0, 1, 1, 0);
        loop {
            let a = n / d;
            if q0 + a * q1 > limit {
                break;
            }
            (p0, q0, p1, q1) = (p1, q1, p0 + a * p1, q0 + a * q1);
            (n, d) = (d, n - a * d);
        }
        let k = (limit - q0) / q1;
        let distance = |p: u64, q: u64| (p as f64 / q as f64 - self.per_second()).abs();
        let (p, q) = (p0 + k * p1, q0 + k * q1);
        let nearest = match distance(p1, q1) <= distance(p, q) {
            true => Self::new(p1, q1),
            false => Self::new(p, q),
        };
        nearest.unwrap_or(self)
    }
}

impl fmt::Display for FrameRate {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}/{}", self.numerator, self.denominator)
    }
}

fn gcd(a: u64, b: u64) -> u64 {
    match b {
        0 => a.max(1),
        _ => gcd(b, a % b),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn canonical(text: &str) -> String {
        FrameRate::parse(text).unwrap().canonical().to_string()
    }

    /// Expectations from `scenedetect.common.framerate_to_fraction`.
    #[test]
    fn canonical_rates() {
        assert_eq!(canonical("50/2"), "25/1");
        assert_eq!(canonical("30000/1001"), "30000/1001");
        assert_eq!(canonical("2997/100"), "30000/1001");
        assert_eq!(canonical("23976/1000"), "24000/1001");
        assert_eq!(canonical("25/2"), "25/2");
        assert_eq!(canonical("1234567/98765"), "124988/9999");
    }

    #[test]
    fn no_rate() {
        for text in ["0/0", "25/0", "0/1", "25", "-25/1", ""] {
            assert_eq!(FrameRate::parse(text), None, "{text}");
        }
    }
}
