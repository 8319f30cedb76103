//! A token as the server remembers it.

use std::collections::BTreeMap;
use std::sync::Arc;

use chancery_api::Ttl;
use ipnet::IpNet;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Kept on the server, or carried whole by the token itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TokenKind {
    /// Kept on the server: renewable, revocable, may have children.
    #[default]
    Service,
    /// Carried whole, encrypted, by the token itself: no record, no renewal, no revocation.
    Batch,
}

impl TokenKind {
    /// The kind's name on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Service => "service",
            Self::Batch => "batch",
        }
    }
}

/// Names a token on the server: a keyed hash of the token's text behind the instant of its birth.
///
/// The text itself is kept nowhere. The accessor and the lease id are made from the same hash by two
/// keyed permutations, so each of the three leads to the record and none leads to another without
/// the server's keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TokenKey {
    /// Milliseconds since the epoch at which the token was made; 0 when its text was chosen by the
    /// operator. The record's place in the collection.
    pub born: u64,
    /// The keyed hash.
    pub hash: [u8; 16],
}

/// A token's record.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TokenEntry {
    /// Its name.
    pub key: TokenKey,
    /// Whose child it is; `None` for an orphan.
    pub parent: Option<TokenKey>,
    /// Service or batch.
    pub kind: TokenKind,
    /// The policies, sorted, without duplicates; `["root"]` may do everything.
    pub policies: Vec<String>,
    /// The path that made it, e.g. `auth/approle/login`.
    pub path: String,
    /// A name for people.
    pub display_name: String,
    /// What the client or the auth method attached; `None` prints as null.
    pub meta: Option<BTreeMap<String, String>>,
    /// Uses left; 0 is without limit.
    pub num_uses: u64,
    /// When it was made.
    pub created: Timestamp,
    /// When it ends; `None` never.
    pub expires: Option<Timestamp>,
    /// When it was renewed last.
    pub renewed: Option<Timestamp>,
    /// First lifetime; zero is none.
    pub ttl: Ttl,
    /// Longest lifetime with renewals, from the auth method; zero is the mount's.
    pub max_ttl: Ttl,
    /// A hard end that no renewal moves; zero is none.
    pub explicit_max_ttl: Ttl,
    /// Renewals set the lifetime to this; zero is none.
    pub period: Ttl,
    /// Whether it can be renewed.
    pub renewable: bool,
    /// Networks it may be used from; empty is all.
    pub bound_cidrs: Vec<IpNet>,
    /// The token role that made it, or empty.
    pub role: String,
    /// The entity behind it, or empty.
    pub entity_id: String,
    /// The caller's name within the auth mount, by the mount's accessor; for templated policies.
    pub alias: Option<(String, String)>,
    /// What the auth method needs to judge a renewal; never shown.
    pub internal: BTreeMap<String, String>,
}

impl TokenEntry {
    /// Whether the token may do everything.
    pub fn is_root(&self) -> bool {
        self.policies.iter().any(|policy| policy == "root")
    }

    /// Whether the token has ended at `now`.
    pub fn expired(&self, now: Timestamp) -> bool {
        self.expires.is_some_and(|expires| expires <= now)
    }

    /// Time left at `now`, in whole seconds; zero when it has ended or never ends.
    pub fn remaining(&self, now: Timestamp) -> Ttl {
        let seconds = self.expires.map_or(0, |expires| expires.duration_since(now).as_secs());
        Ttl::seconds(u64::try_from(seconds).unwrap_or(0))
    }
}

/// Proof that a token was looked up and that its policies allow this request.
///
/// Only the pipeline makes one, from the policies' own grant.
#[derive(Debug, Clone)]
pub struct Authorized {
    token: Arc<TokenEntry>,
    sudo: bool,
}

impl Authorized {
    /// Called by the pipeline once the policies have spoken.
    pub(crate) fn new(token: Arc<TokenEntry>, sudo: bool) -> Self {
        Self { token, sudo }
    }

    /// The token's record.
    pub fn token(&self) -> &Arc<TokenEntry> {
        &self.token
    }

    /// Whether the policies grant `sudo` on this path.
    pub fn sudo(&self) -> bool {
        self.sudo
    }
}
