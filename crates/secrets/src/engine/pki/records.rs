//! What the engine stores.

use std::fmt;
use std::str::FromStr;

use chancery_issuance::{LeafNotAfter, LintMode, LintPolicy};
use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::error::Error;

macro_rules! id {
    ($(#[$meta:meta])* $name:ident) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub(super) struct $name(Uuid);

        impl $name {
            /// A fresh id.
            pub(super) fn fresh() -> Self {
                Self(Uuid::new_v4())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = uuid::Error;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                text.parse().map(Self)
            }
        }
    };
}

id! {
    /// Names an issuer for good.
    IssuerId
}
impl IssuerId {
    /// Its bytes.
    pub(super) fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }

    /// From its bytes; `None` for zeros, which stand for no issuer.
    pub(super) fn from_bytes(bytes: [u8; 16]) -> Option<Self> {
        let id = Uuid::from_bytes(bytes);
        (!id.is_nil()).then_some(Self(id))
    }
}

id! {
    /// Names a key for good.
    KeyId
}

/// An issuer as it is stored.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct IssuerRecord {
    /// Its id.
    pub(super) id: IssuerId,
    /// Its name, or empty.
    pub(super) name: String,
    /// The key of its certificate, if we hold it.
    pub(super) key: Option<KeyId>,
    /// Its certificate in PEM, with a final newline.
    pub(super) certificate: String,
    /// Its chain among the mount's issuers: itself first, then those above it as far as known.
    pub(super) chain: Vec<IssuerId>,
    /// A chain that an operator prescribed, itself first; empty for none.
    #[serde(default)]
    pub(super) manual_chain: Vec<IssuerId>,
    /// What becomes of leaves that would outlive it.
    #[serde(default)]
    pub(super) leaf_not_after_behavior: LeafNotAfterBehavior,
    /// What it may be used for.
    #[serde(default)]
    pub(super) usage: IssuerUsage,
    /// How it signs revocation lists: a name of the API, or empty for the key's usual way.
    #[serde(default)]
    pub(super) revocation_signature_algorithm: String,
    /// Its own URLs; `None` for the mount's.
    #[serde(default)]
    pub(super) urls: Option<Urls>,
    /// When it was revoked.
    #[serde(default)]
    pub(super) revoked: Option<Timestamp>,
    /// When this record changed last.
    pub(super) last_modified: Timestamp,
}

/// [`LeafNotAfter`] as the API and the records spell it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum LeafNotAfterBehavior {
    /// Refuse.
    #[default]
    Err,
    /// End it with the issuer.
    Truncate,
    /// Let it be.
    Permit,
}

impl LeafNotAfterBehavior {
    /// The API's word.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Err => "err",
            Self::Truncate => "truncate",
            Self::Permit => "permit",
        }
    }

    /// From the API's word.
    pub(super) fn from_name(name: &str) -> Option<Self> {
        [Self::Err, Self::Truncate, Self::Permit].into_iter().find(|known| known.name() == name)
    }
}

impl From<LeafNotAfterBehavior> for LeafNotAfter {
    fn from(behavior: LeafNotAfterBehavior) -> Self {
        match behavior {
            LeafNotAfterBehavior::Err => Self::Err,
            LeafNotAfterBehavior::Truncate => Self::Truncate,
            LeafNotAfterBehavior::Permit => Self::Permit,
        }
    }
}

/// What an issuer may be used for. Reading it is always allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct IssuerUsage {
    /// `issuing-certificates`
    pub(super) issuing_certificates: bool,
    /// `crl-signing`
    pub(super) crl_signing: bool,
    /// `ocsp-signing`
    pub(super) ocsp_signing: bool,
}

impl Default for IssuerUsage {
    fn default() -> Self {
        Self { issuing_certificates: true, crl_signing: true, ocsp_signing: true }
    }
}

/// Where relying parties find an issuer's certificate and revocation state.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Urls {
    /// caIssuers
    pub(super) issuing_certificates: Vec<String>,
    /// CRL distribution points
    pub(super) crl_distribution_points: Vec<String>,
    /// Freshest CRL
    pub(super) delta_crl_distribution_points: Vec<String>,
    /// OCSP
    pub(super) ocsp_servers: Vec<String>,
    /// `{{issuer_id}}`, `{{cluster_path}}` and `{{cluster_aia_path}}` are filled in at each use.
    pub(super) enable_templating: bool,
}

/// A key as it is stored.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct KeyRecord {
    /// Its id.
    pub(super) id: KeyId,
    /// Its name, or empty.
    pub(super) name: String,
    /// `rsa`, `ec`, `ed25519` or `mldsa`.
    pub(super) key_type: String,
    /// The private key in PEM.
    #[serde(serialize_with = "write_secret", deserialize_with = "read_secret")]
    pub(super) private_key: Zeroizing<String>,
}

impl fmt::Debug for KeyRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, name, key_type, private_key: _ } = self;
        f.debug_struct("KeyRecord")
            .field("id", id)
            .field("name", name)
            .field("key_type", key_type)
            .field("private_key", &"[redacted]")
            .finish()
    }
}

/// Only for records: what it writes into is encrypted before it leaves the process.
pub(super) fn write_secret<S: Serializer>(
    secret: &Zeroizing<String>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(secret)
}

/// The other way round.
pub(super) fn read_secret<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Zeroizing<String>, D::Error> {
    String::deserialize(deserializer).map(Zeroizing::new)
}

/// `config/issuers`
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct IssuersConfig {
    /// The issuer that `default` stands for.
    pub(super) default: Option<IssuerId>,
    /// Whether a new issuer with a key becomes the default.
    pub(super) default_follows_latest_issuer: bool,
}

/// `config/keys`
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct KeysConfig {
    /// The key that `default` stands for.
    pub(super) default: Option<KeyId>,
}

/// `config/cluster`
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct ClusterConfig {
    /// The API's base of this mount, for ACME and `{{cluster_path}}`.
    pub(super) path: String,
    /// The base for `{{cluster_aia_path}}`.
    pub(super) aia_path: String,
}

/// `config/crl`. Lengths of time are kept as they were given, and shown so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct CrlConfig {
    /// How long a CRL is valid.
    pub(super) expiry: String,
    /// CRLs are empty, and stay as they are.
    pub(super) disable: bool,
    /// OCSP answers nobody.
    pub(super) ocsp_disable: bool,
    /// How long an OCSP answer is valid.
    pub(super) ocsp_expiry: String,
    /// CRLs are built shortly before they expire, not with each revocation.
    pub(super) auto_rebuild: bool,
    /// How long before.
    pub(super) auto_rebuild_grace_period: String,
    /// Delta CRLs are built in between.
    pub(super) enable_delta: bool,
    /// How often.
    pub(super) delta_rebuild_interval: String,
    /// Certificates that have expired can be revoked.
    pub(super) allow_expired_cert_revocation: bool,
}

impl Default for CrlConfig {
    fn default() -> Self {
        Self {
            expiry: "72h".to_owned(),
            disable: false,
            ocsp_disable: false,
            ocsp_expiry: "12h".to_owned(),
            auto_rebuild: false,
            auto_rebuild_grace_period: "12h".to_owned(),
            enable_delta: false,
            delta_rebuild_interval: "15m".to_owned(),
            allow_expired_cert_revocation: false,
        }
    }
}

/// `config/lint`: what becomes of certificates that break a standard, in the API's words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct LintConfig {
    /// Rules of RFC 5280.
    pub(super) rfc5280: String,
    /// Rules of X.509-SVID.
    pub(super) spiffe: String,
}

impl Default for LintConfig {
    fn default() -> Self {
        let usual = LintMode::default().name();
        Self { rfc5280: usual.to_owned(), spiffe: usual.to_owned() }
    }
}

impl LintConfig {
    /// As issuance takes it. What is written was checked.
    pub(super) fn policy(&self) -> LintPolicy {
        let mode = |word: &str| LintMode::from_name(word).unwrap_or_default();
        LintPolicy { rfc5280: mode(&self.rfc5280), spiffe: mode(&self.spiffe) }
    }
}

/// A certificate that was issued here or imported as an authority's.
///
/// At rest: one byte of version (1), sixteen of the issuer's id (zeros: unknown), then the DER.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CertificateRecord {
    /// Who signed it, if one of the mount's issuers.
    pub(super) issuer: Option<IssuerId>,
    /// The certificate.
    pub(super) der: Vec<u8>,
}

impl CertificateRecord {
    const VERSION: u8 = 1;

    /// The bytes at rest.
    pub(super) fn encode(issuer: Option<IssuerId>, der: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(17 + der.len());
        bytes.push(Self::VERSION);
        bytes.extend_from_slice(issuer.as_ref().map_or(&[0; 16][..], IssuerId::as_bytes));
        bytes.extend_from_slice(der);
        bytes
    }

    /// The certificate within the bytes at rest, without a copy; `None` if they have another form.
    pub(super) fn der_within(bytes: &[u8]) -> Option<&[u8]> {
        let (version, rest) = bytes.split_first()?;
        let (_, der) = rest.split_first_chunk::<16>()?;
        (*version == Self::VERSION).then_some(der)
    }

    /// From the bytes at rest.
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let split = bytes.split_first().filter(|(version, _)| **version == Self::VERSION);
        let (issuer, der) = split
            .and_then(|(_, rest)| rest.split_first_chunk::<16>())
            .ok_or_else(|| Error::internal("internal error", "a stored certificate has an unknown form"))?;
        Ok(Self { issuer: IssuerId::from_bytes(*issuer), der: der.to_vec() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_record_reads_back_as_it_was_written() {
        for issuer in [None, Some(IssuerId::fresh())] {
            let record = CertificateRecord { issuer, der: vec![0x30, 0x03, 1, 2, 3] };
            let bytes = CertificateRecord::encode(issuer, &record.der);
            assert_eq!(CertificateRecord::decode(&bytes).unwrap(), record);
        }
        assert!(CertificateRecord::decode(&[]).is_err());
        assert!(CertificateRecord::decode(&[2; 40]).is_err());
    }

    #[test]
    fn a_key_record_does_not_show_its_key() {
        let record = KeyRecord {
            id: KeyId::fresh(),
            name: "k".to_owned(),
            key_type: "ec".to_owned(),
            private_key: Zeroizing::new("hunter2".to_owned()),
        };
        assert!(!format!("{record:?}").contains("hunter2"));
        let json = serde_json::to_string(&record).unwrap();
        let back: KeyRecord = serde_json::from_str(&json).unwrap();
        assert_eq!(*back.private_key, "hunter2");
    }
}
