//! k-means on any device.
