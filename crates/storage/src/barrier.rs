//! The barrier: sealed at first, and open while a root key is in memory.
//!
//! ```text
//! key shares or a static key ──seal──▶ root key ──▶ keyring ──▶ records and their names
//! ```
//!
//! Two records lie outside the barrier: the seal's (`chancery/seal`: how the root key is sealed) and the
//! keyring (`chancery/keyring`: encrypted under the root key). Every operation here writes one batch, so
//! that a crash leaves either the old state or the new one.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::StorageError;
use crate::backend::{Backend, Batch, Expect, Key};
use crate::keyring::{Keyring, RootKey};
use crate::seal::{Seal, SealError, SealedSecret, Share, ShareCollector, ShareScheme, UnsealKey};
use crate::unsealed::{KEYRING_KEY, Keys, Unsealed};
use crate::view::Writes;

/// Where the seal's record is stored, in the clear: what is secret in it is sealed.
const SEAL_KEY: &str = "chancery/seal";
const ROOT_KEY_PLACE: &str = "chancery/root-key";
const RECOVERY_KEY_PLACE: &str = "chancery/recovery-key";

/// A store and its seal.
#[derive(Debug)]
pub struct Barrier {
    backend: Arc<dyn Backend>,
    /// The configured auto-unseal; Shamir shares without one.
    auto: Option<Arc<dyn Seal>>,
    unsealed: RwLock<Option<Arc<Unsealed>>>,
    /// The shares given so far. Held over every change of the seal, so that those come one after another.
    unsealing: tokio::sync::Mutex<Option<ShareCollector>>,
}

/// What anyone may know about the seal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealStatus {
    /// `shamir`, or the kind of the auto-unseal.
    pub kind: &'static str,
    /// Whether there are keys at all.
    pub initialized: bool,
    /// Whether the barrier is closed.
    pub sealed: bool,
    /// Key shares (recovery shares with an auto-unseal); `None` before initialisation.
    pub scheme: Option<ShareScheme>,
    /// Shares given so far to unseal.
    pub progress: usize,
    /// The nonce of that collection; empty if there is none.
    pub nonce: String,
    /// Whether the shares are recovery shares, which prove agreement but do not unseal.
    pub recovery_seal: bool,
}

/// How the root key is sealed, as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct SealRecord {
    version: u32,
    kind: String,
    shares: u8,
    threshold: u8,
    root_key: SealedSecret,
    /// With an auto-unseal: the key that the recovery shares combine to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    recovery_key: Option<SealedSecret>,
}

impl SealRecord {
    fn scheme(&self) -> Result<ShareScheme, StorageError> {
        ShareScheme::new(self.shares.into(), self.threshold.into())
            .map_err(|error| StorageError::corrupt(format!("the seal record is wrong: {error}")))
    }

    fn to_bytes(&self) -> Result<Vec<u8>, StorageError> {
        serde_json::to_vec(self)
            .map_err(|error| StorageError::unavailable("the seal record does not encode", error))
    }
}

impl Barrier {
    /// A barrier over this store, sealed. With `auto` the store unseals itself, without it by key shares.
    #[must_use]
    pub fn new(backend: Arc<dyn Backend>, auto: Option<Arc<dyn Seal>>) -> Self {
        Self { backend, auto, unsealed: RwLock::new(None), unsealing: tokio::sync::Mutex::new(None) }
    }

    /// The open barrier.
    ///
    /// # Errors
    /// [`StorageError::Sealed`].
    pub fn unsealed(&self) -> Result<Arc<Unsealed>, StorageError> {
        let unsealed = self.unsealed.read().unwrap_or_else(PoisonError::into_inner);
        unsealed.as_ref().map(Arc::clone).ok_or(StorageError::Sealed)
    }

    /// Whether the barrier is closed.
    #[must_use]
    pub fn is_sealed(&self) -> bool {
        self.unsealed().is_err()
    }

    /// Whether the store has keys.
    ///
    /// # Errors
    /// The backend's.
    pub async fn is_initialized(&self) -> Result<bool, StorageError> {
        Ok(self.stored_record().await?.is_some())
    }

    /// What anyone may know about the seal.
    ///
    /// # Errors
    /// The backend's.
    pub async fn status(&self) -> Result<SealStatus, StorageError> {
        let record = self.stored_record().await?;
        let unsealing = self.unsealing.lock().await;
        let collector = unsealing.as_ref().filter(|collector| collector.progress() > 0);
        Ok(SealStatus {
            kind: self.kind(),
            initialized: record.is_some(),
            sealed: self.is_sealed(),
            scheme: record.map(|(record, _)| record.scheme()).transpose()?,
            progress: collector.map_or(0, ShareCollector::progress),
            nonce: collector.map(|collector| collector.nonce().to_owned()).unwrap_or_default(),
            recovery_seal: self.auto.is_some(),
        })
    }

    /// Makes all keys, but stores nothing yet: the first records join the same commit.
    ///
    /// # Errors
    /// [`SealError::AlreadyInitialized`]; the seal's; the backend's.
    pub async fn found(&self, scheme: ShareScheme, now: SystemTime) -> Result<Founding<'_>, SealError> {
        if self.is_initialized().await? {
            return Err(SealError::AlreadyInitialized);
        }
        let keys = Keys { root: RootKey::generate(), ring: Keyring::generate(now) };
        let key = UnsealKey::generate();
        let shares = key.split(scheme);
        let (root_key, recovery_key) = match &self.auto {
            None => (key.seal(ROOT_KEY_PLACE, keys.root.as_bytes()).await?, None),
            Some(auto) => (
                auto.seal(ROOT_KEY_PLACE, keys.root.as_bytes()).await?,
                Some(auto.seal(RECOVERY_KEY_PLACE, key.as_bytes()).await?),
            ),
        };
        let record = SealRecord {
            version: 1,
            kind: self.kind().to_owned(),
            shares: scheme.shares(),
            threshold: scheme.threshold(),
            root_key,
            recovery_key,
        };
        let unsealed = Unsealed::new(Arc::clone(&self.backend), keys);
        Ok(Founding { barrier: self, unsealed, record, shares })
    }

    /// Takes one key share. The barrier opens with the one that meets the threshold.
    ///
    /// Answers whether it was this share that opened it. Shares for an open barrier change nothing, and nobody
    /// looks at what they are.
    ///
    /// # Errors
    /// A refused share, or a combined key that is not this store's; then the collection starts again.
    pub async fn provide_share(&self, share: &[u8]) -> Result<bool, SealError> {
        if let Some(auto) = &self.auto {
            return Err(SealError::NotApplicable { kind: auto.kind() });
        }
        let mut unsealing = self.unsealing.lock().await;
        if !self.is_sealed() {
            return Ok(false);
        }
        let record = self.record().await?;
        let scheme = record.scheme()?;
        // Another process may have made new shares since the last one was given here.
        let collector = match &mut *unsealing {
            Some(collector) if collector.scheme() == scheme => collector,
            other => other.insert(ShareCollector::new(scheme)),
        };
        let Some(combined) = collector.add(share)? else { return Ok(false) };
        *unsealing = None;
        let key = UnsealKey::from_bytes(&combined).ok_or(SealError::WrongKey)?;
        self.adopt(&self.open_with(&key, &record).await?);
        Ok(true)
    }

    /// Forgets the shares given so far.
    pub async fn reset_shares(&self) {
        *self.unsealing.lock().await = None;
    }

    /// Opens the barrier with the configured auto-unseal.
    ///
    /// # Errors
    /// No auto-unseal is configured, or its keys do not open this store.
    pub async fn unseal_automatically(&self) -> Result<Arc<Unsealed>, SealError> {
        let _unsealing = self.unsealing.lock().await;
        if let Ok(unsealed) = self.unsealed() {
            return Ok(unsealed);
        }
        let auto = self.auto.as_ref().ok_or(SealError::NotApplicable { kind: self.kind() })?;
        let (record, stored) = self.stored_record().await?.ok_or(SealError::NotInitialized)?;
        self.check_kind(&record)?;
        let unsealed = self.open_with(&**auto, &record).await?;
        if auto.outdated(&record.root_key) {
            self.seal_again(&**auto, record, stored).await?;
        }
        self.adopt(&unsealed);
        Ok(unsealed)
    }

    /// Closes the barrier: all keys are zeroed, and every view answers "sealed".
    pub async fn seal(&self) {
        let mut unsealing = self.unsealing.lock().await;
        *unsealing = None;
        let unsealed = self.unsealed.write().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(unsealed) = unsealed {
            unsealed.forget();
        }
    }

    /// An empty collection of the shares that prove agreement: key shares, or recovery shares.
    ///
    /// # Errors
    /// Not initialised, or the backend's.
    pub async fn collect_shares(&self) -> Result<ShareCollector, SealError> {
        Ok(ShareCollector::new(self.record().await?.scheme()?))
    }

    /// Checks that a combined key is this store's, which proves that enough key holders agreed.
    ///
    /// # Errors
    /// [`SealError::WrongKey`]; sealed; the backend's.
    pub async fn authorize(&self, combined: &[u8]) -> Result<Quorum, SealError> {
        let unsealed = self.unsealed()?;
        let record = self.record().await?;
        let key = UnsealKey::from_bytes(combined).ok_or(SealError::WrongKey)?;
        let agreed = match (&self.auto, &record.recovery_key) {
            (Some(auto), Some(recovery_key)) => {
                let stored = auto.unseal(RECOVERY_KEY_PLACE, recovery_key).await?;
                UnsealKey::from_bytes(&stored).is_some_and(|stored| stored.same_as(&key))
            }
            _ => {
                let root = key.unseal(ROOT_KEY_PLACE, &record.root_key).await?;
                let root = RootKey::from_bytes(&root).ok_or(SealError::WrongKey)?;
                unsealed.with(|keys| keys.root.same_as(&root))?
            }
        };
        if agreed { Ok(Quorum { _proof: () }) } else { Err(SealError::WrongKey) }
    }

    /// Makes new shares, but puts nothing in force yet: the holders confirm them first.
    ///
    /// With Shamir shares this is also a new root key: otherwise enough of the old shares, and an old copy of
    /// the store to use them on, would still open today's keyring. Another process that has the same store
    /// open has to be unsealed again. With an auto-unseal these are new recovery shares and nothing else.
    ///
    /// # Errors
    /// Sealed; the seal's; the backend's.
    pub async fn rekey(&self, _agreed: Quorum, scheme: ShareScheme) -> Result<Rekeying, SealError> {
        let unsealed = self.unsealed()?;
        let (mut record, stored) = self.stored_record().await?.ok_or(SealError::NotInitialized)?;
        self.check_kind(&record)?;
        let key = UnsealKey::generate();
        let shares = key.split(scheme);
        let root = match &self.auto {
            Some(auto) => {
                record.recovery_key = Some(auto.seal(RECOVERY_KEY_PLACE, key.as_bytes()).await?);
                None
            }
            None => {
                let root = RootKey::generate();
                record.root_key = key.seal(ROOT_KEY_PLACE, root.as_bytes()).await?;
                Some(root)
            }
        };
        record.shares = scheme.shares();
        record.threshold = scheme.threshold();
        Ok(Rekeying { unsealed, record, stored, root, key, scheme, shares })
    }

    /// Replaces the root key under an auto-unseal. With Shamir shares that is [`rekey`](Self::rekey).
    ///
    /// # Errors
    /// Not applicable; sealed; [`StorageError::Conflict`] if the seal or the keyring was changed
    /// meanwhile; the backend's.
    pub async fn rotate_root_key(&self) -> Result<(), SealError> {
        let auto = self.auto.as_ref().ok_or(SealError::NotApplicable { kind: self.kind() })?;
        let _unsealing = self.unsealing.lock().await;
        let unsealed = self.unsealed()?;
        let (mut record, stored) = self.stored_record().await?.ok_or(SealError::NotInitialized)?;
        self.check_kind(&record)?;
        let root = RootKey::generate();
        record.root_key = auto.seal(ROOT_KEY_PLACE, root.as_bytes()).await?;
        self.replace_root_key(&unsealed, root, &record, stored).await
    }

    fn kind(&self) -> &'static str {
        self.auto.as_ref().map_or("shamir", |auto| auto.kind())
    }

    fn check_kind(&self, record: &SealRecord) -> Result<(), SealError> {
        if record.kind == self.kind() {
            return Ok(());
        }
        Err(SealError::OtherSeal { stored: record.kind.clone(), configured: self.kind() })
    }

    /// The seal's record and its stored form.
    async fn stored_record(&self) -> Result<Option<(SealRecord, Vec<u8>)>, StorageError> {
        let Some(stored) = self.backend.get(&Key::from(SEAL_KEY)).await? else { return Ok(None) };
        let record: SealRecord = serde_json::from_slice(&stored)
            .map_err(|error| StorageError::corrupt(format!("the seal record does not decode: {error}")))?;
        if record.version != 1 {
            return Err(StorageError::corrupt(format!(
                "the seal record has version {}, this program knows 1",
                record.version
            )));
        }
        Ok(Some((record, stored)))
    }

    async fn record(&self) -> Result<SealRecord, SealError> {
        let (record, _) = self.stored_record().await?.ok_or(SealError::NotInitialized)?;
        self.check_kind(&record)?;
        Ok(record)
    }

    /// The barrier as this seal opens it; not yet in force.
    async fn open_with(&self, seal: &dyn Seal, record: &SealRecord) -> Result<Arc<Unsealed>, SealError> {
        let root = seal.unseal(ROOT_KEY_PLACE, &record.root_key).await?;
        let root = RootKey::from_bytes(&root).ok_or(SealError::WrongKey)?;
        let place = Key::from(KEYRING_KEY);
        let stored =
            self.backend.get(&place).await?.ok_or_else(|| StorageError::corrupt("the keyring is missing"))?;
        let ring = Keyring::from_sealed(&root, place.as_bytes(), stored)?;
        Ok(Unsealed::new(Arc::clone(&self.backend), Keys { root, ring }))
    }

    fn adopt(&self, unsealed: &Arc<Unsealed>) {
        *self.unsealed.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(unsealed));
    }

    /// Seals the same secrets under the seal's current key.
    async fn seal_again(
        &self,
        seal: &dyn Seal,
        mut record: SealRecord,
        stored: Vec<u8>,
    ) -> Result<(), SealError> {
        let root = seal.unseal(ROOT_KEY_PLACE, &record.root_key).await?;
        record.root_key = seal.seal(ROOT_KEY_PLACE, &root).await?;
        if let Some(recovery_key) = &mut record.recovery_key {
            let key = seal.unseal(RECOVERY_KEY_PLACE, recovery_key).await?;
            *recovery_key = seal.seal(RECOVERY_KEY_PLACE, &key).await?;
        }
        match self.replace_record(&record, stored).await {
            // Another process did the same a moment earlier.
            Ok(()) | Err(StorageError::Conflict) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Replaces the seal's record unless somebody else did meanwhile.
    async fn replace_record(&self, record: &SealRecord, stored: Vec<u8>) -> Result<(), StorageError> {
        self.backend.commit(record_change(record, stored)?).await
    }

    /// Puts a new root key in force: the record that seals it, and the keyring under it, at once.
    async fn replace_root_key(
        &self,
        unsealed: &Unsealed,
        root: RootKey,
        record: &SealRecord,
        stored: Vec<u8>,
    ) -> Result<(), SealError> {
        let place = Key::from(KEYRING_KEY);
        let stored_ring = unsealed.reload().await?;
        let ring = unsealed.with(|keys| keys.ring.to_sealed(&root, place.as_bytes()))?;
        let mut batch = record_change(record, stored)?;
        batch.expect(Expect::BeginsWith(place.clone(), stored_ring));
        batch.put(place, ring);
        // If we die here, or do not learn the outcome, the keyring in memory is still the stored one; only
        // rotating needs the root key, and it refuses to replace a keyring that it cannot open.
        self.backend.commit(batch).await?;
        Ok(unsealed.replace(|keys| keys.root = root)?)
    }
}

/// Replaces the seal's record, if it is still the one that was read.
fn record_change(record: &SealRecord, stored: Vec<u8>) -> Result<Batch, StorageError> {
    let mut batch = Batch::new();
    batch.expect(Expect::BeginsWith(Key::from(SEAL_KEY), stored));
    batch.put(Key::from(SEAL_KEY), record.to_bytes()?);
    Ok(batch)
}

/// Keys for a new store that are not stored yet.
#[derive(Debug)]
#[must_use = "nothing is stored before `commit`"]
pub struct Founding<'a> {
    barrier: &'a Barrier,
    unsealed: Arc<Unsealed>,
    record: SealRecord,
    shares: Vec<Share>,
}

impl Founding<'_> {
    /// The open barrier over the new keys, to prepare the first records with.
    #[must_use]
    pub fn unsealed(&self) -> &Arc<Unsealed> {
        &self.unsealed
    }

    /// Stores the keys and the first records in one commit, and leaves the barrier open.
    ///
    /// Answers the key shares (recovery shares with an auto-unseal), which exist nowhere else.
    ///
    /// # Errors
    /// [`SealError::AlreadyInitialized`] if somebody else was faster; the backend's. After
    /// [`StorageError::UnknownOutcome`] the store may have keys whose shares nobody has: it has to be emptied.
    pub async fn commit(self, first: Writes) -> Result<(Arc<Unsealed>, Vec<Share>), SealError> {
        let Self { barrier, unsealed, record, shares } = self;
        let _unsealing = barrier.unsealing.lock().await;
        let (seal, ring) = (Key::from(SEAL_KEY), Key::from(KEYRING_KEY));
        let sealed_ring = unsealed.with(|keys| keys.ring.to_sealed(&keys.root, ring.as_bytes()))?;
        let mut batch = first.into_batch(&unsealed)?;
        batch.expect(Expect::Absent(seal.clone()));
        batch.expect(Expect::Absent(ring.clone()));
        batch.put(seal, record.to_bytes()?);
        batch.put(ring, sealed_ring);
        match barrier.backend.commit(batch).await {
            Ok(()) => {}
            Err(StorageError::Conflict) => return Err(SealError::AlreadyInitialized),
            Err(error) => return Err(error.into()),
        }
        barrier.adopt(&unsealed);
        Ok((unsealed, shares))
    }
}

/// Proof that enough key holders gave their shares just now. Only [`Barrier::authorize`] makes one.
#[derive(Debug)]
#[must_use = "a proof is asked for by the operation that it permits"]
pub struct Quorum {
    _proof: (),
}

/// New key shares that are not in force yet.
#[derive(Debug)]
#[must_use = "the old shares stay in force before `commit`"]
pub struct Rekeying {
    unsealed: Arc<Unsealed>,
    record: SealRecord,
    stored: Vec<u8>,
    /// `None` if it stays.
    root: Option<RootKey>,
    key: UnsealKey,
    scheme: ShareScheme,
    shares: Vec<Share>,
}

impl Rekeying {
    /// The new shares, to be handed out.
    #[must_use]
    pub fn shares(&self) -> &[Share] {
        &self.shares
    }

    /// How many there are and how many are needed.
    #[must_use]
    pub fn scheme(&self) -> ShareScheme {
        self.scheme
    }

    /// Whether a key combined from handed-out shares is the new one.
    #[must_use]
    pub fn verifies(&self, combined: &[u8]) -> bool {
        UnsealKey::from_bytes(combined).is_some_and(|key| key.same_as(&self.key))
    }

    /// Puts the new shares in force at the barrier that they were made for; the old ones are worth nothing
    /// from now on.
    ///
    /// # Errors
    /// [`StorageError::Conflict`] if the seal or the keyring was changed meanwhile; the backend's.
    pub async fn commit(self, barrier: &Barrier) -> Result<(), SealError> {
        let Self { unsealed, record, stored, root, key: _, scheme: _, shares: _ } = self;
        let _unsealing = barrier.unsealing.lock().await;
        match root {
            Some(root) => barrier.replace_root_key(&unsealed, root, &record, stored).await,
            None => Ok(barrier.replace_record(&record, stored).await?),
        }
    }
}
