//! What a picture looks like: learned scores where weights are given, measured statistics elsewhere.
