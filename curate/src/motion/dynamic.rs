//! The dynamic degree of VBench.

use super::field::Step;

/// VBench looks at this many pictures a second.
const PICTURES_A_SECOND: f64 = 8.0;

/// Every how many pictures of its source VBench looks at one.
pub fn sampling_interval(fps: f64) -> u64 {
    (fps / PICTURES_A_SECOND).round_ties_even().max(1.0) as u64
}

/// Whether a video is dynamic by the rule of VBench's dynamic degree
/// (`vbench/dynamic_degree.py`): its thresholds and its sampling, with our flow in RAFT's place.
///
/// `fastest` is the mean displacement of the fastest 5 % of the pixels from each sampled picture to
/// the next, in pixels; `shorter_side` is the picture's, in pixels; `fps` is the source's.
pub fn is_dynamic(fastest: &[f64], shorter_side: u32, fps: f64) -> bool {
    let slower = (PICTURES_A_SECOND / fps).max(1.0);
    let threshold = slower * 6.0 * f64::from(shorter_side) / 256.0;
    let pictures = fastest.len() + 1;
    let needed = (4.0 * pictures as f64 / 16.0).round_ties_even() as usize;
    let moving = fastest.iter().filter(|pixels| **pixels > threshold).count();
    // With too few pictures to ask for any, VBench takes a pair of any kind.
    !fastest.is_empty() && moving >= needed
}

/// The rule on a clip's steps; steps of another length than VBench's are scaled to it.
pub(super) fn clip_is_dynamic(steps: &[Step], width: u32, height: u32) -> bool {
    let pictures: u64 = steps.iter().map(|step| step.pictures).sum();
    let seconds: f64 = steps.iter().map(|step| step.seconds).sum();
    let fps = pictures as f64 / seconds;
    let interval = sampling_interval(fps) as f64;
    let diagonal = f64::from(width).hypot(f64::from(height));
    let fastest: Vec<f64> = steps
        .iter()
        .map(|step| step.fastest * step.seconds * diagonal * interval / step.pictures as f64)
        .collect();
    is_dynamic(&fastest, width.min(height), fps)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rule() {
        // 24 pictures at 8 a second: 6 of the 23 pairs have to move by more than 3 of 128 pixels.
        let pairs = |moving: usize| [vec![3.1; moving], vec![2.9; 23 - moving]].concat();
        assert!(is_dynamic(&pairs(6), 128, 24.0));
        assert!(!is_dynamic(&pairs(5), 128, 24.0));
        assert!(!is_dynamic(&pairs(23), 256, 24.0));
        // At 4 a second everything may move twice as far.
        assert!(!is_dynamic(&pairs(23), 128, 4.0));
        assert!(is_dynamic(&[6.1; 23], 128, 4.0));
        // 10 / 4 is rounded to even.
        assert!(is_dynamic(
            &[4.0, 4.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0],
            128,
            24.0
        ));
    }

    #[test]
    fn very_short() {
        assert!(!is_dynamic(&[], 128, 24.0));
        assert!(is_dynamic(&[0.0], 128, 24.0));
        assert!(!is_dynamic(&[0.0, 0.0], 128, 24.0));
    }

    #[test]
    fn sampling() {
        let intervals = [24.0, 25.0, 30.0, 60.0, 20.0, 5.0].map(sampling_interval);
        assert_eq!(intervals, [3, 3, 4, 8, 2, 1]);
    }
}
