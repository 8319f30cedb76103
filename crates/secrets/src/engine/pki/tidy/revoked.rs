//! The walk through the revocations: those of certificates that have expired are forgotten, and issuers
//! are found anew for those that know none.

use chancery_issuance::Certificate;
use chancery_storage::{Name, Position, StorageError, Writes};

use super::Pki;
use super::certificates::BATCH;
use super::status::{Progress, Run, Stop};
use crate::engine::pki::authorities::Authorities;
use crate::engine::pki::records::{CertificateRecord, IssuerId};
use crate::engine::pki::revocations::StoredRevocation;
use crate::engine::pki::store::collection;
use crate::error::Error;
use crate::measures::precise;

/// What the walk has come to.
#[derive(Default)]
struct Seen {
    all: usize,
    forgotten: usize,
    missing_issuers: usize,
    found_issuers: usize,
    /// Issuers that were given what waited for them.
    adopted: Vec<IssuerId>,
}

impl Pki {
    /// Does to the revocations what the run's settings say.
    pub(super) async fn tidy_revocations(&self, run: &Run) -> Result<(), Stop> {
        let _walking = self.store.counts.walk().await;
        let page_size = run.settings().page();
        let pausing = !run.settings().pause_duration.is_zero();
        let mut seen = Seen::default();
        let mut after = None::<Name>;
        loop {
            // Issuers may come and go while the walk lasts.
            let authorities = self.store.authorities().await?;
            let from = after.as_ref().map_or(Position::Start, Position::After);
            let page = self.store.view().scan(collection::REVOKED, from, page_size).await?;
            let (length, last) = (page.len(), page.last().map(|(name, _)| name.clone()));
            let mut batch = Vec::new();
            for (index, (name, record)) in page.into_iter().enumerate() {
                run.progress(Progress::Revoked { index, length, earlier: seen.all });
                run.pause().await?;
                let stored = StoredRevocation::read(name.clone(), &record);
                let Some(stored) = run.readable(stored, &name) else { continue };
                if self.is_to_be_forgotten(run, &stored) {
                    batch.push(stored);
                } else if run.settings().tidy_revoked_cert_issuer_associations {
                    self.find_issuer(run, &authorities, &stored, &mut seen).await?;
                }
                if batch.len() >= BATCH || (pausing && !batch.is_empty()) {
                    seen.forgotten += self.forget(run, std::mem::take(&mut batch)).await?;
                }
            }
            seen.forgotten += self.forget(run, batch).await?;
            seen.all += length;
            run.measures().revocation.set(precise(seen.all));
            match last {
                Some(last) if length == page_size => after = Some(last),
                _ => break,
            }
        }
        let Seen { all, forgotten, missing_issuers, found_issuers, adopted: _ } = seen;
        run.measures().walked_revocations(all, forgotten, missing_issuers, found_issuers);
        Ok(())
    }

    fn is_to_be_forgotten(&self, run: &Run, stored: &StoredRevocation) -> bool {
        let settings = run.settings();
        let end = stored.revocation.not_after.plus(settings.revoked_safety_buffer().0);
        settings.tidy_revoked_certs && end.to_timestamp() < run.started()
    }

    /// Forgets a batch, with the certificates if they are still stored. Answers how many.
    async fn forget(&self, run: &Run, batch: Vec<StoredRevocation>) -> Result<usize, Stop> {
        if batch.is_empty() {
            return Ok(0);
        }
        match self.commit_forgetting(run, &batch).await {
            Ok(()) => Ok(batch.len()),
            Err(StorageError::Conflict) => {
                let mut forgotten = 0;
                for one in &batch {
                    match self.commit_forgetting(run, std::slice::from_ref(one)).await {
                        Ok(()) => forgotten += 1,
                        // Its issuer came meanwhile, say; the next run finds it again.
                        Err(StorageError::Conflict) => {}
                        Err(error) => return Err(error.into()),
                    }
                }
                Ok(forgotten)
            }
            Err(error) => Err(error.into()),
        }
    }

    async fn commit_forgetting(&self, run: &Run, batch: &[StoredRevocation]) -> Result<(), StorageError> {
        let view = self.store.view();
        let mut writes = Writes::new();
        let mut stored = Vec::new();
        for StoredRevocation { name, .. } in batch {
            if view.get(collection::CERTIFICATES, name).await?.is_some() {
                stored.push(name);
                writes.delete(view, collection::CERTIFICATES, name)?;
            }
        }
        self.store.forget_revocations(batch, writes).await?;
        self.store.counts.removed(stored);
        self.store.counts.forgotten(batch.len());
        run.tally(|tally| tally.revoked += batch.len());
        Ok(())
    }

    /// Finds the issuer of a revoked certificate that names none of those that are here.
    async fn find_issuer(
        &self,
        run: &Run,
        authorities: &Authorities,
        stored: &StoredRevocation,
        seen: &mut Seen,
    ) -> Result<(), Error> {
        let known = stored.revocation.issuer;
        if known.is_some_and(|id| authorities.issuer(&id).is_some()) {
            return Ok(());
        }
        seen.missing_issuers += 1;
        run.tally(|tally| tally.missing_issuers += 1);
        let record = self.store.view().get(collection::CERTIFICATES, &stored.name).await?;
        let certificate = record
            .as_ref()
            .and_then(|record| CertificateRecord::der_within(&record.value))
            .and_then(|der| Certificate::from_der(der).ok());
        let issuer = certificate.as_ref().and_then(|certificate| authorities.issuer_of(certificate));
        let changed = match (issuer, stored.revocation.scope) {
            // It waits among those without an issuer, from where it is adopted.
            (Some(issuer), None) => {
                let id = issuer.record.id;
                if !seen.adopted.contains(&id) {
                    self.store.adopt_revocations((id, issuer.scope), &issuer.certificate).await?;
                    seen.adopted.push(id);
                }
                true
            }
            // Whose CRL speaks of it does not change with the issuer that stands for it.
            (issuer, Some(_)) => {
                let issuer: Option<IssuerId> = issuer.map(|issuer| issuer.record.id);
                issuer != known && self.store.name_issuer(stored, issuer).await?
            }
            (None, None) => false,
        };
        seen.found_issuers += usize::from(changed && issuer.is_some());
        Ok(())
    }
}
