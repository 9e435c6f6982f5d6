//! Keyed pseudonyms for names.

use std::{fs, path::Path};

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::{Error, Result};

/// The shortest key, in bytes. Shorter ones can be guessed, and with them every name.
const SHORTEST_KEY: usize = 16;

/// Replaces names by HMAC-SHA-256 (RFC 2104) under a secret key.
///
/// The same name gives the same pseudonym, so that a source can be found again by who holds the
/// key; without the key the names cannot be had back, nor guesses be confirmed.
#[derive(Clone)]
pub struct Pseudonyms {
    mac: Hmac<Sha256>,
}

impl Pseudonyms {
    /// Reads the key from a file; a line's end after it is not part of it.
    ///
    /// # Errors
    /// If the file cannot be read or the key is shorter than 16 bytes.
    pub fn open(path: &Path) -> Result<Self> {
        let bytes = fs::read(path).map_err(|source| Error::File {
            action: "read",
            path: path.into(),
            source,
        })?;
        let key = bytes.trim_ascii_end();
        if key.len() < SHORTEST_KEY {
            let problem = format!(
                "the key has {} bytes and needs at least {SHORTEST_KEY}; make one with `openssl \
                 rand -hex 32`",
                key.len()
            );
            let path = path.into();
            return Err(Error::Unusable { path, problem });
        }
        Self::new(key).ok_or_else(|| Error::Request("the key cannot be used".into()))
    }

    fn new(key: &[u8]) -> Option<Self> {
        let mac = Hmac::new_from_slice(key).ok()?;
        Some(Self { mac })
    }

    /// The pseudonym of `name`: 64 hexadecimal digits.
    pub fn of(&self, name: &str) -> String {
        let mac = self.mac.clone().chain_update(name.as_bytes());
        crate::run::hex(&mac.finalize().into_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Test cases 1, 2 and 6 of RFC 4231.
    #[test]
    fn pseudonyms_are_hmac_sha_256() {
        let cases: [(&[u8], &str, &str); 3] = [
            (
                &[0x0b; 20],
                "Hi There",
                "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7",
            ),
            (
                b"Jefe",
                "what do ya want for nothing?",
                "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
            ),
            (
                &[0xaa; 131],
                "Test Using Larger Than Block-Size Key - Hash Key First",
                "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54",
            ),
        ];
        for (key, name, expected) in cases {
            assert_eq!(Pseudonyms::new(key).unwrap().of(name), expected);
        }
    }

    #[test]
    fn short_keys_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        fs::write(&path, "fifteen bytes..\n").unwrap();
        let error = Pseudonyms::open(&path).err().unwrap().to_string();
        assert!(error.contains("15 bytes"), "{error}");
        fs::write(&path, "sixteen bytes...\n").unwrap();
        let with_newline = Pseudonyms::open(&path).unwrap();
        fs::write(&path, "sixteen bytes...").unwrap();
        let without = Pseudonyms::open(&path).unwrap();
        assert_eq!(with_newline.of("a"), without.of("a"));
        assert_ne!(without.of("a"), without.of("b"));
    }
}
