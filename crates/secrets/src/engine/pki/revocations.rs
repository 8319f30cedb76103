//! That certificates were revoked: the records, and the journals in which they lie.
//!
//! | collection | name | record |
//! | --- | --- | --- |
//! | `revoked` | serial number, ordered by its first eight bytes | [`Revocation`] |
//! | `revocations/<scope>` | serial number, ordered by the place in the journal | [`JournalEntry`] |
//! | `unassigned` | the same | [`JournalEntry`] of certificates whose issuer is not here |
//! | `adoptions` | a scope | its first issuer came; entries of `unassigned` may be its |
//! | `crl-stale` | a scope | entries were removed from its journal since its CRLs' pages were written |
//!
//! A *scope* is what one CRL speaks of: the certificates that one subject name signed with one key.
//! Issuers that share both share the scope, and one that is deleted and imported again finds it as it
//! was. A revocation is one commit: the record that answers questions about the serial number, and the
//! entry from which CRLs are made.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::digest;
use chancery_issuance::{Certificate, SerialNumber, Time};
use chancery_storage::{Name, Record, StorageError, Version, View, Writes};
use data_encoding::HEXLOWER;
use jiff::Timestamp;

use super::journal::{Journal, UnderWay};
use super::records::{CertificateRecord, IssuerId};
use super::store::{Place, Store, certificate_name, collection, place_after};
use crate::error::Error;

/// Entries read or moved at a time.
const PAGE: usize = 256;

/// What one CRL speaks of: the certificates that one name signed with one key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Scope([u8; 16]);

impl Scope {
    /// The scope of the certificates that this one's subject signs with its key.
    pub(super) fn of(issuer: &Certificate) -> Self {
        let key = issuer.public_key().map(chancery_issuance::PublicKey::spki_der).unwrap_or_default();
        let mut hash = digest::Context::new(&digest::SHA256);
        hash.update(issuer.subject_der());
        hash.update(key);
        Self(first_half(hash.finish().as_ref()))
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Scope({self})")
    }
}

fn first_half(hash: &[u8]) -> [u8; 16] {
    hash.first_chunk::<16>().copied().unwrap_or_default()
}

/// That a certificate was revoked.
///
/// At rest: one byte of version (1), seconds and nanoseconds of the instant, the end of the certificate's
/// lifetime in seconds, the reason, the issuer's id, the scope, and the place in the journal. Zeros: none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Revocation {
    /// When.
    pub(super) at: Timestamp,
    /// Who had signed it, if one of the mount's issuers.
    pub(super) issuer: Option<IssuerId>,
    /// Whose CRL speaks of it, if its issuer is known.
    pub(super) scope: Option<Scope>,
    /// The end of the certificate's lifetime.
    pub(super) not_after: Time,
    /// Why: a CRLReason (RFC 5280, 5.3.1); 0 is unspecified.
    pub(super) reason: u8,
    /// Where it stands in its journal; 0 if it stands in none, as a root that revoked itself.
    pub(super) place: u64,
}

impl Revocation {
    const VERSION: u8 = 1;

    pub(super) fn encode(&self) -> Vec<u8> {
        let Self { at, issuer, scope, not_after, reason, place } = self;
        let mut bytes = Vec::with_capacity(62);
        bytes.push(Self::VERSION);
        bytes.extend_from_slice(&at.as_second().to_be_bytes());
        bytes.extend_from_slice(&at.subsec_nanosecond().to_be_bytes());
        bytes.extend_from_slice(&not_after.as_second().to_be_bytes());
        bytes.push(*reason);
        bytes.extend_from_slice(issuer.as_ref().map_or(&[0; 16][..], IssuerId::as_bytes));
        bytes.extend_from_slice(&scope.map_or([0; 16], |Scope(bytes)| bytes));
        bytes.extend_from_slice(&place.to_be_bytes());
        bytes
    }

    fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let mut fields = Fields(bytes);
        let read = (|| {
            let ([version], second, nanosecond) = (fields.next()?, fields.next()?, fields.next()?);
            let (not_after, [reason], issuer) = (fields.next()?, fields.next()?, fields.next()?);
            let (scope, place): ([u8; 16], _) = (fields.next()?, fields.next()?);
            let at = Timestamp::new(i64::from_be_bytes(second), i32::from_be_bytes(nanosecond)).ok()?;
            (version == Self::VERSION && fields.0.is_empty()).then_some(Self {
                at,
                issuer: IssuerId::from_bytes(issuer),
                scope: (scope != [0; 16]).then_some(Scope(scope)),
                not_after: Time::from_second(i64::from_be_bytes(not_after)),
                reason,
                place: u64::from_be_bytes(place),
            })
        })();
        read.ok_or_else(|| Error::internal("internal error", "a stored revocation has an unknown form"))
    }
}

/// What a CRL says of a certificate, besides the serial number.
///
/// At rest: one byte of version (1), seconds of the instant, the end of the certificate's lifetime in
/// seconds, the reason, and while it is unassigned the first half of the SHA-256 of its issuer's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct JournalEntry {
    /// When it was revoked.
    pub(super) at: Time,
    /// The end of its lifetime.
    pub(super) not_after: Time,
    /// Why.
    pub(super) reason: u8,
    /// Whose it may be, while it is unassigned.
    issuer_name: Option<[u8; 16]>,
}

impl JournalEntry {
    const VERSION: u8 = 1;

    fn encode(&self) -> Vec<u8> {
        let Self { at, not_after, reason, issuer_name } = self;
        let mut bytes = Vec::with_capacity(34);
        bytes.push(Self::VERSION);
        bytes.extend_from_slice(&at.as_second().to_be_bytes());
        bytes.extend_from_slice(&not_after.as_second().to_be_bytes());
        bytes.push(*reason);
        bytes.extend_from_slice(issuer_name.as_ref().map_or(&[], |name| &name[..]));
        bytes
    }

    /// From the bytes at rest.
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let mut fields = Fields(bytes);
        let read = (|| {
            let ([version], at, not_after, [reason]) =
                (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
            let issuer_name = if fields.0.is_empty() { None } else { Some(fields.next()?) };
            (version == Self::VERSION && fields.0.is_empty()).then_some(Self {
                at: Time::from_second(i64::from_be_bytes(at)),
                not_after: Time::from_second(i64::from_be_bytes(not_after)),
                reason,
                issuer_name,
            })
        })();
        read.ok_or_else(|| {
            Error::internal("internal error", "an entry of a revocation journal has an unknown form")
        })
    }
}

/// Takes fields of a fixed size off the front.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn next<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (field, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*field)
    }
}

/// A revocation as it is at rest.
#[derive(Debug, Clone)]
pub(super) struct StoredRevocation {
    /// Where: the serial number, in the order of certificates.
    pub(super) name: Name,
    /// Which write put it there.
    pub(super) version: Version,
    /// What it says.
    pub(super) revocation: Revocation,
}

impl StoredRevocation {
    /// From what was read.
    pub(super) fn read(name: Name, record: &Record) -> Result<Self, Error> {
        Ok(Self { name, version: record.version, revocation: Revocation::decode(&record.value)? })
    }
}

/// A revocation that is to be written.
#[derive(Debug, Clone)]
pub(super) struct NewRevocation<'a> {
    /// The certificate.
    pub(super) certificate: &'a Certificate,
    /// Who signed it, if one of the mount's issuers.
    pub(super) issuer: Option<(IssuerId, Scope)>,
    /// When.
    pub(super) at: Timestamp,
    /// Why: a CRLReason; 0 is unspecified.
    pub(super) reason: u8,
    /// Whether a CRL shall say so: not of a root that revoked itself.
    pub(super) listed: bool,
}

/// A revocation as somebody wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Recorded {
    /// By this request.
    Now(Revocation),
    /// By an earlier one.
    Before(Revocation),
}

impl Store {
    /// When and as whose the certificate with this serial number was revoked; `None` if it was not.
    pub(super) async fn revocation(&self, serial: &SerialNumber) -> Result<Option<Revocation>, Error> {
        match self.view.get(collection::REVOKED, &certificate_name(serial)).await? {
            Some(record) => Ok(Some(Revocation::decode(&record.value)?)),
            None => Ok(None),
        }
    }

    /// The same from memory, if it was asked for before and nothing was revoked since.
    pub(super) async fn remembered_revocation(
        &self,
        serial: &SerialNumber,
    ) -> Result<Option<Revocation>, Error> {
        // Before the read: a revocation that ends after this makes what is read now a thing of the past.
        let written = self.journals.written();
        if let Some((as_of, revocation)) = self.revocations.get(serial)
            && as_of == written
        {
            return Ok(revocation);
        }
        let revocation = self.revocation(serial).await?;
        self.revocations.insert(*serial, (written, revocation.clone()));
        Ok(revocation)
    }

    /// Writes down that a certificate is revoked: durable when this returns. With `keep`, the certificate
    /// is stored in the same commit.
    pub(super) async fn record_revocation(
        &self,
        new: &NewRevocation<'_>,
        keep: bool,
    ) -> Result<Recorded, Error> {
        let serial = new.certificate.serial_number();
        if let Some(before) = self.revocation(&serial).await? {
            return Ok(Recorded::Before(before));
        }
        let mut writes = Writes::new();
        if keep {
            let record = CertificateRecord::encode(new.issuer.map(|(id, _)| id), new.certificate.der());
            writes.put(&self.view, collection::CERTIFICATES, &certificate_name(&serial), &record)?;
        }
        let (revocation, under_way) = self.add_revocation(&mut writes, new).await?;
        let outcome = self.view.commit(writes).await;
        under_way.ended(&outcome);
        match outcome {
            Ok(()) => {
                if keep {
                    self.counts.stored(&serial);
                }
                self.counts.revoked();
                Ok(Recorded::Now(revocation))
            }
            // Two asked at once, and the other one's time counts.
            Err(StorageError::Conflict) => match self.revocation(&serial).await? {
                Some(before) => Ok(Recorded::Before(before)),
                None => Err(StorageError::Conflict.into()),
            },
            Err(error) => Err(not_recorded(&serial, error)),
        }
    }

    /// Adds a revocation to a batch: its record, which must not exist, and its entry in the journal.
    /// CRLs wait for the second value to be told how the commit ended.
    pub(super) async fn add_revocation(
        &self,
        writes: &mut Writes,
        new: &NewRevocation<'_>,
    ) -> Result<(Revocation, UnderWay), Error> {
        let NewRevocation { certificate, issuer, at, reason, listed } = *new;
        // What a clock without battery says cannot be written into a CRL.
        let at = at.max(Timestamp::UNIX_EPOCH);
        let serial = certificate.serial_number();
        let scope = issuer.map(|(_, scope)| scope);
        let journal = self.journals.of(scope);
        let under_way = journal.begin(&self.view, at).await?;
        let revocation = Revocation {
            at,
            issuer: issuer.map(|(id, _)| id),
            scope,
            not_after: certificate.not_after(),
            reason,
            place: if listed { under_way.place() } else { 0 },
        };
        let name = certificate_name(&serial);
        writes.expect_absent(&self.view, collection::REVOKED, &name)?;
        writes.put(&self.view, collection::REVOKED, &name, &revocation.encode())?;
        if listed {
            let entry = JournalEntry {
                at: Time::from(at),
                not_after: revocation.not_after,
                reason,
                issuer_name: scope.is_none().then(|| name_hash(certificate.issuer_der())),
            };
            let place = journal_name(under_way.place(), &serial);
            writes.put(&self.view, journal.collection(), &place, &entry.encode())?;
        }
        Ok((revocation, under_way))
    }

    /// Serial numbers of revoked certificates, as [`Store::serial_numbers`] lists those of all.
    pub(super) async fn revoked_serial_numbers(
        &self,
        after: &str,
        limit: usize,
    ) -> Result<Vec<SerialNumber>, Error> {
        let after = match place_after(after) {
            Place::Start => None,
            Place::After(name) => Some(name),
            Place::End => return Ok(Vec::new()),
        };
        let names = self.view.list(collection::REVOKED, after.as_ref(), limit).await?;
        names.iter().map(serial_of).collect()
    }

    /// Forgets that these certificates were revoked, in one commit with `also`: for those that have expired,
    /// whom no CRL needs to name any more. The CRLs concerned leave them out when they are built next.
    ///
    /// The commit fails with a conflict if one of the records is not the one that was read.
    pub(super) async fn forget_revocations(
        &self,
        forgotten: &[StoredRevocation],
        also: Writes,
    ) -> Result<(), StorageError> {
        let mut writes = also;
        let mut concerned: Vec<Arc<Journal>> = Vec::new();
        for StoredRevocation { name, version, revocation } in forgotten {
            writes.expect_unchanged(&self.view, collection::REVOKED, name, version)?;
            writes.delete(&self.view, collection::REVOKED, name)?;
            if revocation.place == 0 {
                continue;
            }
            let journal = self.journals.of(revocation.scope);
            let place = Name::ordered(revocation.place, name.text());
            writes.delete(&self.view, journal.collection(), &place)?;
            if let Some(scope) = revocation.scope
                && !concerned.iter().any(|known| Arc::ptr_eq(known, &journal))
            {
                writes.put(&self.view, collection::CRL_STALE, &Name::new(scope.to_string()), &[])?;
                concerned.push(journal);
            }
        }
        if writes.is_empty() {
            return Ok(());
        }
        let outcome = self.view.commit(writes).await;
        self.journals.rewritten();
        for journal in concerned {
            journal.doubt();
        }
        outcome
    }

    /// Says of a revocation who had signed the certificate, if it is still the one that was read; answers
    /// whether it was.
    pub(super) async fn name_issuer(
        &self,
        stored: &StoredRevocation,
        issuer: Option<IssuerId>,
    ) -> Result<bool, StorageError> {
        let StoredRevocation { name, version, revocation } = stored;
        let mut writes = Writes::new();
        writes.expect_unchanged(&self.view, collection::REVOKED, name, version)?;
        let named = Revocation { issuer, ..revocation.clone() };
        writes.put(&self.view, collection::REVOKED, name, &named.encode())?;
        let outcome = self.view.commit(writes).await;
        self.journals.rewritten();
        match outcome {
            Ok(()) => Ok(true),
            Err(StorageError::Conflict) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Moves the unassigned revocations of certificates that this issuer signed into its journal.
    /// Reads the unassigned ones only. What was moved when this fails stays moved.
    pub(super) async fn adopt_revocations(
        &self,
        issuer: (IssuerId, Scope),
        certificate: &Certificate,
    ) -> Result<(), Error> {
        let unassigned = self.journals.of(None);
        // Those that are being written without an issuer are waited for.
        unassigned.settled(&self.view).await?;
        let wanted = Some(name_hash(certificate.subject_der()));
        let mut after: Option<Name> = None;
        loop {
            let page = self.view.scan(unassigned.collection(), after.as_ref(), PAGE).await?;
            let end = page.len() < PAGE;
            for (name, record) in &page {
                let entry = JournalEntry::decode(&record.value)?;
                if entry.issuer_name == wanted {
                    self.adopt(issuer, certificate, name, entry).await?;
                }
            }
            after = page.into_iter().next_back().map(|(name, _)| name);
            if end {
                return Ok(());
            }
        }
    }

    async fn adopt(
        &self,
        (id, scope): (IssuerId, Scope),
        issuer: &Certificate,
        name: &Name,
        entry: JournalEntry,
    ) -> Result<(), Error> {
        let serial = serial_of(name)?;
        let (Some(record), Some(certificate)) = (
            self.view.get(collection::REVOKED, &certificate_name(&serial)).await?,
            self.known_certificate(&serial).await?,
        ) else {
            return Ok(());
        };
        let revocation = Revocation::decode(&record.value)?;
        if revocation.scope.is_some() || !certificate.is_signed_by(issuer) {
            return Ok(());
        }
        let journal = self.journals.of(Some(scope));
        let under_way = journal.begin(&self.view, revocation.at).await?;
        let place = under_way.place();
        let revocation = Revocation { issuer: Some(id), scope: Some(scope), place, ..revocation };
        let entry = JournalEntry { issuer_name: None, ..entry };
        let mut writes = Writes::new();
        let revoked = certificate_name(&serial);
        writes.expect_unchanged(&self.view, collection::REVOKED, &revoked, &record.version)?;
        writes.put(&self.view, collection::REVOKED, &revoked, &revocation.encode())?;
        writes.put(&self.view, journal.collection(), &journal_name(place, &serial), &entry.encode())?;
        writes.delete(&self.view, collection::UNASSIGNED, name)?;
        let outcome = self.view.commit(writes).await;
        under_way.ended(&outcome);
        Ok(outcome?)
    }
}

/// Where an entry lies in its journal.
fn journal_name(place: u64, serial: &SerialNumber) -> Name {
    Name::ordered(place, HEXLOWER.encode(serial.as_bytes()))
}

/// The serial number in the name of a record.
pub(super) fn serial_of(name: &Name) -> Result<SerialNumber, Error> {
    name.text().parse().map_err(|error| Error::internal("a stored serial number does not parse", error))
}

fn name_hash(name: &[u8]) -> [u8; 16] {
    first_half(digest::digest(&digest::SHA256, name).as_ref())
}

/// The collection of a journal.
pub(super) fn journal_collection(scope: Option<Scope>) -> String {
    match scope {
        Some(scope) => format!("revocations/{scope}"),
        None => collection::UNASSIGNED.to_owned(),
    }
}

/// What the client learns when its revocation is not at rest.
fn not_recorded(serial: &SerialNumber, error: StorageError) -> Error {
    match error {
        StorageError::UnknownOutcome { .. } => Error::internal(
            format!(
                "it is unknown whether the certificate {serial} was revoked; the request can be repeated"
            ),
            error,
        ),
        other => other.into(),
    }
}

/// Whether a view's journal holds anything at or behind `place`: the names there, at most `limit`.
pub(super) async fn names_from(
    view: &View,
    journal: &str,
    place: u64,
    limit: usize,
) -> Result<Vec<Name>, StorageError> {
    view.list(journal, chancery_storage::Position::Order(place), limit).await
}

#[cfg(test)]
impl Store {
    /// Puts so many entries into a journal, as many revocations would.
    pub(super) async fn journal_many(&self, scope: Scope, many: u32, at: Timestamp) {
        let journal = self.journals.of(Some(scope));
        for start in (0..many).step_by(1_000) {
            let mut writes = Writes::new();
            let mut under_way = Vec::new();
            for number in start..many.min(start + 1_000) {
                let place = journal.begin(&self.view, at).await.unwrap();
                let serial = [&[1; 16][..], &number.to_be_bytes()].concat();
                let name = Name::ordered(place.place(), HEXLOWER.encode(&serial));
                let entry = JournalEntry {
                    at: Time::from(at),
                    not_after: Time::from(at),
                    reason: 0,
                    issuer_name: None,
                };
                writes.put(&self.view, journal.collection(), &name, &entry.encode()).unwrap();
                under_way.push(place);
            }
            let outcome = self.view.commit(writes).await;
            under_way.into_iter().for_each(|one| one.ended(&outcome));
            outcome.unwrap();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_read_back_as_they_were_written() {
        let bare = Revocation {
            at: Timestamp::constant(1_800_000_000, 123_456_789),
            issuer: None,
            scope: None,
            not_after: Time::end_of_time(),
            reason: 0,
            place: 0,
        };
        let full = Revocation {
            issuer: Some(IssuerId::fresh()),
            scope: Some(Scope([7; 16])),
            reason: 1,
            place: u64::MAX,
            ..bare.clone()
        };
        for revocation in [bare, full] {
            let bytes = revocation.encode();
            assert_eq!(Revocation::decode(&bytes).unwrap(), revocation);
            for length in 0..bytes.len() {
                assert!(Revocation::decode(&bytes[..length]).is_err(), "{length}");
            }
            assert!(Revocation::decode(&[&bytes[..], &[0]].concat()).is_err());
        }
        for issuer_name in [None, Some([3; 16])] {
            let entry = JournalEntry {
                at: Time::from_second(1_800_000_000),
                not_after: Time::from_second(-1),
                reason: 4,
                issuer_name,
            };
            assert_eq!(JournalEntry::decode(&entry.encode()).unwrap(), entry);
            assert!(JournalEntry::decode(&entry.encode()[..17]).is_err());
        }
    }
}
