//! Licence, consent, retention; scrubbing, pseudonyms, erasure and export.
