//! CRLs: built from journals, kept in memory, served until they are no longer good.
//!
//! A build takes the entries of the last CRL as they are and encodes what was revoked since, so that it
//! costs a copy, two hashes and a signature, however many are revoked. It reads a whole journal only the
//! first time, or after entries were removed. Only the scope that changed is built, by one builder at a
//! time; who reads meanwhile waits for it, or gets the CRL before if the last build took long.
//!
//! `revoke` builds nothing: whoever reads a CRL next gets one that names all that was revoked before. With
//! `auto_rebuild` the background does it, as long before the end of a CRL as `config/crl` says.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex as Short, PoisonError, RwLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use chancery_issuance::{CrlHead, KeySpec, SignError, SignatureAlgorithm, SignedCrl, Time, UnsignedCrl};
use chancery_storage::{StorageError, View};
use jiff::Timestamp;
use tokio::sync::Mutex;

use super::authorities::{Authorities, Authority};
use super::crl_records::{AtRest, Gathered, Head, Made, gather, next_number, read_pages, write_page};
use super::journal::Journal;
use super::records::CrlConfig;
use super::revocations::Scope;
use super::{Pki, heavy};
use crate::error::{Error, Kind};

/// A build that takes longer is not waited for by those who can have the CRL before.
const LONG: Duration = Duration::from_millis(250);

/// Entries beyond which a CRL is laid out and signed off the worker threads.
const MANY: u64 = 5_000;

/// In the background, a scope rests for this many times what its last build took.
const REST: u32 = 20;

/// How many scopes the background looks at in one round of upkeep.
const SCOPES_AT_A_TIME: usize = 8;

/// Which CRL of a scope.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Which {
    /// Everything that is revoked.
    Complete,
    /// What was revoked since the complete one.
    Delta,
}

/// A CRL that is served.
#[derive(Debug)]
pub(super) struct Crl {
    /// The DER.
    pub(super) der: Bytes,
    /// What it was made as.
    pub(super) made: Made,
}

/// The CRLs of every scope that was asked for.
#[derive(Default)]
pub(super) struct Lists {
    open: Short<HashMap<Scope, Arc<ScopeLists>>>,
    /// Where the background goes on.
    cursor: Short<Option<Scope>>,
    /// Whether the background is at work.
    tending: AtomicBool,
}

/// The CRLs of one scope.
pub(super) struct ScopeLists {
    scope: Scope,
    builder: Mutex<Builder>,
    served: RwLock<Served>,
    /// What the last build took, in microseconds.
    cost: AtomicU64,
    /// When it ended.
    ended: Short<Option<Instant>>,
    /// Something that no journal tells happened: the next complete CRL is due.
    forced: AtomicBool,
}

#[derive(Debug, Clone, Default)]
struct Served {
    complete: Option<Arc<Crl>>,
    delta: Option<Arc<Crl>>,
}

/// What a builder knows of the scope, under its lock.
#[derive(Default)]
struct Builder {
    /// What is at rest; `None` if it has to be read (again).
    at_rest: Option<AtRest>,
    /// The entries of the last complete CRL that had any right to them.
    region: Option<Region>,
}

/// Encoded entries of a journal from its beginning.
#[derive(Debug, Clone, Default)]
struct Region {
    bytes: Bytes,
    count: u64,
    /// Up to here.
    place: u64,
    /// How many of the bytes are in pages.
    paged: usize,
}

impl Lists {
    /// Those of this scope.
    pub(super) fn of(&self, scope: Scope) -> Arc<ScopeLists> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(open.entry(scope).or_insert_with(|| Arc::new(ScopeLists::new(scope))))
    }
}

impl ScopeLists {
    fn new(scope: Scope) -> Self {
        Self {
            scope,
            builder: Mutex::default(),
            served: RwLock::default(),
            cost: AtomicU64::new(0),
            ended: Short::new(None),
            forced: AtomicBool::new(false),
        }
    }

    /// The next complete CRL is due, whatever the journal says.
    pub(super) fn force(&self) {
        self.forced.store(true, Ordering::Release);
    }

    fn served(&self) -> Served {
        self.served.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn serve(&self, change: impl FnOnce(&mut Served)) {
        change(&mut self.served.write().unwrap_or_else(PoisonError::into_inner));
    }

    fn took(&self, since: Instant) {
        let cost = u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.cost.store(cost, Ordering::Release);
        *self.ended.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    fn cost(&self) -> Duration {
        Duration::from_micros(self.cost.load(Ordering::Acquire))
    }

    /// Whether the background may build again.
    fn is_rested(&self) -> bool {
        let ended = *self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        ended.is_none_or(|ended| ended.elapsed() >= self.cost().saturating_mul(REST))
    }
}

impl Served {
    fn of(&self, which: Which) -> Option<&Arc<Crl>> {
        match which {
            Which::Complete => self.complete.as_ref(),
            Which::Delta => self.delta.as_ref(),
        }
    }
}

/// Everything that decides about a scope's CRLs at one moment.
struct Situation<'a> {
    config: &'a CrlConfig,
    journal: &'a Journal,
    /// The last place that is at rest.
    newest: u64,
    forced: bool,
    now: Timestamp,
}

impl Situation<'_> {
    /// Whether this complete CRL is still the one to serve.
    fn is_good(&self, crl: &Made) -> bool {
        let Self { config, journal, newest, forced, now } = self;
        if config.disable || crl.disabled {
            // As the peer has it, an empty one stays as it is until CRLs are enabled.
            return config.disable == crl.disabled;
        }
        if *forced {
            return false;
        }
        let left = crl.next_update.saturating_sub(now.as_second());
        if config.auto_rebuild {
            return left > i64::try_from(config.grace_period().as_secs()).unwrap_or(i64::MAX);
        }
        left > 0 && crl.place >= *newest && !journal.is_doubtful()
    }

    /// Whether this delta CRL is still the one to serve beside a complete one.
    fn is_good_delta(&self, delta: &Made, complete: &Made) -> bool {
        let Self { config, newest, now, .. } = self;
        if delta.base != Some(complete.number) || delta.disabled != complete.disabled {
            return false;
        }
        if delta.disabled || !config.enable_delta || delta.place >= *newest {
            return true;
        }
        let age = now.as_second().saturating_sub(delta.this_update);
        age < i64::try_from(config.delta_interval().as_secs()).unwrap_or(i64::MAX)
    }
}

impl Pki {
    /// A CRL of the scope that this issuer belongs to; `None` if there is none and nobody could make one.
    pub(super) async fn crl(
        &self,
        issuer: &Authority,
        which: Which,
        now: Timestamp,
    ) -> Result<Option<Arc<Crl>>, Error> {
        self.store.adopt_pending().await?;
        let authorities = self.store.authorities().await?;
        let lists = self.lists.of(issuer.scope);
        if let Some(good) = self.good(&lists, &authorities, which, now).await? {
            return Ok(Some(good));
        }
        let builder = match lists.builder.try_lock() {
            Ok(builder) => builder,
            Err(_) => {
                let before = lists.served().of(which).map(Arc::clone);
                match before.filter(|_| lists.cost() > LONG) {
                    Some(before) => return Ok(Some(before)),
                    None => lists.builder.lock().await,
                }
            }
        };
        self.make_good(&lists, builder, &authorities, which, now).await
    }

    /// Builds the complete CRL of a scope, whether the one in force is good or not.
    async fn rebuild(
        &self,
        lists: &ScopeLists,
        authorities: &Authorities,
        now: Timestamp,
    ) -> Result<(), Error> {
        let mut builder = lists.builder.lock().await;
        lists.force();
        if let Some(signer) = authorities.crl_signer(lists.scope) {
            self.build(lists, &mut builder, authorities, signer, Which::Complete, now).await?;
        }
        Ok(())
    }

    /// `crl/rotate`: builds every scope's complete CRL.
    pub(super) async fn rotate_crls(&self, now: Timestamp) -> Result<(), Error> {
        self.store.adopt_pending().await?;
        let authorities = self.store.authorities().await?;
        // As the peer has it: empty ones stay as they are.
        if authorities.crl.value.disable {
            return Ok(());
        }
        for scope in authorities.scopes() {
            self.rebuild(&self.lists.of(scope), &authorities, now).await.map_err(building)?;
        }
        Ok(())
    }

    /// `crl/rotate-delta`: builds every scope's delta CRL.
    pub(super) async fn rotate_delta_crls(&self, now: Timestamp) -> Result<(), Error> {
        self.store.adopt_pending().await?;
        let authorities = self.store.authorities().await?;
        for scope in authorities.scopes() {
            let Some(signer) = authorities.crl_signer(scope) else { continue };
            let lists = self.lists.of(scope);
            let builder = lists.builder.lock().await;
            let mut builder =
                self.with_complete(&lists, builder, &authorities, now).await.map_err(building)?;
            if !authorities.crl.value.disable {
                self.build(&lists, &mut builder, &authorities, signer, Which::Delta, now)
                    .await
                    .map_err(building)?;
            }
        }
        Ok(())
    }

    /// Upkeep: builds what is due, a few scopes at a time. One round at a time.
    pub(super) async fn tend_crls(&self, now: Timestamp) -> Result<(), Error> {
        let authorities = self.store.authorities().await?;
        let config = &authorities.crl.value;
        if config.disable || self.lists.tending.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        let outcome = self.tend_some(&authorities, now).await;
        self.lists.tending.store(false, Ordering::Release);
        outcome
    }

    async fn tend_some(&self, authorities: &Authorities, now: Timestamp) -> Result<(), Error> {
        let config = &authorities.crl.value;
        for scope in self.next_scopes(authorities) {
            // Where CRLs follow revocations, nothing is due of a scope in which nobody revoked or read
            // anything since the start.
            if !config.auto_rebuild && !self.store.journals.is_open(scope) {
                continue;
            }
            let lists = self.lists.of(scope);
            if !lists.is_rested() || authorities.crl_signer(scope).is_none() {
                continue;
            }
            let which = if config.enable_delta { Which::Delta } else { Which::Complete };
            if self.good(&lists, authorities, which, now).await?.is_none() {
                let builder = lists.builder.lock().await;
                self.make_good(&lists, builder, authorities, which, now).await?;
            }
        }
        Ok(())
    }

    fn next_scopes(&self, authorities: &Authorities) -> Vec<Scope> {
        let mut cursor = self.lists.cursor.lock().unwrap_or_else(PoisonError::into_inner);
        let scopes: Vec<Scope> = authorities
            .scopes()
            .filter(|scope| cursor.is_none_or(|last| *scope > last))
            .take(SCOPES_AT_A_TIME)
            .collect();
        *cursor = scopes.last().copied();
        scopes
    }

    /// The CRL in memory, if it is still the one to serve.
    async fn good(
        &self,
        lists: &ScopeLists,
        authorities: &Authorities,
        which: Which,
        now: Timestamp,
    ) -> Result<Option<Arc<Crl>>, Error> {
        let served = lists.served();
        let Some(complete) = &served.complete else { return Ok(None) };
        let journal = self.store.journals.of(Some(lists.scope));
        let situation = Situation {
            config: &authorities.crl.value,
            newest: journal.newest(&self.store.view).await?,
            journal: &journal,
            forced: lists.forced.load(Ordering::Acquire),
            now,
        };
        if !situation.is_good(&complete.made) {
            return Ok(None);
        }
        Ok(match which {
            Which::Complete => Some(Arc::clone(complete)),
            Which::Delta => served.delta.filter(|delta| situation.is_good_delta(&delta.made, &complete.made)),
        })
    }

    /// The CRL to serve: the one at rest, or one that is built now.
    async fn make_good(
        &self,
        lists: &ScopeLists,
        builder: tokio::sync::MutexGuard<'_, Builder>,
        authorities: &Authorities,
        which: Which,
        now: Timestamp,
    ) -> Result<Option<Arc<Crl>>, Error> {
        let mut builder = self.with_complete(lists, builder, authorities, now).await?;
        if let Some(good) = self.good(lists, authorities, which, now).await? {
            return Ok(Some(good));
        }
        if which == Which::Delta
            && lists.served().complete.is_some()
            && let Some(signer) = authorities.crl_signer(lists.scope)
        {
            self.build(lists, &mut builder, authorities, signer, which, now).await?;
        }
        // Nobody may sign: the last one there was, as the peer does.
        Ok(lists.served().of(which).map(Arc::clone))
    }

    /// Sees to it that the complete CRL in memory is the one to serve, if anybody may sign one.
    async fn with_complete<'a>(
        &self,
        lists: &ScopeLists,
        mut builder: tokio::sync::MutexGuard<'a, Builder>,
        authorities: &Authorities,
        now: Timestamp,
    ) -> Result<tokio::sync::MutexGuard<'a, Builder>, Error> {
        if lists.served().complete.is_none() {
            self.restore(lists, &mut builder, authorities).await?;
        }
        if self.good(lists, authorities, Which::Complete, now).await?.is_none()
            && let Some(signer) = authorities.crl_signer(lists.scope)
        {
            self.build(lists, &mut builder, authorities, signer, Which::Complete, now).await?;
        }
        Ok(builder)
    }

    /// Lays out again what is at rest: the same bytes, without a signature being made.
    async fn restore(
        &self,
        lists: &ScopeLists,
        builder: &mut Builder,
        authorities: &Authorities,
    ) -> Result<(), Error> {
        let view = &self.store.view;
        let at_rest = AtRest::load(view, lists.scope).await?;
        let journal = self.store.journals.of(Some(lists.scope));
        if at_rest.is_stale() {
            journal.doubt();
        }
        let head = at_rest.head.clone();
        builder.at_rest = Some(at_rest);
        let Some(made) = head.complete.clone() else { return Ok(()) };
        let region = match made.disabled {
            true => Region::default(),
            false => {
                let paged = read_pages(view, lists.scope, &head).await?;
                let start = Region {
                    paged: paged.len(),
                    bytes: Bytes::from(paged),
                    count: head.paged,
                    place: head.paged_to,
                };
                let more = gather(view, journal.collection(), start.place, made.place, 0).await?;
                start.with(more, made.place)
            }
        };
        let Some(complete) = again(authorities, made, region.bytes.clone(), region.count).await? else {
            // It was made by an issuer that is gone, or its entries were removed since.
            journal.doubt();
            return Ok(());
        };
        let delta = match head.delta {
            Some(made) => {
                let entries = gather(view, journal.collection(), made.from, made.place, 0).await?;
                again(authorities, made, Bytes::from(entries.bytes), entries.count).await?
            }
            None => None,
        };
        if !complete.0.made.disabled {
            builder.region = Some(Region { bytes: complete.1, ..region });
        }
        lists.serve(|served| {
            served.complete = Some(Arc::new(complete.0));
            served.delta = delta.map(|(delta, _)| Arc::new(delta));
        });
        Ok(())
    }

    /// Builds a CRL, and serves it once it is at rest.
    async fn build(
        &self,
        lists: &ScopeLists,
        builder: &mut Builder,
        authorities: &Authorities,
        signer: &Arc<Authority>,
        which: Which,
        now: Timestamp,
    ) -> Result<(), Error> {
        let began = Instant::now();
        let journal = self.store.journals.of(Some(lists.scope));
        // What is asked for from here on is for the next one.
        let complete = which == Which::Complete;
        let forced = complete && lists.forced.swap(false, Ordering::AcqRel);
        let doubtful = complete && !authorities.crl.value.disable && journal.take_doubt();
        let outcome =
            self.build_now(lists, builder, &authorities.crl.value, signer, which, doubtful, now).await;
        if outcome.is_err() {
            // What is at rest now is found out before the next attempt.
            builder.at_rest = None;
            if forced {
                lists.force();
            }
            if doubtful {
                journal.doubt();
            }
        }
        lists.took(began);
        outcome
    }

    #[expect(clippy::too_many_arguments, reason = "the one caller has them all")]
    async fn build_now(
        &self,
        lists: &ScopeLists,
        builder: &mut Builder,
        config: &CrlConfig,
        signer: &Arc<Authority>,
        which: Which,
        doubtful: bool,
        now: Timestamp,
    ) -> Result<(), Error> {
        let (view, scope) = (&self.store.view, lists.scope);
        let journal = self.store.journals.of(Some(scope));
        let at_rest = match builder.at_rest.take() {
            Some(known) if !doubtful => known,
            _ => AtRest::load(view, scope).await?,
        };
        let mut head = at_rest.head.clone();
        let to = journal.settled(view).await?;
        let this_update = Time::from(now);
        let algorithm = signer.crl_algorithm()?;
        let mut made = Made::unsigned(signer.record.id, algorithm.name());
        made.this_update = this_update.as_second();
        made.next_update = this_update.plus(config.expiry()).as_second();
        made.place = to;
        made.disabled = config.disable;
        let afresh = which == Which::Complete && !config.disable && (doubtful || at_rest.is_stale());
        let (region, fresh) = match which {
            _ if config.disable => (Region::default(), Gathered::default()),
            Which::Complete => {
                let region = match builder.region.take() {
                    _ if afresh => {
                        // The pages are written anew, in a generation of their own.
                        head = Head { generation: head.generation.saturating_add(1), ..Head::default() };
                        Region::default()
                    }
                    Some(region) => region,
                    None => {
                        let paged = read_pages(view, scope, &head).await?;
                        let (count, place) = (head.paged, head.paged_to);
                        Region { paged: paged.len(), bytes: Bytes::from(paged), count, place }
                    }
                };
                let unpaged = region.bytes.len().saturating_sub(region.paged);
                let fresh = gather(view, journal.collection(), region.place, to, unpaged).await?;
                (region, fresh)
            }
            Which::Delta => {
                let base = head.complete.as_ref().ok_or_else(no_base)?;
                made.from = base.place;
                (Region::default(), gather(view, journal.collection(), base.place, to, 0).await?)
            }
        };
        made.count = region.count.saturating_add(fresh.count);
        match which {
            Which::Delta => made.base = Some(head.complete.as_ref().ok_or_else(no_base)?.number),
            Which::Complete => {
                made.freshest =
                    signer.aia_urls().map(|urls| urls.delta_crl_distribution_points).map_err(|error| {
                        Error::invalid(format!("unable to fetch AIA URL information: {error}"))
                    })?;
            }
        }
        let mut region = region;
        if which == Which::Complete && !config.disable {
            region.paged = write_pages(view, scope, &mut head, &region, &fresh).await?;
        }
        // At rest before the signature is made: no two CRLs have one number.
        made.number = next_number(view, scope).await?;
        let (crl, entries) = signed(signer, algorithm, made, region.bytes.clone(), fresh.bytes).await?;
        match which {
            Which::Complete => {
                head.complete = Some(crl.made.clone());
                head.delta = None;
            }
            Which::Delta => head.delta = Some(crl.made.clone()),
        }
        at_rest.replace(view, scope, &head, afresh).await.inspect_err(|error| {
            if matches!(error, StorageError::UnknownOutcome { .. }) {
                // Whichever is at rest is the one to serve.
                lists.serve(|served| *served = Served::default());
            }
        })?;
        if which == Which::Complete && !config.disable {
            let (count, place) = (crl.made.count, to);
            builder.region = Some(Region { bytes: entries, count, place, paged: region.paged });
        }
        lists.serve(|served| match which {
            Which::Complete => *served = Served { complete: Some(Arc::new(crl)), delta: None },
            Which::Delta => served.delta = Some(Arc::new(crl)),
        });
        // What is at rest has a version that nobody knows before it is read.
        builder.at_rest = None;
        Ok(())
    }
}

impl Region {
    fn with(self, more: Gathered, place: u64) -> Self {
        let Self { bytes, count, paged, .. } = self;
        let count = count.saturating_add(more.count);
        let bytes = match (bytes.is_empty(), more.bytes.is_empty()) {
            (_, true) => bytes,
            (true, false) => Bytes::from(more.bytes),
            (false, false) => Bytes::from([&bytes[..], &more.bytes].concat()),
        };
        Self { bytes, count, place, paged }
    }
}

/// Writes the pages that are full now, and answers how many bytes of entries are in pages.
async fn write_pages(
    view: &View,
    scope: Scope,
    head: &mut Head,
    region: &Region,
    fresh: &Gathered,
) -> Result<usize, Error> {
    let unpaged = region.bytes.get(region.paged..).unwrap_or_default();
    let mut start = 0;
    let mut paged = region.paged;
    for mark in &fresh.marks {
        let part = fresh.bytes.get(start..mark.offset).unwrap_or_default();
        let page = if start == 0 { [unpaged, part].concat() } else { part.to_vec() };
        write_page(view, scope, head.generation, head.pages, &page).await?;
        paged = paged.saturating_add(page.len());
        head.pages = head.pages.saturating_add(1);
        head.paged_to = mark.place;
        head.paged = region.count.saturating_add(mark.count);
        start = mark.offset;
    }
    Ok(paged)
}

fn no_base() -> Error {
    Error::internal("internal error", "a delta CRL without a complete one")
}

/// The frame that the peer puts around failures to build.
fn building(error: Error) -> Error {
    match error.kind {
        Kind::Busy | Kind::Sealed => error,
        kind => {
            let sentence = format!(
                "1 error occurred:\n\t* error encountered during CRL building: {}\n\n",
                error.message()
            );
            Error { messages: vec![sentence], kind, ..error }
        }
    }
}

fn not_signed(error: SignError) -> Error {
    Error::internal("the CRL could not be made", error)
}

/// Lays out and signs; the second value are the entries in the DER.
async fn signed(
    signer: &Arc<Authority>,
    algorithm: SignatureAlgorithm,
    made: Made,
    region: Bytes,
    fresh: Vec<u8>,
) -> Result<(Crl, Bytes), Error> {
    let key =
        signer.key.as_ref().ok_or_else(|| Error::internal("internal error", "a signer without a key"))?;
    let key = Arc::clone(key.private_key()?);
    let certificate = Arc::clone(&signer.certificate);
    let spec = key.spec();
    let many = made.count > MANY;
    let work = move || -> Result<_, SignError> {
        let crl = laid_out(&certificate, algorithm, &made, &[&region, &fresh])?.sign(&*key)?;
        Ok((crl, made))
    };
    let (crl, made) = on_the_right_thread(many, Some(spec), work).await?.map_err(not_signed)?;
    let made = made.signed(&crl.signature);
    Ok(served(crl, made))
}

/// A CRL that was made before; `None` if it cannot be what it was.
async fn again(
    authorities: &Authorities,
    made: Made,
    entries: Bytes,
    count: u64,
) -> Result<Option<(Crl, Bytes)>, Error> {
    let Some(issuer) = authorities.issuer(&made.issuer) else { return Ok(None) };
    let Some(algorithm) = SignatureAlgorithm::from_name(&made.algorithm) else { return Ok(None) };
    if made.count != count {
        return Ok(None);
    }
    let certificate = Arc::clone(&issuer.certificate);
    let many = count > MANY;
    let work = move || -> Result<_, SignError> {
        let crl = laid_out(&certificate, algorithm, &made, &[&entries])?.with_signature(&made.signature())?;
        Ok((crl, made))
    };
    Ok(on_the_right_thread(many, None, work).await?.ok().map(|(crl, made)| served(crl, made)))
}

async fn on_the_right_thread<T: Send + 'static>(
    many: bool,
    key: Option<KeySpec>,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Error> {
    match key {
        _ if many => heavy::run(work).await,
        Some(key) => heavy::sign(key, work).await,
        None => Ok(work()),
    }
}

fn laid_out(
    issuer: &chancery_issuance::Certificate,
    algorithm: SignatureAlgorithm,
    made: &Made,
    entries: &[&[u8]],
) -> Result<UnsignedCrl, SignError> {
    let head = CrlHead {
        this_update: made.made_at(),
        next_update: Time::from_second(made.next_update),
        number: made.number,
        delta_base: made.base,
        freshest: &made.freshest,
        extensions: &[],
    };
    let count = usize::try_from(made.count).unwrap_or(usize::MAX);
    UnsignedCrl::new(issuer, algorithm, &head, entries, count)
}

fn served(crl: SignedCrl, made: Made) -> (Crl, Bytes) {
    let SignedCrl { buffer, start, entries, signature: _ } = crl;
    let buffer = Bytes::from(buffer);
    let entries = buffer.slice(entries);
    (Crl { der: buffer.slice(start..), made }, entries)
}
