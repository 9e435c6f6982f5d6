//! The pipeline: sources to clips, clips to tiers.
