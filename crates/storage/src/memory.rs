//! A store in memory: for `server -dev`, and for tests that make writes fail on purpose.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Bound;
use std::sync::{Arc, PoisonError, RwLock};

use async_trait::async_trait;

use crate::StorageError;
use crate::backend::{Backend, Batch, Change, Expect, Key};

/// Keeps everything in this process and loses it with it.
///
/// A clone shares the contents, which is how a test "restarts the server on the same disk".
#[derive(Clone, Default)]
pub struct Memory {
    contents: Arc<RwLock<BTreeMap<Key, Vec<u8>>>>,
    fault: Option<Arc<FaultCallback>>,
}

/// Decides the fate of a commit from the batch itself.
pub type FaultCallback = dyn Fn(&Batch) -> Fault + Send + Sync;

/// What a commit does instead of working.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing: the commit works.
    None,
    /// Nothing is written and the caller is told so.
    Fails,
    /// The batch is written, but the caller is told that the outcome is unknown.
    FailsAfterPersisting,
}

impl Memory {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The same contents, with a callback that is asked before every commit.
    #[must_use]
    pub fn with_faults(&self, fault: impl Fn(&Batch) -> Fault + Send + Sync + 'static) -> Self {
        Self { contents: Arc::clone(&self.contents), fault: Some(Arc::new(fault)) }
    }

    /// The same contents, without faults: the store after a restart.
    #[must_use]
    pub fn reopened(&self) -> Self {
        Self { contents: Arc::clone(&self.contents), fault: None }
    }

    /// Everything that is stored, for tests that look at, or damage, the bytes at rest.
    #[must_use]
    pub fn dump(&self) -> Vec<(Key, Vec<u8>)> {
        let contents = self.contents.read().unwrap_or_else(PoisonError::into_inner);
        contents.iter().map(|(key, value)| (key.clone(), value.clone())).collect()
    }
}

#[async_trait]
impl Backend for Memory {
    async fn get(&self, key: &Key) -> Result<Option<Vec<u8>>, StorageError> {
        let contents = self.contents.read().unwrap_or_else(PoisonError::into_inner);
        Ok(contents.get(key).cloned())
    }

    async fn keys(&self, prefix: &[u8], after: Option<&Key>, limit: usize) -> Result<Vec<Key>, StorageError> {
        let contents = self.contents.read().unwrap_or_else(PoisonError::into_inner);
        Ok(range(&contents, prefix, after).take(limit).map(|(key, _)| key.clone()).collect())
    }

    async fn scan(
        &self,
        prefix: &[u8],
        after: Option<&Key>,
        limit: usize,
    ) -> Result<Vec<(Key, Vec<u8>)>, StorageError> {
        let contents = self.contents.read().unwrap_or_else(PoisonError::into_inner);
        Ok(range(&contents, prefix, after)
            .take(limit)
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect())
    }

    async fn commit(&self, batch: Batch) -> Result<(), StorageError> {
        let fault = self.fault.as_ref().map_or(Fault::None, |fault| fault(&batch));
        if fault == Fault::Fails {
            return Err(StorageError::unavailable("commit", "injected fault"));
        }
        let mut contents = self.contents.write().unwrap_or_else(PoisonError::into_inner);
        let (changes, expectations) = batch.into_parts();
        let holds = expectations.iter().all(|expectation| match expectation {
            Expect::Absent(key) => !contents.contains_key(key),
            Expect::BeginsWith(key, head) => contents.get(key).is_some_and(|value| value.starts_with(head)),
        });
        if !holds {
            return Err(StorageError::Conflict);
        }
        for change in changes {
            match change {
                Change::Put(key, value) => contents.insert(key, value),
                Change::Delete(key) => contents.remove(&key),
            };
        }
        match fault {
            Fault::FailsAfterPersisting => {
                Err(StorageError::unknown_outcome("commit", "injected fault after persisting"))
            }
            Fault::None | Fault::Fails => Ok(()),
        }
    }
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memory").field("faults", &self.fault.is_some()).finish_non_exhaustive()
    }
}

fn range<'a>(
    contents: &'a BTreeMap<Key, Vec<u8>>,
    prefix: &'a [u8],
    after: Option<&Key>,
) -> impl Iterator<Item = (&'a Key, &'a Vec<u8>)> {
    let start = match after {
        Some(after) if after.as_bytes() >= prefix => Bound::Excluded(after.clone()),
        _ => Bound::Included(Key::from(prefix)),
    };
    contents.range((start, Bound::Unbounded)).take_while(move |(key, _)| key.as_bytes().starts_with(prefix))
}
