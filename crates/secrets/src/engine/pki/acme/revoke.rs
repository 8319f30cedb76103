//! `revoke-cert` (RFC 8555, 7.6): by the account that got a certificate, or by whoever has its key.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use chancery_issuance::Certificate;
use serde::Deserialize;
use serde_json::json;

use super::super::Pki;
use super::super::revocations::Recorded;
use super::super::revoke::Revoked;
use super::account::payload;
use super::finalize::issued;
use super::json_answer;
use super::jws::{Jwk, Jws};
use super::problem::{Outcome, Problem, ProblemKind};
use super::records::AccountRecord;
use crate::engine::Call;
use crate::response::Response;

/// Reasons (RFC 5280, 5.3.1) that the holder of a leaf can have: unspecified, keyCompromise, affiliationChanged, superseded,
/// cessationOfOperation.
const REASONS: [u8; 5] = [0, 1, 3, 4, 5];

#[derive(Deserialize)]
struct RevokeCertificate {
    certificate: Option<String>,
    #[serde(default)]
    reason: Option<i64>,
}

/// Who asks for a revocation.
pub(super) enum Revoker<'a> {
    /// An account.
    Account(&'a AccountRecord),
    /// Whoever has this key.
    Key(&'a Jwk),
}

impl Pki {
    /// `revoke-cert`
    pub(super) async fn revoke_certificate(
        &self,
        call: &Call,
        jws: &Jws,
        revoker: Revoker<'_>,
    ) -> Outcome<Response> {
        let RevokeCertificate { certificate, reason } = payload(&jws.payload)?;
        let text = certificate
            .filter(|text| !text.is_empty())
            .ok_or_else(|| Problem::malformed("bad request was lacking required field 'certificate'"))?;
        let reason = reason.unwrap_or(0);
        let reason =
            u8::try_from(reason).ok().filter(|reason| REASONS.contains(reason)).ok_or_else(|| {
                let detail = format!("the reason {reason} is none that is offered here: {REASONS:?}");
                Problem::new(ProblemKind::BadRevocationReason, detail)
            })?;
        let der = BASE64URL
            .decode(text)
            .map_err(|error| Problem::malformed(format!("failed to base64 decode certificate: {error}")))?;
        let certificate = Certificate::from_der(&der)
            .map_err(|error| Problem::malformed(format!("failed to parse certificate: {error}")))?;
        let serial = certificate.serial_number();
        let refused = |why: &str| Problem::malformed(format!("unable to revoke certificate: {why}"));
        match self.store.certificate(&serial).await? {
            // Nobody revokes by a number alone: what is shown must be what was signed.
            Some(stored) if stored.der == der => {}
            Some(_) => return Err(refused("supplied certificate does not match CA's stored value").into()),
            None => return Err(refused("no certificate with this serial was issued here").into()),
        }
        match revoker {
            Revoker::Account(account) => {
                let owner = issued(self, &serial).await?;
                if owner.is_none_or(|owner| owner.value.account != account.id) {
                    let why = "no certificate with this serial was issued for this account";
                    return Err(refused(why).into());
                }
            }
            Revoker::Key(key) if certificate.public_key().is_some_and(|public| key.is(public)) => {}
            Revoker::Key(_) => {
                return Err(refused(
                    "unable to verify proof of possession of private key provided by proxy: provided private key does \
                     not match certificate's public key",
                )
                .into());
            }
        }
        match self.revoke_serial(&serial, reason, call.now).await? {
            Revoked::Yes(Recorded::Now(revocation)) => Ok(json_answer(&json!({
                "revocation_time": revocation.at.as_second(),
                "revocation_time_rfc3339": revocation.at.to_string(),
                "state": "revoked",
            }))),
            Revoked::Yes(Recorded::Before(_)) => Err(Problem::new(
                ProblemKind::AlreadyRevoked,
                "unable to revoke certificate: the request specified a certificate to be revoked that has already been \
                 revoked",
            )
            .into()),
            Revoked::Expired => Err(refused("it has expired").into()),
            Revoked::NotFound => Err(refused("no certificate with this serial was issued here").into()),
        }
    }
}
