//! What an engine is given: encrypted records in named collections, under one scope.

use std::collections::BinaryHeap;
use std::fmt;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;
use zeroize::Zeroizing;

use crate::StorageError;
use crate::backend::{Batch, Expect, Key};
use crate::keyring::HEAD_SIZE;
use crate::name::{Name, Position};
use crate::names::{CollectionTag, NameKeys, ScopeTag};
use crate::unsealed::Unsealed;

/// Keys fetched from the backend at a time by a listing: bounds its memory.
const PAGE: usize = 512;

/// Encrypted storage under one scope: all that an engine is ever given.
///
/// Exists only while unsealed, because only [`Unsealed`] can make one. After sealing, every
/// operation answers [`StorageError::Sealed`].
///
/// A record is found by its collection and its [`Name`]. Collections need not be declared, and a
/// collection without records takes no room.
#[derive(Clone)]
pub struct View {
    unsealed: Arc<Unsealed>,
    scope: ScopeTag,
}

/// A value as it was read.
#[derive(Clone, PartialEq, Eq)]
pub struct Record {
    /// The bytes that were put; zeroed when dropped.
    pub value: Zeroizing<Vec<u8>>,
    /// Which write put them, for a later "only if unchanged".
    pub version: Version,
}

impl Record {
    /// Decodes a value that was put with [`Writes::put_json`].
    ///
    /// # Errors
    /// [`StorageError::Corrupt`] if it is not that JSON.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, StorageError> {
        serde_json::from_slice(&self.value)
            .map_err(|error| StorageError::corrupt(format!("a record does not decode: {error}")))
    }
}

impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Record([redacted], {} bytes)", self.value.len())
    }
}

/// Identifies one write of one record: the random head of its ciphertext.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Version([u8; HEAD_SIZE]);

impl View {
    pub(crate) fn new(unsealed: Arc<Unsealed>, scope: ScopeTag) -> Self {
        Self { unsealed, scope }
    }

    /// The record of this name; `None` if there is none.
    ///
    /// # Errors
    /// Sealed, corrupt, or the backend's own.
    pub async fn get(&self, collection: &str, name: &Name) -> Result<Option<Record>, StorageError> {
        let _timer = self.unsealed.measures.get();
        let key = self.key(collection, name)?;
        match self.unsealed.backend().get(&key).await? {
            Some(sealed) => Ok(Some(self.open(collection, &key, sealed).await?)),
            None => Ok(None),
        }
    }

    /// As [`get`](Self::get), decoded from JSON.
    ///
    /// # Errors
    /// As `get`; [`StorageError::Corrupt`] if the record is not that JSON.
    pub async fn get_json<T: DeserializeOwned>(
        &self,
        collection: &str,
        name: &Name,
    ) -> Result<Option<T>, StorageError> {
        match self.get(collection, name).await? {
            Some(record) => serde_json::from_slice(&record.value).map(Some).map_err(|error| {
                StorageError::corrupt(format!(
                    "a record of collection {collection:?} does not decode: {error}"
                ))
            }),
            None => Ok(None),
        }
    }

    /// Names by order, then by text, from `from` on, at most `limit`; fewer mean the end.
    ///
    /// Memory is bounded by `limit`. Within one order value the store cannot sort texts that it
    /// cannot read, so each call reads all keys of the order values that it touches: flat for
    /// collections that use the order, linear in the collection for those that do not.
    ///
    /// # Errors
    /// Sealed, corrupt, or the backend's own.
    pub async fn list(
        &self,
        collection: &str,
        from: impl Into<Position<'_>>,
        limit: usize,
    ) -> Result<Vec<Name>, StorageError> {
        let _timer = self.unsealed.measures.list();
        let from = from.into();
        let tag = self.tag(collection)?;
        let mut listing = Listing::new(from, limit);
        let mut cursor = match from {
            Position::Start => None,
            Position::Order(order) => Some(NameKeys::order_start(tag, order)),
            Position::After(name) => Some(NameKeys::order_start(tag, name.order())),
        };
        loop {
            let keys = self.unsealed.backend().keys(&tag, cursor.as_ref(), PAGE).await?;
            let end = keys.len() < PAGE;
            let full = self.unsealed.with(|unsealed| {
                for key in &keys {
                    let name = unsealed.ring.names().name(key).ok_or_else(|| bad_name(collection))?;
                    if listing.is_full_before(name.order()) {
                        return Ok(true);
                    }
                    listing.add(name);
                }
                Ok(false)
            })??;
            cursor = keys.into_iter().next_back();
            if full || end {
                return Ok(listing.finish());
            }
        }
    }

    /// Names and records in the order of storage: by order value, and within one in an order that
    /// means nothing but stays the same. At most `limit`; fewer mean the end.
    ///
    /// For loading and for background work: a collection of any size is read page by page, passing the
    /// last name of a page as the next `from`.
    ///
    /// # Errors
    /// Sealed, corrupt, or the backend's own.
    pub async fn scan(
        &self,
        collection: &str,
        from: impl Into<Position<'_>>,
        limit: usize,
    ) -> Result<Vec<(Name, Record)>, StorageError> {
        let _timer = self.unsealed.measures.list();
        let tag = self.tag(collection)?;
        let mut cursor = match from.into() {
            Position::Start => None,
            Position::Order(order) => Some(NameKeys::order_start(tag, order)),
            Position::After(name) => Some(self.key(collection, name)?),
        };
        let mut records = Vec::new();
        loop {
            let page = PAGE.min(limit.saturating_sub(records.len()));
            if page == 0 {
                return Ok(records);
            }
            let entries = self.unsealed.backend().scan(&tag, cursor.as_ref(), page).await?;
            let end = entries.len() < page;
            for (key, sealed) in entries {
                let name = self.unsealed.with(|unsealed| unsealed.ring.names().name(&key))?;
                let name = name.ok_or_else(|| bad_name(collection))?;
                records.push((name, self.open(collection, &key, sealed).await?));
                cursor = Some(key);
            }
            if end {
                return Ok(records);
            }
        }
    }

    /// Writes a batch: all of it or nothing, and durable when this returns.
    ///
    /// # Errors
    /// [`StorageError::Conflict`] if an expectation does not hold; sealed; or the backend's own.
    pub async fn commit(&self, writes: Writes) -> Result<(), StorageError> {
        self.unsealed.commit(writes.into_batch(&self.unsealed)?).await
    }

    /// Writes one record, whether it existed or not.
    ///
    /// # Errors
    /// Sealed, or the backend's own.
    pub async fn put(&self, collection: &str, name: &Name, value: &[u8]) -> Result<(), StorageError> {
        let mut writes = Writes::new();
        writes.put(self, collection, name, value)?;
        self.commit(writes).await
    }

    /// Writes one record as JSON, whether it existed or not.
    ///
    /// # Errors
    /// Sealed, or the backend's own.
    pub async fn put_json<T: Serialize + Sync + ?Sized>(
        &self,
        collection: &str,
        name: &Name,
        value: &T,
    ) -> Result<(), StorageError> {
        let mut writes = Writes::new();
        writes.put_json(self, collection, name, value)?;
        self.commit(writes).await
    }

    /// Removes one record, whether it existed or not.
    ///
    /// # Errors
    /// Sealed, or the backend's own.
    pub async fn delete(&self, collection: &str, name: &Name) -> Result<(), StorageError> {
        let mut writes = Writes::new();
        writes.delete(self, collection, name)?;
        self.commit(writes).await
    }

    /// Removes up to `limit` records of this scope, of whatever collection, and says how many.
    ///
    /// Fewer than `limit` mean that the scope is empty. A caller that deletes a mount repeats this until then;
    /// after a crash it simply goes on.
    ///
    /// # Errors
    /// Sealed, or the backend's own.
    pub async fn delete_scope(&self, limit: usize) -> Result<usize, StorageError> {
        self.delete_prefix(&self.scope, limit).await
    }

    /// As [`delete_scope`](Self::delete_scope), for one collection.
    ///
    /// # Errors
    /// Sealed, or the backend's own.
    pub async fn delete_collection(&self, collection: &str, limit: usize) -> Result<usize, StorageError> {
        self.delete_prefix(&self.tag(collection)?, limit).await
    }

    async fn delete_prefix(&self, prefix: &[u8], limit: usize) -> Result<usize, StorageError> {
        let mut deleted = 0_usize;
        loop {
            let page = PAGE.min(limit.saturating_sub(deleted));
            let keys = self.unsealed.backend().keys(prefix, None, page).await?;
            if keys.is_empty() {
                return Ok(deleted);
            }
            deleted = deleted.saturating_add(keys.len());
            let mut batch = Batch::new();
            keys.into_iter().for_each(|key| batch.delete(key));
            self.unsealed.commit(batch).await?;
        }
    }

    fn tag(&self, collection: &str) -> Result<CollectionTag, StorageError> {
        self.unsealed.with(|keys| keys.ring.names().collection(self.scope, collection))
    }

    fn key(&self, collection: &str, name: &Name) -> Result<Key, StorageError> {
        self.unsealed.with(|keys| {
            let names = keys.ring.names();
            names.key(names.collection(self.scope, collection), name)
        })
    }

    async fn open(&self, collection: &str, key: &Key, sealed: Vec<u8>) -> Result<Record, StorageError> {
        let what = || format!("a record of collection {collection:?}");
        let version = sealed.first_chunk().copied().map(Version);
        let value = self.unsealed.open(what, key, sealed).await?;
        let version = version.ok_or_else(|| StorageError::corrupt(what()))?;
        Ok(Record { value, version })
    }
}

impl fmt::Debug for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("View").field("scope", &u64::from_be_bytes(self.scope)).finish_non_exhaustive()
    }
}

/// Writes that belong together, across collections and across views of the same barrier.
///
/// Each value is encrypted when it is added, once; [`View::commit`] only sends what is here.
#[derive(Debug, Default)]
#[must_use = "nothing is written before `View::commit`"]
pub struct Writes {
    batch: Batch,
    unsealed: Option<Arc<Unsealed>>,
}

impl Writes {
    /// Nothing to write yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether nothing was added.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.batch.is_empty()
    }

    /// Writes a record, whether it exists or not.
    ///
    /// # Errors
    /// [`StorageError::Sealed`].
    pub fn put(
        &mut self,
        view: &View,
        collection: &str,
        name: &Name,
        value: &[u8],
    ) -> Result<&mut Self, StorageError> {
        self.adopt(view)?;
        let (key, sealed) = view.unsealed.with(|keys| {
            let names = keys.ring.names();
            let key = names.key(names.collection(view.scope, collection), name);
            let sealed = keys.ring.seal(key.as_bytes(), value);
            (key, sealed)
        })?;
        self.batch.put(key, sealed);
        Ok(self)
    }

    /// Writes a record as JSON, whether it exists or not.
    ///
    /// # Errors
    /// [`StorageError::Sealed`]; [`StorageError::Unavailable`] if the value has no JSON form.
    pub fn put_json<T: Serialize + ?Sized>(
        &mut self,
        view: &View,
        collection: &str,
        name: &Name,
        value: &T,
    ) -> Result<&mut Self, StorageError> {
        let json = serde_json::to_vec(value).map(Zeroizing::new).map_err(|error| {
            StorageError::unavailable(
                format!("a record for collection {collection:?} does not encode"),
                error,
            )
        })?;
        self.put(view, collection, name, &json)
    }

    /// Removes a record, whether it exists or not.
    ///
    /// # Errors
    /// [`StorageError::Sealed`].
    pub fn delete(&mut self, view: &View, collection: &str, name: &Name) -> Result<&mut Self, StorageError> {
        self.adopt(view)?;
        self.batch.delete(view.key(collection, name)?);
        Ok(self)
    }

    /// Refuses the whole batch if the record exists.
    ///
    /// # Errors
    /// [`StorageError::Sealed`].
    pub fn expect_absent(
        &mut self,
        view: &View,
        collection: &str,
        name: &Name,
    ) -> Result<&mut Self, StorageError> {
        self.adopt(view)?;
        self.batch.expect(Expect::Absent(view.key(collection, name)?));
        Ok(self)
    }

    /// Refuses the whole batch if the record is no longer the one that was read.
    ///
    /// # Errors
    /// [`StorageError::Sealed`].
    pub fn expect_unchanged(
        &mut self,
        view: &View,
        collection: &str,
        name: &Name,
        version: &Version,
    ) -> Result<&mut Self, StorageError> {
        self.adopt(view)?;
        self.batch.expect(Expect::BeginsWith(view.key(collection, name)?, version.0.to_vec()));
        Ok(self)
    }

    /// What to commit through this barrier.
    pub(crate) fn into_batch(self, through: &Arc<Unsealed>) -> Result<Batch, StorageError> {
        let Self { batch, unsealed } = self;
        match unsealed {
            Some(unsealed) if !Arc::ptr_eq(&unsealed, through) => Err(foreign()),
            _ => Ok(batch),
        }
    }

    fn adopt(&mut self, view: &View) -> Result<(), StorageError> {
        match &self.unsealed {
            Some(unsealed) if !Arc::ptr_eq(unsealed, &view.unsealed) => Err(foreign()),
            Some(_) => Ok(()),
            None => {
                self.unsealed = Some(Arc::clone(&view.unsealed));
                Ok(())
            }
        }
    }
}

/// Writes prepared before sealing belong to keys that are gone; they cannot join later ones.
fn foreign() -> StorageError {
    StorageError::Sealed
}

fn bad_name(collection: &str) -> StorageError {
    StorageError::corrupt(format!("a name in collection {collection:?} does not decrypt"))
}

/// Collects the smallest names after a position from keys that arrive sorted by order only.
struct Listing<'a> {
    from: Position<'a>,
    limit: usize,
    done: Vec<Name>,
    /// The smallest names so far of the order that is being read, at most `limit - done`.
    group: BinaryHeap<Name>,
}

impl<'a> Listing<'a> {
    fn new(from: Position<'a>, limit: usize) -> Self {
        Self { from, limit, done: Vec::new(), group: BinaryHeap::new() }
    }

    /// Closes the group before a name of another order, and says whether the limit was reached.
    fn is_full_before(&mut self, order: u64) -> bool {
        if self.group.peek().is_some_and(|name| name.order() != order) {
            self.close_group();
        }
        self.done.len() >= self.limit
    }

    fn add(&mut self, name: Name) {
        if matches!(self.from, Position::After(after) if name <= *after) {
            return;
        }
        self.group.push(name);
        if self.group.len() > self.limit.saturating_sub(self.done.len()) {
            self.group.pop();
        }
    }

    fn close_group(&mut self) {
        self.done.append(&mut std::mem::take(&mut self.group).into_sorted_vec());
    }

    fn finish(mut self) -> Vec<Name> {
        self.close_group();
        self.done
    }
}
