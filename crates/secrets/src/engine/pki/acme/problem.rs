//! What a client did wrong, as RFC 7807 and RFC 8555, 6.7 have it.

use std::fmt;

use chancery_storage::StorageError;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::error::{Error, Kind};
use crate::response::{Header, Response};

/// The kinds of problem that are told apart (RFC 8555, 6.7; RFC 9773, 7.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ProblemKind {
    /// The account does not exist.
    AccountDoesNotExist,
    /// The certificate has an order that replaces it.
    AlreadyReplaced,
    /// The certificate was revoked before.
    AlreadyRevoked,
    /// A CSR that nothing can be made of.
    #[serde(rename = "badCSR")]
    BadCsr,
    /// A nonce that was used, or is not ours.
    BadNonce,
    /// An account key that is too weak or of no kind we know.
    BadPublicKey,
    /// A reason of revocation that is not offered.
    BadRevocationReason,
    /// An algorithm of signatures that is not offered.
    BadSignatureAlgorithm,
    /// The other side could not be reached.
    Connection,
    /// A name could not be looked up.
    Dns,
    /// New accounts need a binding to something outside.
    ExternalAccountRequired,
    /// The answer to a challenge is wrong.
    IncorrectResponse,
    /// A contact that is none.
    InvalidContact,
    /// The request means nothing.
    Malformed,
    /// The order is not ready to be finalized.
    OrderNotReady,
    /// Too much at a time.
    RateLimited,
    /// The names may not be certified here.
    RejectedIdentifier,
    /// Ours.
    ServerInternal,
    /// The handshake failed.
    Tls,
    /// The client may not do this.
    Unauthorized,
    /// A contact of a kind that is not offered.
    UnsupportedContact,
    /// An identifier of a kind that is not offered.
    UnsupportedIdentifier,
}

impl ProblemKind {
    /// The URN.
    #[must_use]
    pub fn urn(self) -> String {
        // The names of the variants are those of the registry.
        let name = serde_json::to_value(self).ok().and_then(|name| name.as_str().map(str::to_owned));
        format!("urn:ietf:params:acme:error:{}", name.unwrap_or_default())
    }

    /// The HTTP status, as the peer has it.
    #[must_use]
    pub const fn status(self) -> u16 {
        match self {
            Self::ExternalAccountRequired | Self::Unauthorized => 401,
            Self::OrderNotReady => 403,
            Self::AlreadyReplaced => 409,
            Self::RateLimited => 429,
            Self::ServerInternal => 500,
            _ => 400,
        }
    }
}

/// A problem as it is answered, and kept with a challenge that failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// What it is.
    pub kind: ProblemKind,
    /// One sentence for people.
    pub detail: String,
    /// Another status than the kind's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Where to look, for an account that is there already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location: Option<String>,
}

impl Problem {
    /// A problem with a sentence.
    pub fn new(kind: ProblemKind, detail: impl Into<String>) -> Self {
        Self { kind, detail: detail.into(), status: None, location: None }
    }

    /// A request that means nothing. As on the peer, the sentence says so.
    pub fn malformed(detail: impl Into<String>) -> Self {
        Self::new(ProblemKind::Malformed, with_words(detail.into(), "the request message was malformed"))
    }

    /// A request that its sender may not make. As on the peer, the sentence says so.
    pub fn unauthorized(detail: impl Into<String>) -> Self {
        Self::new(
            ProblemKind::Unauthorized,
            with_words(detail.into(), "the client lacks sufficient authorization"),
        )
    }

    /// The document (RFC 7807, 3.1).
    pub(super) fn document(&self) -> Map<String, Value> {
        let mut document = Map::new();
        document.insert("type".to_owned(), self.kind.urn().into());
        document.insert("detail".to_owned(), self.detail.clone().into());
        if self.kind == ProblemKind::BadSignatureAlgorithm {
            // RFC 8555, 6.2: which there are.
            document.insert("algorithms".to_owned(), json!(super::jws::Algorithm::NAMES));
        }
        document
    }

    /// The answer.
    pub(super) fn response(&self) -> Response {
        let status = self.status.unwrap_or_else(|| self.kind.status());
        let response = Response::raw("application/problem+json", Value::Object(self.document()).to_string())
            .status(status);
        let response = match &self.location {
            Some(location) => response.header(Header::Location, location),
            None => response,
        };
        if self.kind == ProblemKind::RateLimited {
            return response.header(Header::RetryAfter, "60");
        }
        response
    }
}

/// A sentence that ends in these words, unless they stand in it already.
fn with_words(detail: String, words: &str) -> String {
    if detail.contains(words) { detail } else { format!("{detail}: {words}") }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail)
    }
}

/// Why a request was not granted: by its sender's doing, or by ours.
#[derive(Debug)]
pub(super) enum Failure {
    /// The client learns it.
    Problem(Problem),
    /// Storage and the like.
    Error(Error),
}

/// What a step of a request leads to.
pub(super) type Outcome<T> = Result<T, Failure>;

impl Failure {
    /// The answer. What is our own fault goes to the log; that the server is sealed is said as everywhere.
    pub(super) fn response(self) -> Result<Response, Error> {
        match self {
            Self::Problem(problem) => Ok(problem.response()),
            Self::Error(error) if error.kind == Kind::Internal => {
                let cause = error.source.as_ref().map(ToString::to_string).unwrap_or_default();
                tracing::error!(message = %error, cause, "ACME request failed");
                let detail = "the server experienced an internal error";
                Ok(Problem::new(ProblemKind::ServerInternal, detail).response())
            }
            // What other parts of the engine say of a request, such as of a role that means nothing.
            Self::Error(error) if error.kind == Kind::InvalidRequest => {
                Ok(Problem::malformed(error.message()).response())
            }
            Self::Error(error) if error.kind == Kind::Busy => {
                let kind = ProblemKind::ServerInternal;
                let problem = Problem { status: Some(503), ..Problem::new(kind, error.message()) };
                Ok(problem.response().header(Header::RetryAfter, "1"))
            }
            Self::Error(error) => Err(error),
        }
    }
}

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        Self::Problem(problem)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

impl From<StorageError> for Failure {
    fn from(error: StorageError) -> Self {
        Self::Error(error.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_have_the_names_of_the_registry_and_the_statuses_of_the_peer() {
        use ProblemKind::*;
        for (kind, name, status) in [
            (AccountDoesNotExist, "accountDoesNotExist", 400),
            (BadCsr, "badCSR", 400),
            (BadNonce, "badNonce", 400),
            (Dns, "dns", 400),
            (ExternalAccountRequired, "externalAccountRequired", 401),
            (Malformed, "malformed", 400),
            (OrderNotReady, "orderNotReady", 403),
            (RateLimited, "rateLimited", 429),
            (ServerInternal, "serverInternal", 500),
            (Unauthorized, "unauthorized", 401),
        ] {
            assert_eq!(kind.urn(), format!("urn:ietf:params:acme:error:{name}"));
            assert_eq!(kind.status(), status, "{name}");
        }
    }

    #[test]
    fn a_server_that_is_busy_says_so_in_a_problem() {
        let busy = Failure::from(Error::of(Kind::Busy, "come back")).response().unwrap();
        assert_eq!(busy.status, Some(503));
        assert!(busy.headers.contains(&(Header::RetryAfter, "1".to_owned())));
        assert!(Failure::from(Error::sealed()).response().is_err());
    }

    #[test]
    fn an_algorithm_that_is_not_offered_is_answered_with_those_that_are() {
        let document = Problem::new(ProblemKind::BadSignatureAlgorithm, "no").document();
        assert_eq!(document["algorithms"][0], "ES256");
        assert!(Problem::malformed("no").document().get("algorithms").is_none());
    }
}
