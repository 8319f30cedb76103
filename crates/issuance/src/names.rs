//! Subject alternative names and the rules that permit them.

use std::net::IpAddr;

/// The names a client asks for beside the CSR, as they come over the API.
#[derive(Debug, Clone, Default)]
pub struct RequestedNames {
    /// `common_name`; empty for none.
    pub common_name: String,
    /// `alt_names`, already split at commas: DNS names and e-mail addresses.
    pub alt_names: Vec<String>,
    /// `ip_sans`
    pub ip_sans: Vec<String>,
    /// `uri_sans`
    pub uri_sans: Vec<String>,
    /// `other_sans`, each `oid;UTF8:value`.
    pub other_sans: Vec<String>,
    /// `user_ids`
    pub user_ids: Vec<String>,
    /// `serial_number`: the subject's serialNumber attribute; empty for none.
    pub serial_number: String,
    /// `exclude_cn_from_sans`: do not repeat the common name among the SANs.
    pub exclude_cn_from_sans: bool,
}

/// The subject alternative names of one certificate (RFC 5280, 4.2.1.6), by kind.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SanSet {
    /// dNSName, in ASCII.
    pub dns: Vec<String>,
    /// rfc822Name
    pub email: Vec<String>,
    /// iPAddress
    pub ip: Vec<IpAddr>,
    /// uniformResourceIdentifier
    pub uri: Vec<String>,
    /// otherName with a UTF8String value.
    pub other: Vec<OtherName>,
}

impl SanSet {
    /// No names at all.
    pub fn is_empty(&self) -> bool {
        let Self { dns, email, ip, uri, other } = self;
        dns.is_empty() && email.is_empty() && ip.is_empty() && uri.is_empty() && other.is_empty()
    }
}

/// An otherName: a type and a UTF-8 value.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct OtherName {
    /// The type, dotted.
    pub oid: String,
    /// The value.
    pub value: String,
}
