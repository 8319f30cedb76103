//! Seals: what guards the root key while the barrier is closed.

pub(crate) mod scheme;
pub(crate) mod shamir;
mod static_key;

use std::fmt;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

pub use scheme::{SchemeError, ShareCollector, ShareError, ShareScheme};
pub use shamir::{CombineError, Share, combine};
pub use static_key::{StaticKey, StaticKeyError, StaticSeal};

use crate::StorageError;
use crate::cipher::{Cipher, SecretKey};
use crate::keyring::{open_under, random_key, seal_under};

/// Something that can encrypt a small secret and decrypt it later, without the barrier.
#[async_trait]
pub trait Seal: fmt::Debug + Send + Sync {
    /// The word for it in `seal-status` and in the configuration: `shamir`, `static`.
    fn kind(&self) -> &'static str;

    /// Encrypts a secret; `place` says which one it is, so that one cannot stand in for another.
    async fn seal(&self, place: &str, secret: &[u8]) -> Result<SealedSecret, SealError>;

    /// Decrypts what [`seal`](Self::seal) made for the same place.
    ///
    /// # Errors
    /// [`SealError::WrongKey`] if it was sealed by another key.
    async fn unseal(&self, place: &str, sealed: &SealedSecret) -> Result<Zeroizing<Vec<u8>>, SealError>;

    /// Whether a new seal of the same secret would use another key: then it is sealed again.
    fn outdated(&self, sealed: &SealedSecret) -> bool;
}

/// A secret as a seal left it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealedSecret {
    /// Which of the seal's keys; empty where there is only one.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub key_id: String,
    /// The ciphertext.
    #[serde(with = "hex")]
    pub ciphertext: Vec<u8>,
}

/// Why a seal operation was refused or failed.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum SealError {
    /// There are no keys yet.
    #[error("the store is not initialized")]
    NotInitialized,
    /// There are keys already; making new ones would lose every record.
    #[error("the store is already initialized")]
    AlreadyInitialized,
    /// The share was not taken, or the shares do not fit together.
    #[error("invalid key: {0}")]
    Share(#[from] ShareError),
    /// The key does not open what it should open.
    #[error("invalid key: it does not open the root key of this store")]
    WrongKey,
    /// The store was initialised under another seal than the configured one.
    #[error("the store is sealed by {stored:?}, but the configuration names the seal {configured:?}")]
    OtherSeal {
        /// What the store says.
        stored: String,
        /// What the configuration says.
        configured: &'static str,
    },
    /// The stored secret names a key that the configuration does not have.
    #[error("the root key is sealed under the key {key_id:?}, which is not configured")]
    UnknownKey {
        /// The key's name.
        key_id: String,
    },
    /// An operation of the other family of seals: key shares do not unseal an auto-unsealed store.
    #[error("not applicable to the seal {kind:?}")]
    NotApplicable {
        /// The seal in use.
        kind: &'static str,
    },
    /// The barrier, or the store below it.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// The seal of Shamir shares: they combine to a key, and that key seals the root key.
pub(crate) struct UnsealKey(SecretKey);

impl UnsealKey {
    pub(crate) fn generate() -> Self {
        Self(random_key())
    }

    /// `None` unless it has 32 bytes.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        Some(Self(Zeroizing::new(bytes.try_into().ok()?)))
    }

    pub(crate) fn split(&self, scheme: ShareScheme) -> Vec<Share> {
        shamir::split(self.0.as_ref(), scheme)
    }

    pub(crate) fn same_as(&self, other: &Self) -> bool {
        aws_lc_rs::constant_time::verify_slices_are_equal(self.0.as_ref(), other.0.as_ref()).is_ok()
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        self.0.as_ref()
    }
}

#[async_trait]
impl Seal for UnsealKey {
    fn kind(&self) -> &'static str {
        "shamir"
    }

    async fn seal(&self, place: &str, secret: &[u8]) -> Result<SealedSecret, SealError> {
        let ciphertext = seal_under(&Cipher::new(&self.0), 0, place.as_bytes(), secret);
        Ok(SealedSecret { key_id: String::new(), ciphertext })
    }

    async fn unseal(&self, place: &str, sealed: &SealedSecret) -> Result<Zeroizing<Vec<u8>>, SealError> {
        open_under(&Cipher::new(&self.0), place.as_bytes(), sealed.ciphertext.clone())
            .ok_or(SealError::WrongKey)
    }

    fn outdated(&self, _sealed: &SealedSecret) -> bool {
        false
    }
}

impl fmt::Debug for UnsealKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("UnsealKey([redacted])")
    }
}

/// Bytes as hexadecimal text in JSON.
mod hex {
    use data_encoding::HEXLOWER;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&HEXLOWER.encode(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(deserializer)?;
        HEXLOWER.decode(text.as_bytes()).map_err(Error::custom)
    }
}
