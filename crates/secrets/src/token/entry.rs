//! A token as the server remembers it.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use chancery_api::{Secret, Ttl};
use ipnet::IpNet;
use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

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
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TokenKey {
    /// Milliseconds since the epoch at which the token was made; 0 when its text was chosen by the
    /// operator. The record's place in the collection.
    pub born: u64,
    /// The keyed hash.
    pub hash: [u8; 16],
}

impl TokenKey {
    /// The key as text, for names of records: the instant in decimal digits, a dot, the hash in hex.
    pub(crate) fn text(self) -> String {
        format!("{}.{:032x}", self.born, u128::from_be_bytes(self.hash))
    }

    /// The key that [`text`](Self::text) wrote.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (born, hash) = text.split_once('.')?;
        let hash = u128::from_str_radix(hash, 16).ok()?.to_be_bytes();
        Some(Self { born: born.parse().ok()?, hash })
    }
}

impl fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TokenKey({})", self.text())
    }
}

impl Serialize for TokenKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text())
    }
}

impl<'de> Deserialize<'de> for TokenKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| serde::de::Error::custom("not the name of a token"))
    }
}

/// Whether a token still means anything.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TokenState {
    /// It can be used, within its limits.
    #[default]
    Live,
    /// Its last use has begun. The request that began it goes on; nobody else gets in.
    Spent,
    /// On its way out together with its children and leases. It and they are refused.
    Revoking,
    /// On its way out alone: it is refused, its children are orphans already.
    Orphaning,
}

/// A token's record.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TokenEntry {
    /// Its name.
    pub key: TokenKey,
    /// Whose child it is; `None` for an orphan.
    #[serde(default, skip_serializing_if = "Option::is_none")]
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
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub meta: Option<BTreeMap<String, String>>,
    /// Uses left; 0 is without limit.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub num_uses: u64,
    /// Whether it still means anything.
    #[serde(default)]
    pub state: TokenState,
    /// When upkeep shall look at it, in milliseconds since the epoch; 0 never. There is a marker in
    /// the collection of expiries at exactly this place.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub due: u64,
    /// When it was made.
    pub created: Timestamp,
    /// When it ends; `None` never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<Timestamp>,
    /// When it was renewed last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub renewed: Option<Timestamp>,
    /// First lifetime; zero is none.
    #[serde(default, skip_serializing_if = "no_time")]
    pub ttl: Ttl,
    /// The lifetime that was granted last: what a renewal gives that asks for nothing else.
    #[serde(default, skip_serializing_if = "no_time")]
    pub granted: Ttl,
    /// Longest lifetime with renewals, from the auth method; zero is the mount's.
    #[serde(default, skip_serializing_if = "no_time")]
    pub max_ttl: Ttl,
    /// A hard end that no renewal moves; zero is none.
    #[serde(default, skip_serializing_if = "no_time")]
    pub explicit_max_ttl: Ttl,
    /// Renewals set the lifetime to this; zero is none.
    #[serde(default, skip_serializing_if = "no_time")]
    pub period: Ttl,
    /// Whether it can be renewed.
    pub renewable: bool,
    /// Networks it may be used from; empty is all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub bound_cidrs: Vec<IpNet>,
    /// The token role that made it, or empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub role: String,
    /// The entity behind it, or empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub entity_id: String,
    /// The caller's name within the auth mount, by the mount's accessor; for templated policies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alias: Option<(String, String)>,
    /// What the auth method needs to judge a renewal; never shown.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub internal: BTreeMap<String, String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the form that serde asks for")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

fn no_time(ttl: &Ttl) -> bool {
    ttl.is_zero()
}

impl TokenEntry {
    /// Whether the token may do everything.
    pub fn is_root(&self) -> bool {
        self.policies.iter().any(|policy| policy == "root")
    }

    /// Whether it has a limited number of uses.
    pub fn is_limited(&self) -> bool {
        self.num_uses > 0 || self.state == TokenState::Spent
    }

    /// Whether the token may be used from `address`. A token that is bound to networks is of no use
    /// over a connection that has no address.
    pub fn allows_address(&self, address: Option<IpAddr>) -> bool {
        self.bound_cidrs.is_empty()
            || address.is_some_and(|address| {
                // An IPv4 caller on an IPv6 socket is still an IPv4 caller.
                let address = address.to_canonical();
                self.bound_cidrs.iter().any(|network| network.contains(&address))
            })
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
    text: Secret,
    sudo: bool,
}

impl Authorized {
    /// Called by the pipeline once the policies have spoken.
    pub(crate) fn new(token: Arc<TokenEntry>, text: Secret, sudo: bool) -> Self {
        Self { token, text, sudo }
    }

    /// The token's text: for the answers about the caller's own token, and for nothing else.
    pub(crate) fn text(&self) -> &Secret {
        &self.text
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
