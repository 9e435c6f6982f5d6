//! Video files: probing, decoding and cutting them with ffmpeg, kept within bounds.
