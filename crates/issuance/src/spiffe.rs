//! SPIFFE IDs and trust domains (the SPIFFE-ID specification, sections 2.1 to 2.4).

use std::fmt;
use std::str::FromStr;

/// Why a text is not a SPIFFE ID.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SpiffeError {
    /// Longer than 2048 bytes (section 2.3).
    #[error("SPIFFE ID is longer than 2048 bytes")]
    TooLong,
    /// The scheme is not `spiffe` (section 2).
    #[error("SPIFFE ID must begin with spiffe://")]
    WrongScheme,
    /// The trust domain is empty (section 2.1).
    #[error("trust domain is missing")]
    MissingTrustDomain,
    /// The trust domain is longer than 255 bytes (section 2.1).
    #[error("trust domain is longer than 255 bytes")]
    TrustDomainTooLong,
    /// A character the trust domain must not contain; capitals, ports and user names included.
    #[error(
        "trust domain characters are limited to lowercase letters, numbers, dots, dashes, and underscores"
    )]
    BadTrustDomainCharacter,
    /// A character a path segment must not contain; percent-encoding included.
    #[error("path segment characters are limited to letters, numbers, dots, dashes, and underscores")]
    BadPathCharacter,
    /// `//` in the path.
    #[error("path cannot contain empty segments")]
    EmptySegment,
    /// `.` or `..` as a segment.
    #[error("path cannot contain dot segments")]
    DotSegment,
    /// The path ends in `/`.
    #[error("path cannot have a trailing slash")]
    TrailingSlash,
}

/// The name of a trust domain: `cluster.local`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TrustDomain(String);

impl TrustDomain {
    /// Checks a bare trust domain name (no scheme).
    ///
    /// # Errors
    /// Empty, longer than 255 bytes, or with a character outside `a-z 0-9 . - _`.
    pub fn new(name: &str) -> Result<Self, SpiffeError> {
        if name.is_empty() {
            return Err(SpiffeError::MissingTrustDomain);
        }
        if name.len() > 255 {
            return Err(SpiffeError::TrustDomainTooLong);
        }
        let allowed = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-' | b'_');
        if !name.bytes().all(allowed) {
            return Err(SpiffeError::BadTrustDomainCharacter);
        }
        Ok(Self(name.to_owned()))
    }

    /// The bare name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for TrustDomain {
    type Err = SpiffeError;

    fn from_str(text: &str) -> Result<Self, SpiffeError> {
        Self::new(text)
    }
}

/// A SPIFFE ID: `spiffe://cluster.local/ns/sandbox/sa/httpbin`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SpiffeId {
    uri: String,
    path_start: usize,
}

impl SpiffeId {
    const SCHEME: &str = "spiffe://";

    /// Parses a URI. The scheme and the trust domain must already be in lower case: an identity
    /// is compared byte for byte, so we accept one spelling only.
    ///
    /// # Errors
    /// What section 2 of the specification forbids; see [`SpiffeError`].
    pub fn parse(uri: &str) -> Result<Self, SpiffeError> {
        if uri.len() > 2048 {
            return Err(SpiffeError::TooLong);
        }
        let rest = uri.strip_prefix(Self::SCHEME).ok_or(SpiffeError::WrongScheme)?;
        let (domain, path) = match rest.find('/') {
            Some(slash) => rest.split_at(slash),
            None => (rest, ""),
        };
        TrustDomain::new(domain)?;
        check_path(path)?;
        Ok(Self { uri: uri.to_owned(), path_start: Self::SCHEME.len() + domain.len() })
    }

    /// From a trust domain and path segments (`["ns", "sandbox", "sa", "httpbin"]`).
    ///
    /// # Errors
    /// As [`SpiffeId::parse`]; a segment with a `/` in it is refused.
    pub fn from_segments(domain: &TrustDomain, segments: &[&str]) -> Result<Self, SpiffeError> {
        let mut uri = format!("{}{domain}", Self::SCHEME);
        for segment in segments {
            if segment.contains('/') {
                return Err(SpiffeError::BadPathCharacter);
            }
            uri.push('/');
            uri.push_str(segment);
        }
        Self::parse(&uri)
    }

    /// The trust domain.
    pub fn trust_domain(&self) -> TrustDomain {
        TrustDomain(self.uri.get(Self::SCHEME.len()..self.path_start).unwrap_or_default().to_owned())
    }

    /// The path with its leading slash, or nothing.
    pub fn path(&self) -> &str {
        self.uri.get(self.path_start..).unwrap_or_default()
    }

    /// The whole URI.
    pub fn as_str(&self) -> &str {
        &self.uri
    }
}

fn check_path(path: &str) -> Result<(), SpiffeError> {
    if path.is_empty() {
        return Ok(());
    }
    if path.ends_with('/') {
        return Err(SpiffeError::TrailingSlash);
    }
    for segment in path.split('/').skip(1) {
        match segment {
            "" => return Err(SpiffeError::EmptySegment),
            "." | ".." => return Err(SpiffeError::DotSegment),
            _ => {}
        }
        let allowed = |byte: u8| matches!(byte, b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'-' | b'_');
        if !segment.bytes().all(allowed) {
            return Err(SpiffeError::BadPathCharacter);
        }
    }
    Ok(())
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.uri)
    }
}

impl FromStr for SpiffeId {
    type Err = SpiffeError;

    fn from_str(text: &str) -> Result<Self, SpiffeError> {
        Self::parse(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_workload_id_splits_into_domain_and_path() {
        let id = SpiffeId::parse("spiffe://cluster.local/ns/sandbox/sa/httpbin").unwrap();
        assert_eq!(id.trust_domain().as_str(), "cluster.local");
        assert_eq!(id.path(), "/ns/sandbox/sa/httpbin");
        let segments = ["ns", "sandbox", "sa", "httpbin"];
        assert_eq!(SpiffeId::from_segments(&id.trust_domain(), &segments), Ok(id));
    }

    #[test]
    fn a_trust_domain_alone_is_an_id() {
        assert_eq!(SpiffeId::parse("spiffe://td").unwrap().path(), "");
    }

    #[test]
    fn what_the_specification_forbids_is_refused() {
        for (text, error) in [
            ("https://td/a", SpiffeError::WrongScheme),
            ("SPIFFE://td/a", SpiffeError::WrongScheme),
            ("spiffe://", SpiffeError::MissingTrustDomain),
            ("spiffe:///a", SpiffeError::MissingTrustDomain),
            ("spiffe://Td/a", SpiffeError::BadTrustDomainCharacter),
            ("spiffe://user@td/a", SpiffeError::BadTrustDomainCharacter),
            ("spiffe://td:80/a", SpiffeError::BadTrustDomainCharacter),
            ("spiffe://td?a=b", SpiffeError::BadTrustDomainCharacter),
            ("spiffe://td/", SpiffeError::TrailingSlash),
            ("spiffe://td/a/", SpiffeError::TrailingSlash),
            ("spiffe://td//a", SpiffeError::EmptySegment),
            ("spiffe://td/a/../b", SpiffeError::DotSegment),
            ("spiffe://td/./b", SpiffeError::DotSegment),
            ("spiffe://td/a%20b", SpiffeError::BadPathCharacter),
            ("spiffe://td/a#b", SpiffeError::BadPathCharacter),
            ("spiffe://td/a?b", SpiffeError::BadPathCharacter),
        ] {
            assert_eq!(SpiffeId::parse(text), Err(error), "{text}");
        }
        assert_eq!(SpiffeId::parse(&format!("spiffe://td/{}", "a".repeat(2048))), Err(SpiffeError::TooLong));
        assert_eq!(TrustDomain::new(&"a".repeat(256)), Err(SpiffeError::TrustDomainTooLong));
    }

    #[test]
    fn a_slash_cannot_be_smuggled_into_a_segment() {
        let domain = TrustDomain::new("td").unwrap();
        assert_eq!(SpiffeId::from_segments(&domain, &["ns", "a/sa/b"]), Err(SpiffeError::BadPathCharacter));
    }
}
