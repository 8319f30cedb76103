//! CRLs at rest: what is needed to serve the very same one after a restart.
//!
//! | collection | name | record |
//! | --- | --- | --- |
//! | `crl-numbers` | a scope | the last number given to a CRL of it |
//! | `crl-heads` | a scope | [`Head`]: the CRLs in force but for their entries |
//! | `crl-pages/<scope>/<generation>` | its index | encoded entries, about [`PAGE_SIZE`] each, in the journal's order |
//!
//! Pages never change. A CRL's entries are those of the pages, then those of the journal from the
//! pages' end to the CRL's place. When entries are removed from a journal, a new generation of pages takes the
//! place of the old one with the next CRL.
//!
//! A number is at rest before anything is signed with it: a crash may skip numbers, and gives none twice.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use chancery_issuance::{CrlEntry, Time};
use chancery_storage::{Name, Position, StorageError, Version, View, Writes};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::records::IssuerId;
use super::revocations::{JournalEntry, Scope, serial_of};
use super::store::collection;
use crate::error::Error;

/// How many bytes of entries make a page.
pub(super) const PAGE_SIZE: usize = 256 * 1024;

/// Entries of a journal read at a time; in between, others get their turn. A worker thread is busy with
/// so many for less than a millisecond.
const ENTRIES_AT_A_TIME: usize = 128;

/// The CRLs of a scope in force.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Head {
    /// Which pages are the good ones.
    pub(super) generation: u64,
    /// How many there are.
    pub(super) pages: u64,
    /// The place of the last entry in them.
    pub(super) paged_to: u64,
    /// How many entries are in them.
    pub(super) paged: u64,
    /// The complete CRL.
    pub(super) complete: Option<Made>,
    /// The delta CRL.
    pub(super) delta: Option<Made>,
}

/// A CRL but for its entries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Made {
    /// Its number.
    pub(super) number: u64,
    /// Unix seconds.
    pub(super) this_update: i64,
    /// Unix seconds.
    pub(super) next_update: i64,
    /// The number of the complete CRL that it adds to, for a delta.
    pub(super) base: Option<u64>,
    /// It holds what came behind this place: 0 for a complete one.
    pub(super) from: u64,
    /// It holds what came up to this place.
    pub(super) place: u64,
    /// How many entries it has.
    pub(super) count: u64,
    /// It has no entries because CRLs are disabled.
    pub(super) disabled: bool,
    /// The issuer in whose name it was made.
    pub(super) issuer: IssuerId,
    /// The name of the signature's algorithm.
    pub(super) algorithm: String,
    /// Where deltas are found, as it says.
    pub(super) freshest: Vec<String>,
    /// The signature, in base64.
    signature: String,
}

impl Made {
    /// With a signature.
    pub(super) fn signed(self, signature: &[u8]) -> Self {
        Self { signature: BASE64.encode(signature), ..self }
    }

    /// The signature.
    pub(super) fn signature(&self) -> Vec<u8> {
        BASE64.decode(&self.signature).unwrap_or_default()
    }

    /// Without a signature yet.
    pub(super) fn unsigned(issuer: IssuerId, algorithm: &str) -> Self {
        Self {
            number: 0,
            this_update: 0,
            next_update: 0,
            base: None,
            from: 0,
            place: 0,
            count: 0,
            disabled: false,
            issuer,
            algorithm: algorithm.to_owned(),
            freshest: Vec::new(),
            signature: String::new(),
        }
    }
}

/// What is at rest for a scope, and with which versions.
#[derive(Debug, Clone, Default)]
pub(super) struct AtRest {
    /// The CRLs in force.
    pub(super) head: Head,
    version: Option<Version>,
    /// Entries were removed from the journal since the pages were written.
    stale: Option<Version>,
}

impl AtRest {
    /// Reads it.
    pub(super) async fn load(view: &View, scope: Scope) -> Result<Self, Error> {
        let name = Name::new(scope.to_string());
        let stale = view.get(collection::CRL_STALE, &name).await?.map(|record| record.version);
        match view.get(collection::CRL_HEADS, &name).await? {
            Some(record) => Ok(Self { head: record.json()?, version: Some(record.version), stale }),
            None => Ok(Self { stale, ..Self::default() }),
        }
    }

    /// Whether entries were removed from the journal since the pages were written.
    pub(super) fn is_stale(&self) -> bool {
        self.stale.is_some()
    }

    /// Puts another head in force. `afresh` says that its pages were written anew: those of the generation
    /// before go with the same commit, and what was stale is not any more.
    pub(super) async fn replace(
        &self,
        view: &View,
        scope: Scope,
        head: &Head,
        afresh: bool,
    ) -> Result<(), StorageError> {
        let name = Name::new(scope.to_string());
        let mut writes = Writes::new();
        match &self.version {
            Some(version) => writes.expect_unchanged(view, collection::CRL_HEADS, &name, version)?,
            None => writes.expect_absent(view, collection::CRL_HEADS, &name)?,
        };
        writes.put_json(view, collection::CRL_HEADS, &name, head)?;
        if afresh {
            let pages = pages(scope, self.head.generation);
            for index in 0..self.head.pages {
                writes.delete(view, &pages, &page_name(index))?;
            }
            if let Some(version) = &self.stale {
                writes.expect_unchanged(view, collection::CRL_STALE, &name, version)?;
                writes.delete(view, collection::CRL_STALE, &name)?;
            }
        }
        view.commit(writes).await
    }
}

/// The last place that a CRL of this scope in force has read; 0 if none has.
pub(super) async fn last_listed(view: &View, scope: Scope) -> Result<u64, StorageError> {
    let head: Head =
        view.get_json(collection::CRL_HEADS, &Name::new(scope.to_string())).await?.unwrap_or_default();
    Ok([head.complete, head.delta].iter().flatten().map(|made| made.place).max().unwrap_or(0))
}

/// Takes the next number for a CRL of this scope: at rest when this returns.
pub(super) async fn next_number(view: &View, scope: Scope) -> Result<u64, Error> {
    let name = Name::new(scope.to_string());
    let mut writes = Writes::new();
    let last: u64 = match view.get(collection::CRL_NUMBERS, &name).await? {
        Some(record) => {
            writes.expect_unchanged(view, collection::CRL_NUMBERS, &name, &record.version)?;
            record.json()?
        }
        None => {
            writes.expect_absent(view, collection::CRL_NUMBERS, &name)?;
            0
        }
    };
    let next = last.saturating_add(1);
    writes.put_json(view, collection::CRL_NUMBERS, &name, &next)?;
    view.commit(writes).await?;
    Ok(next)
}

/// The entries of the pages, in order.
pub(super) async fn read_pages(view: &View, scope: Scope, head: &Head) -> Result<Vec<u8>, Error> {
    let pages = pages(scope, head.generation);
    let mut entries = Vec::new();
    // One allocation: half a page more than there is, at most.
    entries.reserve_exact(usize::try_from(head.pages).unwrap_or(0).saturating_mul(PAGE_SIZE + 128));
    for index in 0..head.pages {
        let page = view
            .get(&pages, &page_name(index))
            .await?
            .ok_or_else(|| Error::internal("internal error", "a page of a CRL is gone"))?;
        entries.extend_from_slice(&page.value);
    }
    Ok(entries)
}

/// Writes a page that no head speaks of yet.
pub(super) async fn write_page(
    view: &View,
    scope: Scope,
    generation: u64,
    index: u64,
    entries: &[u8],
) -> Result<(), Error> {
    Ok(view.put(&pages(scope, generation), &page_name(index), entries).await?)
}

fn pages(scope: Scope, generation: u64) -> String {
    format!("crl-pages/{scope}/{generation}")
}

fn page_name(index: u64) -> Name {
    Name::ordered(index, "page")
}

/// Entries that were read from a journal, encoded.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    /// The bytes.
    pub(super) bytes: Vec<u8>,
    /// How many entries.
    pub(super) count: u64,
    /// Where a page ends.
    pub(super) marks: Vec<Mark>,
}

/// The end of a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark {
    /// How many of the gathered bytes lie before it.
    pub(super) offset: usize,
    /// How many of the gathered entries.
    pub(super) count: u64,
    /// The place of the last one.
    pub(super) place: u64,
}

/// Reads a journal behind `after` and up to `to`. `unpaged` bytes of entries before it are in no page yet.
pub(super) async fn gather(
    view: &View,
    journal: &str,
    after: u64,
    to: u64,
    unpaged: usize,
) -> Result<Gathered, Error> {
    let mut gathered = Gathered::default();
    if after >= to {
        return Ok(gathered);
    }
    let mut page_start = 0_usize;
    let mut unpaged = unpaged;
    let mut last: Option<Name> = None;
    loop {
        let from = last.as_ref().map_or(Position::Order(after.saturating_add(1)), Position::After);
        let records = view.scan(journal, from, ENTRIES_AT_A_TIME).await?;
        let end = records.len() < ENTRIES_AT_A_TIME;
        for (name, record) in &records {
            if name.order() > to {
                return Ok(gathered);
            }
            let JournalEntry { at, reason, .. } = JournalEntry::decode(&record.value)?;
            let serial = serial_of(name)?;
            // Grown in steps of some size, not by doubling: a large list is copied a few times more, and
            // never takes twice its room.
            if gathered.bytes.capacity().saturating_sub(gathered.bytes.len()) < 128 {
                let step = (gathered.bytes.len() / 8).max(16 * 1024);
                gathered.bytes.reserve_exact(step);
            }
            CrlEntry { serial: serial.as_bytes(), at, reason, extensions: &[] }.encode(&mut gathered.bytes);
            gathered.count += 1;
            if gathered.bytes.len().saturating_sub(page_start).saturating_add(unpaged) >= PAGE_SIZE {
                page_start = gathered.bytes.len();
                unpaged = 0;
                gathered.marks.push(Mark { offset: page_start, count: gathered.count, place: name.order() });
            }
        }
        last = records.into_iter().next_back().map(|(name, _)| name);
        if end {
            return Ok(gathered);
        }
        tokio::task::yield_now().await;
    }
}

impl Made {
    /// Whether it is of any use now.
    pub(super) fn lasts(&self, now: Timestamp) -> bool {
        // As the peer has it, an empty one stays as it is until CRLs are enabled.
        self.disabled || self.next_update > now.as_second()
    }

    /// When it was made.
    pub(super) fn made_at(&self) -> Time {
        Time::from_second(self.this_update)
    }
}
