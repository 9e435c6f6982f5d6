//! The tables of a run: clips and images, one row each.
