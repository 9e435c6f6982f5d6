//! Concepts: clusters of clips and the weights that balance them.
