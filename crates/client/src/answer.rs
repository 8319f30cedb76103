//! The frame around every answer, on the client's side.

use std::collections::BTreeMap;

use chancery_api::Secret;
use serde::Deserialize;

use crate::Value;

/// What the server answered: data, a token, a wrapping token, warnings.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Answer {
    /// The id of the request in the server's audit log.
    #[serde(deserialize_with = "null_is_default")]
    pub request_id: String,
    /// The lease, or empty.
    #[serde(deserialize_with = "null_is_default")]
    pub lease_id: String,
    /// The lease's length in seconds.
    #[serde(deserialize_with = "null_is_default")]
    pub lease_duration: i64,
    /// Whether the lease can be renewed.
    #[serde(deserialize_with = "null_is_default")]
    pub renewable: bool,
    /// What was asked for.
    pub data: Option<BTreeMap<String, Value>>,
    /// What to know although the request succeeded.
    pub warnings: Option<Vec<String>>,
    /// The token that a login made.
    pub auth: Option<Auth>,
    /// The wrapping token that stands for the content.
    pub wrap_info: Option<WrapInfo>,
}

impl Answer {
    /// Whether nothing of the frame was there.
    pub(crate) fn is_unframed(&self) -> bool {
        let Self { request_id, lease_id, lease_duration, renewable, data, warnings, auth, wrap_info } = self;
        let empty = request_id.is_empty() && lease_id.is_empty() && *lease_duration == 0 && !renewable;
        empty && data.is_none() && warnings.is_none() && auth.is_none() && wrap_info.is_none()
    }

    /// The field of `data` with that name.
    pub fn field(&self, name: &str) -> Option<&Value> {
        self.data.as_ref()?.get(name)
    }

    /// The text field of `data` with that name.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.field(name)?.as_str()
    }
}

/// The token part of a login's answer.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Auth {
    /// The token.
    pub client_token: Secret,
    /// Its accessor.
    #[serde(deserialize_with = "null_is_default")]
    pub accessor: String,
    /// All its policies.
    pub policies: Option<Vec<String>>,
    /// Those of the token itself.
    pub token_policies: Option<Vec<String>>,
    /// Those of the entity behind it.
    pub identity_policies: Option<Vec<String>>,
    /// What the auth method says of the caller.
    pub metadata: Option<BTreeMap<String, String>>,
    /// Whether it outlives its parent.
    #[serde(deserialize_with = "null_is_default")]
    pub orphan: bool,
    /// The entity behind it, or empty.
    #[serde(deserialize_with = "null_is_default")]
    pub entity_id: String,
    /// Seconds until it expires; 0 is never.
    #[serde(deserialize_with = "null_is_default")]
    pub lease_duration: i64,
    /// Whether it can be renewed.
    #[serde(deserialize_with = "null_is_default")]
    pub renewable: bool,
    /// What else must be shown before the login is complete.
    pub mfa_requirement: Option<Value>,
}

/// A wrapped answer: a single-use token in place of the content.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct WrapInfo {
    /// The wrapping token.
    pub token: Secret,
    /// Its accessor.
    #[serde(deserialize_with = "null_is_default")]
    pub accessor: String,
    /// Seconds until it expires.
    #[serde(deserialize_with = "null_is_default")]
    pub ttl: i64,
    /// RFC 3339.
    #[serde(deserialize_with = "null_is_default")]
    pub creation_time: String,
    /// The path that made the content.
    #[serde(deserialize_with = "null_is_default")]
    pub creation_path: String,
    /// The accessor of the token inside, if the content is a login.
    #[serde(deserialize_with = "null_is_default")]
    pub wrapped_accessor: String,
}

/// A server may write `null` where there is nothing to say.
fn null_is_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_never_shows_in_debug_output() {
        let json = r#"{"auth":{"client_token":"s.secret","policies":["root"],"lease_duration":null}}"#;
        let answer: Answer = serde_json::from_str(json).expect("an answer");
        assert!(!format!("{answer:?}").contains("s.secret"));
        assert_eq!(answer.auth.expect("a token").client_token.expose(), "s.secret");
    }
}
