//! What a proof looks like, and whether what came back is one. Nothing here asks anybody.

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use chancery_issuance::Certificate;

use super::problem::{Problem, ProblemKind};
use crate::probe::{Presented, ProbeError};

/// id-pe-acmeIdentifier (RFC 8737, 6.1): the content of its DER.
const ACME_IDENTIFIER: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 1, 31];

/// The key authorization (RFC 8555, 8.1): what the account puts where the token says.
pub(super) struct KeyAuthorization(String);

impl KeyAuthorization {
    pub(super) fn new(token: &str, thumbprint: &str) -> Self {
        Self(format!("{token}.{thumbprint}"))
    }

    fn sha256(&self) -> digest::Digest {
        digest::digest(&digest::SHA256, self.0.as_bytes())
    }

    /// RFC 8555, 8.3: the body, perhaps with white space behind it.
    pub(super) fn check_body(&self, body: &[u8]) -> Result<(), Problem> {
        if body.trim_ascii_end() == self.0.as_bytes() {
            return Ok(());
        }
        Err(incorrect(format!("http-01: the answer, of {} bytes, is not the key authorization", body.len())))
    }

    /// RFC 8555, 8.4: one of the records.
    pub(super) fn check_texts(&self, texts: &[String]) -> Result<(), Problem> {
        let wanted = BASE64URL.encode(self.sha256());
        if texts.contains(&wanted) {
            return Ok(());
        }
        Err(incorrect(match texts.len() {
            0 => "dns-01: there is no TXT record".to_owned(),
            count => {
                format!("dns-01: none of the {count} TXT records is the digest of the key authorization")
            }
        }))
    }

    /// RFC 8737, 3: the negotiated protocol, one name, and the digest in a critical extension.
    pub(super) fn check_certificate(&self, name: &str, presented: &Presented) -> Result<(), Problem> {
        let wrong = |what: &str| incorrect(format!("tls-alpn-01: {what}"));
        if !presented.acme {
            return Err(wrong("the server did not negotiate acme-tls/1"));
        }
        let certificate = Certificate::from_der(&presented.certificate)
            .map_err(|error| wrong(&format!("the certificate does not parse: {error}")))?;
        let sans = certificate.sans().unwrap_or_default();
        let one_name = matches!(sans.dns.as_slice(), [only] if only.eq_ignore_ascii_case(name));
        if !one_name
            || !sans.email.is_empty()
            || !sans.ip.is_empty()
            || !sans.uri.is_empty()
            || !sans.other.is_empty()
        {
            return Err(wrong("the certificate is not for this name alone"));
        }
        let mut wanted = vec![4, 32];
        wanted.extend_from_slice(self.sha256().as_ref());
        match certificate.extension(ACME_IDENTIFIER) {
            Some((value, true)) if value == wanted => Ok(()),
            Some((_, false)) => Err(wrong("the acmeIdentifier extension is not critical")),
            Some((_, true)) => Err(wrong("the acmeIdentifier is not the digest of the key authorization")),
            None => Err(wrong("the certificate has no acmeIdentifier extension")),
        }
    }
}

fn incorrect(detail: String) -> Problem {
    Problem::new(ProblemKind::IncorrectResponse, shortened(detail))
}

/// The most of a sentence that is stored: strangers' hosts have a word in it.
const LONGEST_DETAIL: usize = 300;

fn shortened(mut detail: String) -> String {
    if detail.len() > LONGEST_DETAIL {
        detail.truncate(detail.floor_char_boundary(LONGEST_DETAIL));
        detail.push('…');
    }
    detail
}

impl From<ProbeError> for Problem {
    fn from(error: ProbeError) -> Self {
        let kind = match &error {
            ProbeError::Dns(_) => ProblemKind::Dns,
            ProbeError::Connection(_) => ProblemKind::Connection,
            ProbeError::Tls(_) => ProblemKind::Tls,
            ProbeError::Response(_) => ProblemKind::IncorrectResponse,
            ProbeError::Forbidden(_) => ProblemKind::RejectedIdentifier,
        };
        Self::new(kind, shortened(error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::pki::acme::tests::client::alpn_certificate;

    fn authorization() -> KeyAuthorization {
        KeyAuthorization::new("token", "thumbprint")
    }

    #[test]
    fn a_body_is_the_key_authorization_and_nothing_more() {
        for good in ["token.thumbprint", "token.thumbprint\n", "token.thumbprint \r\n"] {
            assert!(authorization().check_body(good.as_bytes()).is_ok(), "{good:?}");
        }
        for bad in ["", "token", "token.thumbprintx", " token.thumbprint", "token.thumbprint\nx"] {
            assert!(authorization().check_body(bad.as_bytes()).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn what_a_stranger_says_is_cut_before_it_is_stored() {
        let problem = Problem::from(ProbeError::Response("ü".repeat(100_000)));
        assert!(problem.detail.len() <= LONGEST_DETAIL + '…'.len_utf8(), "{}", problem.detail.len());
        assert_eq!(Problem::from(ProbeError::Dns("short".to_owned())).detail, "short");
    }

    #[test]
    fn one_of_several_texts_is_enough() {
        let digest = BASE64URL.encode(authorization().sha256());
        assert!(authorization().check_texts(&["other".to_owned(), digest.clone()]).is_ok());
        assert!(authorization().check_texts(&[]).is_err());
        assert!(authorization().check_texts(&[format!("{digest}="), digest.to_lowercase()]).is_err());
    }

    #[test]
    fn a_certificate_proves_one_name_by_a_critical_digest() {
        let digest = authorization().sha256().as_ref().to_vec();
        let check = |names: &[&str], digest: &[u8], critical: bool, acme: bool| {
            let certificate = alpn_certificate(names, digest, critical);
            authorization()
                .check_certificate("a.example", &Presented { certificate, acme })
                .map_err(|p| p.detail)
        };
        assert_eq!(check(&["a.example"], &digest, true, true), Ok(()));
        assert_eq!(check(&["A.Example"], &digest, true, true), Ok(()));
        assert!(check(&["a.example"], &digest, true, false).unwrap_err().contains("negotiate"));
        assert!(check(&["a.example"], &digest, false, true).unwrap_err().contains("not critical"));
        assert!(check(&["a.example"], &[0; 32], true, true).unwrap_err().contains("not the digest"));
        assert!(check(&["a.example"], &digest[1..], true, true).unwrap_err().contains("not the digest"));
        assert!(check(&["b.example"], &digest, true, true).unwrap_err().contains("this name alone"));
        assert!(
            check(&["a.example", "b.example"], &digest, true, true).unwrap_err().contains("this name alone")
        );
        assert!(check(&[], &digest, true, true).unwrap_err().contains("this name alone"));
        let garbage = Presented { certificate: vec![0x30, 0], acme: true };
        assert!(
            authorization().check_certificate("a.example", &garbage).unwrap_err().detail.contains("parse")
        );
    }
}
