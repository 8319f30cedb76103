//! Which keys are good enough.

use crate::{Curve, KeyError, KeySpec, KeyType, PublicKey, Refusal};

/// The keys a profile certifies: a family, or any, and a minimum size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyPolicy {
    /// `None` for any family.
    required: Option<KeySpec>,
}

impl KeyPolicy {
    /// From the API's `key_type` (`any`, `rsa`, `ec`, `ed25519`, `mldsa`) and `key_bits` (0: the type's
    /// default).
    ///
    /// With `any`, the bits are not looked at, as on the peer; RSA then needs 2048 bits and any
    /// curve will do.
    ///
    /// # Errors
    /// An unknown type, or a size the type does not have.
    pub fn new(key_type: &str, key_bits: u32) -> Result<Self, KeyError> {
        match key_type {
            "any" => Ok(Self { required: None }),
            _ => Ok(Self { required: Some(KeySpec::new(key_type, key_bits)?) }),
        }
    }

    /// Any supported key: what sign-verbatim and the signing of intermediates accept.
    pub fn any() -> Self {
        Self { required: None }
    }

    /// The key to make when the client brings none; `None` if the policy leaves it open.
    pub fn spec(&self) -> Option<KeySpec> {
        self.required
    }

    /// Holds a key against the policy.
    ///
    /// # Errors
    /// Wrong family, too short, or RSA under 2048 bits.
    pub fn check(&self, key: &PublicKey) -> Result<(), Refusal> {
        let actual = key.spec();
        if let Some(required) = self.required
            && required.key_type() != actual.key_type()
        {
            return Err(Refusal::WrongKeyType { required: required.key_type() });
        }
        if let KeySpec::Rsa(bits) = actual
            && bits < 2048
            && self.required.is_none()
        {
            return Err(Refusal::WeakRsaKey);
        }
        let minimum = match (self.required, actual.key_type()) {
            (Some(required), _) => required.bits(),
            (None, KeyType::Rsa) => 2048,
            (None, KeyType::Ec) => Curve::P224.bits(),
            (None, KeyType::Ed25519 | KeyType::MlDsa) => 0,
        };
        if actual.bits() < minimum {
            return Err(Refusal::KeyTooShort { minimum, actual: actual.bits() });
        }
        Ok(())
    }
}
