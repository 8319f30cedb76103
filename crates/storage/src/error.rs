//! What can go wrong at rest, said so that an operator knows what to do next.

use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;

/// The cause behind a [`StorageError`]; shared, because one failed group commit fails many callers.
pub type Cause = Arc<dyn Error + Send + Sync>;

/// Why a storage operation was refused or failed.
///
/// Everything but [`UnknownOutcome`](Self::UnknownOutcome) is a definite "nothing was written".
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum StorageError {
    /// The barrier is sealed, so there is no key to read or write with.
    #[error("the barrier is sealed")]
    Sealed,

    /// A condition of the batch did not hold: somebody else wrote first. Read again, then decide.
    #[error("a record changed since it was read; nothing was written")]
    Conflict,

    /// Bytes at rest that are not what was written: damaged, moved to another key, or sealed under
    /// a key we do not have.
    #[error("corrupt storage: {what}")]
    Corrupt {
        /// What was being read (a collection, the keyring, …) and in which way it is wrong.
        what: String,
    },

    /// The backend could not do it. Nothing was written.
    #[error("storage is unavailable: {what}")]
    Unavailable {
        /// What was tried.
        what: String,
        /// The backend's own error.
        #[source]
        source: Cause,
    },

    /// The commit may or may not have happened. It must not be retried blindly: read first.
    #[error("the outcome of a storage commit is unknown: {what}")]
    UnknownOutcome {
        /// What was tried.
        what: String,
        /// The backend's own error.
        #[source]
        source: Cause,
    },

    /// Another process holds the store.
    #[error(
        "the store {} is in use by another process{}; stop that process or choose another path",
        path.display(),
        holder.map(|pid| format!(" (pid {pid})")).unwrap_or_default()
    )]
    Locked {
        /// The folder of the store.
        path: PathBuf,
        /// The process that holds it, where it left its number.
        holder: Option<u32>,
    },

    /// The store's folder or files may not be written by this process.
    #[error(
        "the store {} cannot be written ({source}); give this user write permission there or choose another path",
        path.display()
    )]
    ReadOnly {
        /// The folder of the store.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        source: Cause,
    },

    /// No room. Nothing was written.
    #[error("the disk of the store {} is full; nothing was written. Free some space and try again", path.display())]
    Full {
        /// The folder of the store.
        path: PathBuf,
    },

    /// A batch beyond what one commit may carry. Nothing was written.
    #[error("a commit of {size} bytes is larger than the limit of {limit} bytes")]
    TooLarge {
        /// Bytes of keys and values in the batch.
        size: usize,
        /// The most that one batch may carry.
        limit: usize,
    },
}

impl StorageError {
    pub(crate) fn corrupt(what: impl Into<String>) -> Self {
        Self::Corrupt { what: what.into() }
    }

    pub(crate) fn unavailable(
        what: impl Into<String>,
        source: impl Into<Box<dyn Error + Send + Sync>>,
    ) -> Self {
        Self::Unavailable { what: what.into(), source: Arc::from(source.into()) }
    }

    pub(crate) fn unknown_outcome(
        what: impl Into<String>,
        source: impl Into<Box<dyn Error + Send + Sync>>,
    ) -> Self {
        Self::UnknownOutcome { what: what.into(), source: Arc::from(source.into()) }
    }
}
