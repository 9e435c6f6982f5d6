//! A clip as a vector, for duplicates and concepts.
