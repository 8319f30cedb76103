//! The frame around every answer.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;
use serde_json::value::RawValue;

/// The frame around an answer: `{"request_id", "lease_id", …, "data", …}`.
#[derive(Debug, Serialize)]
pub struct Envelope<'a> {
    /// The id under which the request stands in the audit log and in our own.
    pub request_id: &'a str,
    /// The lease, or empty.
    pub lease_id: &'a str,
    /// Whether the lease can be renewed.
    pub renewable: bool,
    /// The lease's length in seconds.
    pub lease_duration: u64,
    /// What was asked for.
    pub data: Option<Cow<'a, RawValue>>,
    /// Where the answer is kept instead, when it was wrapped.
    pub wrap_info: Option<WrapInfo>,
    /// What the client should know although its request succeeded.
    pub warnings: Option<&'a [String]>,
    /// The token that a login made.
    pub auth: Option<&'a Auth>,
}

/// A wrapped answer: a single-use token in place of the content.
#[derive(Clone, Serialize)]
pub struct WrapInfo {
    /// The wrapping token.
    pub token: String,
    /// Its accessor.
    pub accessor: String,
    /// Seconds until it expires.
    pub ttl: u64,
    /// RFC 3339, nanoseconds included.
    pub creation_time: String,
    /// The path that made the content.
    pub creation_path: String,
    /// The accessor of the token inside, if the content is a login.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub wrapped_accessor: String,
}

impl fmt::Debug for WrapInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { token: _, accessor, ttl, creation_time, creation_path, wrapped_accessor } = self;
        f.debug_struct("WrapInfo")
            .field("token", &format_args!("[redacted]"))
            .field("accessor", accessor)
            .field("ttl", ttl)
            .field("creation_time", creation_time)
            .field("creation_path", creation_path)
            .field("wrapped_accessor", wrapped_accessor)
            .finish()
    }
}

/// The token part of a login's answer.
#[derive(Clone, Serialize)]
pub struct Auth {
    /// The token.
    pub client_token: String,
    /// Its accessor.
    pub accessor: String,
    /// All its policies.
    pub policies: Vec<String>,
    /// Those that come from the token itself; left out when there are none, as the peer does.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub token_policies: Vec<String>,
    /// Those that come from the entity behind it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub identity_policies: Vec<String>,
    /// What the auth method says of the caller.
    pub metadata: Option<BTreeMap<String, String>>,
    /// Seconds until the token expires.
    pub lease_duration: u64,
    /// Whether it can be renewed.
    pub renewable: bool,
    /// The entity behind it, or empty.
    pub entity_id: String,
    /// `service` or `batch`.
    pub token_type: String,
    /// Whether it outlives its parent.
    pub orphan: bool,
    /// Always null: multi-factor login is not offered.
    pub mfa_requirement: Option<()>,
    /// How often it can be used; 0 is without limit.
    pub num_uses: u64,
}

impl fmt::Debug for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Auth")
            .field("client_token", &format_args!("[redacted]"))
            .field("accessor", &self.accessor)
            .field("policies", &self.policies)
            .field("token_policies", &self.token_policies)
            .field("identity_policies", &self.identity_policies)
            .field("metadata", &self.metadata)
            .field("lease_duration", &self.lease_duration)
            .field("renewable", &self.renewable)
            .field("entity_id", &self.entity_id)
            .field("token_type", &self.token_type)
            .field("orphan", &self.orphan)
            .field("num_uses", &self.num_uses)
            .finish_non_exhaustive()
    }
}

/// An error's body.
#[derive(Debug, Serialize)]
pub struct Errors<'a> {
    /// One sentence each; empty for "nothing there".
    pub errors: &'a [String],
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_do_not_show_in_debug_output() {
        let wrapped = WrapInfo {
            token: "s.secret".to_owned(),
            accessor: "accessor".to_owned(),
            ttl: 60,
            creation_time: String::new(),
            creation_path: String::new(),
            wrapped_accessor: String::new(),
        };
        let auth = Auth {
            client_token: "s.secret".to_owned(),
            accessor: "accessor".to_owned(),
            policies: Vec::new(),
            token_policies: Vec::new(),
            identity_policies: Vec::new(),
            metadata: None,
            lease_duration: 60,
            renewable: true,
            entity_id: String::new(),
            token_type: "service".to_owned(),
            orphan: false,
            mfa_requirement: None,
            num_uses: 0,
        };
        for shown in [format!("{wrapped:?}"), format!("{auth:#?}")] {
            assert!(shown.contains("accessor") && shown.contains("[redacted]"), "{shown}");
            assert!(!shown.contains("secret"), "{shown}");
        }
    }
}
