//! The keys that service accounts' tokens are verified with.

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, KeyOperations, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;

/// How many keys of a set are read.
const MAX_KEYS: usize = 64;

/// Why a set of keys is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JwksError {
    /// The file cannot be read.
    #[error("{path}: {reason}")]
    File {
        /// Which file.
        path: String,
        /// What the system says.
        reason: String,
    },
    /// Not a JWK Set (RFC 7517, 5).
    #[error("not a JWK Set: {0}")]
    Malformed(String),
    /// No key in it can verify what service accounts' tokens are signed with.
    #[error("no key among {0} verifies RS256 to RS512, PS256 to PS512, ES256, ES384 or EdDSA")]
    NoKey(usize),
    /// Too many keys.
    #[error("{0} keys, more than the 64 that are read")]
    TooMany(usize),
}

/// Keys that tokens are verified with (RFC 7517), each parsed once.
///
/// Symmetric keys, keys that are not for signatures, and kinds unknown here are passed over, as RFC 7517, 5 has it. What
/// a key can verify is the key's affair, not the token's: that way no token chooses its algorithm.
#[derive(Debug)]
pub struct Jwks(pub(super) Vec<Key>);

/// One key.
#[derive(Debug)]
pub(super) struct Key {
    /// Its identifier (`kid`).
    pub(super) id: Option<String>,
    /// What it verifies.
    pub(super) algorithms: &'static [Algorithm],
    pub(super) key: DecodingKey,
}

impl Jwks {
    /// Reads a JWK Set.
    ///
    /// # Errors
    /// It is none, or none of its keys can be used.
    pub fn parse(text: &[u8]) -> Result<Self, JwksError> {
        #[derive(Deserialize)]
        struct Set {
            keys: Vec<serde_json::Value>,
        }
        let set: Set =
            serde_json::from_slice(text).map_err(|error| JwksError::Malformed(error.to_string()))?;
        let count = set.keys.len();
        if count > MAX_KEYS {
            return Err(JwksError::TooMany(count));
        }
        let read = |key| serde_json::from_value::<Jwk>(key).ok().and_then(|jwk| Key::of(&jwk));
        let keys: Vec<Key> = set.keys.into_iter().filter_map(read).collect();
        if keys.is_empty() {
            return Err(JwksError::NoKey(count));
        }
        Ok(Self(keys))
    }

    /// How many keys can be used.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Never: there would be nothing to verify with.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Key {
    fn of(jwk: &Jwk) -> Option<Self> {
        use Algorithm::{ES256, ES384, EdDSA, PS256, PS384, PS512, RS256, RS384, RS512};
        let common = &jwk.common;
        // RFC 7517, 4.2 and 4.3.
        if common.public_key_use.as_ref().is_some_and(|purpose| *purpose != PublicKeyUse::Signature) {
            return None;
        }
        if let Some(operations) = &common.key_operations
            && !operations.contains(&KeyOperations::Verify)
        {
            return None;
        }
        let family: &'static [Algorithm] = match &jwk.algorithm {
            AlgorithmParameters::RSA(_) => &[RS256, RS384, RS512, PS256, PS384, PS512],
            AlgorithmParameters::EllipticCurve(key) => match key.curve {
                EllipticCurve::P256 => &[ES256],
                EllipticCurve::P384 => &[ES384],
                _ => return None,
            },
            AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => &[EdDSA],
            _ => return None,
        };
        let algorithms = match common.key_algorithm {
            None => family,
            Some(named) => {
                let index = family.iter().position(|algorithm| KeyAlgorithm::from(*algorithm) == named)?;
                family.get(index..=index)?
            }
        };
        let key = DecodingKey::from_jwk(jwk).ok()?;
        Some(Self { id: common.key_id.clone(), algorithms, key })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::token::dev::DevIssuer;

    #[test]
    fn keys_that_verify_nothing_are_passed_over() {
        let issuer = DevIssuer::generate("https://issuer.example").expect("an issuer");
        let set: Value = serde_json::from_str(issuer.jwks()).expect("JSON");
        let ours = set["keys"][0].clone();
        let read =
            |keys: Value| Jwks::parse(json!({ "keys": keys }).to_string().as_bytes()).map(|keys| keys.len());
        let changed = |name: &str, value: Value| {
            let mut key = ours.clone();
            key[name] = value;
            key
        };
        assert_eq!(read(json!([ours, { "kty": "oct", "k": "AAAA" }, { "kty": "new" }, {}, 7])), Ok(1));
        for useless in [
            changed("use", json!("enc")),
            changed("key_ops", json!(["sign"])),
            changed("alg", json!("ES384")),
            changed("alg", json!("HS256")),
            changed("crv", json!("P-521")),
            json!({ "kty": "oct", "k": "AAAA", "alg": "HS256" }),
        ] {
            assert_eq!(read(json!([useless])), Err(JwksError::NoKey(1)), "{useless}");
        }
        assert_eq!(read(json!([])), Err(JwksError::NoKey(0)));
        assert_eq!(read(Value::Array(vec![ours.clone(); 65])), Err(JwksError::TooMany(65)));
        for text in ["", "{}", "[]", "{\"keys\":{}}", "nonsense"] {
            assert!(matches!(Jwks::parse(text.as_bytes()), Err(JwksError::Malformed(_))), "{text:?}");
        }
    }
}
