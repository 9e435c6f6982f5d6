//! The same at random sizes.

use proptest::{prelude::*, test_runner::RngSeed};

use super::*;

/// Lengths of an axis: one, and around and between the multiples of what vector units hold.
fn length() -> impl Strategy<Value = usize> {
    prop_oneof![Just(1), 2..=9_usize, 14..=18_usize, 30..=70_usize]
}

/// Lengths over which to normalise. Of fewer values, some lie so close together that their rounding
/// decides the result.
fn several() -> impl Strategy<Value = usize> {
    prop_oneof![4..=9_usize, 14..=18_usize, 30..=70_usize]
}

/// The same cases every time; none is written beside the sources.
fn random_cases() -> ProptestConfig {
    ProptestConfig {
        cases: 24,
        rng_seed: RngSeed::Fixed(0),
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(random_cases())]

    #[test]
    fn convolutions_of_random_sizes(
        batch in 1..=2_usize,
        channels in prop::array::uniform2(prop_oneof![3 => 1..=10_usize, 1 => 46..=50_usize]),
        frames in 1..=4_usize,
        height in 1..=10_usize,
        width in prop_oneof![1..=9_usize, 14..=18_usize, 30..=34_usize],
    ) {
        let [inputs, outputs] = channels;
        assert_convolution([batch, inputs, outputs, frames, height, width]);
    }

    #[test]
    fn group_norms_of_random_sizes(
        batch in 1..=3_usize,
        groups in 1..=5_usize,
        channels in 1..=5_usize,
        positions in several(),
        with_silu: bool,
    ) {
        assert_group_norm([batch, groups, groups * channels, positions], with_silu);
    }

    #[test]
    fn norms_of_random_sizes(batch in 1..=3_usize, tokens in length(), width in several()) {
        assert_norms([batch, tokens, width]);
    }

    #[test]
    fn gates_of_random_sizes(batch in 1..=3_usize, tokens in length(), width in length()) {
        assert_gate([batch, tokens, width]);
    }

    #[test]
    fn activations_of_random_sizes(count in length()) {
        assert_activations(count);
    }

    #[test]
    fn rotations_of_random_sizes(
        batch in 1..=3_usize,
        tokens in length(),
        heads in 1..=4_usize,
        pairs in length(),
    ) {
        assert_rotation([batch, tokens, heads, 2 * pairs]);
    }

    #[test]
    fn attention_of_random_sizes(
        heads in 1..=3_usize,
        queries in length(),
        keys in length(),
        d in length(),
        valid in prop::collection::vec(0.0..1.0, 1..=3),
    ) {
        let lengths = valid.iter().map(|part: &f64| 1 + (part * keys as f64) as usize);
        assert_attention([heads, queries, keys, d], &lengths.collect::<Vec<_>>());
    }

    #[test]
    fn linear_layers_of_random_sizes(
        rows in length(),
        inputs in prop_oneof![3 => length(), 1 => 1000..=1100_usize],
        outputs in length(),
        with_bias: bool,
    ) {
        assert_linear([rows, inputs, outputs], with_bias);
    }
}
