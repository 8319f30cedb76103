//! What can go wrong between a request and its answer.

use std::fmt;

use crate::{AddressError, ConfigError};

/// A request that brought no answer, or a refusal.
#[derive(Debug)]
pub enum Error {
    /// The server refused. Printed as Vault's command line prints it.
    Api {
        /// `GET`, `PUT`, …
        method: String,
        /// The URL asked for.
        url: String,
        /// The HTTP status.
        status: u16,
        /// The sentences of the body's `errors`; empty for "nothing there".
        errors: Vec<String>,
        /// The body, if it is no error in Vault's form.
        raw: Option<String>,
    },
    /// The request or its answer was lost.
    Transport {
        /// `GET`, `PUT`, …
        method: String,
        /// The URL asked for.
        url: String,
        /// What happened, as one line.
        reason: String,
        /// What kind of loss.
        kind: Loss,
    },
    /// The answer is not what it should be.
    Decode(String),
    /// The client cannot be set up.
    Config(ConfigError),
}

/// How a request was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// No connection: the server has not seen the request.
    Connect,
    /// No trust in the server's certificate, or a failed TLS handshake.
    Tls,
    /// The server speaks HTTP where HTTPS was asked for.
    PlainHttp,
    /// Too slow. The server may have acted.
    Timeout,
    /// Anything else. The server may have acted.
    Other,
}

impl Error {
    /// The HTTP status of a refusal.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Api { status, .. } => Some(*status),
            _ => None,
        }
    }

    /// The same as one line, for logs; [`fmt::Display`] is for terminals.
    pub fn line(&self) -> String {
        let Self::Api { method, url, status, errors, raw } = self else { return self.to_string() };
        let said = match raw {
            // The page of a proxy, perhaps.
            Some(raw) => raw.chars().take(300).map(|c| if c.is_control() { ' ' } else { c }).collect(),
            None => errors.join("; ").replace(['\n', '\t'], " "),
        };
        format!("{method} {url}: {status}: {said}")
    }

    /// Whether the server said that there is nothing there.
    pub fn is_not_found(&self) -> bool {
        self.status() == Some(404)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Api { method, url, status, errors, raw } => {
                let kind = if raw.is_some() { "Raw Message" } else { "Errors" };
                write!(f, "Error making API request.\n\nURL: {method} {url}\nCode: {status}. {kind}:\n\n")?;
                if let Some(raw) = raw {
                    return f.write_str(raw);
                }
                let errors: Vec<String> = errors.iter().map(|error| format!("* {error}")).collect();
                f.write_str(&errors.join("\n"))
            }
            // The limit may have run out between two attempts; Go names no request then.
            Self::Transport { reason, kind: Loss::Timeout, .. } => f.write_str(reason),
            Self::Transport { method, url, reason, .. } => {
                let mut verb = method.to_lowercase();
                if let Some(first) = verb.get_mut(..1) {
                    first.make_ascii_uppercase();
                }
                write!(f, "{verb} \"{url}\": {reason}")
            }
            Self::Decode(reason) => f.write_str(reason),
            Self::Config(error) => write!(f, "failed to create client: {error}"),
        }
    }
}

impl std::error::Error for Error {}

impl From<ConfigError> for Error {
    fn from(error: ConfigError) -> Self {
        Self::Config(error)
    }
}

impl From<AddressError> for Error {
    fn from(error: AddressError) -> Self {
        Self::Config(ConfigError::Address(error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_reads_as_vault_prints_it() {
        let error = Error::Api {
            method: "PUT".into(),
            url: "http://127.0.0.1:8200/v1/a".into(),
            status: 403,
            errors: vec!["permission denied".into()],
            raw: None,
        };
        assert_eq!(
            error.to_string(),
            "Error making API request.\n\nURL: PUT http://127.0.0.1:8200/v1/a\nCode: 403. Errors:\n\n* permission denied"
        );
    }

    #[test]
    fn a_refusal_fits_into_one_line() {
        let error = |errors: &[&str], raw: Option<&str>| Error::Api {
            method: "PUT".into(),
            url: "http://h/v1/a".into(),
            status: 503,
            errors: errors.iter().map(|&error| error.to_owned()).collect(),
            raw: raw.map(str::to_owned),
        };
        assert_eq!(
            error(&["one:\n\t* two", "three"], None).line(),
            "PUT http://h/v1/a: 503: one:  * two; three"
        );
        assert_eq!(error(&[], Some("<p>\nbusy")).line(), "PUT http://h/v1/a: 503: <p> busy");
        assert!(error(&[], Some(&"x".repeat(1000))).line().len() < 400);
    }

    #[test]
    fn a_lost_request_reads_as_go_prints_it() {
        let error = Error::Transport {
            method: "GET".into(),
            url: "http://h/v1/a".into(),
            reason: "dial tcp 127.0.0.1:1: connect: connection refused".into(),
            kind: Loss::Connect,
        };
        assert_eq!(
            error.to_string(),
            "Get \"http://h/v1/a\": dial tcp 127.0.0.1:1: connect: connection refused"
        );
    }
}
