//! CRLs: kept in memory, served until they are no longer good, then built anew from journals.
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
use chancery_issuance::Time;
use jiff::Timestamp;
use tokio::sync::{Mutex, MutexGuard, OnceCell};

use super::Pki;
use super::authorities::{Authorities, Authority};
use super::crl_build::Builder;
use super::crl_records::{AtRest, Head, Made};
use super::journal::Journal;
use super::records::CrlConfig;
use super::revocations::Scope;
use crate::error::{Error, Kind};

/// A build that takes longer is not waited for by those who can have the CRL before.
const LONG: Duration = Duration::from_millis(250);

/// In the background, a scope rests for this many times what its last build took.
const REST: u32 = 20;

/// And at least so long after one that failed.
const REST_AFTER_FAILURE: Duration = Duration::from_secs(30);

/// Without `auto_rebuild`, the background builds a tenth of a CRL's lifetime before its end, but no earlier than this.
const AHEAD: Duration = Duration::from_secs(600);

/// So many seconds may the instants of two requests lie apart that see the same CRL: one may have waited for a build. A
/// CRL that is dated later than that was made while the clock was wrong.
pub(super) const CLOCKS_APART: i64 = 60;

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
    /// In PEM, once somebody wanted it so.
    pub(super) pem: OnceCell<Bytes>,
    /// Whether somebody was told its date, by which to ask for the next one.
    pub(super) told: AtomicBool,
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
    pub(super) scope: Scope,
    builder: Mutex<Builder>,
    served: RwLock<Served>,
    /// What the last build took, in microseconds.
    cost: AtomicU64,
    /// Until when the background leaves it alone.
    rests_until: Short<Option<Instant>>,
    /// Something that no journal tells happened: the next complete CRL is due.
    pub(super) forced: AtomicBool,
}

/// The CRLs of a scope that are handed out.
#[derive(Debug, Clone, Default)]
pub(super) struct Served {
    /// Everything that is revoked.
    pub(super) complete: Option<Arc<Crl>>,
    /// What was revoked since.
    pub(super) delta: Option<Arc<Crl>>,
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
            rests_until: Short::new(None),
            forced: AtomicBool::new(false),
        }
    }

    /// The next complete CRL is due, whatever the journal says.
    pub(super) fn force(&self) {
        self.forced.store(true, Ordering::Release);
    }

    /// What is handed out.
    pub(super) fn served(&self) -> Served {
        self.served.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Hands out others from now on.
    pub(super) fn serve(&self, change: impl FnOnce(&mut Served)) {
        change(&mut self.served.write().unwrap_or_else(PoisonError::into_inner));
    }

    /// Remembers what a build took, and has the scope rest.
    pub(super) fn took(&self, since: Instant, failed: bool) {
        let cost = since.elapsed();
        self.cost.store(u64::try_from(cost.as_micros()).unwrap_or(u64::MAX), Ordering::Release);
        let least = if failed { REST_AFTER_FAILURE } else { Duration::ZERO };
        let until = Instant::now().checked_add(cost.saturating_mul(REST).max(least));
        *self.rests_until.lock().unwrap_or_else(PoisonError::into_inner) = until;
    }

    fn cost(&self) -> Duration {
        Duration::from_micros(self.cost.load(Ordering::Acquire))
    }

    /// Whether the background may build again.
    fn is_rested(&self) -> bool {
        let until = *self.rests_until.lock().unwrap_or_else(PoisonError::into_inner);
        until.is_none_or(|until| Instant::now() >= until)
    }
}

impl Served {
    /// Whether somebody was told a date that is not before this one.
    pub(super) fn told(&self, at: Time) -> bool {
        let told =
            |crl: &Arc<Crl>| crl.told.load(Ordering::Acquire) && crl.made.this_update >= at.as_second();
        [&self.complete, &self.delta].into_iter().flatten().any(told)
    }

    fn of(&self, which: Which) -> Option<&Arc<Crl>> {
        match which {
            Which::Complete => self.complete.as_ref(),
            Which::Delta => self.delta.as_ref(),
        }
    }
}

/// When a CRL is wanted, and how many seconds longer it must be good.
#[derive(Clone, Copy)]
struct When {
    now: Timestamp,
    ahead: i64,
}

impl From<Timestamp> for When {
    fn from(now: Timestamp) -> Self {
        Self { now, ahead: 0 }
    }
}

/// Says that the background is at work, until it is dropped.
struct AtWork<'a>(&'a AtomicBool);

impl<'a> AtWork<'a> {
    /// `None` if it is at work already.
    fn begin(flag: &'a AtomicBool) -> Option<Self> {
        (!flag.swap(true, Ordering::AcqRel)).then(|| Self(flag))
    }
}

impl Drop for AtWork<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

/// Everything that decides about a scope's CRLs at one moment.
struct Situation<'a> {
    config: &'a CrlConfig,
    journal: &'a Journal,
    /// The last place that is at rest.
    newest: u64,
    forced: bool,
    when: When,
}

impl Situation<'_> {
    /// Whether this complete CRL is still the one to serve.
    fn is_good(&self, crl: &Made) -> bool {
        let Self { config, journal, newest, forced, when: When { now, ahead } } = self;
        if config.disable || crl.disabled {
            // As the peer has it, an empty one stays as it is until CRLs are enabled.
            return config.disable == crl.disabled;
        }
        if *forced || self.is_of_the_future(crl) {
            return false;
        }
        let left = crl.next_update.saturating_sub(now.as_second());
        if config.auto_rebuild {
            return left > i64::try_from(config.grace_period().as_secs()).unwrap_or(i64::MAX);
        }
        left > *ahead && crl.place >= *newest && !journal.is_doubtful()
    }

    /// Whether it was made while the clock was wrong.
    fn is_of_the_future(&self, crl: &Made) -> bool {
        crl.this_update > self.when.now.as_second().saturating_add(CLOCKS_APART)
    }

    /// Whether this delta CRL is still the one to serve beside a complete one.
    fn is_good_delta(&self, delta: &Made, complete: &Made) -> bool {
        let Self { config, newest, when: When { now, .. }, .. } = self;
        if delta.base != Some(complete.number) || delta.disabled != complete.disabled {
            return false;
        }
        if delta.disabled {
            return true;
        }
        if !delta.lasts(*now) || self.is_of_the_future(delta) {
            return false;
        }
        if !config.enable_delta || delta.place >= *newest {
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
        let when = When::from(now);
        if let Some(good) = self.good(&lists, &authorities, which, when).await? {
            return Ok(Some(good));
        }
        let builder = match lists.builder.try_lock() {
            Ok(builder) => builder,
            Err(_) => {
                let before = lists.served().of(which).map(Arc::clone);
                match before.filter(|before| before.made.lasts(now) && lists.cost() > LONG) {
                    Some(before) => return Ok(Some(before)),
                    None => lists.builder.lock().await,
                }
            }
        };
        self.make_good(&lists, builder, &authorities, which, when).await
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
                self.with_complete(&lists, builder, &authorities, now.into()).await.map_err(building)?;
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
        if config.disable {
            return Ok(());
        }
        let Some(_at_work) = AtWork::begin(&self.lists.tending) else { return Ok(()) };
        self.tend_some(&authorities, now).await
    }

    async fn tend_some(&self, authorities: &Authorities, now: Timestamp) -> Result<(), Error> {
        let mut outcome = Ok(());
        for scope in self.next_scopes(authorities) {
            // One that fails keeps nobody from the others.
            outcome = outcome.and(self.tend_one(scope, authorities, now).await);
        }
        outcome
    }

    async fn tend_one(&self, scope: Scope, authorities: &Authorities, now: Timestamp) -> Result<(), Error> {
        let config = &authorities.crl.value;
        // Where CRLs follow revocations, nothing is due of a scope in which nobody revoked or read
        // anything since the start.
        if !config.auto_rebuild && !self.store.journals.is_open(scope) {
            return Ok(());
        }
        let lists = self.lists.of(scope);
        if !lists.is_rested() || authorities.crl_signer(scope).is_none() {
            return Ok(());
        }
        let which = if config.enable_delta { Which::Delta } else { Which::Complete };
        let ahead = i64::try_from((config.expiry() / 10).min(AHEAD).as_secs()).unwrap_or(0);
        let when = When { now, ahead };
        if !self.is_good(&lists, authorities, which, when).await? {
            let builder = lists.builder.lock().await;
            self.make_good(&lists, builder, authorities, which, when).await?;
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

    /// Whether the CRL in memory, or else the one at rest, is still the one to serve. What nobody asked for
    /// since the start stays at rest.
    async fn is_good(
        &self,
        lists: &ScopeLists,
        authorities: &Authorities,
        which: Which,
        when: When,
    ) -> Result<bool, Error> {
        if lists.served().complete.is_some() {
            return Ok(self.good(lists, authorities, which, when).await?.is_some());
        }
        let Head { complete, delta, .. } = AtRest::load(&self.store.view, lists.scope).await?.head;
        let Some(complete) = complete else { return Ok(false) };
        let journal = self.store.journals.of(Some(lists.scope));
        let situation = self.situation(lists, authorities, &journal, when).await?;
        let delta_is_good = || delta.is_some_and(|delta| situation.is_good_delta(&delta, &complete));
        Ok(situation.is_good(&complete) && (which == Which::Complete || delta_is_good()))
    }

    async fn situation<'a>(
        &self,
        lists: &ScopeLists,
        authorities: &'a Authorities,
        journal: &'a Journal,
        when: When,
    ) -> Result<Situation<'a>, Error> {
        Ok(Situation {
            config: &authorities.crl.value,
            newest: journal.newest(&self.store.view).await?,
            journal,
            forced: lists.forced.load(Ordering::Acquire),
            when,
        })
    }

    /// The CRL in memory, if it is still the one to serve.
    async fn good(
        &self,
        lists: &ScopeLists,
        authorities: &Authorities,
        which: Which,
        when: When,
    ) -> Result<Option<Arc<Crl>>, Error> {
        let served = lists.served();
        let Some(complete) = &served.complete else { return Ok(None) };
        let journal = self.store.journals.of(Some(lists.scope));
        let situation = self.situation(lists, authorities, &journal, when).await?;
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
        builder: MutexGuard<'_, Builder>,
        authorities: &Authorities,
        which: Which,
        when: When,
    ) -> Result<Option<Arc<Crl>>, Error> {
        let mut builder = self.with_complete(lists, builder, authorities, when).await?;
        if let Some(good) = self.good(lists, authorities, which, when).await? {
            return Ok(Some(good));
        }
        if which == Which::Delta
            && lists.served().complete.is_some()
            && let Some(signer) = authorities.crl_signer(lists.scope)
        {
            self.build(lists, &mut builder, authorities, signer, which, when.now).await?;
        }
        // Nobody may sign: the last one there was, as the peer does.
        Ok(lists.served().of(which).map(Arc::clone))
    }

    /// Sees to it that the complete CRL in memory is the one to serve, if anybody may sign one.
    async fn with_complete<'a>(
        &self,
        lists: &ScopeLists,
        mut builder: MutexGuard<'a, Builder>,
        authorities: &Authorities,
        when: When,
    ) -> Result<MutexGuard<'a, Builder>, Error> {
        if lists.served().complete.is_none() && !builder.is_in_vain(authorities) {
            self.restore(lists, &mut builder, authorities).await?;
            let current = self.store.authorities().await?;
            if lists.served().complete.is_none() && std::ptr::eq(&raw const *current, authorities) {
                builder.in_vain = Some(Arc::downgrade(&current));
            }
        }
        if self.good(lists, authorities, Which::Complete, when).await?.is_none()
            && let Some(signer) = authorities.crl_signer(lists.scope)
        {
            self.build(lists, &mut builder, authorities, signer, Which::Complete, when.now).await?;
        }
        Ok(builder)
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_background_is_at_work_once_until_its_work_is_dropped() {
        let flag = AtomicBool::new(false);
        let at_work = AtWork::begin(&flag);
        assert!(at_work.is_some());
        // Whoever comes in vain leaves it as it is.
        assert!(AtWork::begin(&flag).is_none() && AtWork::begin(&flag).is_none());
        drop(at_work);
        assert!(AtWork::begin(&flag).is_some());
    }
}
