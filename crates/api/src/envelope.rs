//! The frame around every answer.

use std::borrow::Cow;
use std::collections::BTreeMap;

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
#[derive(Debug, Clone, Serialize)]
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

/// The token part of a login's answer.
#[derive(Debug, Clone, Serialize)]
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

/// An error's body.
#[derive(Debug, Serialize)]
pub struct Errors<'a> {
    /// One sentence each; empty for "nothing there".
    pub errors: &'a [String],
}
