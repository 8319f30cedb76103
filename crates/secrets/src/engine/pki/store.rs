//! Typed records over the mount's view, and the two things kept in memory: authorities and roles.
//!
//! | collection | name | record |
//! | --- | --- | --- |
//! | `issuers` | issuer id | [`IssuerRecord`] |
//! | `keys` | key id | [`KeyRecord`] |
//! | `roles` | role name | [`RoleRecord`] |
//! | `cel-roles` | role name | a CEL program |
//! | `config` | `issuers`, `keys`, `urls`, `cluster`, `auto-tidy`, … | one record each |
//! | `certs` | serial number, ordered by its first eight bytes | [`CertificateRecord`] |
//! | `revoked`, `revocations/…`, … | see `revocations.rs` | |
//! | `intents` | serial number and hash, ordered in the same way | [`Intent`] |
//!
//! Certificates are only ever read and written one by one, or page by page in the background: nothing here
//! grows with their number.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use chancery_issuance::{Certificate, Prepared, SerialNumber};
use chancery_storage::{Name, Position, StorageError, Version, View, Writes};
use jiff::Timestamp;
use quick_cache::sync::Cache;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::{Mutex, MutexGuard};

use super::authorities::Authorities;
use super::journal::{Journals, UnderWay};
use super::records::{
    CertificateRecord, ClusterConfig, CrlConfig, IssuerId, IssuerRecord, IssuersConfig, KeyId, KeyRecord,
    KeysConfig, LintConfig, Urls,
};
use super::revocations::{NewRevocation, Revocation, Scope, serial_of};
use super::role::{Role, RoleRecord};
use super::tidy::Counts;
use crate::error::Error;

/// Collections of a mount's view.
pub(super) mod collection {
    /// Issuers by id.
    pub(in super::super) const ISSUERS: &str = "issuers";
    /// Keys by id.
    pub(in super::super) const KEYS: &str = "keys";
    /// Roles by name.
    pub(in super::super) const ROLES: &str = "roles";
    /// CEL programs by the names of their roles.
    pub(in super::super) const CEL_ROLES: &str = "cel-roles";
    /// Settings of the mount, one record each.
    pub(in super::super) const CONFIG: &str = "config";
    /// Certificates by serial number.
    pub(in super::super) const CERTIFICATES: &str = "certs";
    /// Revocations by serial number.
    pub(in super::super) const REVOKED: &str = "revoked";
    /// Revocations of certificates whose issuer is not here, by place.
    pub(in super::super) const UNASSIGNED: &str = "unassigned";
    /// Scopes whose first issuer came, until the unassigned revocations were looked through.
    pub(in super::super) const ADOPTIONS: &str = "adoptions";
    /// The last numbers given to CRLs, by scope.
    pub(in super::super) const CRL_NUMBERS: &str = "crl-numbers";
    /// CRLs but for their entries, by scope.
    pub(in super::super) const CRL_HEADS: &str = "crl-heads";
    /// Scopes from whose journals entries were removed since their CRLs were built.
    pub(in super::super) const CRL_STALE: &str = "crl-stale";
    /// Certificates of authorities that were about to be signed.
    pub(in super::super) const INTENTS: &str = "intents";
}

/// Names in the `config` collection.
pub(super) mod config {
    /// [`IssuersConfig`](super::IssuersConfig).
    pub(in super::super) const ISSUERS: &str = "issuers";
    /// [`KeysConfig`](super::KeysConfig).
    pub(in super::super) const KEYS: &str = "keys";
    /// [`Urls`](super::Urls).
    pub(in super::super) const URLS: &str = "urls";
    /// [`ClusterConfig`](super::ClusterConfig).
    pub(in super::super) const CLUSTER: &str = "cluster";
    /// [`LintConfig`](super::LintConfig).
    pub(in super::super) const LINT: &str = "lint";
    /// When tidying begins by itself, and what it does.
    pub(in super::super) const AUTO_TIDY: &str = "auto-tidy";
    /// When tidying began or ended last.
    pub(in super::super) const LAST_TIDY: &str = "last-tidy";
    /// [`CrlConfig`](super::CrlConfig).
    pub(in super::super) const CRL: &str = "crl";
}

/// Roles kept in memory at a time. A role with its profile takes about two kilobytes; a mount with
/// more roles in use than this reads the colder ones from storage again.
const ROLES_IN_MEMORY: usize = 4_096;
/// Certificates whose OCSP status is kept in memory: about 200 bytes each.
const STATUSES_IN_MEMORY: usize = 4_096;

/// The mount's records, and what of them is kept in memory while unsealed.
///
/// - *Authorities* (issuers, keys, defaults, URLs): all of them, as one immutable [`Authorities`].
///   Operators make them one by one, so their number bounds itself; private keys are parsed when
///   first used. A [`Change`] replaces the whole once its commit is durable. If what it left cannot be
///   read back then, what is in memory is stale: whoever needs it next reads again, or fails.
/// - *Roles*: at most [`ROLES_IN_MEMORY`], by name. Writing or deleting a role drops its entry, before
///   the commit (so that a commit with an unknown outcome leaves nothing stale) and after it (so that
///   a reader that loaded the old record meanwhile leaves nothing either).
/// - *Revocations* that OCSP asked about: at most [`STATUSES_IN_MEMORY`]. All of them end with each change
///   of any record of a revocation.
///
/// These rules hold for one writing process, which is what the embedded store allows.
pub(super) struct Store {
    pub(super) view: View,
    authorities: RwLock<Arc<Authorities>>,
    /// Whether storage holds other authorities than memory, as far as we know.
    stale: AtomicBool,
    /// Held while issuers, keys or settings change: each change builds on the one before.
    changing: Mutex<()>,
    roles: Cache<String, Arc<Role>>,
    /// What OCSP was asked about, each with [`Journals::written`] as it was before the read.
    pub(super) revocations: Cache<SerialNumber, (u64, Option<Revocation>)>,
    /// How many certificates there are, where somebody asks for it.
    pub(super) counts: Counts,
    /// Where revocations lie.
    pub(super) journals: Journals,
    /// Whether issuers may have come whose revocations are still unassigned.
    adoptions: AtomicBool,
    /// Held while they are looked through.
    adopting: Mutex<()>,
}

impl Store {
    /// Loads the authorities. Roles and certificates are read when they are asked for.
    pub(super) async fn open(view: View) -> Result<Self, Error> {
        let authorities = Authorities::load(&view, None).await?;
        Ok(Self {
            view,
            authorities: RwLock::new(Arc::new(authorities)),
            stale: AtomicBool::new(false),
            changing: Mutex::new(()),
            roles: Cache::new(ROLES_IN_MEMORY),
            revocations: Cache::new(STATUSES_IN_MEMORY),
            counts: Counts::default(),
            journals: Journals::default(),
            adoptions: AtomicBool::new(true),
            adopting: Mutex::new(()),
        })
    }

    /// The mount's storage, for those who walk through it.
    pub(super) fn view(&self) -> &View {
        &self.view
    }

    /// Issuers, keys and settings as of now. Not to be asked while holding a [`Change`], which knows them.
    pub(super) async fn authorities(&self) -> Result<Arc<Authorities>, Error> {
        if !self.stale.load(Ordering::Acquire) {
            return Ok(self.in_memory());
        }
        // A change that is under way would be undone in memory by an older reading.
        let _lock = self.changing.lock().await;
        self.refreshed().await
    }

    /// Begins to change issuers, keys or settings. Other changes wait; readers do not.
    pub(super) async fn change(&self) -> Result<Change<'_>, Error> {
        let lock = self.changing.lock().await;
        let before = self.refreshed().await?;
        Ok(Change {
            store: self,
            _lock: lock,
            before,
            writes: Writes::new(),
            under_way: Vec::new(),
            adopts: false,
            certificate: None,
        })
    }

    fn in_memory(&self) -> Arc<Authorities> {
        Arc::clone(&self.authorities.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// What is in memory, read again first if it is stale. For the holder of the lock on changes.
    async fn refreshed(&self) -> Result<Arc<Authorities>, Error> {
        if self.stale.load(Ordering::Acquire) { self.reload().await } else { Ok(self.in_memory()) }
    }

    /// Reads the authorities again, keeping what did not change. For the holder of the lock on changes.
    async fn reload(&self) -> Result<Arc<Authorities>, Error> {
        let loaded = Authorities::load(&self.view, Some(&self.in_memory())).await.map(Arc::new);
        if let Ok(fresh) = &loaded {
            *self.authorities.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(fresh);
        }
        self.stale.store(loaded.is_err(), Ordering::Release);
        loaded
    }

    /// The role of this name, ready to use.
    pub(super) async fn role(&self, name: &str) -> Result<Option<Arc<Role>>, Error> {
        if let Some(role) = self.roles.get(name) {
            return Ok(Some(role));
        }
        // The guard is void once somebody removes the entry, so a record that is replaced while we
        // read it does not come to stay.
        match self.roles.get_value_or_guard_async(name).await {
            Ok(role) => Ok(Some(role)),
            Err(guard) => {
                let Some(record) =
                    self.view.get_json::<RoleRecord>(collection::ROLES, &Name::new(name)).await?
                else {
                    return Ok(None);
                };
                let role = Arc::new(Role::new(record));
                let _ = guard.insert(Arc::clone(&role));
                Ok(Some(role))
            }
        }
    }

    /// Writes a role.
    pub(super) async fn put_role(&self, name: &str, record: &RoleRecord) -> Result<(), Error> {
        self.roles.remove(name);
        let outcome = self.view.put_json(collection::ROLES, &Name::new(name), record).await;
        self.roles.remove(name);
        Ok(outcome?)
    }

    /// The record of a role as it is at rest, and which write made it.
    pub(super) async fn stored_role(&self, name: &str) -> Result<Option<(RoleRecord, Version)>, Error> {
        match self.view.get(collection::ROLES, &Name::new(name)).await? {
            Some(record) => Ok(Some((record.json()?, record.version))),
            None => Ok(None),
        }
    }

    /// Writes a role if it is still the one of this version, and says whether it was.
    pub(super) async fn replace_role(
        &self,
        name: &str,
        record: &RoleRecord,
        version: &Version,
    ) -> Result<bool, Error> {
        let place = Name::new(name);
        let mut writes = Writes::new();
        writes.expect_unchanged(&self.view, collection::ROLES, &place, version)?;
        writes.put_json(&self.view, collection::ROLES, &place, record)?;
        self.roles.remove(name);
        let outcome = self.view.commit(writes).await;
        self.roles.remove(name);
        match outcome {
            Ok(()) => Ok(true),
            Err(StorageError::Conflict) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Removes a role, whether it exists or not.
    pub(super) async fn delete_role(&self, name: &str) -> Result<(), Error> {
        self.roles.remove(name);
        let outcome = self.view.delete(collection::ROLES, &Name::new(name)).await;
        self.roles.remove(name);
        Ok(outcome?)
    }

    /// Role names after `after`, at most `limit`.
    pub(super) async fn role_names(&self, after: Option<&str>, limit: usize) -> Result<Vec<String>, Error> {
        let after = after.map(Name::new);
        let names = self.view.list(collection::ROLES, after.as_ref(), limit).await?;
        Ok(names.into_iter().map(Name::into_text).collect())
    }

    /// Stores one certificate and who signed it: durable when this returns.
    pub(super) async fn put_certificate(
        &self,
        serial: &SerialNumber,
        issuer: Option<IssuerId>,
        der: &[u8],
    ) -> Result<(), StorageError> {
        let record = CertificateRecord::encode(issuer, der);
        self.view.put(collection::CERTIFICATES, &certificate_name(serial), &record).await?;
        self.counts.stored(serial);
        Ok(())
    }

    /// As [`put_certificate`](Self::put_certificate), together with what else is in the batch.
    pub(super) fn put_certificate_with(
        &self,
        serial: &SerialNumber,
        issuer: Option<IssuerId>,
        der: &[u8],
        writes: &mut Writes,
    ) -> Result<(), StorageError> {
        let record = CertificateRecord::encode(issuer, der);
        writes.put(&self.view, collection::CERTIFICATES, &certificate_name(serial), &record).map(drop)
    }

    /// Writes down that a certificate of an authority is about to be signed: durable when this returns.
    pub(super) async fn put_intent(&self, prepared: &Prepared<'_>, at: Timestamp) -> Result<Name, Error> {
        let serial = prepared.serial_number();
        let tbs_sha256 = data_encoding::HEXLOWER.encode(&prepared.tbs_sha256());
        // Serial numbers may be chosen by others; what is to be signed is named too, so that no
        // intent takes the place of another one.
        let name = Name::ordered(serial.order(), format!("{serial} {tbs_sha256}"));
        self.view.put_json(collection::INTENTS, &name, &Intent { tbs_sha256, at }).await?;
        Ok(name)
    }

    /// As [`put_certificate`](Self::put_certificate), for a certificate whose intent was written
    /// down: that goes with the same commit.
    pub(super) async fn put_intended_certificate(
        &self,
        serial: &SerialNumber,
        issuer: Option<IssuerId>,
        der: &[u8],
        intent: &Name,
    ) -> Result<(), Error> {
        let record = CertificateRecord::encode(issuer, der);
        let mut writes = Writes::new();
        writes.put(&self.view, collection::CERTIFICATES, &certificate_name(serial), &record)?;
        writes.delete(&self.view, collection::INTENTS, intent)?;
        self.view.commit(writes).await?;
        self.counts.stored(serial);
        Ok(())
    }

    /// The certificate with this serial number.
    pub(super) async fn certificate(
        &self,
        serial: &SerialNumber,
    ) -> Result<Option<CertificateRecord>, Error> {
        match self.view.get(collection::CERTIFICATES, &certificate_name(serial)).await? {
            Some(record) => Ok(Some(CertificateRecord::decode(&record.value)?)),
            None => Ok(None),
        }
    }

    /// The certificate with this serial number, also if it is one of an issuer that was imported and so is not stored
    /// among the others.
    pub(super) async fn known_certificate(
        &self,
        serial: &SerialNumber,
    ) -> Result<Option<Arc<Certificate>>, Error> {
        if let Some(record) = self.certificate(serial).await? {
            let certificate = Certificate::from_der(&record.der)
                .map_err(|error| Error::internal("a stored certificate does not parse", error))?;
            return Ok(Some(Arc::new(certificate)));
        }
        let authorities = self.authorities().await?;
        let mut issuers = authorities.issuers().map(|issuer| &issuer.certificate);
        Ok(issuers.find(|certificate| certificate.serial_number() == *serial).map(Arc::clone))
    }

    /// Serial numbers in order (for our own, that of their birth), after `after` (a serial number or
    /// the beginning of one; empty for all), at most `limit`.
    pub(super) async fn serial_numbers(&self, after: &str, limit: usize) -> Result<Vec<SerialNumber>, Error> {
        let after = match place_after(after) {
            Place::Start => None,
            Place::After(name) => Some(name),
            Place::End => return Ok(Vec::new()),
        };
        let names = self.view.list(collection::CERTIFICATES, after.as_ref(), limit).await?;
        names.iter().map(serial_of).collect()
    }

    /// The same with the certificates themselves: reads every one of them.
    pub(super) async fn certificates(
        &self,
        after: &str,
        limit: usize,
    ) -> Result<Vec<(SerialNumber, CertificateRecord)>, Error> {
        let mut found = Vec::new();
        for serial in self.serial_numbers(after, limit).await? {
            // One that was deleted since is left out.
            if let Some(record) = self.certificate(&serial).await? {
                found.push((serial, record));
            }
        }
        Ok(found)
    }

    /// Gives issuers that came the revocations that were waiting for them. Costs nothing if none came;
    /// reads the revocations without an issuer if some did.
    pub(super) async fn adopt_pending(&self) -> Result<(), Error> {
        if !self.adoptions.load(Ordering::Acquire) {
            return Ok(());
        }
        let _alone = self.adopting.lock().await;
        if !self.adoptions.swap(false, Ordering::AcqRel) {
            return Ok(());
        }
        let outcome = self.adopt_all().await;
        if outcome.is_err() {
            self.adoptions.store(true, Ordering::Release);
        }
        outcome
    }

    async fn adopt_all(&self) -> Result<(), Error> {
        for (name, mark) in self.view.scan(collection::ADOPTIONS, Position::Start, usize::MAX).await? {
            // A change that left its mark may not have come to memory yet: it is waited for.
            let authorities = {
                let _lock = self.changing.lock().await;
                self.refreshed().await?
            };
            let issuer = authorities.issuers().find(|issuer| issuer.scope.to_string() == name.text());
            if let Some(issuer) = issuer {
                self.adopt_revocations((issuer.record.id, issuer.scope), &issuer.certificate).await?;
            }
            let mut writes = Writes::new();
            writes.expect_unchanged(&self.view, collection::ADOPTIONS, &name, &mark.version)?;
            writes.delete(&self.view, collection::ADOPTIONS, &name)?;
            match self.view.commit(writes).await {
                // The issuer went and came again meanwhile.
                Err(StorageError::Conflict) => self.adoptions.store(true, Ordering::Release),
                outcome => outcome?,
            }
        }
        Ok(())
    }
}

/// Where a certificate lies: ordered by the first eight bytes, named by all.
pub(super) fn certificate_name(serial: &SerialNumber) -> Name {
    Name::ordered(serial.order(), data_encoding::HEXLOWER.encode(serial.as_bytes()))
}

/// A place in the list of certificates.
pub(super) enum Place {
    Start,
    After(Name),
    End,
}

/// Where the list goes on after `text`, which need not be a whole serial number.
pub(super) fn place_after(text: &str) -> Place {
    let digits: String =
        text.chars().filter(|c| !matches!(c, ':' | '-')).collect::<String>().to_ascii_lowercase();
    if digits.is_empty() {
        return Place::Start;
    }
    if !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        // The peer compares texts, and letters beyond `f` come after every digit.
        return Place::End;
    }
    let first: String = digits.chars().chain(std::iter::repeat('0')).take(16).collect();
    let order = u64::from_str_radix(&first, 16).unwrap_or(u64::MAX);
    Place::After(Name::ordered(order, digits))
}

/// What is written down before an authority's certificate is signed: should we die in between, this
/// tells what may exist.
#[derive(Serialize)]
struct Intent {
    tbs_sha256: String,
    at: Timestamp,
}

/// A change of issuers, keys or settings: one batch, seen by nobody before it is durable.
///
/// Every record that is overwritten or deleted carries the version it was read with, so a second
/// writer on the same store makes the commit fail rather than get lost.
#[must_use = "nothing is written before `commit`"]
pub(super) struct Change<'a> {
    store: &'a Store,
    _lock: MutexGuard<'a, ()>,
    /// The authorities that this change builds on.
    pub(super) before: Arc<Authorities>,
    writes: Writes,
    /// The certificate that is stored with it.
    certificate: Option<SerialNumber>,
    under_way: Vec<UnderWay>,
    /// Whether an issuer comes whose revocations may be waiting for it.
    adopts: bool,
}

impl Change<'_> {
    /// Writes an issuer, new or known.
    pub(super) fn put_issuer(&mut self, record: &IssuerRecord) -> Result<&mut Self, Error> {
        let known = self.before.issuer(&record.id).map(|authority| authority.version);
        if known.is_none() {
            let certificate = Certificate::from_pem(&record.certificate)
                .map_err(|error| Error::internal("a new issuer's certificate does not parse", error))?;
            let scope = Scope::of(&certificate);
            if !self.before.issuers().any(|issuer| issuer.scope == scope) {
                let name = Name::new(scope.to_string());
                self.writes.put(&self.store.view, collection::ADOPTIONS, &name, &[])?;
                self.adopts = true;
            }
        }
        self.put(collection::ISSUERS, &record.id.to_string(), record, known)
    }

    /// Removes an issuer.
    pub(super) fn delete_issuer(&mut self, id: &IssuerId) -> Result<&mut Self, Error> {
        let known = self.before.issuer(id).map(|authority| authority.version);
        self.delete(collection::ISSUERS, &id.to_string(), known)
    }

    /// Writes a key, new or known.
    pub(super) fn put_key(&mut self, record: &KeyRecord) -> Result<&mut Self, Error> {
        let known = self.before.key(&record.id).map(|key| key.version);
        self.put(collection::KEYS, &record.id.to_string(), record, known)
    }

    /// Demands that a key that was found earlier is here still, and stays until the commit.
    pub(super) fn keep_key(&mut self, id: &KeyId) -> Result<&mut Self, Error> {
        let version = self
            .before
            .key(id)
            .map(|key| key.version)
            .ok_or_else(|| Error::invalid(format!("the key {id} was deleted meanwhile")))?;
        let name = Name::new(id.to_string());
        self.writes.expect_unchanged(&self.store.view, collection::KEYS, &name, &version)?;
        Ok(self)
    }

    /// Removes a key.
    pub(super) fn delete_key(&mut self, id: &KeyId) -> Result<&mut Self, Error> {
        let known = self.before.key(id).map(|key| key.version);
        self.delete(collection::KEYS, &id.to_string(), known)
    }

    /// Writes which issuer is the default.
    pub(super) fn put_issuers_config(&mut self, record: &IssuersConfig) -> Result<&mut Self, Error> {
        let known = self.before.issuers_config.version;
        self.put(collection::CONFIG, config::ISSUERS, record, known)
    }

    /// Writes which key is the default.
    pub(super) fn put_keys_config(&mut self, record: &KeysConfig) -> Result<&mut Self, Error> {
        let known = self.before.keys_config.version;
        self.put(collection::CONFIG, config::KEYS, record, known)
    }

    /// Writes the URLs that issuers without their own repeat.
    pub(super) fn put_urls(&mut self, record: &Urls) -> Result<&mut Self, Error> {
        let known = self.before.urls.version;
        self.put(collection::CONFIG, config::URLS, record, known)
    }

    /// Writes where this cluster is reached.
    pub(super) fn put_cluster_config(&mut self, record: &ClusterConfig) -> Result<&mut Self, Error> {
        let known = self.before.cluster.version;
        self.put(collection::CONFIG, config::CLUSTER, record, known)
    }

    /// Writes how CRLs and OCSP answers are made.
    pub(super) fn put_crl_config(&mut self, record: &CrlConfig) -> Result<&mut Self, Error> {
        let known = self.before.crl.version;
        self.put(collection::CONFIG, config::CRL, record, known)
    }

    /// Writes what becomes of certificates that break a standard.
    pub(super) fn put_lint_config(&mut self, record: &LintConfig) -> Result<&mut Self, Error> {
        let known = self.before.lint.version;
        self.put(collection::CONFIG, config::LINT, record, known)
    }

    /// Revokes a certificate with the change; it must not be revoked yet.
    pub(super) async fn put_revocation(&mut self, new: &NewRevocation<'_>) -> Result<&mut Self, Error> {
        let (_, under_way) = self.store.add_revocation(&mut self.writes, new).await?;
        self.under_way.push(under_way);
        Ok(self)
    }

    /// Stores the certificate of a new authority with the change, and who signed it, in place of its
    /// intent.
    pub(super) fn put_intended_certificate(
        &mut self,
        serial: &SerialNumber,
        issuer: Option<IssuerId>,
        der: &[u8],
        intent: &Name,
    ) -> Result<&mut Self, Error> {
        let record = CertificateRecord::encode(issuer, der);
        self.writes.put(&self.store.view, collection::CERTIFICATES, &certificate_name(serial), &record)?;
        self.writes.delete(&self.store.view, collection::INTENTS, intent)?;
        self.certificate = Some(*serial);
        Ok(self)
    }

    /// Makes the change durable, then visible. Answers the authorities after it.
    ///
    /// If the outcome is unknown, what storage holds is read again before the error is returned:
    /// the authorities in memory are those at rest, whichever they are. If they cannot be read, that is
    /// the answer, and nobody uses those in memory any more.
    pub(super) async fn commit(self) -> Result<Arc<Authorities>, Error> {
        let outcome = self.store.view.commit(self.writes).await;
        for under_way in self.under_way {
            under_way.ended(&outcome);
            if outcome.is_ok() {
                self.store.counts.revoked();
            }
        }
        if self.adopts {
            self.store.adoptions.store(true, Ordering::Release);
        }
        match outcome {
            Ok(()) => {
                self.certificate.iter().for_each(|serial| self.store.counts.stored(serial));
                self.store.reload().await
            }
            Err(error) => {
                if matches!(error, StorageError::UnknownOutcome { .. } | StorageError::Conflict) {
                    self.store.reload().await?;
                }
                Err(error.into())
            }
        }
    }

    fn put<T: Serialize>(
        &mut self,
        collection: &str,
        name: &str,
        record: &T,
        known: Option<Version>,
    ) -> Result<&mut Self, Error> {
        let (view, name) = (&self.store.view, Name::new(name));
        match known {
            Some(version) => self.writes.expect_unchanged(view, collection, &name, &version)?,
            None => self.writes.expect_absent(view, collection, &name)?,
        };
        self.writes.put_json(view, collection, &name, record)?;
        Ok(self)
    }

    fn delete(&mut self, collection: &str, name: &str, known: Option<Version>) -> Result<&mut Self, Error> {
        let (view, name) = (&self.store.view, Name::new(name));
        if let Some(version) = known {
            self.writes.expect_unchanged(view, collection, &name, &version)?;
            self.writes.delete(view, collection, &name)?;
        }
        Ok(self)
    }
}

/// Every record of a collection, by name.
pub(super) async fn load_all<T: DeserializeOwned>(
    view: &View,
    collection: &str,
) -> Result<Vec<(T, Version)>, Error> {
    let records = view.scan(collection, Position::Start, usize::MAX).await?;
    let mut loaded = Vec::with_capacity(records.len());
    for (_, record) in records {
        loaded.push((record.json::<T>()?, record.version));
    }
    Ok(loaded)
}
