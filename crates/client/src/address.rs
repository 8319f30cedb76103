//! Where the server is.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use url::{Host, Url};

/// What stands in a path unencoded, as Go's clients have it.
const PATH: AsciiSet = NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~')
    .remove(b'$')
    .remove(b'&')
    .remove(b'+')
    .remove(b',')
    .remove(b'/')
    .remove(b':')
    .remove(b';')
    .remove(b'=')
    .remove(b'@');

/// The server's address: `http://…`, `https://…` or `unix:///path/of/socket`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    text: String,
    base: Url,
    socket: Option<PathBuf>,
}

/// A text that is no address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("parse {text:?}: {reason}")]
pub struct AddressError {
    /// What was given.
    pub text: String,
    /// What is wrong with it.
    pub reason: String,
}

impl Address {
    /// The URL under which `path` is asked for, with `/v1/` before it.
    ///
    /// The path is a logical one: slashes separate, and a `?`, `#` or `%` belongs to a name. Double
    /// slashes and `.` and `..` are resolved, as the peer's clients do before they ask.
    pub fn url(&self, path: &str, query: &[(String, String)]) -> Url {
        let mut url = self.base.clone();
        let prefix = self.base.path().trim_end_matches('/');
        let mut encoded = String::new();
        for segment in path.split('/').filter(|segment| !segment.is_empty()) {
            encoded.push('/');
            encoded.extend(utf8_percent_encode(segment, &PATH));
        }
        url.set_path(&format!("{prefix}/v1{encoded}"));
        if !query.is_empty() {
            let mut sorted: Vec<&(String, String)> = query.iter().collect();
            sorted.sort_by(|a, b| a.0.cmp(&b.0));
            url.query_pairs_mut().extend_pairs(sorted.iter().map(|(name, value)| (name, value)));
        }
        url
    }

    /// The socket's path, of a `unix://` address.
    pub fn socket(&self) -> Option<&Path> {
        self.socket.as_deref()
    }

    /// Whether the connection is encrypted.
    pub fn is_tls(&self) -> bool {
        self.base.scheme() == "https"
    }

    /// The host in the URL.
    pub fn host(&self) -> &str {
        self.base.host_str().unwrap_or("localhost")
    }

    /// The port in the URL, or the scheme's own.
    pub fn port(&self) -> u16 {
        self.base.port_or_known_default().unwrap_or(8200)
    }

    /// Whether the server is on this machine: a socket, `localhost` or a loopback address.
    pub fn is_local(&self) -> bool {
        self.socket.is_some()
            || match self.base.host() {
                Some(Host::Domain(name)) => name == "localhost",
                Some(Host::Ipv4(address)) => address.is_loopback(),
                Some(Host::Ipv6(address)) => address.is_loopback(),
                None => false,
            }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let fail = |reason: &str| AddressError { text: text.to_owned(), reason: reason.to_owned() };
        let trimmed = text.trim();
        if let Some(path) = trimmed.strip_prefix("unix://") {
            if path.is_empty() {
                return Err(fail("a unix:// address names the socket's path"));
            }
            let base = Url::parse("http://localhost").map_err(|error| fail(&error.to_string()))?;
            return Ok(Self { text: trimmed.to_owned(), base, socket: Some(PathBuf::from(path)) });
        }
        if !trimmed.contains("://") {
            return Err(fail(&format!("missing protocol scheme; did you mean http://{trimmed}?")));
        }
        let base = Url::parse(trimmed).map_err(|error| fail(&error.to_string()))?;
        if !matches!(base.scheme(), "http" | "https") {
            return Err(fail(&format!("unsupported protocol scheme {:?}", base.scheme())));
        }
        Ok(Self { text: trimmed.trim_end_matches('/').to_owned(), base, socket: None })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(address: &str, path: &str, query: &[(&str, &str)]) -> String {
        let query: Vec<_> = query.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        address.parse::<Address>().expect("an address").url(path, &query).to_string()
    }

    #[test]
    fn paths_stand_below_v1_and_below_a_base_path() {
        assert_eq!(url("http://a:1", "sys/mounts", &[]), "http://a:1/v1/sys/mounts");
        assert_eq!(url("http://a:1/", "/sys/mounts", &[]), "http://a:1/v1/sys/mounts");
        assert_eq!(url("http://a:1/vault/", "x", &[]), "http://a:1/vault/v1/x");
        assert_eq!(url("unix:///run/s", "x", &[]), "http://localhost/v1/x");
    }

    #[test]
    fn a_name_with_a_question_mark_is_no_query() {
        assert_eq!(url("http://a", "kv/what?", &[]), "http://a/v1/kv/what%3F");
        assert_eq!(url("http://a", "kv/50%", &[]), "http://a/v1/kv/50%25");
        assert_eq!(url("http://a", "pki//cert/0a:0b/", &[]), "http://a/v1/pki/cert/0a:0b");
        assert_eq!(url("http://a", "kv/a b", &[]), "http://a/v1/kv/a%20b");
    }

    #[test]
    fn query_is_sorted_by_name() {
        assert_eq!(
            url("http://a", "x", &[("list", "true"), ("after", "b c")]),
            "http://a/v1/x?after=b+c&list=true"
        );
    }

    #[test]
    fn an_address_without_scheme_says_what_was_meant() {
        let error = "127.0.0.1:8200".parse::<Address>().expect_err("no scheme");
        assert_eq!(
            error.to_string(),
            "parse \"127.0.0.1:8200\": missing protocol scheme; did you mean http://127.0.0.1:8200?"
        );
    }
}
