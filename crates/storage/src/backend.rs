//! Durable bytes: the trait that every store implements, and the batch that it commits.

use std::fmt;

use async_trait::async_trait;

use crate::StorageError;

/// Durable bytes. Untrusted: only ciphertext and encrypted names ever reach it.
///
/// Several processes may share one backend, so a write that depends on an earlier read carries an
/// [`Expect`]. [`conformance::exercise`](crate::conformance::exercise) states the promises as tests.
#[async_trait]
pub trait Backend: fmt::Debug + Send + Sync {
    /// The value of `key`; `None` if the key does not exist.
    async fn get(&self, key: &Key) -> Result<Option<Vec<u8>>, StorageError>;

    /// The keys that begin with `prefix` and are greater than `after`, in byte order, at most `limit`.
    ///
    /// Fewer than `limit` keys mean that there are no more.
    async fn keys(&self, prefix: &[u8], after: Option<&Key>, limit: usize) -> Result<Vec<Key>, StorageError>;

    /// As [`keys`](Self::keys), with the values, all as of one moment.
    async fn scan(
        &self,
        prefix: &[u8],
        after: Option<&Key>,
        limit: usize,
    ) -> Result<Vec<(Key, Vec<u8>)>, StorageError>;

    /// All or nothing. When it returns `Ok`, the batch survives a power cut.
    ///
    /// Every expectation is checked against the state before the batch, in one step with the
    /// changes; if one does not hold, nothing is written and the answer is
    /// [`StorageError::Conflict`]. Changes apply in order, so the last one to a key wins.
    async fn commit(&self, batch: Batch) -> Result<(), StorageError>;
}

/// A physical key: bytes, ordered as bytes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(Box<[u8]>);

impl Key {
    /// The key as bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl From<Vec<u8>> for Key {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes.into_boxed_slice())
    }
}

impl From<&[u8]> for Key {
    fn from(bytes: &[u8]) -> Self {
        Self(bytes.into())
    }
}

impl From<&str> for Key {
    fn from(text: &str) -> Self {
        Self(text.as_bytes().into())
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({})", self.0.escape_ascii())
    }
}

/// One change of a [`Batch`].
#[derive(Clone, PartialEq, Eq)]
pub enum Change {
    /// The key has this value from now on, whether it existed or not.
    Put(Key, Vec<u8>),
    /// The key does not exist from now on, whether it existed or not.
    Delete(Key),
}

/// A condition of a [`Batch`].
#[derive(Clone, PartialEq, Eq)]
pub enum Expect {
    /// The key does not exist.
    Absent(Key),
    /// The key exists and its value begins with these bytes.
    ///
    /// The barrier starts every value with a fresh nonce, so "begins with the nonce I read" is
    /// "still the value I read", without sending that value back.
    BeginsWith(Key, Vec<u8>),
}

/// Writes that belong together, with optional "only if unchanged" conditions.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Batch {
    changes: Vec<Change>,
    expectations: Vec<Expect>,
}

impl Batch {
    /// A batch that changes nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds "the key has this value".
    pub fn put(&mut self, key: Key, value: Vec<u8>) {
        self.changes.push(Change::Put(key, value));
    }

    /// Adds "the key does not exist".
    pub fn delete(&mut self, key: Key) {
        self.changes.push(Change::Delete(key));
    }

    /// Adds a condition.
    pub fn expect(&mut self, expectation: Expect) {
        self.expectations.push(expectation);
    }

    /// The changes in the order in which they apply.
    #[must_use]
    pub fn changes(&self) -> &[Change] {
        &self.changes
    }

    /// The conditions, all of which must hold before the first change.
    #[must_use]
    pub fn expectations(&self) -> &[Expect] {
        &self.expectations
    }

    /// Whether there is nothing to write and nothing to check.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty() && self.expectations.is_empty()
    }

    /// Bytes of keys and values to write.
    #[must_use]
    pub fn size(&self) -> usize {
        self.changes
            .iter()
            .map(|change| match change {
                Change::Put(key, value) => key.as_bytes().len().saturating_add(value.len()),
                Change::Delete(key) => key.as_bytes().len(),
            })
            .sum()
    }

    /// The parts, for a backend that takes the values over instead of copying them.
    #[must_use]
    pub fn into_parts(self) -> (Vec<Change>, Vec<Expect>) {
        (self.changes, self.expectations)
    }
}

impl fmt::Debug for Batch {
    /// Names and sizes only: a value says nothing to a reader of a log, and a batch may be large.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut list = f.debug_list();
        for expectation in &self.expectations {
            match expectation {
                Expect::Absent(key) => list.entry(&format_args!("absent {key:?}")),
                Expect::BeginsWith(key, head) => {
                    list.entry(&format_args!("unchanged {key:?} ({} bytes)", head.len()))
                }
            };
        }
        for change in &self.changes {
            match change {
                Change::Put(key, value) => list.entry(&format_args!("put {key:?} ({} bytes)", value.len())),
                Change::Delete(key) => list.entry(&format_args!("delete {key:?}")),
            };
        }
        list.finish()
    }
}
