//! What ACME stores, and where.
//!
//! | collection | name | record |
//! | --- | --- | --- |
//! | `acme-accounts` | id | [`AccountRecord`] |
//! | `acme-account-keys` | thumbprint and directory | [`KeyIndex`] |
//! | `acme-orders` | id | [`OrderRecord`] |
//! | `acme-account-orders/{account}` | order id | nothing |
//! | `acme-authorizations` | id | [`AuthorizationRecord`] |
//! | `acme-validations` | due time, authorization and challenge | [`ValidationRecord`] |
//! | `acme-account-validations/{account}` | authorization and challenge | nothing |
//! | `acme-certificates` | serial number | [`IssuedRecord`] |
//! | `acme-eab` | id | [`EabRecord`] |
//!
//! Ids are UUIDs that begin with the instant of birth, so that records lie, and are listed, in that order, and each id leads
//! to its record. Every change of a record expects the version that it was read with.

use std::net::IpAddr;

use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use chancery_storage::{Name, Version, View, Writes};
use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use uuid::Uuid;
use zeroize::Zeroizing;

use super::super::records::{read_secret, write_secret};
use super::jws::Envelope;
use super::problem::{Failure, Problem};
use crate::error::{Error, Kind};
use crate::probe::Host;

/// Collections of the mount's view.
pub(super) mod collection {
    pub(in super::super) const ACCOUNTS: &str = "acme-accounts";
    pub(in super::super) const ACCOUNT_KEYS: &str = "acme-account-keys";
    pub(in super::super) const ORDERS: &str = "acme-orders";
    pub(in super::super) const AUTHORIZATIONS: &str = "acme-authorizations";
    pub(in super::super) const VALIDATIONS: &str = "acme-validations";
    pub(in super::super) const CERTIFICATES: &str = "acme-certificates";
    pub(in super::super) const EAB: &str = "acme-eab";

    /// The orders of one account.
    pub(in super::super) fn orders_of(account: &str) -> String {
        format!("acme-account-orders/{account}")
    }

    /// The challenges of one account that are being looked at.
    pub(in super::super) fn validations_of(account: &str) -> String {
        format!("acme-account-validations/{account}")
    }
}

/// How often a change is tried anew where others change the same record.
pub(super) const ATTEMPTS: usize = 16;

/// Said when they all failed.
pub(super) fn too_busy() -> Failure {
    Error::of(Kind::Busy, "the same record is being changed by too many; try again shortly").into()
}

/// A record and which write made it.
#[derive(Debug, Clone)]
pub(super) struct Stored<T> {
    /// The record.
    pub(super) value: T,
    /// Which write made it.
    pub(super) version: Version,
}

/// The record of this name.
pub(super) async fn read<T: DeserializeOwned>(
    view: &View,
    collection: &str,
    name: &Name,
) -> Result<Option<Stored<T>>, Error> {
    match view.get(collection, name).await? {
        Some(record) => Ok(Some(Stored { value: record.json()?, version: record.version })),
        None => Ok(None),
    }
}

/// Puts a new record into a batch, which fails if there is one already.
pub(super) fn put_new<T: Serialize>(
    writes: &mut Writes,
    view: &View,
    collection: &str,
    name: &Name,
    record: &T,
) -> Result<(), Error> {
    writes.expect_absent(view, collection, name)?;
    writes.put_json(view, collection, name, record)?;
    Ok(())
}

/// Puts a changed record into a batch, which fails if somebody else changed it.
pub(super) fn put_changed<T: Serialize>(
    writes: &mut Writes,
    view: &View,
    collection: &str,
    name: &Name,
    record: &Stored<T>,
) -> Result<(), Error> {
    writes.expect_unchanged(view, collection, name, &record.version)?;
    writes.put_json(view, collection, name, &record.value)?;
    Ok(())
}

/// An id for what is born now (RFC 9562, 5.7).
pub(super) fn fresh_id(now: Timestamp) -> Result<String, Error> {
    let random = random::<10>()?;
    Ok(uuid::Builder::from_unix_timestamp_millis(millis(now), &random).into_uuid().to_string())
}

/// The name of what has this id; `None` if nothing can have it.
pub(super) fn named(id: &str) -> Option<Name> {
    let uuid = Uuid::try_parse(id).ok().filter(|uuid| uuid.hyphenated().to_string() == id)?;
    Some(Name::ordered(uuid.as_u64_pair().0, id))
}

/// The name of what has this id, which was made by [`fresh_id`].
pub(super) fn name_of(id: &str) -> Name {
    named(id).unwrap_or_else(|| Name::new(id))
}

/// The place in the order of ids born at `instant`.
pub(super) fn order_at(instant: Timestamp) -> u64 {
    millis(instant) << 16
}

/// Milliseconds since the epoch.
pub(super) fn millis(instant: Timestamp) -> u64 {
    u64::try_from(instant.as_millisecond()).unwrap_or(0)
}

/// Random bytes.
pub(super) fn random<const SIZE: usize>() -> Result<[u8; SIZE], Error> {
    let mut bytes = [0; SIZE];
    SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| Error::internal("internal error", "the operating system gives no random bytes"))?;
    Ok(bytes)
}

/// An account.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct AccountRecord {
    /// Its id.
    pub(super) id: String,
    /// The directory that it was made in: `acme/`, `roles/web/acme/`.
    pub(super) directory: String,
    /// Its key in canonical JSON.
    pub(super) jwk: String,
    /// Whether it can do anything.
    pub(super) status: AccountStatus,
    /// `mailto:` URLs.
    pub(super) contact: Vec<String>,
    /// What the client said.
    pub(super) terms_of_service_agreed: bool,
    /// What it is bound to.
    pub(super) binding: Option<BindingRecord>,
    /// When it was made.
    pub(super) created: Timestamp,
}

/// Whether an account can do anything (RFC 8555, 7.1.6).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum AccountStatus {
    /// It can.
    Valid,
    /// Its holder ended it.
    Deactivated,
    /// Tidying ended it, since it had no orders.
    Revoked,
}

impl AccountStatus {
    /// The word.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Valid => "valid",
            Self::Deactivated => "deactivated",
            Self::Revoked => "revoked",
        }
    }
}

/// What an account is bound to: the key of `new-eab` that was used, and the proof.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct BindingRecord {
    /// The id of the key.
    pub(super) key_id: String,
    /// The signed binding as it came.
    pub(super) envelope: Envelope,
}

/// Leads from a key to its account.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct KeyIndex {
    /// The account's id.
    pub(super) account: String,
}

/// The name of a key's entry: an account for each directory.
pub(super) fn key_name(thumbprint: &str, directory: &str) -> Name {
    Name::new(format!("{thumbprint} {directory}"))
}

/// What a certificate is asked for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(tag = "type", content = "value", rename_all = "lowercase")]
pub(super) enum Identifier {
    /// A DNS name in lower case, perhaps with `*.` in front.
    Dns(String),
    /// An address (RFC 8738).
    Ip(IpAddr),
}

impl Identifier {
    /// As it is written.
    pub(super) fn text(&self) -> String {
        match self {
            Self::Dns(name) => name.clone(),
            Self::Ip(address) => address.to_string(),
        }
    }

    /// Where it is proved.
    pub(super) fn host(&self) -> Host {
        match self {
            Self::Dns(name) => Host::Name(name.clone()),
            Self::Ip(address) => Host::Address(*address),
        }
    }
}

/// An order.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct OrderRecord {
    /// Its id.
    pub(super) id: String,
    /// Whose it is.
    pub(super) account: String,
    /// What it is for.
    pub(super) identifiers: Vec<Identifier>,
    /// The authorization of each identifier.
    pub(super) authorizations: Vec<String>,
    /// Until when it can be finalized.
    pub(super) expires: Timestamp,
    /// The certificate that was made: its serial number.
    pub(super) serial: Option<String>,
    /// The certificate that it replaces (RFC 9773, 5).
    #[serde(default)]
    pub(super) replaces: Option<String>,
}

/// An authorization: the proofs that can be given for one identifier of one order.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct AuthorizationRecord {
    /// Its id.
    pub(super) id: String,
    /// Whose it is.
    pub(super) account: String,
    /// The identifier, without a wildcard.
    pub(super) identifier: Identifier,
    /// Whether the order asks for `*.` in front of it.
    pub(super) wildcard: bool,
    /// What came of it.
    pub(super) status: AuthorizationStatus,
    /// Until when it can be answered, or counts.
    pub(super) expires: Timestamp,
    /// One for each way to prove it.
    pub(super) challenges: Vec<ChallengeRecord>,
}

/// What came of an authorization (RFC 8555, 7.1.6).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum AuthorizationStatus {
    /// Nothing yet.
    Pending,
    /// Proved.
    Valid,
    /// A proof failed.
    Invalid,
    /// Its holder gave it up.
    Deactivated,
    /// Its time is over.
    Expired,
}

/// A way to prove an identifier.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct ChallengeRecord {
    /// How.
    pub(super) kind: ChallengeKind,
    /// What the proof is about.
    pub(super) token: String,
    /// What came of it.
    pub(super) status: ChallengeStatus,
    /// When it was found to hold.
    pub(super) validated: Option<Timestamp>,
    /// Why it did not hold, the last time.
    pub(super) error: Option<Problem>,
}

/// The ways to prove an identifier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum ChallengeKind {
    /// A file on the host (RFC 8555, 8.3).
    #[serde(rename = "http-01")]
    Http01,
    /// A record in its zone (RFC 8555, 8.4).
    #[serde(rename = "dns-01")]
    Dns01,
    /// A certificate that it presents (RFC 8737).
    #[serde(rename = "tls-alpn-01")]
    TlsAlpn01,
}

impl ChallengeKind {
    /// The registered name.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Http01 => "http-01",
            Self::Dns01 => "dns-01",
            Self::TlsAlpn01 => "tls-alpn-01",
        }
    }
}

/// What came of a challenge (RFC 8555, 7.1.6).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum ChallengeStatus {
    /// The client has not said yet that the proof is there.
    Pending,
    /// It is being looked at.
    Processing,
    /// It holds.
    Valid,
    /// It does not.
    Invalid,
}

/// A proof that is to be looked at.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct ValidationRecord {
    /// Whose it is.
    pub(super) account: String,
    /// The authorization.
    pub(super) authorization: String,
    /// Which of its challenges.
    pub(super) kind: ChallengeKind,
    /// How often it was looked at in vain.
    pub(super) attempts: u32,
}

impl ValidationRecord {
    /// Where it lies while it is due at `due`.
    pub(super) fn name(&self, due: Timestamp) -> Name {
        Name::ordered(millis(due), self.text())
    }

    /// Where its account keeps it.
    pub(super) fn place(&self) -> Name {
        Name::new(self.text())
    }

    fn text(&self) -> String {
        format!("{}/{}", self.authorization, self.kind.name())
    }
}

/// Who got a certificate.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct IssuedRecord {
    /// The account.
    pub(super) account: String,
    /// The order that it was made for.
    pub(super) order: String,
    /// The order that took its place (RFC 9773, 5).
    #[serde(default)]
    pub(super) replaced_by: Option<String>,
}

/// A key that an operator hands out so that somebody may make an account (RFC 8555, 7.3.4).
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct EabRecord {
    /// Its id.
    pub(super) id: String,
    /// The secret, in base64url as it is handed out.
    #[serde(serialize_with = "write_secret", deserialize_with = "read_secret")]
    pub(super) key: Zeroizing<String>,
    /// The directory that it is for.
    pub(super) directory: String,
    /// When it was made.
    pub(super) created: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_lie_in_the_order_of_their_birth_and_other_texts_are_none() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let (one, two) = (fresh_id(at(1_000)).unwrap(), fresh_id(at(1_001)).unwrap());
        assert!(name_of(&one).order() < name_of(&two).order());
        assert!(name_of(&two).order() >= order_at(at(1_001)));
        assert!(name_of(&one).order() < order_at(at(1_001)));
        for other in ["", "x", &one.to_uppercase().replace('0', "A"), &one.replace('-', ""), "../x"] {
            assert_eq!(named(other), None, "{other}");
        }
    }

    #[test]
    fn identifiers_are_stored_as_they_are_answered() {
        let name = Identifier::Dns("*.example.com".to_owned());
        assert_eq!(
            serde_json::to_value(&name).unwrap(),
            serde_json::json!({ "type": "dns", "value": "*.example.com" })
        );
        let address = Identifier::Ip("::1".parse().unwrap());
        assert_eq!(
            serde_json::to_value(&address).unwrap(),
            serde_json::json!({ "type": "ip", "value": "::1" })
        );
    }
}
