//! Certificates in words, for lists that people read.

use std::fmt;

use crate::algorithm::identifier;
use crate::certificate::extension_oid;
use crate::emit::{Malformed, Reader, tag};
use crate::{Certificate, SanSet, SignatureAlgorithm, Subject};

impl Certificate {
    /// The issuer's name by attribute; `None` if it holds what cannot be read.
    pub fn issuer_name(&self) -> Option<Subject> {
        Subject::read(Reader::new(self.issuer_der()).expect(tag::SEQUENCE).ok()?).ok()
    }

    /// The subject's name by attribute; `None` if it holds what cannot be read.
    pub fn subject_name(&self) -> Option<Subject> {
        Subject::read(Reader::new(self.subject_der()).expect(tag::SEQUENCE).ok()?).ok()
    }

    /// How it was signed; `None` for what we would not sign with, such as SHA-1.
    pub fn signature_algorithm(&self) -> Option<SignatureAlgorithm> {
        identifier::signing(self.signature_algorithm_der())
    }

    /// The DNS domains below which a CA's certificates may name hosts; empty if it does not say (RFC 5280,
    /// 4.2.1.10), `None` if it cannot be read.
    pub fn permitted_dns_domains(&self) -> Option<Vec<String>> {
        let extensions = self.extensions().ok()?;
        match extensions.iter().find(|extension| extension.oid == extension_oid::NAME_CONSTRAINTS) {
            Some(extension) => permitted_dns_domains(extension.value).ok(),
            None => Some(Vec::new()),
        }
    }

    /// The subject alternative names; empty if there are none, `None` if they cannot be read.
    pub fn sans(&self) -> Option<SanSet> {
        let extensions = self.extensions().ok()?;
        match extensions.iter().find(|extension| extension.oid == extension_oid::SUBJECT_ALT_NAME) {
            Some(extension) => SanSet::read(extension.value).ok(),
            None => Some(SanSet::default()),
        }
    }
}

/// The permitted subtrees that are DNS names.
fn permitted_dns_domains(value: &[u8]) -> Result<Vec<String>, Malformed> {
    const DNS_NAME: u8 = tag::context(2);
    let mut constraints = Reader::new(value).expect(tag::SEQUENCE)?.reader();
    let mut domains = Vec::new();
    let Some(permitted) = constraints.optional(tag::constructed(0))? else { return Ok(domains) };
    let mut subtrees = permitted.reader();
    while !subtrees.is_empty() {
        let base = subtrees.expect(tag::SEQUENCE)?.reader().next()?;
        if base.tag == DNS_NAME {
            let domain = std::str::from_utf8(base.content);
            domains.push(domain.map_err(|_| Malformed("a name constraint that is no text"))?.to_owned());
        }
    }
    Ok(domains)
}

/// RFC 4514 text of the attributes we know: the last in the certificate's order comes first.
impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            common_name,
            serial_number,
            country,
            organization,
            ou,
            locality,
            province,
            street_address,
            postal_code,
            user_ids,
        } = self;
        let single = |value: &String| if value.is_empty() { Vec::new() } else { vec![value.clone()] };
        let mut between = "";
        for (name, values) in [
            ("UID", user_ids),
            ("SERIALNUMBER", &single(serial_number)),
            ("CN", &single(common_name)),
            ("POSTALCODE", postal_code),
            ("STREET", street_address),
            ("ST", province),
            ("L", locality),
            ("OU", ou),
            ("O", organization),
            ("C", country),
        ] {
            for value in values {
                write!(f, "{between}{name}=")?;
                escaped(f, value)?;
                between = "+";
            }
            if !values.is_empty() {
                between = ",";
            }
        }
        Ok(())
    }
}

/// RFC 4514, 2.4.
fn escaped(f: &mut fmt::Formatter<'_>, value: &str) -> fmt::Result {
    let last = value.chars().count().saturating_sub(1);
    for (index, c) in value.chars().enumerate() {
        let special = matches!(c, ',' | '+' | '"' | '\\' | '<' | '>' | ';')
            || (index == 0 && matches!(c, '#' | ' '))
            || (index == last && c == ' ');
        if special {
            f.write_str("\\")?;
        }
        write!(f, "{c}")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_print_backwards_with_their_special_characters_escaped() {
        let list = |values: &[&str]| values.iter().map(|value| (*value).to_owned()).collect::<Vec<_>>();
        let subject = Subject {
            country: list(&["DE"]),
            organization: list(&["O2", "O=1"]),
            ou: list(&["x+y"]),
            ..Subject::from_common_name("ro, ot")
        };
        assert_eq!(subject.to_string(), "CN=ro\\, ot,OU=x\\+y,O=O2+O=O=1,C=DE");
        assert_eq!(Subject::from_common_name(" #a ").to_string(), "CN=\\ #a\\ ");
        assert_eq!(Subject::default().to_string(), "");
    }
}
