//! Near-duplicates within clusters.
