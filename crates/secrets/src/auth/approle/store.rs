//! The records of an AppRole mount, and their copies in memory.
//!
//! | collection | name | record |
//! | --- | --- | --- |
//! | `roles` | the role's name | [`Role`] |
//! | `role-ids` | a role id | the role's name |
//! | `secret-ids/<role uuid>` | half of the keyed hash | [`SecretId`] |
//! | `accessors/<role uuid>` | an accessor, in the order of birth | that half of the hash |
//! | `expiries` | role uuid and hash, in the order of their end | the accessor |
//! | `leaving` | the uuid of a deleted role | nothing: what it leaves behind is on its way out |
//!
//! Roles and secret ids are copied into bounded caches. The rule: every write goes through
//! [`Store::commit`], which forgets the copies after the commit, whatever its outcome; a copy that was
//! being loaded meanwhile is forgotten too, because loading holds the entry's place. Nothing that is
//! absent is remembered.

use std::collections::BTreeMap;
use std::sync::Arc;

use aws_lc_rs::hmac;
use chancery_api::{Secret, Ttl};
use chancery_storage::{Name, Position, Record, StorageError, View, Writes};
use data_encoding::HEXLOWER;
use ipnet::IpNet;
use jiff::Timestamp;
use quick_cache::sync::Cache;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;
use tokio::sync::Mutex;

use super::role::Role;
use crate::error::Error;

const ROLES: &str = "roles";
const ROLE_IDS: &str = "role-ids";
const EXPIRIES: &str = "expiries";
const LEAVING: &str = "leaving";
const CONFIG: &str = "config";
const HASH_KEY: &str = "hash-key";

/// How many roles are kept in memory.
const CACHED_ROLES: usize = 4_096;
/// How many secret ids are kept in memory: a few hundred bytes each.
const CACHED_SECRET_IDS: usize = 32_768;
/// How many records are read or removed at a time by upkeep and listings.
const PAGE: usize = 500;
/// How often a change is tried again when somebody else wrote first.
const ATTEMPTS: usize = 64;
/// Locks that let one login at a time count down a secret id.
const STRIPES: usize = 64;

/// The records of one mount.
pub(super) struct Store {
    view: View,
    key: hmac::Key,
    by_name: Cache<String, Arc<Role>>,
    by_role_id: Cache<String, Arc<Role>>,
    secret_ids: Cache<Place, Arc<SecretId>>,
    spending: [Mutex<()>; STRIPES],
}

/// The half of a keyed hash that finds a secret id.
pub(super) type Place = [u8; 16];

/// A secret id's keyed hash: one half finds the record, the other is compared in constant time.
pub(super) struct SecretHash([u8; 32]);

impl SecretHash {
    /// The half that finds the record.
    pub(super) fn place(&self) -> Place {
        let mut place = Place::default();
        place.iter_mut().zip(self.0).for_each(|(to, from)| *to = from);
        place
    }

    fn proof(&self) -> String {
        HEXLOWER.encode(self.0.get(16..).unwrap_or_default())
    }
}

/// A secret id as it is stored: everything but its text.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct SecretId {
    /// Names it to operators.
    pub(super) accessor: String,
    /// The second half of the keyed hash, in hexadecimal.
    pub(super) proof: String,
    pub(super) created: Timestamp,
    /// When a use was counted last.
    pub(super) updated: Timestamp,
    /// `None`: never.
    pub(super) expires: Option<Timestamp>,
    /// The lifetime that was asked for; the mount may have allowed less.
    pub(super) ttl: Ttl,
    /// Uses left; 0 is without limit. One without uses left has no record.
    pub(super) num_uses: u64,
    pub(super) metadata: BTreeMap<String, String>,
    pub(super) cidr_list: Vec<IpNet>,
    pub(super) token_bound_cidrs: Vec<IpNet>,
}

impl SecretId {
    pub(super) fn expired(&self, now: Timestamp) -> bool {
        self.expires.is_some_and(|expires| expires <= now)
    }
}

/// A secret id that was found by its accessor.
pub(super) struct Found {
    pub(super) place: Place,
    pub(super) secret_id: SecretId,
}

/// Copies in memory that a write makes wrong.
#[derive(Debug, Default)]
struct Stale {
    names: Vec<String>,
    role_ids: Vec<String>,
    places: Vec<Place>,
}

impl Store {
    /// Opens the records of a mount; makes its key on the first opening.
    pub(super) async fn open(view: View) -> Result<Self, Error> {
        let key = hash_key(&view).await?;
        Ok(Self {
            view,
            key,
            by_name: Cache::new(CACHED_ROLES),
            by_role_id: Cache::new(CACHED_ROLES),
            secret_ids: Cache::new(CACHED_SECRET_IDS),
            spending: std::array::from_fn(|_| Mutex::new(())),
        })
    }

    /// The keyed hash of a secret id of this role.
    pub(super) fn hash(&self, role: &Role, secret_id: &Secret) -> SecretHash {
        let mut context = hmac::Context::with_key(&self.key);
        context.update(role.uuid.as_bytes());
        context.update(&[0]);
        context.update(secret_id.expose().as_bytes());
        let mut hash = [0; 32];
        hash.iter_mut().zip(context.sign().as_ref()).for_each(|(to, from)| *to = *from);
        SecretHash(hash)
    }

    /// The role of this name, which is in lower case.
    pub(super) async fn role(&self, name: &str) -> Result<Option<Arc<Role>>, Error> {
        let place = match self.by_name.get_value_or_guard_async(name).await {
            Ok(role) => return Ok(Some(role)),
            Err(place) => place,
        };
        let role: Option<Role> = self.view.get_json(ROLES, &Name::new(name)).await?;
        Ok(role.map(|role| {
            let role = Arc::new(role);
            // Refused if the role was written meanwhile; the next reader loads it again.
            drop(place.insert(Arc::clone(&role)));
            role
        }))
    }

    /// The role of this role id.
    pub(super) async fn role_by_id(&self, role_id: &str) -> Result<Option<Arc<Role>>, Error> {
        let place = match self.by_role_id.get_value_or_guard_async(role_id).await {
            Ok(role) => return Ok(Some(role)),
            Err(place) => place,
        };
        let name: Option<String> = self.view.get_json(ROLE_IDS, &Name::new(role_id)).await?;
        let Some(name) = name else { return Ok(None) };
        // Two reads, between which the role may have been given another role id.
        let role: Option<Role> = self.view.get_json(ROLES, &Name::new(name)).await?;
        Ok(role.filter(|role| role.role_id == role_id).map(|role| {
            let role = Arc::new(role);
            drop(place.insert(Arc::clone(&role)));
            role
        }))
    }

    /// The names of roles after `after`, at most `limit`.
    pub(super) async fn role_names(&self, after: &str, limit: usize) -> Result<Vec<String>, Error> {
        let after = Name::new(after);
        let from = if after.text().is_empty() { Position::Start } else { Position::After(&after) };
        Ok(texts(self.view.list(ROLES, from, limit).await?))
    }

    /// Writes what `change` makes of the role. It is asked again if somebody else wrote first.
    pub(super) async fn change_role<T>(
        self: &Arc<Self>,
        name: &str,
        change: impl Fn(Option<&Role>) -> Result<(Role, T), Error>,
    ) -> Result<T, Error> {
        let at = Name::new(name);
        for _ in 0..ATTEMPTS {
            let record = self.view.get(ROLES, &at).await?;
            let current: Option<Role> = decode(record.as_ref())?;
            let (role, outcome) = change(current.as_ref())?;

            let mut writes = Writes::new();
            match &record {
                Some(record) => writes.expect_unchanged(&self.view, ROLES, &at, &record.version)?,
                None => writes.expect_absent(&self.view, ROLES, &at)?,
            };
            writes.put_json(&self.view, ROLES, &at, &role)?;
            let mut stale = Stale {
                names: vec![name.to_owned()],
                role_ids: vec![role.role_id.clone()],
                ..Stale::default()
            };
            let before = current.map(|role| role.role_id);
            if before.as_ref() != Some(&role.role_id) {
                let new = Name::new(role.role_id.as_str());
                if self.view.get(ROLE_IDS, &new).await?.is_some() {
                    return Err(Error::invalid("role_id already in use"));
                }
                writes.expect_absent(&self.view, ROLE_IDS, &new)?;
                writes.put_json(&self.view, ROLE_IDS, &new, name)?;
            }
            if let Some(before) = before {
                if before != role.role_id {
                    writes.delete(&self.view, ROLE_IDS, &Name::new(before.as_str()))?;
                }
                stale.role_ids.push(before);
            }
            match self.commit(writes, stale).await {
                Ok(()) => return Ok(outcome),
                Err(StorageError::Conflict) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(busy())
    }

    /// Deletes a role. Its secret ids are worth nothing at once; their records go page by page.
    pub(super) async fn delete_role(self: &Arc<Self>, name: &str) -> Result<(), Error> {
        let at = Name::new(name);
        for _ in 0..ATTEMPTS {
            let record = self.view.get(ROLES, &at).await?;
            let Some(role) = decode::<Role>(record.as_ref())? else { return Ok(()) };
            let Some(record) = record else { return Ok(()) };
            let mut writes = Writes::new();
            writes.expect_unchanged(&self.view, ROLES, &at, &record.version)?;
            writes.delete(&self.view, ROLES, &at)?;
            writes.delete(&self.view, ROLE_IDS, &Name::new(role.role_id.as_str()))?;
            // If we die after this commit, the next upkeep finds the mark and goes on.
            writes.put(&self.view, LEAVING, &Name::new(role.uuid.as_str()), &[])?;
            let stale =
                Stale { names: vec![name.to_owned()], role_ids: vec![role.role_id], ..Stale::default() };
            match self.commit(writes, stale).await {
                Ok(()) => return self.remove_leftovers(&role.uuid).await,
                Err(StorageError::Conflict) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(busy())
    }

    /// Stores a secret id under the terms that `terms` makes of the role.
    pub(super) async fn register(
        self: &Arc<Self>,
        name: &str,
        text: &Secret,
        terms: impl Fn(&Role) -> Result<SecretId, Error>,
    ) -> Result<SecretId, Error> {
        let at = Name::new(name);
        for _ in 0..ATTEMPTS {
            let record = self.view.get(ROLES, &at).await?;
            let role: Option<Role> = decode(record.as_ref())?;
            let (Some(record), Some(role)) = (record, role) else {
                return Err(Error::not_found(format!("role {name:?} does not exist")));
            };
            let hash = self.hash(&role, text);
            let terms = terms(&role)?;
            let secret_id = SecretId { accessor: new_accessor(terms.created), proof: hash.proof(), ..terms };

            let keys = Keys::of(&role.uuid, hash.place(), &secret_id);
            let mut writes = Writes::new();
            // A role that is deleted meanwhile must not leave a secret id behind that nobody removes.
            writes.expect_unchanged(&self.view, ROLES, &at, &record.version)?;
            writes.expect_absent(&self.view, &keys.secret_ids, &keys.secret_id)?;
            keys.put(&self.view, &mut writes, &secret_id)?;
            let stale = Stale { places: vec![hash.place()], ..Stale::default() };
            match self.commit(writes, stale).await {
                Ok(()) => return Ok(secret_id),
                Err(StorageError::Conflict) => {
                    if self.view.get(&keys.secret_ids, &keys.secret_id).await?.is_some() {
                        return Err(Error::invalid(
                            "failed to store secret_id: SecretID is already registered",
                        ));
                    }
                }
                Err(error) => return Err(error.into()),
            }
        }
        Err(busy())
    }

    /// The secret id of this hash, expired or not.
    pub(super) async fn secret_id(
        &self,
        role: &Role,
        hash: &SecretHash,
    ) -> Result<Option<Arc<SecretId>>, Error> {
        let at = hash.place();
        let secret_id = match self.secret_ids.get_value_or_guard_async(&at).await {
            Ok(secret_id) => secret_id,
            Err(place) => {
                let name = Name::new(HEXLOWER.encode(&at));
                let Some(secret_id) = self.view.get_json(&secret_ids(&role.uuid), &name).await? else {
                    return Ok(None);
                };
                let secret_id = Arc::new(secret_id);
                drop(place.insert(Arc::clone(&secret_id)));
                secret_id
            }
        };
        let proven = bool::from(secret_id.proof.as_bytes().ct_eq(hash.proof().as_bytes()));
        Ok(proven.then_some(secret_id))
    }

    /// Counts one use of a limited secret id; the last one removes it. `false`: it had ended before.
    pub(super) async fn spend(
        self: &Arc<Self>,
        role: &Role,
        text: &Secret,
        now: Timestamp,
    ) -> Result<bool, Error> {
        let hash = self.hash(role, text);
        let place = hash.place();
        let stripe = place.first().map_or(0, |byte| usize::from(*byte) % STRIPES);
        // One at a time within this process; the condition below decides between processes.
        let _spending = match self.spending.get(stripe) {
            Some(stripe) => Some(stripe.lock().await),
            None => None,
        };
        let (collection, name) = (secret_ids(&role.uuid), Name::new(HEXLOWER.encode(&place)));
        for _ in 0..ATTEMPTS {
            let record = self.view.get(&collection, &name).await?;
            let secret_id: Option<SecretId> = decode(record.as_ref())?;
            let (Some(record), Some(secret_id)) = (record, secret_id) else { return Ok(false) };
            if secret_id.expired(now)
                || !bool::from(secret_id.proof.as_bytes().ct_eq(hash.proof().as_bytes()))
            {
                return Ok(false);
            }
            let mut writes = Writes::new();
            writes.expect_unchanged(&self.view, &collection, &name, &record.version)?;
            match secret_id.num_uses {
                0 => return Ok(true),
                1 => Keys::of(&role.uuid, place, &secret_id).delete(&self.view, &mut writes)?,
                uses => {
                    let left = SecretId { num_uses: uses - 1, updated: now, ..secret_id };
                    writes.put_json(&self.view, &collection, &name, &left)?;
                }
            }
            match self.commit(writes, Stale { places: vec![place], ..Stale::default() }).await {
                Ok(()) => return Ok(true),
                Err(StorageError::Conflict) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(busy())
    }

    /// The accessors of the role's secret ids after `after`, in the order of their birth.
    pub(super) async fn accessors(
        &self,
        role: &Role,
        after: &str,
        limit: usize,
    ) -> Result<Vec<String>, Error> {
        let after = accessor_name(after);
        let from = if after.text().is_empty() { Position::Start } else { Position::After(&after) };
        Ok(texts(self.view.list(&accessors(&role.uuid), from, limit).await?))
    }

    /// The secret id of this accessor, expired or not.
    pub(super) async fn by_accessor(&self, role: &Role, accessor: &str) -> Result<Option<Found>, Error> {
        let at = accessor_name(accessor);
        let Some(place) = self.view.get_json::<String>(&accessors(&role.uuid), &at).await? else {
            return Ok(None);
        };
        let secret_id: Option<SecretId> =
            self.view.get_json(&secret_ids(&role.uuid), &Name::new(place.as_str())).await?;
        let place = HEXLOWER.decode(place.as_bytes()).ok().and_then(|bytes| Place::try_from(bytes).ok());
        Ok(secret_id.zip(place).map(|(secret_id, place)| Found { place, secret_id }))
    }

    /// Removes a secret id, whether it is there or not.
    pub(super) async fn destroy(self: &Arc<Self>, role: &Role, place: Place) -> Result<(), Error> {
        let (collection, name) = (secret_ids(&role.uuid), Name::new(HEXLOWER.encode(&place)));
        for _ in 0..ATTEMPTS {
            let record = self.view.get(&collection, &name).await?;
            let secret_id: Option<SecretId> = decode(record.as_ref())?;
            let (Some(record), Some(secret_id)) = (record, secret_id) else { return Ok(()) };
            let mut writes = Writes::new();
            // A login that counts down at this moment must not put the record back.
            writes.expect_unchanged(&self.view, &collection, &name, &record.version)?;
            Keys::of(&role.uuid, place, &secret_id).delete(&self.view, &mut writes)?;
            match self.commit(writes, Stale { places: vec![place], ..Stale::default() }).await {
                Ok(()) => return Ok(()),
                Err(StorageError::Conflict) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(busy())
    }

    /// Removes what has expired by `now` and what deleted roles left behind. Costs one look at the earliest
    /// expiry, and one for deleted roles, when there is nothing to do.
    pub(super) async fn tidy(self: &Arc<Self>, now: Timestamp) -> Result<(), Error> {
        for uuid in texts(self.view.list(LEAVING, Position::Start, PAGE).await?) {
            self.remove_leftovers(&uuid).await?;
        }
        let due = millis(now);
        let earliest = self.view.scan(EXPIRIES, Position::Start, 1).await?;
        if earliest.first().is_none_or(|(name, _)| name.order() > due) {
            return Ok(());
        }
        loop {
            let page = self.view.scan(EXPIRIES, Position::Start, PAGE).await?;
            let full = page.len() == PAGE;
            let mut writes = Writes::new();
            let mut stale = Stale::default();
            let mut all_due = true;
            for (name, record) in page {
                if name.order() > due {
                    all_due = false;
                    break;
                }
                self.expire(&name, &record, &mut writes, &mut stale).await?;
            }
            if !writes.is_empty() {
                self.commit(writes, stale).await?;
            }
            if !full || !all_due {
                return Ok(());
            }
        }
    }

    /// Adds the removal of one expired secret id, unless its text was registered again since.
    async fn expire(
        &self,
        at: &Name,
        record: &Record,
        writes: &mut Writes,
        stale: &mut Stale,
    ) -> Result<(), Error> {
        let accessor: String = record.json()?;
        let (uuid, hash) = at.text().split_once('/').unwrap_or_default();
        let (collection, name) = (secret_ids(uuid), Name::new(hash));
        let stored = self.view.get(&collection, &name).await?;
        let secret_id: Option<SecretId> = decode(stored.as_ref())?;
        if let (Some(stored), Some(secret_id)) = (stored, secret_id)
            && secret_id.accessor == accessor
        {
            writes.expect_unchanged(&self.view, &collection, &name, &stored.version)?;
            writes.delete(&self.view, &collection, &name)?;
            let place = HEXLOWER.decode(hash.as_bytes()).ok().and_then(|bytes| Place::try_from(bytes).ok());
            stale.places.extend(place);
        }
        writes.delete(&self.view, &accessors(uuid), &accessor_name(&accessor))?;
        writes.delete(&self.view, EXPIRIES, at)?;
        Ok(())
    }

    /// Removes the secret ids of a deleted role, then the mark that they were there. Entries in `expiries`
    /// go when they are due.
    async fn remove_leftovers(&self, uuid: &str) -> Result<(), Error> {
        for collection in [secret_ids(uuid), accessors(uuid)] {
            while self.view.delete_collection(&collection, PAGE).await? == PAGE {}
        }
        Ok(self.view.delete(LEAVING, &Name::new(uuid)).await?)
    }

    /// Commits and then forgets the copies that are wrong now, however it ended.
    async fn commit(&self, writes: Writes, stale: Stale) -> Result<(), StorageError> {
        let outcome = self.view.commit(writes).await;
        self.forget(&stale);
        outcome
    }

    fn forget(&self, stale: &Stale) {
        let Stale { names, role_ids, places } = stale;
        names.iter().for_each(|name| drop(self.by_name.remove(name)));
        role_ids.iter().for_each(|role_id| drop(self.by_role_id.remove(role_id)));
        places.iter().for_each(|place| drop(self.secret_ids.remove(place)));
    }
}

/// Where the three records of a secret id lie.
struct Keys {
    secret_ids: String,
    secret_id: Name,
    accessors: String,
    accessor: Name,
    expiry: Option<Name>,
}

impl Keys {
    fn of(uuid: &str, place: Place, secret_id: &SecretId) -> Self {
        let hash = HEXLOWER.encode(&place);
        Self {
            secret_ids: secret_ids(uuid),
            accessors: accessors(uuid),
            accessor: accessor_name(&secret_id.accessor),
            expiry: secret_id.expires.map(|at| Name::ordered(millis(at), format!("{uuid}/{hash}"))),
            secret_id: Name::new(hash),
        }
    }

    fn put(&self, view: &View, writes: &mut Writes, secret_id: &SecretId) -> Result<(), StorageError> {
        writes.put_json(view, &self.secret_ids, &self.secret_id, secret_id)?;
        writes.put_json(view, &self.accessors, &self.accessor, self.secret_id.text())?;
        if let Some(expiry) = &self.expiry {
            writes.put_json(view, EXPIRIES, expiry, &secret_id.accessor)?;
        }
        Ok(())
    }

    fn delete(&self, view: &View, writes: &mut Writes) -> Result<(), StorageError> {
        writes.delete(view, &self.secret_ids, &self.secret_id)?;
        writes.delete(view, &self.accessors, &self.accessor)?;
        if let Some(expiry) = &self.expiry {
            writes.delete(view, EXPIRIES, expiry)?;
        }
        Ok(())
    }
}

fn secret_ids(uuid: &str) -> String {
    format!("secret-ids/{uuid}")
}

fn accessors(uuid: &str) -> String {
    format!("accessors/{uuid}")
}

/// An accessor is a UUID that begins with the instant of its birth (RFC 9562, 5.7), so that its place in
/// the listing can be told from its text.
fn new_accessor(now: Timestamp) -> String {
    let mut random = [0; 10];
    random.iter_mut().zip(uuid::Uuid::new_v4().as_bytes().iter().rev()).for_each(|(to, from)| *to = *from);
    uuid::Builder::from_unix_timestamp_millis(millis(now), &random).into_uuid().to_string()
}

/// An accessor's name; any other text comes before all accessors.
fn accessor_name(accessor: &str) -> Name {
    let order = uuid::Uuid::parse_str(accessor).map_or(0, |uuid| uuid.as_u64_pair().0);
    Name::ordered(order, accessor)
}

fn millis(at: Timestamp) -> u64 {
    u64::try_from(at.as_millisecond()).unwrap_or(0)
}

fn texts(names: Vec<Name>) -> Vec<String> {
    names.into_iter().map(Name::into_text).collect()
}

fn decode<T: DeserializeOwned>(record: Option<&Record>) -> Result<Option<T>, StorageError> {
    record.map(Record::json).transpose()
}

fn busy() -> Error {
    Error::internal("internal error", "a record of an AppRole mount changed at every attempt to write it")
}

/// The mount's key, which never leaves its view.
async fn hash_key(view: &View) -> Result<hmac::Key, Error> {
    let name = Name::new(HASH_KEY);
    for _ in 0..2 {
        if let Some(record) = view.get(CONFIG, &name).await? {
            return Ok(hmac::Key::new(hmac::HMAC_SHA256, &record.value));
        }
        let mut key = zeroize::Zeroizing::new([0; 32]);
        aws_lc_rs::rand::fill(&mut *key).map_err(|_| Error::internal("internal error", "no randomness"))?;
        let mut writes = Writes::new();
        writes.expect_absent(view, CONFIG, &name)?.put(view, CONFIG, &name, &*key)?;
        match view.commit(writes).await {
            // Another process may have made it at the same moment; then its key is the key.
            Ok(()) | Err(StorageError::Conflict) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(busy())
}
