//! Certificate: a certificate that is kept in a Secret, and renewed.

use std::collections::BTreeMap;

use k8s_openapi::NamespaceResourceScope;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::condition::Condition;
use super::issuer::object;
use super::keystore::Keystores;
use super::value::{GoDuration, IssuerReference, KeyUsage, Time, Unknown, words};

object!(
    /// A certificate that is kept in a Secret, and renewed.
    Certificate, "Certificate", "certificates", NamespaceResourceScope, CertificateSpec, CertificateStatus
);

/// What the certificate shall be.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CertificateSpec {
    /// Name of the Secret in the same namespace.
    pub secret_name: String,
    /// Who signs.
    pub issuer_ref: IssuerReference,
    /// Common name of the subject, at most 64 bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub common_name: Option<String>,
    /// DNS names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dns_names: Vec<String>,
    /// IP addresses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ip_addresses: Vec<String>,
    /// URIs, such as SPIFFE IDs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub uris: Vec<String>,
    /// E-mail addresses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub email_addresses: Vec<String>,
    /// Other names by object identifier.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub other_names: Vec<OtherName>,
    /// The rest of the subject.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Subject>,
    /// The subject as RFC 4514 writes it. Not together with subject or commonName.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub literal_subject: Option<String>,
    /// Lifetime that is asked for; 2160h by default, at least 1h.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration: Option<GoDuration>,
    /// How long before its end the certificate is renewed; a third of its lifetime by default, at least 5m.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub renew_before: Option<GoDuration>,
    /// The same as a percentage of the lifetime, 1 to 99. Not together with renewBefore.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub renew_before_percentage: Option<i32>,
    /// Whether and when it may be renewed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub renewal: Option<Renewal>,
    /// What it may be used for; digital signature and key encipherment by default.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub usages: Vec<KeyUsage>,
    /// Whether the usages are written into the CSR; true by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encode_usages_in_request: Option<bool>,
    /// Whether it is a certificate authority's.
    #[serde(default, rename = "isCA", skip_serializing_if = "Option::is_none")]
    pub is_ca: Option<bool>,
    /// Its private key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub private_key: Option<CertificatePrivateKey>,
    /// Signature algorithm of the CSR; by the key if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signature_algorithm: Option<SignatureAlgorithm>,
    /// How many CertificateRequests are kept; 1 by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision_history_limit: Option<i32>,
    /// Labels and annotations of the Secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_template: Option<CertificateSecretTemplate>,
    /// Keystores in the Secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keystores: Option<Keystores>,
    /// Other forms of key and certificate in the Secret.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub additional_output_formats: Vec<AdditionalOutputFormat>,
    /// Which names the authority may sign for. Only with isCA.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name_constraints: Option<NameConstraints>,
}

/// A name of another kind (RFC 5280, 4.2.1.6).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OtherName {
    /// Object identifier of the name's kind, such as 1.3.6.1.4.1.311.20.2.3.
    pub oid: String,
    /// The name.
    #[serde(rename = "utf8Value")]
    pub utf8_value: String,
}

/// Parts of the subject beside its common name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Subject {
    /// Organizations (O).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub organizations: Vec<String>,
    /// Countries (C).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub countries: Vec<String>,
    /// Organizational units (OU).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub organizational_units: Vec<String>,
    /// Localities (L).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub localities: Vec<String>,
    /// States or provinces (ST).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub provinces: Vec<String>,
    /// Street addresses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub street_addresses: Vec<String>,
    /// Postal codes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub postal_codes: Vec<String>,
    /// Serial number of the subject.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serial_number: Option<String>,
}

/// Whether and when a certificate may be renewed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Renewal {
    /// RenewBefore (the default) or Disabled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<RenewalPolicy>,
    /// When renewals may begin; at any time if there are none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub windows: Vec<RenewalWindow>,
}

words! {
    /// Whether a certificate is renewed.
    RenewalPolicy {
        /// Before it ends.
        RenewBefore = "RenewBefore",
        /// Never.
        Disabled = "Disabled",
    }
}

/// A span in which renewals may begin.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RenewalWindow {
    /// When the window opens, as a cron expression.
    pub cron: String,
    /// How long it is open, such as 2h.
    #[schemars(regex(pattern = r"^([0-9]+(s|m|h))+$"))]
    pub window_duration: String,
    /// Time zone of the expression; UTC by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timezone: Option<String>,
}

/// A certificate's private key.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CertificatePrivateKey {
    /// Whether each issuance has a new key; Always by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotation_policy: Option<RotationPolicy>,
    /// Form in the Secret; PKCS1 by default. Ed25519 keys are always PKCS8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encoding: Option<KeyEncoding>,
    /// RSA by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub algorithm: Option<KeyAlgorithm>,
    /// Bits: 2048 to 8192 of RSA (2048 by default), 256, 384 or 521 of ECDSA (256 by default).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<i32>,
}

words! {
    /// Whether each issuance has a new key.
    RotationPolicy {
        /// The key is kept.
        Never = "Never",
        /// A new key each time.
        Always = "Always",
    }
}

words! {
    /// Algorithm of a key.
    KeyAlgorithm {
        /// RSA
        Rsa = "RSA",
        /// ECDSA over a NIST curve.
        Ecdsa = "ECDSA",
        /// Ed25519
        Ed25519 = "Ed25519",
    }
}

words! {
    /// Form of a private key.
    KeyEncoding {
        /// `RSA PRIVATE KEY` or `EC PRIVATE KEY`.
        Pkcs1 = "PKCS1",
        /// `PRIVATE KEY`
        Pkcs8 = "PKCS8",
    }
}

words! {
    /// Signature algorithm of a CSR.
    SignatureAlgorithm {
        /// RSA with SHA-256
        Sha256WithRsa = "SHA256WithRSA",
        /// RSA with SHA-384
        Sha384WithRsa = "SHA384WithRSA",
        /// RSA with SHA-512
        Sha512WithRsa = "SHA512WithRSA",
        /// ECDSA with SHA-256
        EcdsaWithSha256 = "ECDSAWithSHA256",
        /// ECDSA with SHA-384
        EcdsaWithSha384 = "ECDSAWithSHA384",
        /// ECDSA with SHA-512
        EcdsaWithSha512 = "ECDSAWithSHA512",
        /// Ed25519
        PureEd25519 = "PureEd25519",
    }
}

/// Labels and annotations of the Secret.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CertificateSecretTemplate {
    /// Annotations of the Secret.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Labels of the Secret.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

/// Another form of key and certificate in the Secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AdditionalOutputFormat {
    /// DER (key.der) or CombinedPEM (tls-combined.pem).
    #[serde(rename = "type")]
    pub kind: OutputFormat,
}

words! {
    /// Another form of key and certificate.
    OutputFormat {
        /// `key.der`: the private key.
        Der = "DER",
        /// `tls-combined.pem`: private key and chain.
        CombinedPem = "CombinedPEM",
    }
}

/// Which names an authority may sign for (RFC 5280, 4.2.1.10).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NameConstraints {
    /// Whether the extension is critical.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub critical: Option<bool>,
    /// Names must be among these.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub permitted: Option<NameConstraintItem>,
    /// Names must not be among these.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub excluded: Option<NameConstraintItem>,
}

/// Names by kind.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NameConstraintItem {
    /// DNS domains.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dns_domains: Vec<String>,
    /// IP ranges in CIDR notation.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ip_ranges: Vec<String>,
    /// E-mail addresses or their domains.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub email_addresses: Vec<String>,
    /// Domains of URIs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub uri_domains: Vec<String>,
}

/// What became of a Certificate.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CertificateStatus {
    /// Types are Ready and Issuing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// When the last issuance failed; absent after a success.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_failure_time: Option<Time>,
    /// Failures since the last success.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed_issuance_attempts: Option<i32>,
    /// From when the certificate in the Secret is valid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_before: Option<Time>,
    /// Until when the certificate in the Secret is valid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_after: Option<Time>,
    /// When it will be renewed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub renewal_time: Option<Time>,
    /// How many issuances succeeded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<i32>,
    /// Name of the Secret with the key of the issuance that is under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_private_key_secret_name: Option<String>,
    /// Kept as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Unknown>")]
    pub acme: Option<Value>,
}
