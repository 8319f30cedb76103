//! Errors with two audiences: the client gets the message, the log gets the source.

use std::fmt;

use chancery_api::FieldError;
use chancery_storage::StorageError;

/// Whose fault it is; `server` maps each kind to one HTTP status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The request means nothing or asks for what is not allowed here (400).
    InvalidRequest,
    /// The token may not do this, or there is none (403). Carries no reason to the outside.
    PermissionDenied,
    /// Nothing is there (404).
    NotFound,
    /// The path exists, the operation on it does not (405).
    UnsupportedOperation,
    /// A condition given by the client no longer holds (412).
    PreconditionFailed,
    /// The body is larger than allowed (413).
    TooLarge,
    /// The client asks too often, or the server is at a bound (429).
    TooManyRequests,
    /// A bound of the server is reached; the client shall come back shortly (503, with `Retry-After`).
    Busy,
    /// The server is sealed, not initialised, or about to stop (503).
    Sealed,
    /// Ours (500).
    Internal,
}

/// Why a request was not granted.
#[derive(thiserror::Error)]
pub struct Error {
    /// Whose fault it is.
    pub kind: Kind,
    /// One sentence each, for the client; empty where the peer gives none.
    pub messages: Vec<String>,
    /// What the client should know besides.
    pub warnings: Vec<String>,
    /// The cause, for the log; never leaves the process.
    #[source]
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, messages: vec![message.into()], warnings: Vec::new(), source: None }
    }

    /// 400 with one sentence.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(Kind::InvalidRequest, message)
    }

    /// 403, always in the same words.
    pub fn denied() -> Self {
        Self::new(Kind::PermissionDenied, "permission denied")
    }

    /// 404 without a sentence: nothing is there.
    pub fn nothing_there() -> Self {
        Self { kind: Kind::NotFound, messages: Vec::new(), warnings: Vec::new(), source: None }
    }

    /// 404 with a sentence.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(Kind::NotFound, message)
    }

    /// 404 for a path that the engine does not have; clients decide by the words.
    pub fn unsupported_path() -> Self {
        Self::new(Kind::NotFound, "1 error occurred:\n\t* unsupported path\n\n")
    }

    /// 405 for a verb that the path does not have; clients decide by the words.
    pub fn unsupported_operation() -> Self {
        Self::new(Kind::UnsupportedOperation, "1 error occurred:\n\t* unsupported operation\n\n")
    }

    /// 503: sealed.
    pub fn sealed() -> Self {
        Self::new(Kind::Sealed, "Vault is sealed")
    }

    /// Any kind with one sentence.
    pub fn of(kind: Kind, message: impl Into<String>) -> Self {
        Self::new(kind, message)
    }

    /// 500: the client gets `message`, the log gets `source`.
    pub fn internal(
        message: impl Into<String>,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self { source: Some(source.into()), ..Self::new(Kind::Internal, message) }
    }

    /// Attaches the cause for the log.
    #[must_use]
    pub fn caused_by(self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self { source: Some(source.into()), ..self }
    }

    /// Without the frame of `1 error occurred`: paths that need no token answer without it.
    #[must_use]
    pub(crate) fn unframed(mut self) -> Self {
        for message in &mut self.messages {
            let bare =
                message.strip_prefix("1 error occurred:\n\t* ").and_then(|rest| rest.strip_suffix("\n\n"));
            if let Some(bare) = bare {
                *message = bare.to_owned();
            }
        }
        self
    }

    /// With `prefix` taken from the front of each sentence that has it.
    #[must_use]
    pub(crate) fn without_prefix(mut self, prefix: &str) -> Self {
        for message in &mut self.messages {
            if message.starts_with(prefix) {
                message.drain(..prefix.len());
            }
        }
        self
    }

    /// The sentences as one text.
    pub fn message(&self) -> String {
        self.messages.join("; ")
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.messages.is_empty() { f.write_str("nothing there") } else { f.write_str(&self.message()) }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {self}", self.kind)?;
        if let Some(source) = &self.source {
            write!(f, " (caused by: {source})")?;
        }
        Ok(())
    }
}

impl From<FieldError> for Error {
    fn from(error: FieldError) -> Self {
        Self::invalid(error.to_string())
    }
}

impl From<StorageError> for Error {
    fn from(error: StorageError) -> Self {
        match error {
            StorageError::Sealed => Self::sealed(),
            other => Self::internal("internal error", other),
        }
    }
}

impl From<serde_json::Error> for Error {
    fn from(error: serde_json::Error) -> Self {
        Self::internal("internal error", error)
    }
}
