//! The barrier while it is open: the one place where plaintext becomes ciphertext and back.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::SystemTime;

use zeroize::Zeroizing;

use crate::StorageError;
use crate::backend::{Backend, Batch, Expect, Key};
use crate::keyring::{KeyStatus, Keyring, OpenError, RootKey};
use crate::measures::BarrierMeasures;
use crate::view::View;

/// Where the keyring is stored. Keys of records have at least 40 bytes, so no record is ever here.
pub(crate) const KEYRING_KEY: &str = "chancery/keyring";

/// An open barrier. Only unsealing makes one; sealing empties it, whoever still holds it.
///
/// Everything that reaches the backend through it is encrypted and bound to its physical key.
pub struct Unsealed {
    backend: Arc<dyn Backend>,
    keys: RwLock<Option<Keys>>,
    pub(crate) measures: BarrierMeasures,
}

/// What sealing must forget.
pub(crate) struct Keys {
    pub(crate) root: RootKey,
    pub(crate) ring: Keyring,
}

impl Unsealed {
    pub(crate) fn new(backend: Arc<dyn Backend>, keys: Keys) -> Arc<Self> {
        Arc::new(Self { backend, keys: RwLock::new(Some(keys)), measures: BarrierMeasures::new() })
    }

    /// Encrypted storage under one scope, such as the UUID of a mount. Equal scopes share records.
    ///
    /// # Errors
    /// [`StorageError::Sealed`].
    pub fn view(self: &Arc<Self>, scope: &str) -> Result<View, StorageError> {
        let scope = self.with(|keys| keys.ring.names().scope(scope))?;
        Ok(View::new(Arc::clone(self), scope))
    }

    /// Which key encrypts new records.
    ///
    /// # Errors
    /// [`StorageError::Sealed`].
    pub fn key_status(&self) -> Result<KeyStatus, StorageError> {
        self.with(|keys| keys.ring.status())
    }

    /// Installs a new key for all records written from now on. Older records stay readable.
    ///
    /// # Errors
    /// [`StorageError::Conflict`] if another process rotated at the same moment; storage errors.
    pub async fn rotate(&self, now: SystemTime) -> Result<KeyStatus, StorageError> {
        let place = Key::from(KEYRING_KEY);
        // Another process may have added a term since: build on what is stored, not on what we hold.
        let stored = self.reload().await?;
        let (ring, sealed) = self.with(|keys| {
            let ring = keys.ring.rotated(now);
            let sealed = ring.to_sealed(&keys.root, place.as_bytes());
            (ring, sealed)
        })?;
        let mut batch = Batch::new();
        batch.expect(Expect::BeginsWith(place.clone(), stored));
        batch.put(place, sealed);
        // If we die here, the new term is stored and the next unsealing finds it; until then no
        // record uses it. The other way round, records could be written under a key that is lost.
        self.backend.commit(batch).await?;
        self.replace_ring(ring)
    }

    pub(crate) fn backend(&self) -> &dyn Backend {
        &*self.backend
    }

    /// Runs `use_keys` with the keys, which cannot be sealed away meanwhile.
    pub(crate) fn with<T>(&self, use_keys: impl FnOnce(&Keys) -> T) -> Result<T, StorageError> {
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        keys.as_ref().map(use_keys).ok_or(StorageError::Sealed)
    }

    /// Decrypts the value that was stored at `key`; `what` names the kind of record in an error.
    pub(crate) async fn open(
        &self,
        what: impl Fn() -> String,
        key: &Key,
        sealed: Vec<u8>,
    ) -> Result<Zeroizing<Vec<u8>>, StorageError> {
        if !self.with(|keys| keys.ring.knows(&sealed))? {
            // Written by another process after it rotated the keyring.
            self.reload().await?;
        }
        self.with(|keys| keys.ring.open(key.as_bytes(), sealed))?.map_err(|error| {
            StorageError::corrupt(match error {
                OpenError::NotAuthentic => {
                    format!("{} is damaged or was moved from another place", what())
                }
                OpenError::UnknownTerm => format!("{} is encrypted under an unknown key", what()),
            })
        })
    }

    /// Sends a batch that was encrypted with our keys, unless they were sealed away meanwhile.
    pub(crate) async fn commit(&self, batch: Batch) -> Result<(), StorageError> {
        self.with(|_| ())?;
        let _timer = self.measures.commit(&batch);
        self.backend.commit(batch).await
    }

    /// Forgets all keys; every view of this barrier answers "sealed" from now on.
    pub(crate) fn forget(&self) {
        drop(self.keys.write().unwrap_or_else(PoisonError::into_inner).take());
    }

    pub(crate) fn is_sealed(&self) -> bool {
        self.with(|_| ()).is_err()
    }

    /// Takes over a keyring or root key that has been stored.
    pub(crate) fn replace(&self, change: impl FnOnce(&mut Keys)) -> Result<(), StorageError> {
        let mut keys = self.keys.write().unwrap_or_else(PoisonError::into_inner);
        keys.as_mut().map(change).ok_or(StorageError::Sealed)
    }

    /// Reads the stored keyring again and takes it over if it is newer; answers its stored form.
    pub(crate) async fn reload(&self) -> Result<Vec<u8>, StorageError> {
        let place = Key::from(KEYRING_KEY);
        let stored =
            self.backend.get(&place).await?.ok_or_else(|| StorageError::corrupt("the keyring is missing"))?;
        let ring = self.with(|keys| Keyring::from_sealed(&keys.root, place.as_bytes(), stored.clone()))??;
        self.replace_ring(ring)?;
        Ok(stored)
    }

    /// Takes `ring` over unless a newer one is in use already.
    fn replace_ring(&self, ring: Keyring) -> Result<KeyStatus, StorageError> {
        let mut status = ring.status();
        self.replace(|keys| {
            let current = keys.ring.status();
            if status.term > current.term {
                keys.ring = ring;
            } else {
                status = current;
            }
        })?;
        Ok(status)
    }
}

impl fmt::Debug for Unsealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unsealed")
            .field("backend", &self.backend)
            .field("sealed", &self.is_sealed())
            .finish_non_exhaustive()
    }
}
