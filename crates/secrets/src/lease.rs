//! Leases: what was given out for a time, and how it is taken back.
//!
//! A secret's lease is one record, ordered by birth, and one marker in the collection of expiries; if its
//! engine would not take it back it stands in one more, which answers what is irrevocable. The token that asked for it has it in its index, so that it goes when the token goes. A lease id
//! is the path that made it and a name that begins with its birth, so it leads straight to the
//! record. Tokens are leases too as far as `sys/leases/` is concerned: their ids lead to the token
//! store.
//!
//! Revoking is done in two steps. First the lease is marked and made due, which is durable and is all
//! that "revoke later" means; then its engine takes back what it gave, again and again with growing
//! pauses until it succeeds, and only then the record goes.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use chancery_api::Ttl;
use chancery_storage::{Name, Position, StorageError, View, Writes};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::engine::{AnyEngine, Mount};
use crate::error::Error;
use crate::response::{Lease, LeaseTerms};
use crate::token::ttl::Lifetime;
use crate::token::{TokenEntry, TokenKey, TokenKind, TokenStore, base62, store};

mod census;

const LEASES: &str = "leases";
/// The ids of leases that an engine would not take back, in the order of their birth.
const IRREVOCABLE: &str = "irrevocable";

/// Tells leases from tokens in the collections that hold both.
pub(crate) const TAG: char = 'l';

/// Random digits of a lease's name, behind the digits of its birth.
const RANDOM_DIGITS: usize = 21;

/// Pauses between attempts to take back what an engine will not take back: the first, and the longest.
const FIRST_PAUSE: Duration = Duration::from_secs(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(3600);

/// Finds the mount that a path belongs to, with its engine.
pub type FindMount<'a> = &'a (dyn Fn(&str) -> Option<(Arc<Mount>, Arc<dyn AnyEngine>)> + Send + Sync);

/// The lease of a secret, as stored.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct LeaseRecord {
    /// The whole id: path, slash, name.
    id: String,
    /// The token that it goes with: the one that asked, or the parent of a batch token. `None` once that has
    /// gone, and for a batch token without one.
    owner: Option<TokenKey>,
    issued: Timestamp,
    expires: Timestamp,
    renewed: Option<Timestamp>,
    /// The lifetime granted last.
    ttl: Ttl,
    max_ttl: Ttl,
    renewable: bool,
    /// What the engine needs to take it back.
    internal: BTreeMap<String, String>,
    /// On its way out: cannot be renewed any more.
    revoking: bool,
    /// When upkeep shall look at it, in milliseconds since the epoch: the place of its marker.
    due: u64,
    /// Failed attempts to take it back.
    attempts: u32,
    /// What the last of them said.
    error: String,
}

impl LeaseRecord {
    fn name(&self) -> &str {
        name_of(&self.id)
    }

    fn path(&self) -> &str {
        self.id.rsplit_once('/').map_or("", |(path, _)| path)
    }
}

/// A lease as `sys/leases/lookup` shows it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LeaseShown {
    /// When it ends; `None` never.
    pub expire_time: Option<Timestamp>,
    /// Its id.
    pub id: String,
    /// When it was made.
    pub issue_time: Timestamp,
    /// When it was renewed last.
    pub last_renewal: Option<Timestamp>,
    /// The path that made it.
    pub path: String,
    /// Whether it can be renewed.
    pub renewable: bool,
    /// Why it could not be taken back yet.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub revoke_error: String,
    /// Seconds until it ends.
    pub ttl: Ttl,
}

/// Leases that could not be taken back yet.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Irrevocable {
    /// How many there are.
    pub lease_count: usize,
    /// How many by mount path.
    pub counts: BTreeMap<String, usize>,
    /// Which, with the reason.
    #[serde(skip)]
    pub leases: Vec<(String, String)>,
}

/// The lease manager.
pub struct Leases {
    root: View,
    tokens: Arc<TokenStore>,
    census: census::Census,
}

impl Leases {
    /// The leases that lie beside `tokens`. Reads nothing.
    pub fn open(tokens: Arc<TokenStore>) -> Self {
        Self { root: tokens.root.clone(), tokens, census: census::Census::new() }
    }

    /// Registers what an engine gave out at `path` to the holder of `token`.
    ///
    /// If the token has gone meanwhile, the lease is registered as due for revocation, and the
    /// request fails.
    pub async fn register(
        &self,
        terms: LeaseTerms,
        mount: &Mount,
        path: &str,
        token: &TokenEntry,
        now: Timestamp,
    ) -> Result<Lease, Error> {
        let lifetime = Lifetime { default: terms.ttl, max: terms.max_ttl, ..Lifetime::default() };
        let mut ttl = lifetime.grant(mount, now, now)?.ttl;
        let owner = match token.kind {
            TokenKind::Service => Some(token.key),
            // Nothing tells when a batch token goes, so what it was given ends with it at the latest. It goes
            // with its parent, and so do its leases.
            TokenKind::Batch => {
                ttl = ttl.capped(token.remaining(now));
                token.parent
            }
        };
        let born = store::millis(now);
        let name =
            format!("{}{}", base62::encode(born.into(), base62::TIME_DIGITS), base62::random(RANDOM_DIGITS));
        let expires = now.checked_add(ttl.0).unwrap_or(Timestamp::MAX);
        let mut record = LeaseRecord {
            id: format!("{}/{name}", path.trim_end_matches('/')),
            owner,
            issued: now,
            expires,
            renewed: None,
            ttl,
            max_ttl: terms.max_ttl,
            renewable: terms.renewable,
            internal: terms.internal,
            revoking: false,
            due: store::millis_up(expires),
            attempts: 0,
            error: String::new(),
        };
        loop {
            let mut writes = Writes::new();
            let mut orphaned = None;
            if let Some(owner) = record.owner
                && let Err(error) = self.tokens.adopt(owner, TAG, &record.id, &mut writes).await
            {
                record =
                    LeaseRecord { owner: None, revoking: true, due: store::millis(now).max(1), ..record };
                orphaned = Some(error);
            }
            put(&self.root, &record, 0, &mut writes)?;
            match self.root.commit(writes).await {
                Ok(()) => {}
                Err(StorageError::Conflict) => continue,
                Err(error) => return Err(error.into()),
            }
            return match orphaned {
                Some(error) => Err(error),
                None => Ok(Lease { id: record.id, ttl, renewable: record.renewable }),
            };
        }
    }

    /// The lease of this id, whether of a secret or of a token.
    pub async fn lookup(&self, id: &str, now: Timestamp) -> Result<Option<LeaseShown>, Error> {
        if let Some(entry) = self.token(id, now).await? {
            return Ok(Some(LeaseShown {
                expire_time: entry.expires,
                id: id.to_owned(),
                issue_time: entry.created,
                last_renewal: entry.renewed,
                path: entry.path.clone(),
                renewable: entry.renewable,
                revoke_error: String::new(),
                ttl: entry.remaining(now),
            }));
        }
        Ok(read(&self.root, id).await?.map(|(record, _)| LeaseShown {
            expire_time: Some(record.expires),
            issue_time: record.issued,
            last_renewal: record.renewed,
            path: record.path().to_owned(),
            renewable: record.renewable && !record.revoking,
            ttl: Ttl::seconds(
                u64::try_from(record.expires.duration_since(now).as_secs()).unwrap_or_default(),
            ),
            id: record.id,
            revoke_error: record.error,
        }))
    }

    /// The names directly below `prefix`, of secrets and of tokens; those with more below end in a
    /// slash. Reads every lease: a question for people.
    pub async fn list(&self, prefix: &str) -> Result<Vec<String>, Error> {
        let prefix = folder(prefix);
        let mut names = BTreeSet::new();
        self.each(|id| {
            if let Some(rest) = id.strip_prefix(&prefix) {
                names.insert(match rest.split_once('/') {
                    Some((folder, _)) => format!("{folder}/"),
                    None => rest.to_owned(),
                });
            }
        })
        .await?;
        Ok(names.into_iter().collect())
    }

    /// Renews the lease of a secret on its engine's terms.
    pub async fn renew(
        &self,
        id: &str,
        increment: Ttl,
        now: Timestamp,
        find: FindMount<'_>,
    ) -> Result<(Lease, Vec<String>), Error> {
        if let Some(entry) = self.token(id, now).await? {
            let words = if entry.expires.is_some() && entry.renewable {
                "tokens cannot be renewed through this endpoint"
            } else {
                "lease is not renewable"
            };
            return Err(Error::invalid(words));
        }
        let Some((record, _)) = read(&self.root, id).await? else {
            return Err(Error::invalid("lease not found"));
        };
        let refused = || Error::invalid("lease is not renewable");
        if !record.renewable || record.revoking || record.expires <= now {
            return Err(refused());
        }
        let (mount, engine) = find(record.path()).ok_or_else(refused)?;
        let terms = engine.renew_lease(record.internal.clone(), now).await?;
        let lifetime = Lifetime {
            increment,
            default: terms.ttl.or(record.ttl),
            max: terms.max_ttl.or(record.max_ttl),
            ..Lifetime::default()
        };
        let granted = lifetime.grant(&mount, record.issued, now)?;
        let renewed = self
            .change(id, |record| {
                if record.revoking {
                    return false;
                }
                record.ttl = granted.ttl;
                record.renewed = Some(now);
                record.expires = now.checked_add(granted.ttl.0).unwrap_or(Timestamp::MAX);
                record.due = store::millis_up(record.expires);
                true
            })
            .await?;
        match renewed {
            Some(record) if !record.revoking => {
                Ok((Lease { id: record.id, ttl: granted.ttl, renewable: record.renewable }, granted.warnings))
            }
            _ => Err(refused()),
        }
    }

    /// Revokes one lease, of a secret or of a token. With `sync` it has been taken back when this
    /// returns; without, that it will be is durable.
    pub async fn revoke(
        &self,
        id: &str,
        sync: bool,
        now: Timestamp,
        find: FindMount<'_>,
    ) -> Result<(), Error> {
        if let Some((path, key)) = self.tokens.keys.by_lease_id(id) {
            // In whatever state it is: what was begun may be asked for again. Its name alone leads to it; the
            // path before that must be the right one too.
            return match self.tokens.record(key).await? {
                Some(entry) if entry.path == path => self.revoke_token(key, sync, now).await,
                _ => Ok(()),
            };
        }
        match self.condemn(id, now).await? {
            Some(record) if sync => self.take_back(record, false, now, find).await,
            _ => Ok(()),
        }
    }

    /// As [`revoke`](Self::revoke), for every lease below `prefix`. Reads every lease. Without `sync`
    /// they are marked, a page of them with one commit, and the next rounds of upkeep do the rest.
    pub async fn revoke_prefix(
        &self,
        prefix: &str,
        sync: bool,
        now: Timestamp,
        find: FindMount<'_>,
    ) -> Result<(), Error> {
        let (leases, tokens) = self.below(prefix).await?;
        if !sync {
            self.condemn_all(&leases, now).await?;
            return self.tokens.condemn_all(&tokens, now).await;
        }
        let mut failed = None;
        for id in leases {
            // One that cannot be taken back must not keep the others.
            let outcome = self.revoke(&id, true, now, find).await;
            failed = failed.or(outcome.err());
        }
        self.tokens.revoke_all(&tokens, now).await?;
        failed.map_or(Ok(()), Err)
    }

    /// As [`revoke_prefix`](Self::revoke_prefix), and forgets what an engine will not take back: for
    /// when that no longer exists.
    pub async fn revoke_force(&self, prefix: &str, now: Timestamp, find: FindMount<'_>) -> Result<(), Error> {
        let (leases, tokens) = self.below(prefix).await?;
        for id in leases {
            if let Some(record) = self.condemn(&id, now).await? {
                self.take_back(record, true, now, find).await?;
            }
        }
        self.tokens.revoke_all(&tokens, now).await
    }

    /// The leases of secrets whose engine failed to take them back.
    pub async fn irrevocable(&self, mount_of: impl Fn(&str) -> String) -> Result<Irrevocable, Error> {
        let mut found = Irrevocable::default();
        for name in self.root.list(IRREVOCABLE, Position::Start, usize::MAX).await? {
            let Some((record, _)) = read(&self.root, name.text()).await? else { continue };
            found.lease_count += 1;
            *found.counts.entry(mount_of(&record.id)).or_default() += 1;
            found.leases.push((record.id, record.error));
        }
        Ok(found)
    }

    /// Revokes what has ended, tokens with their trees and leases of secrets, and goes on with what a
    /// crash or a failing engine left. Reads only what is due. Says how many markers it has seen to;
    /// failures are for the log and come back later.
    pub async fn expire_due(
        &self,
        now: Timestamp,
        find: FindMount<'_>,
    ) -> Result<(usize, Vec<Error>), Error> {
        let (mut seen, mut errors) = (0_usize, Vec::new());
        let mut after: Option<Name> = None;
        loop {
            let markers =
                self.root.scan(store::EXPIRIES, Position::from(after.as_ref()), store::PAGE).await?;
            let full = markers.len() == store::PAGE;
            let mut tokens = Vec::new();
            let mut later = false;
            for (marker, _) in markers {
                if marker.order() > store::millis(now) {
                    later = true;
                    break;
                }
                seen += 1;
                match marker.text().strip_prefix(store::TOKEN_TAG).and_then(TokenKey::parse) {
                    Some(key) => tokens.push((key, marker.order())),
                    None => errors.extend(self.attend(&marker, now, find).await.err()),
                }
                after = Some(marker);
            }
            errors.extend(self.tokens.attend(&tokens, now).await);
            if later || !full {
                return Ok((seen, errors));
            }
        }
    }

    /// Counts on, for the gauges of leases: one page.
    pub(crate) async fn count_on(&self, now: Timestamp) -> Result<(), Error> {
        self.census.step(&self.root, now).await
    }

    /// Sees to the marker of a secret's lease that is due.
    async fn attend(&self, marker: &Name, now: Timestamp, find: FindMount<'_>) -> Result<(), Error> {
        let id = marker.text().strip_prefix(TAG).unwrap_or_default();
        match read(&self.root, id).await? {
            Some((record, _)) if record.due == marker.order() => {
                // Marked first, so that a renewal that comes now is refused instead of lost.
                match self.condemn(id, now).await? {
                    Some(record) => self.take_back(record, false, now, find).await,
                    None => Ok(()),
                }
            }
            // A marker without a lease, or of a lease whose marker lies elsewhere.
            _ => Ok(self.root.delete(store::EXPIRIES, marker).await?),
        }
    }

    async fn revoke_token(&self, key: TokenKey, sync: bool, now: Timestamp) -> Result<(), Error> {
        if sync {
            self.tokens.revoke_tree(key, now).await.map(drop)
        } else {
            self.tokens.condemn(key, now).await.map(drop)
        }
    }

    /// Marks a lease as revoked and makes it due. `None` if there is none.
    async fn condemn(&self, id: &str, now: Timestamp) -> Result<Option<LeaseRecord>, Error> {
        self.change(id, |record| {
            let fresh = !record.revoking;
            if fresh {
                record.revoking = true;
                record.due = store::millis(now).max(1);
            }
            fresh
        })
        .await
    }

    /// As [`condemn`](Self::condemn), for many.
    async fn condemn_all(&self, ids: &[String], now: Timestamp) -> Result<(), Error> {
        for ids in ids.chunks(store::PAGE) {
            loop {
                let mut writes = Writes::new();
                for id in ids {
                    let Some((record, version)) = read(&self.root, id).await? else { continue };
                    if record.revoking {
                        continue;
                    }
                    writes.expect_unchanged(&self.root, LEASES, &place(record.name()), &version)?;
                    let due = record.due;
                    let record = LeaseRecord { revoking: true, due: store::millis(now).max(1), ..record };
                    put(&self.root, &record, due, &mut writes)?;
                }
                if writes.is_empty() {
                    break;
                }
                match self.root.commit(writes).await {
                    Ok(()) => break,
                    Err(StorageError::Conflict) => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(())
    }

    /// Has the engine take back what was leased, then forgets the lease. If the engine fails, the
    /// next attempt is due after a pause; with `force` the failure does not matter.
    async fn take_back(
        &self,
        record: LeaseRecord,
        force: bool,
        now: Timestamp,
        find: FindMount<'_>,
    ) -> Result<(), Error> {
        // Where the mount has gone, so has what it gave out.
        let outcome = match find(record.path()) {
            Some((_, engine)) => engine.revoke(record.internal.clone(), now).await,
            None => Ok(()),
        };
        if let Err(error) = outcome
            && !force
        {
            let words = error.message();
            self.change(&record.id, |record| {
                let pause = FIRST_PAUSE.saturating_mul(1 << record.attempts.min(16)).min(LONGEST_PAUSE);
                record.attempts = record.attempts.saturating_add(1);
                record.error.clone_from(&words);
                record.due = store::millis_up(now.checked_add(pause).unwrap_or(Timestamp::MAX));
                true
            })
            .await?;
            return Err(error);
        }
        // Whatever happened to the record meanwhile, only its marker can have moved, and another attempt
        // can have failed.
        let record = read(&self.root, &record.id).await?.map_or(record, |(record, _)| record);
        let due = record.due;
        let mut writes = Writes::new();
        if record.attempts > 0 {
            writes.delete(&self.root, IRREVOCABLE, &irrevocable(&record))?;
        }
        writes.delete(&self.root, LEASES, &place(record.name()))?;
        writes.delete(&self.root, store::EXPIRIES, &marker(due, &record.id))?;
        if let Some(owner) = record.owner {
            writes.delete(&self.root, store::OWNED, &store::owned(owner, TAG, &record.id))?;
        }
        Ok(self.root.commit(writes).await?)
    }

    async fn token(&self, id: &str, now: Timestamp) -> Result<Option<Arc<TokenEntry>>, Error> {
        let Some((path, key)) = self.tokens.keys.by_lease_id(id) else { return Ok(None) };
        Ok(self.tokens.find(key, now).await?.filter(|entry| entry.path == path))
    }

    /// Calls `see` with every lease id.
    async fn each(&self, mut see: impl FnMut(&str)) -> Result<(), Error> {
        let mut after: Option<Name> = None;
        loop {
            let page = self.root.scan(LEASES, Position::from(after.as_ref()), store::PAGE).await?;
            for (_, record) in &page {
                let record: LeaseRecord = record.json()?;
                see(&record.id);
            }
            let full = page.len() == store::PAGE;
            after = page.into_iter().next_back().map(|(name, _)| name);
            if !full {
                break;
            }
        }
        let mut after: Option<TokenKey> = None;
        loop {
            let page = self.tokens.page(after).await?;
            let Some(last) = page.last() else { return Ok(()) };
            after = Some(last.key);
            for entry in &page {
                see(&self.tokens.lease_id(entry));
            }
        }
    }

    /// The leases of secrets and the tokens below `prefix`.
    async fn below(&self, prefix: &str) -> Result<(Vec<String>, Vec<TokenKey>), Error> {
        let prefix = folder(prefix);
        let (mut leases, mut tokens) = (Vec::new(), Vec::new());
        self.each(|id| {
            if id.starts_with(&prefix) {
                match self.tokens.keys.by_lease_id(id) {
                    Some((_, key)) => tokens.push(key),
                    None => leases.push(id.to_owned()),
                }
            }
        })
        .await?;
        Ok((leases, tokens))
    }

    /// Reads a record, changes it and writes it back if `apply` says so. `None`: no such lease.
    async fn change(
        &self,
        id: &str,
        mut apply: impl FnMut(&mut LeaseRecord) -> bool,
    ) -> Result<Option<LeaseRecord>, Error> {
        loop {
            let Some((mut record, version)) = read(&self.root, id).await? else { return Ok(None) };
            let due = record.due;
            if !apply(&mut record) {
                return Ok(Some(record));
            }
            let mut writes = Writes::new();
            writes.expect_unchanged(&self.root, LEASES, &place(record.name()), &version)?;
            put(&self.root, &record, due, &mut writes)?;
            match self.root.commit(writes).await {
                Ok(()) => return Ok(Some(record)),
                Err(StorageError::Conflict) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

impl fmt::Debug for Leases {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Leases")
    }
}

/// Adds to `writes` that the lease is revoked and due, because its token goes.
pub(crate) async fn hasten(root: &View, id: &str, now: Timestamp, writes: &mut Writes) -> Result<(), Error> {
    let Some((record, version)) = read(root, id).await? else { return Ok(()) };
    writes.expect_unchanged(root, LEASES, &place(record.name()), &version)?;
    let due = record.due;
    let soon = store::millis(now).max(1);
    let record = LeaseRecord {
        owner: None,
        revoking: true,
        // One that is being retried keeps its pause.
        due: if record.revoking { record.due } else { soon },
        ..record
    };
    put(root, &record, due, writes)
}

async fn read(root: &View, id: &str) -> Result<Option<(LeaseRecord, chancery_storage::Version)>, Error> {
    let Some(record) = root.get(LEASES, &place(name_of(id))).await? else { return Ok(None) };
    let lease: LeaseRecord = record.json()?;
    // The name alone leads to the record; the path before it must be the right one too.
    Ok((lease.id == id).then_some((lease, record.version)))
}

/// Adds the record, and its marker if it moved from `due`, to `writes`.
fn put(root: &View, record: &LeaseRecord, due: u64, writes: &mut Writes) -> Result<(), Error> {
    writes.put_json(root, LEASES, &place(record.name()), record)?;
    if record.due != due {
        if due != 0 {
            writes.delete(root, store::EXPIRIES, &marker(due, &record.id))?;
        }
        writes.put(root, store::EXPIRIES, &marker(record.due, &record.id), &[])?;
    }
    if record.attempts > 0 {
        writes.put(root, IRREVOCABLE, &irrevocable(record), &[])?;
    }
    Ok(())
}

/// Where the record of this name lies.
fn place(name: &str) -> Name {
    Name::ordered(born(name), name)
}

/// Where the lease stands among those that could not be taken back.
fn irrevocable(record: &LeaseRecord) -> Name {
    Name::ordered(born(record.name()), record.id.as_str())
}

/// The instant of birth that a lease's name begins with, in milliseconds since the epoch.
fn born(name: &str) -> u64 {
    let born = name.get(..base62::TIME_DIGITS).and_then(base62::decode);
    born.and_then(|born| u64::try_from(born).ok()).unwrap_or(0)
}

fn marker(due: u64, id: &str) -> Name {
    Name::ordered(due, format!("{TAG}{id}"))
}

fn name_of(id: &str) -> &str {
    id.rsplit_once('/').map_or(id, |(_, name)| name)
}

/// `prefix` with one slash at the end; nothing for everything.
fn folder(prefix: &str) -> String {
    match prefix.trim_matches('/') {
        "" => String::new(),
        prefix => format!("{prefix}/"),
    }
}

#[cfg(test)]
mod tests;
