//! Request headers that records shall carry.
//!
//! An operator names them; all others are never looked at. A header that carries a credential is hashed
//! whatever the operator says: a record must not be a way to become somebody else.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::error::Error;

/// Headers whose values let their reader in.
const CREDENTIALS: [&str; 4] = ["authorization", "cookie", "proxy-authorization", "x-vault-token"];

/// A header's name, in lower case.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct HeaderName(String);

impl HeaderName {
    /// A name as an operator writes it, in any case.
    pub fn parse(text: &str) -> Result<Self, Error> {
        // RFC 9110, 5.6.2: a token.
        let good = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        if text.is_empty() || !text.bytes().all(good) {
            return Err(Error::invalid(format!("{text:?} is no name of a header")));
        }
        Ok(Self(text.to_ascii_lowercase()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the header carries a credential.
    pub(super) fn is_credential(&self) -> bool {
        CREDENTIALS.contains(&self.as_str())
    }
}

/// How a header is recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditedHeader {
    /// Its values stand in records as a keyed hash.
    pub hmac: bool,
}

/// Every header that is recorded, by its name in lower case.
pub type AuditedHeaders = BTreeMap<HeaderName, AuditedHeader>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_tokens_in_lower_case() {
        assert_eq!(HeaderName::parse("X-Request-ID").unwrap().as_str(), "x-request-id");
        for text in ["", "a/b", "with space", "ä", "a:b", "a\n"] {
            assert!(HeaderName::parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn credentials_are_known_in_any_case() {
        for text in ["X-Vault-Token", "AUTHORIZATION", "cookie"] {
            assert!(HeaderName::parse(text).unwrap().is_credential(), "{text}");
        }
        assert!(!HeaderName::parse("User-Agent").unwrap().is_credential());
    }
}
