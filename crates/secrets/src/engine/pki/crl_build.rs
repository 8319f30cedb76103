//! One build of a CRL: entries gathered, laid out, signed, read back, put at rest, served.
//!
//! A build that fails leaves what is served and what is at rest as they were, but for a number that nobody
//! will see. Where it is unknown whether its last commit worked, what is at rest is served, whichever it is.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Instant;

use bytes::Bytes;
use chancery_issuance::{Certificate, CrlHead, SignError, SignatureAlgorithm, SignedCrl, Time, UnsignedCrl};
use chancery_storage::{StorageError, View};
use jiff::Timestamp;
use tokio::sync::OnceCell;

use super::authorities::{Authorities, Authority};
use super::crl::{CLOCKS_APART, Crl, ScopeLists, Served, Which};
use super::crl_records::{AtRest, Gathered, Head, Made, gather, next_number, read_pages, write_page};
use super::journal::Journal;
use super::records::CrlConfig;
use super::revocations::Scope;
use super::{Pki, heavy};
use crate::error::Error;

/// Entries beyond which a CRL is laid out and signed off the worker threads.
const MANY: u64 = 5_000;

/// What a builder knows of the scope, under its lock.
#[derive(Default)]
pub(super) struct Builder {
    /// What is at rest; `None` if it has to be read (again).
    at_rest: Option<AtRest>,
    /// With these issuers, what is at rest could not be laid out again.
    pub(super) in_vain: Option<Weak<Authorities>>,
    /// The entries of the last complete CRL that had any right to them.
    region: Option<Region>,
}

impl Builder {
    /// Whether the attempt with these issuers was made already.
    pub(super) fn is_in_vain(&self, authorities: &Authorities) -> bool {
        self.in_vain.as_ref().is_some_and(|known| std::ptr::eq(known.as_ptr(), authorities))
    }
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

impl Pki {
    /// Lays out again what is at rest: the same bytes, without a signature being made.
    pub(super) async fn restore(
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
                let start = Region::of_pages(view, lists.scope, &head).await?;
                let more = gather(view, journal.collection(), start.place, made.place, 0).await?;
                start.with(more, made.place)
            }
        };
        let Some(complete) =
            again(authorities, lists.scope, made, region.bytes.clone(), region.count).await?
        else {
            // It was made by an issuer that is gone, or its entries were removed since.
            journal.doubt();
            return Ok(());
        };
        let delta = match head.delta {
            Some(made) => {
                let entries = gather(view, journal.collection(), made.from, made.place, 0).await?;
                again(authorities, lists.scope, made, Bytes::from(entries.bytes), entries.count).await?
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
    pub(super) async fn build(
        &self,
        lists: &ScopeLists,
        builder: &mut Builder,
        authorities: &Authorities,
        signer: &Arc<Authority>,
        which: Which,
        now: Timestamp,
    ) -> Result<(), Error> {
        let began = Instant::now();
        builder.in_vain = None;
        let journal = self.store.journals.of(Some(lists.scope));
        let config = &authorities.crl.value;
        // What is asked for from here on is for the next one.
        let complete = which == Which::Complete;
        let forced = complete && lists.forced.swap(false, Ordering::AcqRel);
        let doubtful = complete && !config.disable && journal.take_doubt();
        let build = Build { view: &self.store.view, journal: &journal, config, signer, doubtful, now };
        let outcome = match which {
            Which::Complete if config.disable => build.disabled(lists, builder).await,
            Which::Complete => build.complete(lists, builder).await,
            Which::Delta => build.delta(lists, builder).await,
        };
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
        lists.took(began, outcome.is_err());
        outcome
    }
}

/// One build: what it works with.
struct Build<'a> {
    view: &'a View,
    journal: &'a Journal,
    config: &'a CrlConfig,
    signer: &'a Arc<Authority>,
    /// Entries may have come or gone before places that were read.
    doubtful: bool,
    now: Timestamp,
}

impl Build<'_> {
    /// Everything that is revoked.
    async fn complete(&self, lists: &ScopeLists, builder: &mut Builder) -> Result<(), Error> {
        let (view, scope) = (self.view, lists.scope);
        let at_rest = self.at_rest(lists, builder).await?;
        let to = self.journal.settled(view).await?;
        let mut head = at_rest.head.clone();
        let afresh = self.doubtful || at_rest.is_stale();
        let mut region = match builder.region.take() {
            _ if afresh => {
                // The pages are written anew, in a generation of their own.
                head = Head { generation: head.generation.saturating_add(1), ..Head::default() };
                Region::default()
            }
            Some(region) => region,
            None => Region::of_pages(view, scope, &head).await?,
        };
        let unpaged = region.bytes.len().saturating_sub(region.paged);
        let fresh = gather(view, self.journal.collection(), region.place, to, unpaged).await?;
        region.paged = write_pages(view, scope, &mut head, &region, &fresh).await?;

        let mut made = self.made(to, &at_rest.head, &lists.served())?;
        made.count = region.count.saturating_add(fresh.count);
        made.freshest = self.freshest()?;
        let (crl, entries) = self.signed(scope, made, region.bytes.clone(), fresh.bytes).await?;
        let (count, place, paged) = (crl.made.count, to, region.paged);
        head.complete = Some(crl.made.clone());
        head.delta = None;
        self.put_in_force(lists, &at_rest, &head, afresh).await?;
        builder.region = Some(Region { bytes: entries, count, place, paged });
        lists.serve(|served| *served = Served { complete: Some(Arc::new(crl)), delta: None });
        Ok(())
    }

    /// What was revoked since the complete one; nothing while CRLs are disabled.
    async fn delta(&self, lists: &ScopeLists, builder: &mut Builder) -> Result<(), Error> {
        let at_rest = self.at_rest(lists, builder).await?;
        let to = self.journal.settled(self.view).await?;
        let mut head = at_rest.head.clone();
        let base = head.complete.as_ref().ok_or_else(no_base)?;
        let mut made = self.made(to, &at_rest.head, &lists.served())?;
        (made.base, made.from) = (Some(base.number), base.place);
        let fresh = match self.config.disable {
            true => Gathered::default(),
            false => gather(self.view, self.journal.collection(), made.from, to, 0).await?,
        };
        made.count = fresh.count;
        let (crl, _) = self.signed(lists.scope, made, Bytes::new(), fresh.bytes).await?;
        head.delta = Some(crl.made.clone());
        self.put_in_force(lists, &at_rest, &head, false).await?;
        lists.serve(|served| served.delta = Some(Arc::new(crl)));
        Ok(())
    }

    /// An empty one, because CRLs are disabled.
    async fn disabled(&self, lists: &ScopeLists, builder: &mut Builder) -> Result<(), Error> {
        let at_rest = self.at_rest(lists, builder).await?;
        let to = self.journal.settled(self.view).await?;
        let mut made = self.made(to, &at_rest.head, &lists.served())?;
        made.freshest = self.freshest()?;
        let (crl, _) = self.signed(lists.scope, made, Bytes::new(), Vec::new()).await?;
        let head = Head { complete: Some(crl.made.clone()), delta: None, ..at_rest.head.clone() };
        self.put_in_force(lists, &at_rest, &head, false).await?;
        lists.serve(|served| *served = Served { complete: Some(Arc::new(crl)), delta: None });
        Ok(())
    }

    async fn at_rest(&self, lists: &ScopeLists, builder: &mut Builder) -> Result<AtRest, Error> {
        match builder.at_rest.take() {
            // The mark of what was removed may have come since.
            Some(known) if !self.doubtful => Ok(known),
            _ => AtRest::load(self.view, lists.scope).await,
        }
    }

    /// What does not depend on the entries.
    fn made(&self, place: u64, before: &Head, served: &Served) -> Result<Made, Error> {
        let algorithm = self.signer.crl_algorithm()?;
        // A request that waited comes with an older instant than the CRL before it may have; but none follows one
        // that was made while the clock was wrong.
        let now = self.now.as_second();
        let latest = [&before.complete, &before.delta].into_iter().flatten().map(|made| made.this_update);
        let latest = latest.filter(|at| *at <= now.saturating_add(CLOCKS_APART)).max();
        let mut this_update = Time::from_second(latest.unwrap_or(now).max(now));
        // That second is over, or nobody was told.
        if latest.is_some() && served.told(this_update) {
            this_update = Time::from_second(this_update.as_second().saturating_add(1));
        }
        let mut made = Made::unsigned(self.signer.record.id, algorithm.name());
        made.this_update = this_update.as_second();
        made.next_update = this_update.plus(self.config.expiry()).as_second();
        made.place = place;
        made.disabled = self.config.disable;
        Ok(made)
    }

    fn freshest(&self) -> Result<Vec<String>, Error> {
        let urls = self.signer.aia_urls();
        urls.map(|urls| urls.delta_crl_distribution_points)
            .map_err(|error| Error::invalid(format!("unable to fetch AIA URL information: {error}")))
    }

    /// Takes a number, lays out and signs. The second value are the entries in the DER.
    async fn signed(
        &self,
        scope: Scope,
        mut made: Made,
        region: Bytes,
        fresh: Vec<u8>,
    ) -> Result<(Crl, Bytes), Error> {
        // At rest before the signature is made: no two CRLs have one number.
        made.number = next_number(self.view, scope).await?;
        let algorithm = self.signer.crl_algorithm()?;
        let key = self.signer.key.as_ref();
        let key = key.ok_or_else(|| Error::internal("internal error", "a signer without a key"))?;
        let key = Arc::clone(key.private_key()?);
        let certificate = Arc::clone(&self.signer.certificate);
        let (spec, many) = (key.spec(), made.count > MANY);
        let work = move || -> Result<_, SignError> {
            let crl = laid_out(&certificate, algorithm, &made, &[&region, &fresh])?.sign(&*key)?;
            Ok((crl, made))
        };
        let outcome = if many { heavy::run(work).await? } else { heavy::sign(spec, work).await? };
        let (crl, made) = outcome.map_err(|error| Error::internal("the CRL could not be made", error))?;
        let made = made.signed(&crl.signature);
        Ok(served(crl, made))
    }

    async fn put_in_force(
        &self,
        lists: &ScopeLists,
        at_rest: &AtRest,
        head: &Head,
        afresh: bool,
    ) -> Result<(), Error> {
        let outcome = at_rest.replace(self.view, lists.scope, head, afresh).await;
        if matches!(outcome, Err(StorageError::UnknownOutcome { .. })) {
            // Whichever is at rest is the one to serve.
            lists.serve(|served| *served = Served::default());
        }
        Ok(outcome?)
    }
}

impl Region {
    /// The entries that are in pages.
    async fn of_pages(view: &View, scope: Scope, head: &Head) -> Result<Self, Error> {
        let bytes = Bytes::from(read_pages(view, scope, head).await?);
        Ok(Self { paged: bytes.len(), bytes, count: head.paged, place: head.paged_to })
    }

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

/// A CRL that was made before; `None` if it cannot be what it was.
async fn again(
    authorities: &Authorities,
    scope: Scope,
    made: Made,
    entries: Bytes,
    count: u64,
) -> Result<Option<(Crl, Bytes)>, Error> {
    // One that was deleted and imported again has another id.
    let issuer = authorities.issuer(&made.issuer).or_else(|| authorities.crl_signer(scope));
    let Some(issuer) = issuer else { return Ok(None) };
    let Some(algorithm) = SignatureAlgorithm::from_name(&made.algorithm) else { return Ok(None) };
    if made.count != count {
        return Ok(None);
    }
    let certificate = Arc::clone(&issuer.certificate);
    let work = move || -> Result<_, SignError> {
        let crl = laid_out(&certificate, algorithm, &made, &[&entries])?.with_signature(&made.signature())?;
        Ok((crl, made))
    };
    let outcome = if count > MANY { heavy::run(work).await? } else { work() };
    Ok(outcome.ok().map(|(crl, made)| served(crl, made)))
}

fn laid_out(
    issuer: &Certificate,
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
    (Crl { der: buffer.slice(start..), made, pem: OnceCell::new(), told: AtomicBool::new(false) }, entries)
}
