//! Durations, bytes and words, as they stand in these objects.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use data_encoding::BASE64;
use jiff::Timestamp;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// What the API server lets through as a duration.
const DURATION_PATTERN: &str = r"^([0-9]+(\.[0-9]*)?(ns|us|µs|ms|s|m|h))+$|^0$";

/// A length of time in Go's syntax: `90m`, `2160h`; written as `1h0m0s`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GoDuration(pub Duration);

impl GoDuration {
    /// A whole number of seconds.
    pub const fn seconds(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }
}

impl From<Duration> for GoDuration {
    fn from(duration: Duration) -> Self {
        Self(duration)
    }
}

impl fmt::Display for GoDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (total, nanoseconds) = (self.0.as_secs(), self.0.subsec_nanos());
        let (hours, minutes, seconds) = (total / 3600, total / 60 % 60, total % 60);
        if hours > 0 {
            write!(f, "{hours}h")?;
        }
        if hours > 0 || minutes > 0 {
            write!(f, "{minutes}m")?;
        }
        if nanoseconds == 0 {
            return write!(f, "{seconds}s");
        }
        let fraction = format!("{nanoseconds:09}");
        write!(f, "{seconds}.{}s", fraction.trim_end_matches('0'))
    }
}

impl std::str::FromStr for GoDuration {
    type Err = chancery_api::duration::ParseError;

    /// Parses Go's syntax; days, and numbers without a unit, are none of it.
    ///
    /// # Errors
    /// It is not of that syntax, negative, or longer than 292 years.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let has_unit = text.ends_with(['s', 'm', 'h']) || text == "0";
        if !has_unit {
            return Err(chancery_api::duration::ParseError::Invalid(text.to_owned()));
        }
        chancery_api::duration::parse(text).map(Self)
    }
}

impl Serialize for GoDuration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for GoDuration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Cow::<'_, str>::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

impl JsonSchema for GoDuration {
    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": DURATION_PATTERN })
    }

    fn inline_schema() -> bool {
        true
    }
}

/// Bytes; in base64 in the object. Mostly they are PEM.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Bytes(pub Vec<u8>);

impl Bytes {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// As text, if they are UTF-8.
    pub fn as_str(&self) -> Option<&str> {
        std::str::from_utf8(&self.0).ok()
    }
}

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{} bytes]", self.0.len())
    }
}

impl From<Vec<u8>> for Bytes {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }
}

impl From<&str> for Bytes {
    fn from(text: &str) -> Self {
        Self(text.as_bytes().to_vec())
    }
}

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&BASE64.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<'_, str>::deserialize(deserializer)?;
        // As Go reads it: line ends do not count.
        let decoded = if text.contains(['\n', '\r']) {
            BASE64.decode(text.replace(['\n', '\r'], "").as_bytes())
        } else {
            BASE64.decode(text.as_bytes())
        };
        decoded.map(Self).map_err(D::Error::custom)
    }
}

impl JsonSchema for Bytes {
    fn schema_name() -> Cow<'static, str> {
        "Bytes".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "format": "byte" })
    }

    fn inline_schema() -> bool {
        true
    }
}

/// An instant: RFC 3339 with whole seconds in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(pub Timestamp);

impl Time {
    /// This instant, cut to whole seconds as an object keeps it: what is written then equals what is read.
    pub fn new(instant: Timestamp) -> Self {
        Self(Timestamp::from_second(instant.as_second()).unwrap_or(instant))
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&Self::new(self.0).0)
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Timestamp::deserialize(deserializer).map(Self)
    }
}

impl JsonSchema for Time {
    fn schema_name() -> Cow<'static, str> {
        "Time".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "format": "date-time" })
    }

    fn inline_schema() -> bool {
        true
    }
}

/// Which issuer signs.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub struct IssuerReference {
    /// Name of the issuer.
    pub name: String,
    /// Kind of the issuer: Issuer (the default), ClusterIssuer, or a kind of another group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// API group of the issuer; cert-manager.io by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
}

impl IssuerReference {
    /// A reference with all three parts.
    pub fn new(name: impl Into<String>, kind: impl Into<String>, group: impl Into<String>) -> Self {
        Self { name: name.into(), kind: Some(kind.into()), group: Some(group.into()) }
    }

    /// The kind, or the one that is meant when none is given.
    pub fn kind(&self) -> &str {
        self.kind.as_deref().filter(|kind| !kind.is_empty()).unwrap_or(super::ISSUER)
    }

    /// The group, or the one that is meant when none is given.
    pub fn group(&self) -> &str {
        self.group.as_deref().filter(|group| !group.is_empty()).unwrap_or(super::GROUP)
    }

    /// Whether it is one of `cert-manager.io`, and so none of another controller's.
    pub fn is_ours(&self) -> bool {
        self.group() == super::GROUP
    }
}

impl fmt::Display for IssuerReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{} {}", self.kind(), self.group(), self.name)
    }
}

/// Declares an enum whose values are fixed words in the object, with its schema.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
        pub enum $name {
            $($(#[$variant_doc])* #[serde(rename = $word)] $variant,)+
        }

        impl $name {
            /// All of them, in the order of the definition.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The word in the object.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)+
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl schemars::JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({ "type": "string", "enum": [$($word),+] })
            }

            fn inline_schema() -> bool {
                true
            }
        }
    };
}
pub(super) use words;

words! {
    /// What a certificate may be used for (RFC 5280, 4.2.1.3 and 4.2.1.12).
    KeyUsage {
        /// The same as `digital signature`.
        Signing = "signing",
        /// digitalSignature
        DigitalSignature = "digital signature",
        /// nonRepudiation
        ContentCommitment = "content commitment",
        /// keyEncipherment
        KeyEncipherment = "key encipherment",
        /// keyAgreement
        KeyAgreement = "key agreement",
        /// dataEncipherment
        DataEncipherment = "data encipherment",
        /// keyCertSign
        CertSign = "cert sign",
        /// cRLSign
        CrlSign = "crl sign",
        /// encipherOnly
        EncipherOnly = "encipher only",
        /// decipherOnly
        DecipherOnly = "decipher only",
        /// anyExtendedKeyUsage
        Any = "any",
        /// id-kp-serverAuth
        ServerAuth = "server auth",
        /// id-kp-clientAuth
        ClientAuth = "client auth",
        /// id-kp-codeSigning
        CodeSigning = "code signing",
        /// id-kp-emailProtection
        EmailProtection = "email protection",
        /// The same as `email protection`.
        SMime = "s/mime",
        /// id-kp-ipsecEndSystem
        IpsecEndSystem = "ipsec end system",
        /// id-kp-ipsecTunnel
        IpsecTunnel = "ipsec tunnel",
        /// id-kp-ipsecUser
        IpsecUser = "ipsec user",
        /// id-kp-timeStamping
        Timestamping = "timestamping",
        /// id-kp-OCSPSigning
        OcspSigning = "ocsp signing",
        /// Microsoft's server gated crypto.
        MicrosoftSgc = "microsoft sgc",
        /// Netscape's server gated crypto.
        NetscapeSgc = "netscape sgc",
    }
}

/// The schema of what is kept as it is.
#[derive(Debug)]
pub(super) struct Unknown;

impl JsonSchema for Unknown {
    fn schema_name() -> Cow<'static, str> {
        "Unknown".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true })
    }

    fn inline_schema() -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_and_written_as_go_does() {
        for (text, written) in [
            ("1h", "1h0m0s"),
            ("90m", "1h30m0s"),
            ("2160h0m0s", "2160h0m0s"),
            ("30m", "30m0s"),
            ("45s", "45s"),
            ("1500ms", "1.5s"),
            ("0", "0s"),
            ("0s", "0s"),
            ("1h0.5s", "1h0m0.5s"),
        ] {
            let duration: GoDuration = serde_json::from_value(text.into()).expect(text);
            assert_eq!(serde_json::to_value(duration).expect("JSON"), written, "{text}");
        }
        for text in ["", "30d", "3600", "1y", "-1h", "h", "1h30"] {
            assert!(text.parse::<GoDuration>().is_err(), "{text}");
        }
    }

    #[test]
    fn bytes_are_base64_and_are_not_printed() {
        let bytes: Bytes = serde_json::from_value("Y3\nNy".into()).expect("bytes");
        assert_eq!(bytes.as_str(), Some("csr"));
        assert_eq!(serde_json::to_value(&bytes).expect("JSON"), "Y3Ny");
        assert_eq!(format!("{bytes:?}"), "[3 bytes]");
        assert!(serde_json::from_value::<Bytes>("%%%".into()).is_err());
    }

    #[test]
    fn there_are_twenty_three_usages_each_written_as_it_is_read() {
        assert_eq!(KeyUsage::ALL.len(), 23);
        for usage in KeyUsage::ALL {
            assert_eq!(serde_json::to_value(usage).expect("JSON"), usage.as_str());
        }
    }

    #[test]
    fn a_reference_without_kind_and_group_means_an_issuer_of_the_namespace() {
        let reference: IssuerReference = serde_json::from_str(r#"{"name":"a"}"#).expect("a reference");
        assert_eq!((reference.kind(), reference.group()), ("Issuer", "cert-manager.io"));
        assert!(reference.is_ours() && !IssuerReference::new("a", "Issuer", "example.com").is_ours());
        assert_eq!(serde_json::to_string(&reference).expect("JSON"), r#"{"name":"a"}"#);
    }
}
