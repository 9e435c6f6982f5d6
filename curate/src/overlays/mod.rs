//! Borders, subtitles, watermarks and logos.
