//! Motion: dense optical flow and what follows from it.
