//! Subject alternative names and the rules that permit them.

use std::net::{IpAddr, Ipv6Addr};

use crate::emit::{self, Element, Emitter, Malformed, Reader, tag};
use crate::hostname::{glob, is_hostname, is_wildcard_label, to_ascii};
use crate::{Profile, Refusal, uri};

/// The names a client asks for beside the CSR, as they come over the API.
#[derive(Debug, Clone, Default)]
pub struct RequestedNames {
    /// `common_name`; empty for none.
    pub common_name: String,
    /// `alt_names`, split at commas but not trimmed: DNS names and e-mail addresses.
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
    /// The display name of the requesting token, for `allow_token_displayname`; empty for none.
    pub display_name: String,
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

/// The tags of a GeneralName that we read and write.
const OTHER_NAME: u8 = tag::constructed(0);
const RFC822_NAME: u8 = tag::context(1);
const DNS_NAME: u8 = tag::context(2);
const URI: u8 = tag::context(6);
const IP_ADDRESS: u8 = tag::context(7);

impl SanSet {
    /// No names at all.
    pub fn is_empty(&self) -> bool {
        let Self { dns, email, ip, uri, other } = self;
        dns.is_empty() && email.is_empty() && ip.is_empty() && uri.is_empty() && other.is_empty()
    }

    /// Reads the value of a subject alternative name extension.
    ///
    /// Kinds that nobody here could check (directory names, registered ids, otherNames that are
    /// not UTF-8) are refused, not passed over: the client asked for them and would not get them.
    pub(crate) fn read(value: &[u8]) -> Result<Self, Malformed> {
        let mut outer = Reader::new(value);
        let mut names = outer.expect(tag::SEQUENCE)?.reader();
        outer.end()?;
        let mut sans = Self::default();
        while !names.is_empty() {
            sans.read_name(names.next()?)?;
        }
        Ok(sans)
    }

    fn read_name(&mut self, name: Element<'_>) -> Result<(), Malformed> {
        match name.tag {
            DNS_NAME => self.dns.push(ia5(name.content, "x509: SAN dNSName is malformed")?),
            RFC822_NAME => self.email.push(ia5(name.content, "x509: SAN rfc822Name is malformed")?),
            URI => {
                let text = ia5(name.content, "x509: SAN uniformResourceIdentifier is malformed")?;
                self.uri.push(uri::normal_form(&text).ok_or(Malformed("x509: cannot parse URI"))?);
            }
            IP_ADDRESS => self.ip.push(ip(name.content)?),
            OTHER_NAME => self.other.push(OtherName::read(name)?),
            _ => return Err(Malformed("a subject alternative name of an unsupported kind")),
        }
        Ok(())
    }

    /// Writes the GeneralNames, last one first, in the peer's order of kinds: other, DNS,
    /// e-mail, IP, URI.
    pub(crate) fn emit(&self, out: &mut Emitter) {
        let Self { dns, email, ip, uri, other } = self;
        let mark = out.mark();
        for uri in uri.iter().rev() {
            out.element(URI, uri.as_bytes());
        }
        for ip in ip.iter().rev() {
            match ip {
                IpAddr::V4(v4) => out.element(IP_ADDRESS, &v4.octets()),
                IpAddr::V6(v6) => out.element(IP_ADDRESS, &v6.octets()),
            }
        }
        for email in email.iter().rev() {
            out.element(RFC822_NAME, email.as_bytes());
        }
        for dns in dns.iter().rev() {
            out.element(DNS_NAME, dns.as_bytes());
        }
        for other in other.iter().rev() {
            other.emit(out);
        }
        out.close(tag::SEQUENCE, mark);
    }
}

/// ASCII text without NUL or other control characters: a NUL inside a name has fooled many a
/// verifier.
fn ia5(bytes: &[u8], what: &'static str) -> Result<String, Malformed> {
    match std::str::from_utf8(bytes) {
        Ok("") => Err(Malformed("an empty subject alternative name")),
        Ok(text) if text.bytes().all(|byte| (0x20..0x7f).contains(&byte)) => Ok(text.to_owned()),
        _ => Err(Malformed(what)),
    }
}

fn ip(bytes: &[u8]) -> Result<IpAddr, Malformed> {
    if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
        return Ok(IpAddr::from(v4));
    }
    let v6 = <[u8; 16]>::try_from(bytes).map_err(|_| Malformed("an iPAddress of neither 4 nor 16 bytes"))?;
    let v6 = Ipv6Addr::from(v6);
    // One address, one encoding: else a network rule for one form would miss the other.
    if v6.to_ipv4_mapped().is_some() {
        return Err(Malformed("x509: SAN iPAddress contains IPv4-mapped IPv6 address"));
    }
    Ok(IpAddr::V6(v6))
}

/// An otherName of another type than we can check.
pub(crate) const NO_UTF8_STRING: Malformed = Malformed("no UTF-8 string found in OtherName");

/// An otherName: a type and a UTF-8 value.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct OtherName {
    /// The type, dotted.
    pub oid: String,
    /// The value.
    pub value: String,
}

impl OtherName {
    /// From the API's form, `oid;UTF8:value`.
    ///
    /// # Errors
    /// The form or the type is not understood; the sentence is the client's.
    pub fn parse(text: &str) -> Result<Self, Refusal> {
        let malformed = |reason: String| Refusal::MalformedOtherSan { reason };
        let (oid, typed) = text
            .split_once(';')
            .ok_or_else(|| malformed(format!("expected a semicolon in other SAN {text:?}")))?;
        let (kind, value) = typed
            .split_once(':')
            .ok_or_else(|| malformed(format!("expected a colon in other SAN {text:?}")))?;
        if !kind.eq_ignore_ascii_case("utf8") && !kind.eq_ignore_ascii_case("utf-8") {
            return Err(malformed(format!(
                "only utf8 other SANs are supported; found non-supported type in other SAN {text:?}"
            )));
        }
        if emit::oid_content(oid).is_none() {
            return Err(malformed(format!("{oid:?} is not an object identifier")));
        }
        if value.chars().any(char::is_control) {
            return Err(malformed(format!("control characters in other SAN {text:?}")));
        }
        Ok(Self { oid: oid.to_owned(), value: value.to_owned() })
    }

    /// The type and value inside `[0]`: the value is tagged `[0]` once more, explicitly.
    fn read(name: Element<'_>) -> Result<Self, Malformed> {
        let mut fields = name.reader();
        let oid = emit::oid_text(fields.expect(tag::OID)?.content)?;
        let mut value = fields.expect(tag::constructed(0))?.reader();
        fields.end()?;
        let text = value.expect(tag::UTF8_STRING).map_err(|_| NO_UTF8_STRING)?;
        value.end()?;
        let value =
            std::str::from_utf8(text.content).map_err(|_| Malformed("an otherName that is not UTF-8"))?;
        if value.chars().any(char::is_control) {
            return Err(Malformed("an otherName with control characters"));
        }
        Ok(Self { oid, value: value.to_owned() })
    }

    fn emit(&self, out: &mut Emitter) {
        let name = out.mark();
        let value = out.mark();
        out.element(tag::UTF8_STRING, self.value.as_bytes());
        out.close(tag::constructed(0), value);
        // Both constructors saw to it that this is an identifier.
        out.element(tag::OID, &emit::oid_content(&self.oid).unwrap_or_default());
        out.close(OTHER_NAME, name);
    }
}

/// Which otherNames a profile permits.
#[derive(Debug, Clone)]
pub(crate) enum OtherSanRule {
    /// A single `*`.
    Any,
    /// Types, each with a pattern for the value.
    Only(Vec<OtherName>),
}

impl OtherSanRule {
    pub(crate) fn check(&self, asked: &OtherName) -> Result<(), Refusal> {
        let Self::Only(allowed) = self else { return Ok(()) };
        let mut same_type = allowed.iter().filter(|rule| rule.oid == asked.oid).peekable();
        if same_type.peek().is_none() {
            return Err(Refusal::OtherSanOidNotAllowed { oid: asked.oid.clone() });
        }
        if same_type.any(|rule| glob(&rule.value, &asked.value)) {
            return Ok(());
        }
        Err(Refusal::OtherSanNotAllowed { oid: asked.oid.clone(), value: asked.value.clone() })
    }
}

impl Profile {
    /// Whether the profile permits a DNS name, for those who want to know before there is a request.
    pub fn permits_dns_name(&self, name: &str) -> bool {
        self.permits_name(name, "")
    }

    /// Whether the profile permits an IP address, for those who want to know before there is a request.
    pub fn permits_ip_address(&self, address: &IpAddr) -> bool {
        let in_networks =
            self.networks.is_empty() || self.networks.iter().any(|network| network.contains(address));
        self.config.allow_ip_sans && in_networks
    }

    /// Whether the profile permits a common name. `display_name` is the requesting token's.
    pub(crate) fn permits_common_name(&self, name: &str, display_name: &str) -> bool {
        let validations = &self.config.cn_validations;
        if validations.len() == 1 && validations.first().is_some_and(|only| only == "disabled") {
            return true;
        }
        let kind = if name.contains('@') { "email" } else { "hostname" };
        let kind_allowed = validations.is_empty() || validations.iter().any(|allowed| allowed == kind);
        kind_allowed && self.permits_name(name, display_name)
    }

    /// Whether the profile permits a DNS name or an e-mail address.
    ///
    /// The rules are the peer's, whose comparisons mix exact and case-blind ones; the recorded
    /// cases in `testdata/name_rules.txt` hold each of them.
    pub(crate) fn permits_name(&self, name: &str, display_name: &str) -> bool {
        let rules = &self.config;
        let Some(parts) = NameParts::split(name) else { return false };
        if parts.wildcard.is_some() && (!rules.allow_wildcard_certificates || parts.is_email) {
            return false;
        }
        if rules.enforce_hostnames && !parts.looks_like_a_hostname() {
            return false;
        }
        rules.allow_any_name
            || (rules.allow_localhost && self.is_local(&parts))
            || (rules.allow_token_displayname && self.is_display_name(name, &parts, display_name))
            || rules.allowed_domains.iter().any(|domain| self.is_in_domain(name, &parts, domain))
    }

    fn is_local(&self, parts: &NameParts<'_>) -> bool {
        ["localhost", "localdomain"]
            .into_iter()
            .any(|local| parts.host == local || (self.config.allow_subdomains && is_below(parts.host, local)))
    }

    fn is_display_name(&self, name: &str, parts: &NameParts<'_>, display_name: &str) -> bool {
        if display_name.is_empty() {
            return false;
        }
        let host_of_display =
            display_name.split_once('@').map(|(_, host)| host).filter(|host| !host.contains('@'));
        name == display_name
            || (self.config.allow_subdomains
                && (is_below(parts.host, display_name)
                    || (parts.wildcard.is_some() && parts.host == display_name)
                    || (parts.is_email && host_of_display.is_some_and(|host| is_below(parts.host, host)))))
    }

    fn is_in_domain(&self, name: &str, parts: &NameParts<'_>, domain: &str) -> bool {
        let rules = &self.config;
        if domain.is_empty() {
            return false;
        }
        let bare = rules.allow_bare_domains
            && (name.eq_ignore_ascii_case(domain)
                || (parts.is_email && parts.host.eq_ignore_ascii_case(domain)));
        let below = rules.allow_subdomains
            && (is_below(parts.host, domain)
                || (parts.wildcard.is_some() && parts.host.eq_ignore_ascii_case(domain)));
        let matches = rules.allow_glob_domains && domain.contains('*') && glob(domain, name);
        bare || below || matches
    }
}

/// Whether `host` ends in `.domain`.
fn is_below(host: &str, domain: &str) -> bool {
    host.strip_suffix(domain).is_some_and(|head| head.ends_with('.'))
}

/// A name taken apart for the rules.
struct NameParts<'a> {
    is_email: bool,
    /// The first label, if there is a wildcard in it.
    wildcard: Option<&'a str>,
    /// What is right of the `@` and of the wildcard label; empty for a wildcard alone.
    host: &'a str,
}

impl<'a> NameParts<'a> {
    /// `None` for names that no rule can permit: two `@`, two wildcards, a wildcard beyond the
    /// first label.
    fn split(name: &'a str) -> Option<Self> {
        let (is_email, host) = match name.split_once('@') {
            None => (false, name),
            Some((_, host)) if host.contains('@') => return None,
            Some((_, host)) => (true, host),
        };
        if !host.contains('*') {
            return Some(Self { is_email, wildcard: None, host });
        }
        let (label, rest) = host.split_once('.').unwrap_or((host, ""));
        if host.matches('*').count() > 1 || rest.contains('*') {
            return None;
        }
        Some(Self { is_email, wildcard: Some(label), host: rest })
    }

    fn looks_like_a_hostname(&self) -> bool {
        // A lone wildcard label has no host behind it to look at.
        let host = (self.host.is_empty() && self.wildcard.is_some())
            || to_ascii(self.host).is_ok_and(|ascii| is_hostname(&ascii));
        host && self.wildcard.is_none_or(is_wildcard_label)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_other_name_with_control_characters_is_refused() {
        for control in ['\0', '\n', '\x1f', '\x7f', '\u{85}'] {
            let refused = OtherName::parse(&format!("1.2.3;UTF8:a{control}b")).unwrap_err();
            assert!(refused.to_string().contains("control characters in other SAN"), "{refused}");
        }
        assert_eq!(
            OtherName::parse("1.2.3;UTF8:a\0b").unwrap_err().to_string(),
            r#"could not parse requested other SAN: control characters in other SAN "1.2.3;UTF8:a\0b""#
        );
        assert_eq!(OtherName::parse("1.2.3;UTF8:ü b").unwrap().value, "ü b");
    }

    #[test]
    fn names_and_addresses_can_be_asked_about_before_there_is_a_request() {
        let profile = |allow_ip_sans: bool, networks: &[&str]| {
            Profile::new(crate::ProfileConfig {
                allowed_domains: vec!["example.com".to_owned()],
                allow_subdomains: true,
                allow_ip_sans,
                allowed_ip_sans_cidr: networks.iter().map(|network| (*network).to_owned()).collect(),
                ..crate::ProfileConfig::default()
            })
            .unwrap()
        };
        let open = profile(true, &[]);
        assert!(open.permits_dns_name("a.example.com") && open.permits_dns_name("*.example.com"));
        assert!(!open.permits_dns_name("example.com") && !open.permits_dns_name("a.example.org"));
        let address = "192.0.2.7".parse().unwrap();
        assert!(open.permits_ip_address(&address));
        assert!(profile(true, &["192.0.2.0/24"]).permits_ip_address(&address));
        assert!(!profile(true, &["10.0.0.0/8"]).permits_ip_address(&address));
        assert!(!profile(false, &["192.0.2.0/24"]).permits_ip_address(&address));
    }
}
