//! Auto-unseal with 32-byte keys that the configuration gives: OpenBao's `seal "static"`.

use std::fmt;

use async_trait::async_trait;
use data_encoding::{BASE64, BASE64_NOPAD, BASE64URL, BASE64URL_NOPAD, HEXLOWER_PERMISSIVE};
use zeroize::Zeroizing;

use super::{Seal, SealError, SealedSecret};
use crate::cipher::{Cipher, KEY_SIZE, SecretKey};
use crate::keyring::{open_under, seal_under};

/// A key and the name under which sealed secrets remember it.
#[derive(Clone)]
pub struct StaticKey {
    id: String,
    secret: SecretKey,
}

/// Why a static key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StaticKeyError {
    /// Neither 32 bytes nor their hex or base64 form.
    #[error("the key {id:?} must be 32 bytes: raw, in hex or in base64")]
    Encoding {
        /// The key's name.
        id: String,
    },
    /// A key needs a name, or it could not be told from its successor.
    #[error("a static seal key needs an id")]
    NoId,
    /// Two keys of one name.
    #[error("the current and the previous key have the same id {id:?}")]
    SameId {
        /// The name.
        id: String,
    },
}

impl StaticKey {
    /// Takes key material as an operator stores it: 32 raw bytes, 64 hex digits, or base64.
    ///
    /// White space around the text forms, such as the line end of a file, does not count.
    ///
    /// # Errors
    /// See [`StaticKeyError`].
    pub fn new(id: impl Into<String>, material: &[u8]) -> Result<Self, StaticKeyError> {
        let id = id.into();
        if id.is_empty() {
            return Err(StaticKeyError::NoId);
        }
        match decode(material) {
            Some(secret) => Ok(Self { id, secret }),
            None => Err(StaticKeyError::Encoding { id }),
        }
    }

    /// The key's name.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }
}

impl fmt::Debug for StaticKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StaticKey({:?}, [redacted])", self.id)
    }
}

/// Seals with the current key; opens with the current or the previous one.
///
/// To replace the key, configure the old one as previous: the next start seals the root key under the new one.
#[derive(Debug, Clone)]
pub struct StaticSeal {
    current: StaticKey,
    previous: Option<StaticKey>,
}

impl StaticSeal {
    /// A seal with its current key and, after a change, the one before.
    ///
    /// # Errors
    /// Two keys of the same name.
    pub fn new(current: StaticKey, previous: Option<StaticKey>) -> Result<Self, StaticKeyError> {
        if previous.as_ref().is_some_and(|previous| previous.id == current.id) {
            return Err(StaticKeyError::SameId { id: current.id });
        }
        Ok(Self { current, previous })
    }
}

#[async_trait]
impl Seal for StaticSeal {
    fn kind(&self) -> &'static str {
        "static"
    }

    async fn seal(&self, place: &str, secret: &[u8]) -> Result<SealedSecret, SealError> {
        let StaticKey { id, secret: key } = &self.current;
        let ciphertext = seal_under(&Cipher::new(key), 0, place.as_bytes(), secret);
        Ok(SealedSecret { key_id: id.clone(), ciphertext })
    }

    async fn unseal(&self, place: &str, sealed: &SealedSecret) -> Result<Zeroizing<Vec<u8>>, SealError> {
        let mut keys = [Some(&self.current), self.previous.as_ref()].into_iter().flatten();
        let key = keys
            .find(|key| key.id == sealed.key_id)
            .ok_or_else(|| SealError::UnknownKey { key_id: sealed.key_id.clone() })?;
        open_under(&Cipher::new(&key.secret), place.as_bytes(), sealed.ciphertext.clone())
            .ok_or(SealError::WrongKey)
    }

    fn outdated(&self, sealed: &SealedSecret) -> bool {
        sealed.key_id != self.current.id
    }
}

fn decode(material: &[u8]) -> Option<SecretKey> {
    if let Ok(raw) = <[u8; KEY_SIZE]>::try_from(material) {
        return Some(Zeroizing::new(raw));
    }
    let text = material.trim_ascii();
    let encodings = [&HEXLOWER_PERMISSIVE, &BASE64, &BASE64_NOPAD, &BASE64URL, &BASE64URL_NOPAD];
    encodings.into_iter().find_map(|encoding| {
        let bytes = Zeroizing::new(encoding.decode(text).ok()?);
        Some(Zeroizing::new(<[u8; KEY_SIZE]>::try_from(bytes.as_slice()).ok()?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

    #[test]
    fn a_key_is_read_raw_in_hex_and_in_base64() {
        let raw: Vec<u8> = (0..32).collect();
        let forms = [
            raw.clone(),
            HEX.into(),
            HEX.to_uppercase().into(),
            format!("{HEX}\n").into(),
            BASE64.encode(&raw).into(),
            BASE64URL_NOPAD.encode(&raw).into(),
        ];
        for form in forms {
            assert_eq!(StaticKey::new("a", &form).unwrap().secret.as_slice(), raw);
        }
        for form in [&b""[..], &raw[1..], &HEX.as_bytes()[2..], b"not a key, but longer than thirty-two"] {
            let error = StaticKey::new("a", form).unwrap_err();
            assert_eq!(error.to_string(), "the key \"a\" must be 32 bytes: raw, in hex or in base64");
        }
        assert!(matches!(StaticKey::new("", &raw), Err(StaticKeyError::NoId)));
    }

    #[tokio::test]
    async fn the_previous_key_still_opens_and_is_outdated() {
        let key = |id: &str, byte| StaticKey::new(id, &[byte; 32]).unwrap();
        let old = StaticSeal::new(key("a", 1), None).unwrap();
        let sealed = old.seal("root", b"secret").await.unwrap();
        assert!(!old.outdated(&sealed));

        let new = StaticSeal::new(key("b", 2), Some(key("a", 1))).unwrap();
        assert_eq!(**new.unseal("root", &sealed).await.unwrap(), *b"secret");
        assert!(new.outdated(&sealed));
        assert!(matches!(new.unseal("other", &sealed).await, Err(SealError::WrongKey)));

        let other = StaticSeal::new(key("b", 2), None).unwrap();
        assert!(
            matches!(other.unseal("root", &sealed).await, Err(SealError::UnknownKey { key_id }) if key_id == "a")
        );
        let changed = StaticSeal::new(key("a", 3), None).unwrap();
        assert!(matches!(changed.unseal("root", &sealed).await, Err(SealError::WrongKey)));
        assert!(StaticSeal::new(key("a", 2), Some(key("a", 1))).is_err());
    }
}
