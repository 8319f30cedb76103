//! The walk through the certificates: page by page in the order of their birth.

use chancery_issuance::Certificate;
use chancery_storage::{Name, Position, Record, StorageError, Writes};

use super::Pki;
use super::status::{Progress, Run, Stop};
use crate::engine::pki::records::CertificateRecord;
use crate::engine::pki::revocations::StoredRevocation;
use crate::engine::pki::store::collection;
use crate::error::Error;
use crate::measures::precise;

/// Removals in one commit: few enough that nobody who signs waits for them.
pub(super) const BATCH: usize = 100;

/// A certificate that is to go, as it was read.
struct Removal {
    name: Name,
    record: Record,
    why: Why,
}

/// Why a certificate goes.
enum Why {
    /// It has expired, and nobody revoked it.
    Expired,
    /// It has expired, and was revoked: with that, if it is to be forgotten.
    Revoked(Option<StoredRevocation>),
    /// It cannot be read.
    Invalid,
}

/// What a run has told the log already.
#[derive(Default)]
struct Told {
    invalid: bool,
    foreign: bool,
}

impl Pki {
    /// Removes the certificates that the run's settings speak of.
    pub(super) async fn tidy_certificates(&self, run: &Run) -> Result<(), Stop> {
        let _walking = self.store.counts.walk().await;
        let page_size = run.settings().page();
        let pausing = !run.settings().pause_duration.is_zero();
        let (mut seen, mut removed, mut after) = (0, 0, None::<Name>);
        let mut told = Told::default();
        loop {
            let from = after.as_ref().map_or(Position::Start, Position::After);
            let page = self.store.view().scan(collection::CERTIFICATES, from, page_size).await?;
            let (length, last) = (page.len(), page.last().map(|(name, _)| name.clone()));
            let mut batch = Vec::new();
            for (index, (name, record)) in page.into_iter().enumerate() {
                run.progress(Progress::Certificates { index, earlier: seen });
                run.pause().await?;
                if let Some(why) = self.fate(run, &name, &record, &mut told).await? {
                    batch.push(Removal { name, record, why });
                }
                if batch.len() >= BATCH || (pausing && !batch.is_empty()) {
                    removed += self.remove(run, std::mem::take(&mut batch)).await?;
                }
                if index % BATCH == BATCH - 1 {
                    // Nothing above waits for anything unless something is removed.
                    tokio::task::yield_now().await;
                }
            }
            removed += self.remove(run, batch).await?;
            seen += length;
            run.measures().certificate.set(precise(seen));
            match last {
                Some(last) if length == page_size => after = Some(last),
                _ => break,
            }
        }
        run.measures().walked(seen, removed);
        Ok(())
    }

    /// Whether a certificate goes, and why.
    async fn fate(
        &self,
        run: &Run,
        name: &Name,
        record: &Record,
        told: &mut Told,
    ) -> Result<Option<Why>, Error> {
        let settings = run.settings();
        let Some(der) = CertificateRecord::der_within(&record.value) else {
            if !std::mem::replace(&mut told.foreign, true) {
                tracing::warn!(
                    serial = name.text(),
                    "a stored certificate has an unknown form and is left alone"
                );
            }
            return Ok(None);
        };
        let end = Certificate::end_within(der);
        let readable = end.is_ok() && !(settings.tidy_invalid_certs && Certificate::from_der(der).is_err());
        let Some(end) = end.ok().filter(|_| readable) else {
            if !std::mem::replace(&mut told.invalid, true) {
                let removed = settings.tidy_invalid_certs;
                tracing::warn!(serial = name.text(), removed, "a stored certificate cannot be read");
            }
            return Ok(settings.tidy_invalid_certs.then_some(Why::Invalid));
        };
        let (plain, revoked) = (settings.safety_buffer, settings.revoked_safety_buffer());
        let over = |buffer| end.plus(buffer).to_timestamp() < run.started();
        if !settings.tidy_cert_store || !over(plain.min(revoked).0) {
            return Ok(None);
        }
        Ok(match self.store.view().get(collection::REVOKED, name).await? {
            None => over(plain.0).then_some(Why::Expired),
            Some(_) if !over(revoked.0) => None,
            Some(record) if settings.tidy_revoked_certs => {
                let revocation = run.readable(StoredRevocation::read(name.clone(), &record), name);
                revocation.map(|revocation| Why::Revoked(Some(revocation)))
            }
            Some(_) => Some(Why::Revoked(None)),
        })
    }

    /// Removes a batch, in one commit unless somebody changes one of them meanwhile. Answers how many.
    async fn remove(&self, run: &Run, batch: Vec<Removal>) -> Result<usize, Stop> {
        if batch.is_empty() {
            return Ok(0);
        }
        match self.commit_removals(run, &batch).await {
            Ok(()) => Ok(batch.len()),
            Err(StorageError::Conflict) => {
                let mut removed = 0;
                for one in &batch {
                    match self.commit_removals(run, std::slice::from_ref(one)).await {
                        Ok(()) => removed += 1,
                        // Whoever changed it wins; the next run judges it anew.
                        Err(StorageError::Conflict) => {}
                        Err(error) => return Err(error.into()),
                    }
                }
                Ok(removed)
            }
            Err(error) => Err(error.into()),
        }
    }

    async fn commit_removals(&self, run: &Run, batch: &[Removal]) -> Result<(), StorageError> {
        let view = self.store.view();
        let mut writes = Writes::new();
        let mut forgotten = Vec::new();
        for Removal { name, record, why } in batch {
            writes.expect_unchanged(view, collection::CERTIFICATES, name, &record.version)?;
            match why {
                Why::Expired => drop(writes.expect_absent(view, collection::REVOKED, name)?),
                Why::Revoked(revocation) => forgotten.extend(revocation.clone()),
                Why::Invalid => {}
            }
            writes.delete(view, collection::CERTIFICATES, name)?;
        }
        self.store.forget_revocations(&forgotten, writes).await?;
        self.store.counts.removed(batch.iter().map(|one| &one.name));
        self.store.counts.forgotten(forgotten.len());
        run.tally(|tally| {
            tally.certificates += batch.len();
            tally.revoked += forgotten.len();
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::settings::Settings;
    use super::*;
    use crate::engine::pki::tests::{Bed, NOW};

    #[tokio::test]
    async fn a_certificate_that_changes_after_it_was_judged_stays_and_the_others_of_its_batch_go() {
        let bed = Bed::new().await;
        bed.role("web", json!({"allow_any_name": true, "key_type": "ec", "ttl": "1h"})).await;
        for name in ["a", "b", "c", "d"] {
            bed.write("issue/web", json!({"common_name": name})).await.unwrap();
        }
        let view = bed.engine.store.view();
        let page = view.scan(collection::CERTIFICATES, Position::Start, 10).await.unwrap();
        let names: Vec<Name> = page.iter().map(|(name, _)| name.clone()).collect();
        let [revoked, rewritten, removed, gone] = names.as_slice() else { panic!("four, not {page:?}") };
        let batch: Vec<Removal> =
            page.into_iter().map(|(name, record)| Removal { name, record, why: Why::Expired }).collect();

        view.put(collection::REVOKED, revoked, b"{}").await.unwrap();
        view.put(collection::CERTIFICATES, rewritten, b"anew").await.unwrap();
        view.delete(collection::CERTIFICATES, removed).await.unwrap();

        let run = bed.engine.tidy.board.begin(Settings::default(), NOW).unwrap();
        assert_eq!(bed.engine.remove(&run, batch).await.unwrap(), 1);
        let left = view.list(collection::CERTIFICATES, Position::Start, 10).await.unwrap();
        assert_eq!(left, [revoked.clone(), rewritten.clone()]);
        assert!(!left.contains(gone));
    }
}
