//! Issuers that have expired: all but the default one go, their keys stay.

use super::Pki;
use super::status::{Run, Stop};
use crate::engine::pki::import::{Fates, rechain};
use crate::engine::pki::records::IssuerId;

impl Pki {
    /// Removes the issuers that expired long enough ago, in one change.
    pub(super) async fn tidy_expired_issuers(&self, run: &Run) -> Result<(), Stop> {
        let buffer = run.settings().issuer_safety_buffer.0;
        let mut change = self.store.change().await?;
        let default = change.before.issuers_config.value.default;
        let mut gone: Vec<IssuerId> = Vec::new();
        for issuer in change.before.issuers() {
            let (id, name) = (issuer.record.id, issuer.record.name.as_str());
            if issuer.certificate.not_after().plus(buffer).to_timestamp() >= run.started() {
                continue;
            }
            if default == Some(id) {
                tracing::warn!(issuer = %id, name, "the default issuer has expired; it is not removed");
                continue;
            }
            // With this the certificate can be imported again.
            let (key, certificate) =
                (issuer.record.key.map(|key| key.to_string()), &issuer.record.certificate);
            tracing::info!(issuer = %id, name, key, certificate, "an expired issuer is removed; its key stays");
            gone.push(id);
        }
        if gone.is_empty() {
            return Ok(());
        }
        for id in &gone {
            change.delete_issuer(id)?;
        }
        rechain(&mut change, &Fates { gone: &gone, ..Fates::default() }, Vec::new())?;
        change.commit().await?;
        Ok(())
    }
}
