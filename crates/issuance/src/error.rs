//! Why something was refused, and what was granted in a reduced form.
//!
//! Every `Display` is the sentence a client sees.

use std::time::Duration;

use crate::time::go_duration;
use crate::{Finding, KeyType, Time};

/// Why a certificate is not made: the request, held against the profile and the issuer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The `csr` field is empty.
    #[error("\"csr\" is empty")]
    EmptyCsr,
    /// No PEM block in the `csr` field.
    #[error("csr contains no data")]
    CsrWithoutData,
    /// The CSR does not parse (RFC 2986); the reason in words.
    #[error("certificate request could not be parsed: {reason}")]
    MalformedCsr {
        /// What is wrong with it.
        reason: String,
    },
    /// The CSR's key is of a kind nobody can certify here.
    #[error(
        "Refusing to sign CSR with empty PublicKey. This usually means the SubjectPublicKeyInfo field has an OID not recognized, such as 1.2.840.113549.1.1.10 for rsaPSS."
    )]
    UnknownPublicKey,
    /// The CSR is not signed by its own key.
    #[error("request signature invalid")]
    BadSelfSignature,
    /// The key is of another family than the profile demands.
    #[error("role requires keys of type {}", required.name())]
    WrongKeyType {
        /// What the profile demands.
        required: KeyType,
    },
    /// The key is shorter than the profile demands.
    #[error("role requires a minimum of a {minimum}-bit key, but CSR's key is {actual} bits")]
    KeyTooShort {
        /// The profile's minimum.
        minimum: u32,
        /// The key's size.
        actual: u32,
    },
    /// RSA under 2048 bits is refused whatever the profile says.
    #[error("RSA keys < 2048 bits are unsafe and not supported")]
    WeakRsaKey,
    /// No common name anywhere, and the profile demands one.
    #[error(
        "the common_name field is required, or must be provided in a CSR with \"use_csr_common_name\" set to true, unless \"require_cn\" is set to false"
    )]
    CommonNameRequired,
    /// The common name is outside the profile.
    #[error("common name {name} not allowed by this role")]
    CommonNameNotAllowed {
        /// The name.
        name: String,
    },
    /// A DNS name is outside the profile.
    #[error("subject alternate name {name} not allowed by this role")]
    DnsNameNotAllowed {
        /// The name.
        name: String,
    },
    /// An e-mail address is outside the profile.
    #[error("email address {name} not allowed by this role")]
    EmailNotAllowed {
        /// The address.
        name: String,
    },
    /// The name has no form in ASCII (IDNA).
    #[error("idna: invalid label {}", quoted(name))]
    NotAHostname {
        /// The name.
        name: String,
    },
    /// The subject's serial number is outside the profile.
    #[error("serial_number {value} not allowed by this role")]
    SubjectSerialNotAllowed {
        /// The serial number.
        value: String,
    },
    /// A user id is outside the profile.
    #[error("user_id {value} is not allowed by this role")]
    UserIdNotAllowed {
        /// The user id.
        value: String,
    },
    /// IP addresses were asked for and the profile has none.
    #[error("IP Subject Alternative Names are not allowed in this role, but was provided via {source_name}")]
    IpSansNotAllowed {
        /// `CSR` or `the API`.
        source_name: &'static str,
    },
    /// An address outside the profile's networks.
    #[error("the IP address {address:?} is not allowed in this role")]
    IpNotAllowed {
        /// The address.
        address: String,
    },
    /// Not an IP address.
    #[error("the value {} is not a valid IP address", quoted(value))]
    NotAnIpAddress {
        /// What was given.
        value: String,
    },
    /// URIs were asked for and the profile has none.
    #[error(
        "URI Subject Alternative Names are not allowed in this role, but were provided via {source_name}"
    )]
    UriSansNotAllowed {
        /// `CSR` or `the API`.
        source_name: &'static str,
    },
    /// A URI outside the profile.
    #[error(
        "URI Subject Alternative Names were provided via {source_name} which are not valid for this role"
    )]
    UriNotAllowed {
        /// `CSR` or `the API`.
        source_name: &'static str,
        /// The URI, for the log.
        uri: String,
    },
    /// Not a URI.
    #[error("the provided URI Subject Alternative Name {} is not a valid URI", quoted(value))]
    NotAUri {
        /// What was given.
        value: String,
    },
    /// An otherName that cannot be read.
    #[error("could not parse requested other SAN: {reason}")]
    MalformedOtherSan {
        /// What is wrong with it.
        reason: String,
    },
    /// An otherName type outside the profile.
    #[error("other SAN OID {oid} not allowed by this role")]
    OtherSanOidNotAllowed {
        /// The type.
        oid: String,
    },
    /// An otherName value outside the profile.
    #[error("other SAN {value} not allowed for OID {oid} by this role")]
    OtherSanNotAllowed {
        /// The type.
        oid: String,
        /// The value.
        value: String,
    },
    /// A value that cannot stand in a certificate: too long, NUL, not of the field's alphabet.
    #[error("{field} {} cannot be encoded in a certificate", quoted(value))]
    Unencodable {
        /// The field.
        field: &'static str,
        /// The value.
        value: String,
    },
    /// A time that is not RFC 3339; the sentence names it.
    #[error("parsing time {}{reason}", quoted(value))]
    NotATime {
        /// What was given.
        value: String,
        /// Where reading it stopped.
        reason: String,
    },
    /// Both `ttl` and `not_after`.
    #[error("Either ttl or not_after should be provided. Both should not be provided in the same request.")]
    TtlAndNotAfter,
    /// The certificate would outlive its issuer.
    #[error(
        "cannot satisfy request, as TTL would result in notAfter of {not_after} that is beyond the expiration of the CA certificate at {limit}"
    )]
    EndsAfterIssuer {
        /// The end asked for.
        not_after: Time,
        /// The issuer's own end.
        limit: Time,
    },
    /// A lifetime that begins or ends before Unix time does.
    #[error("cannot satisfy request, as {field} of {time} is before 1970-01-01T00:00:00Z")]
    Before1970 {
        /// `not_before` or `not_after`.
        field: &'static str,
        /// The start or the end.
        time: Time,
    },
    /// The profile forbids giving this bound of the lifetime at all.
    #[error("{field}_bound is set to forbid. {field} cannot be provided.")]
    BoundForbidden {
        /// `not_before` or `not_after`.
        field: &'static str,
    },
    /// `not_before` further back than the profile's `not_before_duration`.
    #[error("not_before_bound is set to duration. Cannot satisfy request as it would result in notBefore of {not_before} that is older than the allowed not_before_duration of {}", go_duration(*duration))]
    BeginsTooEarly {
        /// The start asked for.
        not_before: Time,
        /// How far back the profile goes.
        duration: Duration,
    },
    /// `not_after` beyond the ttl, where the profile limits it so.
    #[error("not_after_bound is set to ttl-limited. Cannot satisfy request as that would result in notAfter of {not_after} that is beyond the TTL of {}", go_duration(*ttl))]
    EndsAfterTtl {
        /// The end asked for.
        not_after: Time,
        /// The limit.
        ttl: Duration,
    },
    /// `not_after` beyond the profile's absolute bound.
    #[error(
        "not_after_bound is set to {limit}. Cannot statisfy request as that would result in notAfter of {not_after} that is beyond the maximum timestamp of {limit}"
    )]
    EndsAfterBound {
        /// The end asked for.
        not_after: Time,
        /// The limit.
        limit: Time,
    },
    /// The lifetime ends before it begins.
    #[error("The certificate's Not Before ({not_before}) is {} the certificate's Not After ({not_after})", if not_before == not_after { "equal to" } else { "later than" })]
    EmptyLifetime {
        /// Start.
        not_before: Time,
        /// End.
        not_after: Time,
    },
    /// The issuer may not have further authorities below it (RFC 5280, 4.2.1.9).
    #[error("signing certificate has a max path length of zero, and cannot issue further CA certificates")]
    PathLengthExhausted,
    /// The requested subject key id is not hexadecimal.
    #[error("cannot parse requested SKID value as hex: {reason}")]
    MalformedSubjectKeyId {
        /// What is wrong with it.
        reason: String,
    },
    /// A profile-like field of a CA request is not valid.
    #[error(transparent)]
    Profile(#[from] ProfileError),
    /// The key cannot do what was asked.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// A certificate given with the request is not usable.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// The certificate would break a standard that the mount insists on.
    #[error("the certificate was not made: {0}")]
    Lint(Finding),
    /// A part of the request that this version does not support.
    #[error("{what} is not supported")]
    Unsupported {
        /// What it is.
        what: String,
    },
}

/// What was granted in a reduced form. Travels with the certificate to the response's
/// `warnings`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Warning {
    /// The ttl was shortened to the maximum.
    #[error("TTL \"{}\" is longer than permitted maxTTL \"{}\", so maxTTL is being used", go_duration(*asked), go_duration(*max))]
    TtlCapped {
        /// What was asked for.
        asked: Duration,
        /// What was given.
        max: Duration,
    },
    /// A common name was given beside a CSR whose own counts.
    #[error(
        "the common_name field was provided but the role is set with \"use_csr_common_name\" set to true"
    )]
    CommonNameIgnored,
    /// Alternative names were given beside a CSR whose own count.
    #[error("the alt_names field was provided but the role is set with \"use_csr_sans\" set to true")]
    AltNamesIgnored,
    /// The CSR asked for basic constraints, which the profile does not pass on.
    #[error("specified CSR contained a Basic Constraints extension that was ignored during issuance")]
    BasicConstraintsIgnored,
    /// An intermediate that outlives its issuer.
    #[error(
        "The expiration time for the signed certificate is after the CA's expiration time. If the new certificate is not treated as a root, validation paths with the certificate past the issuing CA's expiration time will fail."
    )]
    OutlivesIssuer,
    /// The certificate breaks a standard.
    #[error("the certificate does not conform: {0}")]
    Lint(Finding),
    /// The maximum path length leaves the new authority unable to issue any other.
    #[error(
        "Max path length of the {made} certificate is zero. This certificate cannot be used to issue intermediate CA certificates."
    )]
    PathLengthZero {
        /// `signed` or `generated`.
        made: &'static str,
    },
}

/// Why a [`ProfileConfig`](crate::ProfileConfig) is not a [`Profile`](crate::Profile).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProfileError {
    /// The default ttl is longer than the maximum.
    #[error("\"ttl\" value must be less than \"max_ttl\" value")]
    TtlAboveMax,
    /// Key type, size or signature bits.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// Not a network.
    #[error("error parsing allowed_ip_sans_cidr: invalid CIDR address: {value}")]
    NotANetwork {
        /// What was given.
        value: String,
    },
    /// An entry of `allowed_other_sans`.
    #[error("error parsing allowed_other_sans: {reason}")]
    MalformedOtherSan {
        /// What is wrong with it.
        reason: String,
    },
    /// An entry of `ext_key_usage_oids`.
    #[error("{value:?} could not be parsed as a valid oid for an extended key usage")]
    NotAnExtendedKeyUsage {
        /// What was given.
        value: String,
    },
    /// An entry of `policy_identifiers`.
    #[error("policy identifier {value:?} is not a valid OID")]
    NotAPolicy {
        /// What was given.
        value: String,
    },
    /// The `cps` of an entry of `policy_identifiers`, which is written as an IA5String.
    #[error("policy identifier {oid:?} has a cps that is not ASCII: {cps:?}")]
    CpsNotAscii {
        /// The entry's identifier.
        oid: String,
        /// What was given.
        cps: String,
    },
    /// An entry of `cn_validations`.
    #[error("cn_validations value incorrect: unknown type: `{value}`")]
    UnknownCnValidation {
        /// What was given.
        value: String,
    },
    /// `disabled` beside others.
    #[error("cn_validations value incorrect: cannot specify `disabled` along with `email` or `hostname`")]
    CnValidationDisabledWithOthers,
    /// `not_before_bound`
    #[error(
        "Unknown value for field `not_before_bound`. Possible values are `permit` `duration` or `forbid`"
    )]
    UnknownNotBeforeBound,
    /// `not_after_bound`
    #[error(
        "Unknown value for field `not_after_bound`. Possible values are `permit`, `ttl-limited`, `forbid`, or an explicit timestamp."
    )]
    UnknownNotAfterBound,
    /// `not_before` or `not_after`; the sentence names the value.
    #[error("{field}: {reason}")]
    NotATime {
        /// The field.
        field: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// `max_path_length` below -1, or beyond any sense.
    #[error("invalid max_path_length {value}, must be greater or equal to -1")]
    BadPathLength {
        /// What was given.
        value: i64,
    },
}

/// Why a key cannot be made, read or used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// A `key_type` nobody knows.
    #[error("unknown key type {name}")]
    UnknownType {
        /// What was given.
        name: String,
    },
    /// RSA under 2048 bits.
    #[error("RSA keys < 2048 bits are unsafe and not supported: got {bits}")]
    WeakRsa {
        /// The size.
        bits: u32,
    },
    /// A size the type does not have.
    #[error("unsupported bit length for {} key: {bits}", match key_type { KeyType::Rsa => "RSA", KeyType::Ec => "EC", KeyType::Ed25519 => "Ed25519", KeyType::MlDsa => "ML-DSA" })]
    UnsupportedBits {
        /// The type.
        key_type: KeyType,
        /// The size.
        bits: u32,
    },
    /// `signature_bits` other than 0, 256, 384 and 512.
    #[error("unsupported hash signature algorithm: {bits}")]
    UnsupportedSignatureBits {
        /// What was given.
        bits: u32,
    },
    /// The text holds no key.
    #[error("no private key found in the PEM given")]
    Missing,
    /// Something stands behind the last PEM block that is none.
    #[error("error when parsing block {block}: invalid PEM data")]
    NotPem {
        /// Its number, from one.
        block: usize,
    },
    /// Several PEM blocks where one key was to be.
    #[error("only a single key can be present within the pem_bundle for importing")]
    NotOne,
    /// A PEM block that holds no key.
    #[error("failed to parse PEM block: {reason}")]
    NotAKey {
        /// What is wrong with it.
        reason: String,
    },
    /// The key is encrypted with a passphrase.
    #[error("encrypted private keys are not supported: decrypt the key first")]
    Encrypted,
    /// The bytes are not a key of a supported kind.
    #[error("private key could not be parsed: {reason}")]
    Malformed {
        /// What is wrong with it.
        reason: String,
    },
    /// The bytes are not a public key of their kind.
    #[error("{reason}")]
    MalformedPublicKey {
        /// What is wrong with it.
        reason: String,
    },
    /// A public key of a kind that nobody can certify here.
    #[error("unsupported kind of public key")]
    UnsupportedPublicKey,
    /// The crypto library could not make a key.
    #[error("key generation failed")]
    GenerationFailed,
}

/// Why a certificate given to us cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CertificateError {
    /// The bytes are not a certificate (RFC 5280, 4.1).
    #[error("certificate could not be parsed: {reason}")]
    Malformed {
        /// What is wrong with it.
        reason: String,
    },
    /// The text holds no certificate.
    #[error("no certificate found in the PEM given")]
    Missing,
    /// The bytes are not a revocation list (RFC 5280, 5.1).
    #[error("{reason}")]
    MalformedCrl {
        /// What is wrong with it.
        reason: String,
    },
    /// The text holds none, or more than one, or something else too.
    #[error("invalid crl; should be one PEM block only")]
    NotOneCrl,
    /// The certificate is not an authority's.
    #[error("given certificate is not a CA certificate")]
    NotACa,
    /// The same, where it was to be imported.
    #[error("Refusing to import non-CA certificate")]
    NotAnAuthority,
    /// Its key is of a kind that nobody can use here.
    #[error(
        "Refusing to import CA certificate with empty PublicKey. This usually means the SubjectPublicKeyInfo field has an OID not recognized, such as 1.2.840.113549.1.1.10 for rsaPSS."
    )]
    UnknownPublicKey,
    /// The key does not belong to the certificate.
    #[error("public key of the certificate does not match the private key")]
    KeyMismatch,
    /// Its issuer and its subject are different names.
    #[error("given certificate is not self-issued")]
    NotSelfIssued,
    /// Its own key did not sign it, or in a way that cannot be checked here.
    #[error("given certificate is not signed by its own key")]
    NotSelfSigned,
}

/// Why the last step failed, after everything was decided.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SignError {
    /// The key does not know this algorithm.
    #[error("the key cannot sign with this algorithm")]
    WrongAlgorithm,
    /// The key refused or could not be reached.
    #[error("signing failed: {reason}")]
    Failed {
        /// The signer's own words, for the log.
        reason: String,
    },
    /// The certificate read back is not the certificate that was prepared. It was not released.
    #[error("the signed certificate differs from what was prepared: {field}")]
    ReadBackDiffers {
        /// The first difference.
        field: &'static str,
    },
}

/// A text in double quotes with what cannot be printed escaped in the peer's way (Go's `%q`).
fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for character in text.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            '\x07' => quoted.push_str("\\a"),
            '\x08' => quoted.push_str("\\b"),
            '\t' => quoted.push_str("\\t"),
            '\n' => quoted.push_str("\\n"),
            '\x0b' => quoted.push_str("\\v"),
            '\x0c' => quoted.push_str("\\f"),
            '\r' => quoted.push_str("\\r"),
            '\0'..='\x1f' | '\x7f' => quoted.push_str(&format!("\\x{:02x}", u32::from(character))),
            character if character.is_control() => {
                quoted.push_str(&format!("\\u{:04x}", u32::from(character)));
            }
            character => quoted.push(character),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_printed_is_escaped_as_the_peer_does() {
        for (text, expected) in [
            ("plain", r#""plain""#),
            ("a\0b", r#""a\x00b""#),
            ("\"\\\n\t\r", r#""\"\\\n\t\r""#),
            ("\x07\x08\x0b\x0c\x1b\x7f", r#""\a\b\v\f\x1b\x7f""#),
            ("ü\u{85}", r#""ü\u0085""#),
        ] {
            assert_eq!(quoted(text), expected);
        }
    }
}
