//! The token store: records, and a cache in front of them.
//!
//! A service token is one record in a collection that is ordered by birth, plus one marker in the
//! collection of expiries when it ends or must be looked at. Both are appended in time order and
//! written with one commit, which is all that a login costs. A child has one more record, in the
//! index by owner, so that a tree is found without a scan.
//!
//! **The cache** maps a token's name to its entry. It is bounded by weight. An entry is put into it
//! or removed from it after the commit that wrote the record and before the writer lets go of the
//! token's turn, so of two writers the later one also wins in the cache. A reader that fetches from
//! storage holds a placeholder meanwhile; a writer replaces or removes it, and what the reader read
//! is then good for that one request only. When the outcome of a commit is unknown, the entry is
//! removed. The embedded store belongs to one process, so nobody else writes; a shared backend must
//! announce changes of this collection.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use chancery_api::envelope::Auth;
use chancery_api::{Secret, Ttl};
use chancery_storage::{Name, Position, StorageError, View, Writes};
use ipnet::IpNet;
use jiff::Timestamp;
use quick_cache::Weighter;
use quick_cache::sync::Cache;
use tokio::sync::{Mutex, MutexGuard};

use crate::engine::Mount;
use crate::error::Error;
use crate::response::Login;
use crate::token::keys::{BATCH_PREFIX, TEXT_LENGTH, TokenKeys};
use crate::token::policies::sanitize;
use crate::token::ttl::Lifetime;
use crate::token::{TokenEntry, TokenKey, TokenKind, TokenState};

pub(crate) const TOKENS: &str = "tokens";
/// Markers of what must be looked at when: tokens and leases.
pub(crate) const EXPIRIES: &str = "expiries";
/// What belongs to which token: children and leases.
pub(crate) const OWNED: &str = "owned";
/// Tells the two kinds apart in the names of those collections.
pub(crate) const TOKEN_TAG: char = 't';

/// Bytes of entries that the cache may hold.
const CACHE_BYTES: u64 = 2 << 20;
/// An entry's typical size in memory.
const ENTRY_BYTES: usize = 640;

/// Writers of different tokens seldom wait for each other.
const TURNS: usize = 64;

/// After the last use of a token has begun, how long its request may take before upkeep removes the
/// token for it: only when the process died meanwhile.
const LAST_USE_GRACE: Duration = Duration::from_secs(600);

/// Records read at a time by a scan.
pub(crate) const PAGE: usize = 256;

/// Policies that nobody can ask for.
pub(crate) const RESPONSE_WRAPPING: &str = "response-wrapping";

/// Tokens: who asks, for how long, and what came from whom.
pub struct TokenStore {
    pub(crate) root: View,
    pub(crate) keys: TokenKeys,
    pub(crate) cache: Cache<TokenKey, Arc<TokenEntry>, EntryWeight>,
    /// Held by the writer of a token's record, chosen by the token's hash.
    turns: Vec<Mutex<()>>,
}

/// A token to be made. Everything is decided: names are sanitised and lifetimes are within limits.
#[derive(Debug, Clone, Default)]
pub struct NewToken {
    /// A text chosen by an operator; ours if absent.
    pub text: Option<Secret>,
    /// Service or batch.
    pub kind: TokenKind,
    /// Whose child it shall be; `None` for an orphan.
    pub parent: Option<TokenKey>,
    /// Its policies, sanitised.
    pub policies: Vec<String>,
    /// The path that makes it.
    pub path: String,
    /// A name for people.
    pub display_name: String,
    /// Shown to clients; `None` prints as null.
    pub meta: Option<BTreeMap<String, String>>,
    /// Uses; 0 is without limit.
    pub num_uses: u64,
    /// Its first lifetime; zero never ends.
    pub ttl: Ttl,
    /// Longest lifetime with renewals; zero is the mount's.
    pub max_ttl: Ttl,
    /// A hard end; zero is none.
    pub explicit_max_ttl: Ttl,
    /// What renewals set the lifetime to; zero is none.
    pub period: Ttl,
    /// Whether it can be renewed.
    pub renewable: bool,
    /// Networks it may be used from; empty is all.
    pub bound_cidrs: Vec<IpNet>,
    /// The token role that makes it, or empty.
    pub role: String,
    /// The entity behind it, or empty.
    pub entity_id: String,
    /// The caller's name within the auth mount, by the mount's accessor.
    pub alias: Option<(String, String)>,
    /// What the auth method needs to judge a renewal.
    pub internal: BTreeMap<String, String>,
}

impl NewToken {
    /// How long the text of a token is that the server makes.
    pub const TEXT_LENGTH: usize = TEXT_LENGTH;

    /// A token that may do everything and never ends.
    pub fn root() -> Self {
        Self {
            policies: vec!["root".to_owned()],
            path: "auth/token/root".to_owned(),
            display_name: "root".to_owned(),
            ..Self::default()
        }
    }
}

/// A token that was made: the only moment at which its text is known.
#[derive(Debug)]
pub struct Created {
    /// Its text.
    pub text: Secret,
    /// Its accessor; empty for a batch token.
    pub accessor: String,
    /// Its record.
    pub entry: Arc<TokenEntry>,
    /// What the client should know of the limits it met.
    pub warnings: Vec<String>,
}

impl Created {
    /// The `auth` part of the answer.
    pub fn auth(&self) -> Auth {
        self.entry.auth(self.text.expose(), self.accessor.clone())
    }
}

/// Whether a use could be spent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spend {
    /// Yes, or the token has no limit.
    Spent,
    /// Yes, and it was the last: revoke the token when the request is done.
    Last,
    /// No: none was left.
    None,
}

impl TokenStore {
    /// Opens the store below the core's own view. Reads the keys; no token.
    pub async fn open(root: View) -> Result<Self, Error> {
        let keys = TokenKeys::open(&root).await?;
        let items = usize::try_from(CACHE_BYTES).unwrap_or(usize::MAX) / ENTRY_BYTES;
        let cache = Cache::with_weighter(items, CACHE_BYTES, EntryWeight);
        Ok(Self { root, keys, cache, turns: (0..TURNS).map(|_| Mutex::new(())).collect() })
    }

    /// Adds a new server's first token to the commit that founds it: one that may do everything and
    /// never ends. `text` is the operator's choice, for development.
    pub fn found(
        root: &View,
        first: &mut Writes,
        text: Option<Secret>,
        now: Timestamp,
    ) -> Result<Secret, Error> {
        let keys = TokenKeys::found(root, first)?;
        // The peer's development token looks as if it had been made by hand.
        let new = match &text {
            Some(_) => NewToken {
                path: "auth/token/create".to_owned(),
                display_name: "token".to_owned(),
                ..NewToken::root()
            },
            None => NewToken::root(),
        };
        let text = text.unwrap_or_else(|| Secret::new(TokenKeys::fresh_text(millis(now))));
        let entry = entry(new, keys.key(text.expose()), now);
        first.put_json(root, TOKENS, &name(entry.key), &entry)?;
        Ok(text)
    }

    /// The token with this text, if it can be used at `now`: `None` if it is unknown, forged, expired
    /// or revoked, or if one of its ancestors is.
    pub async fn lookup(&self, text: &Secret, now: Timestamp) -> Result<Option<Arc<TokenEntry>>, Error> {
        if text.expose().starts_with(BATCH_PREFIX) {
            return Box::pin(self.lookup_batch(text.expose(), now)).await;
        }
        self.find(self.keys.key(text.expose()), now).await
    }

    /// As [`lookup`](Self::lookup), by name.
    pub async fn find(&self, key: TokenKey, now: Timestamp) -> Result<Option<Arc<TokenEntry>>, Error> {
        let Some(entry) = self.record(key).await? else { return Ok(None) };
        let usable = entry.state == TokenState::Live
            && !entry.expired(now)
            && self.has_living_ancestors(&entry, now).await?;
        Ok(usable.then_some(entry))
    }

    /// As [`lookup`](Self::lookup), by accessor.
    pub async fn by_accessor(
        &self,
        accessor: &str,
        now: Timestamp,
    ) -> Result<Option<Arc<TokenEntry>>, Error> {
        match self.keys.by_accessor(accessor) {
            Some(key) => self.find(key, now).await,
            None => Ok(None),
        }
    }

    /// The record, whatever its state.
    pub async fn record(&self, key: TokenKey) -> Result<Option<Arc<TokenEntry>>, Error> {
        match self.cache.get_value_or_guard_async(&key).await {
            Ok(entry) => Ok(Some(entry)),
            Err(guard) => {
                // Dropping the guard without a value lets the next reader try.
                let Some(record) = self.root.get(TOKENS, &name(key)).await? else { return Ok(None) };
                let entry: Arc<TokenEntry> = Arc::new(record.json()?);
                // Refused if somebody wrote the record meanwhile: then this value is only ours.
                let _ = guard.insert(Arc::clone(&entry));
                Ok(Some(entry))
            }
        }
    }

    /// A token's parents go down with it, at once: the mark on the ancestor is enough. Trees are
    /// shallow and the ancestors' entries are in the cache.
    async fn has_living_ancestors(&self, entry: &TokenEntry, now: Timestamp) -> Result<bool, Error> {
        let mut parent = entry.parent;
        while let Some(key) = parent {
            let Some(ancestor) = self.record(key).await? else { return Ok(false) };
            match ancestor.state {
                TokenState::Live if !ancestor.expired(now) => parent = ancestor.parent,
                TokenState::Orphaning => return Ok(true),
                _ => return Ok(false),
            }
        }
        Ok(true)
    }

    async fn lookup_batch(&self, text: &str, now: Timestamp) -> Result<Option<Arc<TokenEntry>>, Error> {
        let Some(content) = self.keys.open_batch(text) else { return Ok(None) };
        let entry: TokenEntry = serde_json::from_slice(&content)?;
        let entry = TokenEntry { key: self.keys.key(text), ..entry };
        if entry.expired(now) || !self.has_living_ancestors(&entry, now).await? {
            return Ok(None);
        }
        Ok(Some(Arc::new(entry)))
    }

    /// Spends one use of a token that was just looked up; durable when it returns.
    pub async fn spend(&self, entry: &TokenEntry, now: Timestamp) -> Result<Spend, Error> {
        if !entry.is_limited() || entry.kind == TokenKind::Batch {
            return Ok(Spend::Spent);
        }
        let mut spend = Spend::None;
        self.change(entry.key, |entry, _| {
            spend = match (entry.state, entry.num_uses) {
                (TokenState::Live, 1) => {
                    entry.state = TokenState::Spent;
                    let later = millis_up(now.checked_add(LAST_USE_GRACE).unwrap_or(Timestamp::MAX));
                    entry.due = if entry.due == 0 { later } else { entry.due.min(later) };
                    Spend::Last
                }
                (TokenState::Live, uses) if uses > 1 => {
                    entry.num_uses = uses - 1;
                    Spend::Spent
                }
                (TokenState::Live, _) => Spend::Spent,
                _ => Spend::None,
            };
            Ok(spend != Spend::None)
        })
        .await?;
        Ok(spend)
    }

    /// Makes a token; durable when it returns.
    pub async fn create(&self, new: NewToken, now: Timestamp) -> Result<Created, Error> {
        self.create_with(new, now, |_, _| Ok(())).await
    }

    /// As [`create`](Self::create); `also` adds what belongs to the token to the same commit.
    pub(crate) async fn create_with(
        &self,
        new: NewToken,
        now: Timestamp,
        also: impl Fn(&mut Writes, TokenKey) -> Result<(), Error>,
    ) -> Result<Created, Error> {
        if new.kind == TokenKind::Batch {
            return self.create_batch(new, now);
        }
        let chosen = new.text.is_some();
        let text = match new.text.clone() {
            Some(text) => text,
            None => Secret::new(TokenKeys::fresh_text(millis(now))),
        };
        let key = self.keys.key(text.expose());
        let entry = Arc::new(entry(new, key, now));
        let place = name(key);
        // The placeholder goes before the commit: whoever revokes the token between the commit and
        // the insertion below takes the placeholder away, and the insertion is refused.
        let placeholder = self.cache.get_value_or_guard_async(&key).await.err();
        loop {
            let mut writes = Writes::new();
            if chosen {
                writes.expect_absent(&self.root, TOKENS, &place)?;
            }
            writes.put_json(&self.root, TOKENS, &place, &*entry)?;
            if entry.due != 0 {
                writes.put(&self.root, EXPIRIES, &marker(entry.due, key), &[])?;
            }
            if let Some(parent) = entry.parent {
                self.adopt(parent, TOKEN_TAG, &key.text(), &mut writes).await?;
            }
            also(&mut writes, key)?;
            match self.root.commit(writes).await {
                Ok(()) => break,
                Err(StorageError::Conflict) if chosen && self.root.get(TOKENS, &place).await?.is_some() => {
                    return Err(Error::invalid("cannot create a token with a duplicate ID"));
                }
                // The parent's record changed, by a renewal perhaps: look at it again.
                Err(StorageError::Conflict) => {}
                Err(error) => return Err(error.into()),
            }
        }
        if let Some(placeholder) = placeholder {
            let _ = placeholder.insert(Arc::clone(&entry));
        }
        Ok(Created { text, accessor: self.keys.accessor(key), entry, warnings: Vec::new() })
    }

    /// Adds a child or lease to what `owner` owns, on the condition that the owner stays as it is:
    /// revocation marks it before it collects what it owns, so nothing slips through.
    pub(crate) async fn adopt(
        &self,
        owner: TokenKey,
        tag: char,
        what: &str,
        writes: &mut Writes,
    ) -> Result<(), Error> {
        let gone = || Error::invalid("parent token lookup failed: no parent found");
        let record = self.root.get(TOKENS, &name(owner)).await?.ok_or_else(gone)?;
        let living = matches!(record.json::<TokenEntry>()?.state, TokenState::Live | TokenState::Spent);
        if !living {
            return Err(gone());
        }
        writes.expect_unchanged(&self.root, TOKENS, &name(owner), &record.version)?;
        writes.put(&self.root, OWNED, &owned(owner, tag, what), &[])?;
        Ok(())
    }

    /// Commits `writes` on the condition that the token `owner` is still there and not on its way out.
    pub(crate) async fn commit_for(&self, owner: TokenKey, mut writes: Writes) -> Result<(), Error> {
        let _turn = self.turns(&[owner]).await;
        let record = self.root.get(TOKENS, &name(owner)).await?.ok_or_else(Error::denied)?;
        if !matches!(record.json::<TokenEntry>()?.state, TokenState::Live | TokenState::Spent) {
            return Err(Error::denied());
        }
        writes.expect_unchanged(&self.root, TOKENS, &name(owner), &record.version)?;
        Ok(self.root.commit(writes).await?)
    }

    fn create_batch(&self, new: NewToken, now: Timestamp) -> Result<Created, Error> {
        // The peer's batch tokens know whole seconds only.
        let now = Timestamp::from_second(now.as_second()).unwrap_or(now);
        let new = NewToken { renewable: false, ..new };
        let entry = entry(new, TokenKey { born: 0, hash: [0; 16] }, now);
        let text = self.keys.seal_batch(&serde_json::to_vec(&entry)?)?;
        let entry = TokenEntry { key: self.keys.key(&text), ..entry };
        Ok(Created {
            text: Secret::new(text),
            accessor: String::new(),
            entry: Arc::new(entry),
            warnings: Vec::new(),
        })
    }

    /// Makes the token of a login at the auth mount `mount`, which lies at `mount_path`; the request
    /// went to `path`.
    pub async fn login(
        &self,
        login: Login,
        mount: &Mount,
        mount_path: &str,
        path: &str,
        now: Timestamp,
    ) -> Result<Created, Error> {
        let policies = sanitize(&login.policies, !login.no_default_policy);
        if policies.iter().any(|policy| policy == "root") {
            return Err(Error::invalid("auth methods cannot create root tokens"));
        }
        if policies.iter().any(|policy| policy == RESPONSE_WRAPPING) {
            return Err(Error::invalid(format!("cannot assign policy {RESPONSE_WRAPPING:?}")));
        }
        let kind = match mount.tuning().token_type.as_str() {
            "service" => TokenKind::Service,
            "batch" => TokenKind::Batch,
            "default-batch" => login.kind.unwrap_or(TokenKind::Batch),
            _ => login.kind.unwrap_or_default(),
        };
        let lifetime = Lifetime {
            increment: Ttl::ZERO,
            default: login.ttl,
            period: login.period,
            max: login.max_ttl,
            explicit_max: login.explicit_max_ttl,
        };
        let granted = lifetime.grant(mount, now, now)?;
        let source = mount_path.strip_prefix("auth/").unwrap_or(mount_path).replace('/', "-");
        let shown = format!("{source}{}", login.display_name);
        let alias = login.alias.map(|alias| (mount.accessor.clone(), alias));
        let new = NewToken {
            text: None,
            kind,
            parent: None,
            policies,
            path: path.to_owned(),
            display_name: shown.strip_suffix('-').map(str::to_owned).unwrap_or(shown),
            meta: Some(login.metadata),
            num_uses: login.num_uses,
            ttl: granted.ttl,
            max_ttl: login.max_ttl,
            explicit_max_ttl: login.explicit_max_ttl,
            period: login.period,
            renewable: login.renewable,
            bound_cidrs: login.bound_cidrs,
            role: String::new(),
            entity_id: alias
                .as_ref()
                .map(|(accessor, alias)| self.keys.entity_id(accessor, alias))
                .unwrap_or_default(),
            alias,
            internal: login.internal,
        };
        let created = self.create(new, now).await?;
        Ok(Created { warnings: granted.warnings, ..created })
    }

    /// Gives a living token another `ttl` from `now` on; `None` if it has gone.
    pub async fn renew(
        &self,
        key: TokenKey,
        ttl: Ttl,
        now: Timestamp,
    ) -> Result<Option<Arc<TokenEntry>>, Error> {
        let mut renewed = false;
        let entry = self
            .change(key, |entry, _| {
                renewed = entry.state == TokenState::Live && !entry.expired(now);
                if renewed {
                    entry.granted = ttl;
                    entry.renewed = Some(now);
                    entry.expires = Some(now.checked_add(ttl.0).unwrap_or(Timestamp::MAX));
                    entry.due = entry.expires.map_or(0, millis_up);
                }
                Ok(renewed)
            })
            .await?;
        Ok(entry.filter(|_| renewed))
    }

    /// The accessor of a token; empty for a batch token.
    pub fn accessor(&self, entry: &TokenEntry) -> String {
        match entry.kind {
            TokenKind::Service => self.keys.accessor(entry.key),
            TokenKind::Batch => String::new(),
        }
    }

    /// The lease id of a token; empty for a batch token.
    pub fn lease_id(&self, entry: &TokenEntry) -> String {
        match entry.kind {
            TokenKind::Service => self.keys.lease_id(&entry.path, entry.key),
            TokenKind::Batch => String::new(),
        }
    }

    /// The entity behind a name at an auth mount.
    pub fn entity_id(&self, mount_accessor: &str, alias: &str) -> String {
        self.keys.entity_id(mount_accessor, alias)
    }

    /// Records after `after` in the order of birth, a page at a time, whatever their state; an empty
    /// page is the end.
    pub async fn page(&self, after: Option<TokenKey>) -> Result<Vec<TokenEntry>, Error> {
        let after = after.map(name);
        let records = self.root.scan(TOKENS, Position::from(after.as_ref()), PAGE).await?;
        records.into_iter().map(|(_, record)| record.json().map_err(Error::from)).collect()
    }

    /// Reads a record, changes it and writes it back if `apply` says so, together with whatever
    /// `apply` adds. Again from the start when somebody else wrote first. `None`: no such record.
    pub(crate) async fn change(
        &self,
        key: TokenKey,
        mut apply: impl FnMut(&mut TokenEntry, &mut Writes) -> Result<bool, Error>,
    ) -> Result<Option<Arc<TokenEntry>>, Error> {
        let _turn = self.turns(&[key]).await;
        let place = name(key);
        loop {
            let Some(record) = self.root.get(TOKENS, &place).await? else {
                self.cache.remove(&key);
                return Ok(None);
            };
            let mut entry: TokenEntry = record.json()?;
            let mut writes = Writes::new();
            let due = entry.due;
            if !apply(&mut entry, &mut writes)? {
                return Ok(Some(Arc::new(entry)));
            }
            writes.expect_unchanged(&self.root, TOKENS, &place, &record.version)?;
            self.put(&entry, due, &mut writes)?;
            match self.root.commit(writes).await {
                Ok(()) => {
                    let entry = Arc::new(entry);
                    self.cache.insert(key, Arc::clone(&entry));
                    return Ok(Some(entry));
                }
                Err(StorageError::Conflict) => {}
                Err(error) => {
                    self.cache.remove(&key);
                    return Err(error.into());
                }
            }
        }
    }

    /// Adds the record, and its marker if it moved from `due`, to `writes`.
    pub(crate) fn put(&self, entry: &TokenEntry, due: u64, writes: &mut Writes) -> Result<(), Error> {
        writes.put_json(&self.root, TOKENS, &name(entry.key), entry)?;
        if entry.due != due {
            if due != 0 {
                writes.delete(&self.root, EXPIRIES, &marker(due, entry.key))?;
            }
            if entry.due != 0 {
                writes.put(&self.root, EXPIRIES, &marker(entry.due, entry.key), &[])?;
            }
        }
        Ok(())
    }

    /// The turns of `keys`, in an order in which two writers cannot wait for each other.
    pub(crate) async fn turns(&self, keys: &[TokenKey]) -> Vec<MutexGuard<'_, ()>> {
        let mut places: Vec<usize> =
            keys.iter().map(|key| key.hash.first().map_or(0, |byte| usize::from(*byte) % TURNS)).collect();
        places.sort_unstable();
        places.dedup();
        let mut turns = Vec::with_capacity(places.len());
        for turn in places.into_iter().filter_map(|place| self.turns.get(place)) {
            turns.push(turn.lock().await);
        }
        turns
    }
}

impl fmt::Debug for TokenStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenStore").field("cached", &self.cache.len()).finish_non_exhaustive()
    }
}

impl TokenEntry {
    /// The `auth` part of an answer that shows this token.
    pub(crate) fn auth(&self, text: &str, accessor: String) -> Auth {
        Auth {
            client_token: text.to_owned(),
            accessor,
            policies: self.policies.clone(),
            token_policies: self.policies.clone(),
            identity_policies: Vec::new(),
            metadata: self.meta.clone(),
            lease_duration: self.granted.as_secs(),
            renewable: self.renewable,
            entity_id: self.entity_id.clone(),
            token_type: self.kind.name().to_owned(),
            orphan: self.parent.is_none(),
            mfa_requirement: None,
            num_uses: self.num_uses,
        }
    }
}

/// A fresh record.
fn entry(new: NewToken, key: TokenKey, now: Timestamp) -> TokenEntry {
    let NewToken {
        text: _,
        kind,
        parent,
        policies,
        path,
        display_name,
        meta,
        num_uses,
        ttl,
        max_ttl,
        explicit_max_ttl,
        period,
        renewable,
        bound_cidrs,
        role,
        entity_id,
        alias,
        internal,
    } = new;
    let expires = (!ttl.is_zero()).then(|| now.checked_add(ttl.0).unwrap_or(Timestamp::MAX));
    TokenEntry {
        key,
        parent,
        kind,
        policies,
        path,
        display_name,
        meta,
        num_uses,
        state: TokenState::Live,
        due: expires.map_or(0, millis_up),
        created: now,
        expires,
        renewed: None,
        ttl,
        granted: ttl,
        max_ttl,
        explicit_max_ttl,
        period,
        renewable,
        bound_cidrs,
        role,
        entity_id,
        alias,
        internal,
    }
}

/// Where a token's record lies.
pub(crate) fn name(key: TokenKey) -> Name {
    Name::ordered(key.born, key.text())
}

/// Where the marker of a token lies that is due at `due`.
pub(crate) fn marker(due: u64, key: TokenKey) -> Name {
    Name::ordered(due, format!("{TOKEN_TAG}{}", key.text()))
}

/// Where the index says that `owner` owns the token or lease `what`.
pub(crate) fn owned(owner: TokenKey, tag: char, what: &str) -> Name {
    Name::ordered(owned_order(owner), format!("{}/{tag}{what}", owner.text()))
}

/// All that a token owns lies together, and apart from what others own.
pub(crate) fn owned_order(owner: TokenKey) -> u64 {
    u64::from_be_bytes(owner.hash.first_chunk().copied().unwrap_or_default())
}

/// Milliseconds since the epoch, rounded down.
pub(crate) fn millis(now: Timestamp) -> u64 {
    u64::try_from(now.as_millisecond()).unwrap_or(0)
}

/// The first whole millisecond at which `end` has been reached: a marker must not be due before
/// what it marks. Never 0, which means "no marker".
pub(crate) fn millis_up(end: Timestamp) -> u64 {
    let down = millis(end);
    let exact = end.as_nanosecond() % 1_000_000 == 0;
    if exact { down.max(1) } else { down + 1 }
}

/// Weighs an entry by the texts it holds.
#[derive(Debug, Clone)]
pub(crate) struct EntryWeight;

impl Weighter<TokenKey, Arc<TokenEntry>> for EntryWeight {
    fn weight(&self, _: &TokenKey, entry: &Arc<TokenEntry>) -> u64 {
        let map = |map: &BTreeMap<String, String>| -> usize {
            map.iter().map(|(name, value)| name.len() + value.len() + 48).sum()
        };
        let texts = entry.policies.iter().map(|policy| policy.len() + 24).sum::<usize>()
            + entry.path.len()
            + entry.display_name.len()
            + entry.role.len()
            + entry.entity_id.len()
            + entry.bound_cidrs.len() * 18
            + entry.meta.as_ref().map_or(0, map)
            + map(&entry.internal);
        (size_of::<TokenEntry>() + 64 + texts) as u64
    }
}
