//! `ocsp`: whether a certificate is revoked (RFC 6960), asked by anybody.
//!
//! An answer costs a look into a table for the issuer, a read of storage for each certificate, and a signature. It is
//! signed by the issuer itself, and speaks for that one: certificates of others in the same request are unknown to it.
//! What would be signed again byte for byte, as of the same certificate in the same second, is not ([`Answers`]).
//!
//! Errors are OCSP's own, with the status codes that the peer gives them.

use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use bytes::Bytes;
use chancery_api::fields;
use chancery_issuance::{
    CertId, CertStatus, Certificate, OcspRefusal, OcspRequest, OcspResponse, PreparedResponse, Responder,
    SerialNumber, SignatureAlgorithm, Signer, Time,
};
use jiff::Timestamp;
use quick_cache::sync::Cache;

use super::Pki;
use super::authorities::{Authorities, Authority};
use super::heavy;
use super::records::IssuerId;
use crate::engine::Call;
use crate::error::{Error, Kind};
use crate::response::Response;

/// The media type of answers (RFC 6960, A.2).
const ANSWER: &str = "application/ocsp-response";

/// Room for [`OcspRequest::MAX_CERTIFICATES`] with the longest digests, and a nonce.
const MAX_REQUEST: usize = 32 << 10;

/// Answers kept at a time: about 2 KiB each.
const ANSWERS_IN_MEMORY: usize = 512;

/// What was answered last, by what was signed for it: whoever asks the same within the same second gets the same signature.
///
/// Everything that an answer says, its times and the certificate's status among it, is in what was signed, and is found
/// out anew for each request. So nothing that is kept can be out of date.
pub(super) struct Answers(Cache<Said, Bytes>);

/// What an issuer signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Said {
    issuer: IssuerId,
    algorithm: SignatureAlgorithm,
    to_be_signed: [u8; 32],
}

impl Default for Answers {
    fn default() -> Self {
        Self(Cache::new(ANSWERS_IN_MEMORY))
    }
}

impl Said {
    fn new(issuer: IssuerId, prepared: &PreparedResponse) -> Self {
        let mut to_be_signed = [0; 32];
        to_be_signed.copy_from_slice(digest(&SHA256, prepared.to_be_signed()).as_ref());
        Self { issuer, algorithm: prepared.algorithm(), to_be_signed }
    }
}

fields! {
    /// A request in a path.
    #[derive(Debug)]
    pub(super) struct OcspInPath {
        path {
            /// The DER request in base64, slashes and all.
            req: String,
        }
    }
}

/// Why there is no answer.
enum Unanswered {
    Refused(OcspRefusal),
    Failed(Error),
}

impl From<OcspRefusal> for Unanswered {
    fn from(refusal: OcspRefusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<Error> for Unanswered {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl Unanswered {
    fn into_response(self) -> Response {
        let refusal = match self {
            Self::Refused(refusal) => refusal,
            Self::Failed(error) if matches!(error.kind, Kind::Busy | Kind::Sealed) => OcspRefusal::TryLater,
            Self::Failed(error) => {
                tracing::error!(%error, cause = ?error.source, "an OCSP request could not be answered");
                OcspRefusal::InternalError
            }
        };
        let status = match refusal {
            OcspRefusal::MalformedRequest => 400,
            OcspRefusal::Unauthorized => 401,
            OcspRefusal::InternalError => 500,
            OcspRefusal::TryLater => 503,
        };
        Response::raw(ANSWER, refusal.to_der().to_vec()).status(status)
    }
}

impl Pki {
    /// POST `ocsp`
    pub(super) async fn ocsp(self: Arc<Self>, call: Call) -> Result<Response, Error> {
        Ok(self.answered(Some(call.body), call.now).await)
    }

    /// GET `ocsp/{req}`
    pub(super) async fn ocsp_in_path(
        self: Arc<Self>,
        call: Call,
        body: OcspInPath,
    ) -> Result<Response, Error> {
        // Many clients leave the padding out, which says nothing.
        let text = body.req.trim_end_matches('=');
        let request = data_encoding::BASE64_NOPAD.decode(text.as_bytes()).ok().map(Bytes::from);
        Ok(self.answered(request, call.now).await)
    }

    /// `None` stands for a request that was not even base64.
    async fn answered(&self, request: Option<Bytes>, now: Timestamp) -> Response {
        match self.ocsp_answer(request, now).await {
            Ok(answer) => Response::raw(ANSWER, answer),
            Err(unanswered) => unanswered.into_response(),
        }
    }

    async fn ocsp_answer(&self, request: Option<Bytes>, now: Timestamp) -> Result<Bytes, Unanswered> {
        let authorities = self.store.authorities().await?;
        let settings = &authorities.crl.value;
        if settings.ocsp_disable {
            return Err(OcspRefusal::Unauthorized.into());
        }
        let der = request.filter(|der| der.len() <= MAX_REQUEST).ok_or(OcspRefusal::MalformedRequest)?;
        let request = OcspRequest::from_der(&der).map_err(|_| OcspRefusal::MalformedRequest)?;
        let (issuers, authority) = speaker(&authorities, &request).ok_or(OcspRefusal::Unauthorized)?;

        let mut statuses = Vec::with_capacity(request.certificates().len());
        for id in request.certificates() {
            let named = authorities.named_by_ocsp(id.issuer());
            let status = if named.is_empty() || named != issuers {
                CertStatus::Unknown
            } else {
                self.certificate_status(id, authority).await?
            };
            statuses.push((*id, status));
        }
        let this_update = Time::from(now);
        let expiry = settings.ocsp_expiry();
        let next_update = (!expiry.is_zero()).then(|| this_update.plus(expiry));
        let response = OcspResponse { statuses, this_update, next_update, nonce: request.nonce() };
        let responder = responder(authority)?;
        let key = responder.signer.public_key().spec();
        // What has a nonce is never asked for again; what names many certificates hardly ever.
        let is_kept = response.nonce.is_none() && response.statuses.len() == 1;
        let prepared = response.prepare(&responder);
        let said = is_kept.then(|| Said::new(authority.record.id, &prepared));
        if let Some(answer) = said.and_then(|said| self.ocsp_answers.0.get(&said)) {
            return Ok(answer);
        }
        let signed = heavy::sign_for_anybody(key, move || prepared.sign()).await?;
        let answer: Bytes = signed.map_err(|error| Error::internal("internal error", error))?.into();
        if let Some(said) = said {
            self.ocsp_answers.0.insert(said, answer.clone());
        }
        Ok(answer)
    }

    /// What is known of a certificate of this issuer, or of another one with its name and key.
    async fn certificate_status(&self, id: &CertId<'_>, issuer: &Authority) -> Result<CertStatus, Error> {
        let Some(serial) = id.serial_number() else { return Ok(CertStatus::Good) };
        let Some(revocation) = self.store.remembered_revocation(&serial).await? else {
            return Ok(CertStatus::Good);
        };
        let ours = match revocation.scope {
            Some(scope) => scope == issuer.scope,
            None => self.was_signed_by(&serial, &issuer.certificate).await?,
        };
        let revoked = CertStatus::Revoked { at: revocation.at.into(), reason: revocation.reason };
        // As the peer has it: one of another issuer is none that this one knows.
        Ok(if ours { revoked } else { CertStatus::Unknown })
    }

    /// Whether a revoked certificate is this issuer's, although nobody knew whose it is when it was revoked.
    async fn was_signed_by(&self, serial: &SerialNumber, issuer: &Certificate) -> Result<bool, Error> {
        let Some(certificate) = self.store.known_certificate(serial).await? else {
            // Nobody can tell any more. One revocation too many does less harm than one too few.
            return Ok(true);
        };
        Ok(certificate.issuer_der() == issuer.subject_der() && certificate.is_signed_by(issuer))
    }
}

/// Who answers, and the issuers that the answer speaks for: those of the first certificate whose issuer is known, of
/// which one must have the usage for it. If no issuer is known the default issuer says just that, speaking for
/// none. `None` if nobody may answer.
fn speaker<'a>(
    authorities: &'a Authorities,
    request: &OcspRequest<'_>,
) -> Option<(&'a [IssuerId], &'a Arc<Authority>)> {
    let named = request.certificates().iter().map(|id| authorities.named_by_ocsp(id.issuer()));
    let answers =
        |authority: &&Arc<Authority>| authority.record.usage.ocsp_signing && authority.key.is_some();
    match named.into_iter().find(|issuers| !issuers.is_empty()) {
        Some(issuers) => {
            let authority = issuers.iter().filter_map(|id| authorities.issuer(id)).find(answers)?;
            Some((issuers, authority))
        }
        None => Some((&[], authorities.default_issuer().filter(answers)?)),
    }
}

fn responder(authority: &Authority) -> Result<Responder<'_>, Error> {
    let lost = || Error::internal("internal error", "an issuer that answers has no key");
    let signer: Arc<dyn Signer> = Arc::clone(authority.key.as_ref().ok_or_else(lost)?.private_key()?) as _;
    let lists = SignatureAlgorithm::from_name(&authority.record.revocation_signature_algorithm);
    let algorithm = SignatureAlgorithm::for_ocsp(signer.public_key().spec(), lists)
        .map_err(|error| Error::internal("internal error", error))?;
    Ok(Responder { certificate: &authority.certificate, signer, algorithm })
}
