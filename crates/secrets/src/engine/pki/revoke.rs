//! `revoke`, `revoke-with-key`, `issuer/{ref}/revoke`, and leases that end: one way into the records.
//!
//! A revocation is durable when it is answered, and every CRL that is read later names it (unless
//! `config/crl` says that CRLs are built in the background). Certificates of issuers are revoked by
//! their own path, which also ends their use.

use std::collections::BTreeMap;
use std::sync::Arc;

use chancery_api::fields;
use chancery_issuance::{Certificate, CertificateError, KeyError, PrivateKey, SerialNumber, Signer};
use jiff::Timestamp;
use serde::Serialize;

use super::Pki;
use super::authorities::{Authorities, Authority};
use super::certs::parsed;
use super::issuers::{IssuerReference, describe};
use super::records::{IssuerId, IssuerRecord};
use super::revocations::{NewRevocation, Recorded, Revocation};
use crate::engine::Call;
use crate::error::Error;
use crate::response::Response;

fields! {
    /// Names a certificate to revoke.
    #[derive(Debug)]
    pub(super) struct RevokeRequest {
        body {
            /// The serial number: hexadecimal bytes, with `:` or `-` between them.
            serial_number: Option<String>,
            /// The certificate in PEM, which need not be stored here.
            certificate: Option<String>,
        }
    }
}

fields! {
    /// Names a certificate to revoke, and shows its key.
    #[derive(Debug)]
    pub(super) struct RevokeWithKeyRequest {
        body {
            /// The serial number: hexadecimal bytes, with `:` or `-` between them.
            serial_number: Option<String>,
            /// The certificate in PEM, which need not be stored here.
            certificate: Option<String>,
            /// Its private key in PEM.
            private_key: Option<String>,
        }
    }
}

/// Said of a root that is revoked.
const SELF_SIGNED: &str = "This issuer is a self-signed (potentially root) certificate. This means it may not be considered revoked if there is not an external, cross-signed variant of this certificate. This issuer's serial number will not appear on its own CRL.";

/// Said of an issuer that nobody here signed but itself.
const NO_PARENT: &str = "This issuer lacks another parent issuer within the mount. This means it will not appear on any other CRLs and may not be considered revoked by clients. Consider adding this issuer to its issuer's CRL as well if it is not self-signed.";

/// Said of the default issuer.
const IS_DEFAULT: &str = "This issuer is currently configured as the default issuer for this mount; operations such as certificate issuance may not work until a new default issuer is selected.";

/// What became of a wish to revoke.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Revoked {
    /// It is revoked: by this wish, or by an earlier one.
    Yes(Recorded),
    /// It has expired, and `config/crl` does not want such on a CRL.
    Expired,
    /// No certificate with this serial number is stored here.
    NotFound,
}

/// A certificate that is to be revoked.
struct Candidate {
    certificate: Certificate,
    /// Who signed it, as its record has it.
    issuer: Option<IssuerId>,
    /// Whether it is stored here already.
    stored: bool,
}

#[derive(Serialize)]
struct RevokeAnswer {
    revocation_time: i64,
    revocation_time_rfc3339: String,
    state: &'static str,
}

impl Pki {
    /// POST `revoke`
    pub(super) async fn revoke(self: Arc<Self>, call: Call, body: RevokeRequest) -> Result<Response, Error> {
        let wanted = Wanted::new(body.serial_number, body.certificate)?;
        let candidate = self.candidate(&wanted).await?;
        self.answer_revocation(candidate, call.now).await
    }

    /// POST `revoke-with-key`
    pub(super) async fn revoke_with_key(
        self: Arc<Self>,
        call: Call,
        body: RevokeWithKeyRequest,
    ) -> Result<Response, Error> {
        let wanted = Wanted::new(body.serial_number, body.certificate)?;
        let key = body.private_key.ok_or_else(|| {
            Error::invalid("Must have private key to revoke via the /revoke-with-key path.")
        })?;
        if key.len() < 64 {
            return Err(Error::invalid(
                "Provided data for private_key was too short; perhaps a path was passed to the API rather than the contents of a PEM file?",
            ));
        }
        let candidate = self.candidate(&wanted).await?;
        check_possession(&key, &candidate.certificate)?;
        self.answer_revocation(candidate, call.now).await
    }

    /// POST `issuer/{issuer_ref}/revoke`
    pub(super) async fn revoke_issuer(
        self: Arc<Self>,
        call: Call,
        body: IssuerReference,
    ) -> Result<Response, Error> {
        let mut change = self.store.change().await?;
        let issuer = Arc::clone(change.before.find_issuer(&body.issuer_ref)?);
        if issuer.record.revoked.is_some() {
            return Response::data(&describe(&issuer));
        }
        let id = issuer.record.id;
        let mut record = IssuerRecord { revoked: Some(call.now), ..issuer.record.clone() };
        record.usage.issuing_certificates = false;
        record.last_modified = call.now;
        change.put_issuer(&record)?;
        // It may have been revoked like any other certificate before it was imported.
        if self.store.revocation(&issuer.certificate.serial_number()).await?.is_none() {
            // Its own CRL does not speak of it: whoever trusts that CRL trusts the issuer.
            let signer = signer_of(&change.before, &issuer);
            let new = NewRevocation {
                certificate: &issuer.certificate,
                issuer: signer.map(|signer| (signer.record.id, signer.scope)),
                at: call.now,
                reason: 0,
                listed: signer.is_none_or(|signer| signer.record.id != id),
            };
            change.put_revocation(&new).await?;
        }
        let after = change.commit().await?;
        let issuer =
            after.issuer(&id).ok_or_else(|| Error::internal("internal error", "the issuer is gone"))?;
        let mut response = Response::data(&describe(issuer))?;
        response.warnings = after.crl_warnings();
        if issuer.certificate.is_self_signed() {
            response.warnings.push(SELF_SIGNED.to_owned());
        }
        match signer_of(&after, issuer).filter(|signer| signer.record.id != id) {
            // As the peer has it, whoever relies on that CRL is not kept waiting for the next one.
            Some(signer) => self.lists.of(signer.scope).force(),
            None => response.warnings.push(NO_PARENT.to_owned()),
        }
        if after.issuers_config.value.default == Some(id) {
            response.warnings.push(IS_DEFAULT.to_owned());
        }
        Ok(response)
    }

    /// Revokes the certificate with this serial number, if it is stored here. `reason` is a CRLReason
    /// (RFC 5280, 5.3.1), 0 for none.
    pub(super) async fn revoke_serial(
        &self,
        serial: &SerialNumber,
        reason: u8,
        now: Timestamp,
    ) -> Result<Revoked, Error> {
        match self.stored_candidate(serial).await? {
            Some(candidate) => self.revoke_candidate(candidate, reason, now).await,
            None => Ok(Revoked::NotFound),
        }
    }

    /// What a lease gave out is taken back. A certificate that is not stored here any more, or has
    /// expired, or is an authority's, is no reason to try again.
    pub(super) async fn revoke_leased(
        &self,
        internal: &BTreeMap<String, String>,
        now: Timestamp,
    ) -> Result<(), Error> {
        let serial = internal.get("serial_number").and_then(|serial| serial.parse().ok());
        let Some(serial) = serial else { return Ok(()) };
        match self.stored_candidate(&serial).await? {
            Some(candidate) if !candidate.certificate.is_ca() => {
                self.revoke_candidate(candidate, 0, now).await.map(drop)
            }
            _ => Ok(()),
        }
    }

    async fn answer_revocation(&self, candidate: Candidate, now: Timestamp) -> Result<Response, Error> {
        let serial = candidate.certificate.serial_number();
        let outcome = self.revoke_candidate(candidate, 0, now).await?;
        let first = matches!(outcome, Revoked::Yes(Recorded::Now(_)));
        match outcome {
            Revoked::Yes(Recorded::Now(revocation) | Recorded::Before(revocation)) => {
                let Revocation { at, .. } = revocation;
                let mut response = Response::data(&RevokeAnswer {
                    revocation_time: at.as_second(),
                    revocation_time_rfc3339: at.to_string(),
                    state: "revoked",
                })?;
                if first {
                    response.warnings = self.revocation_warnings().await?;
                }
                Ok(response)
            }
            Revoked::Expired => Ok(Response::empty().warn(format!(
                "certificate with serial {serial} already expired; refusing to add to CRL. Enable 'AllowExpiredCertRevocation' to allow revoking expired certificates."
            ))),
            Revoked::NotFound => Err(not_found(&serial.to_string())),
        }
    }

    /// What the peer says where a revocation has it build CRLs.
    async fn revocation_warnings(&self) -> Result<Vec<String>, Error> {
        let authorities = self.store.authorities().await?;
        let config = &authorities.crl.value;
        Ok(if config.disable || config.auto_rebuild { Vec::new() } else { authorities.crl_warnings() })
    }

    /// Where every revocation but that of an issuer ends.
    async fn revoke_candidate(
        &self,
        candidate: Candidate,
        reason: u8,
        now: Timestamp,
    ) -> Result<Revoked, Error> {
        let Candidate { certificate, issuer, stored } = candidate;
        let authorities = self.store.authorities().await?;
        let serial = certificate.serial_number();
        if let Some(own) = authorities.issuers().find(|one| one.certificate.serial_number() == serial) {
            return Err(Error::invalid(format!(
                "adding issuer (id: {}) to its own CRL is not allowed",
                own.record.id
            )));
        }
        if let Some(before) = self.store.revocation(&serial).await? {
            return Ok(Revoked::Yes(Recorded::Before(before)));
        }
        // As the peer has it: leases end with whole seconds, so that two of them do not matter.
        let expired = certificate.not_after().as_second() < now.as_second().saturating_add(2);
        if expired && !authorities.crl.value.allow_expired_cert_revocation {
            return Ok(Revoked::Expired);
        }
        let signer = issuer
            .and_then(|id| authorities.issuer(&id))
            .or_else(|| authorities.issuer_of(&certificate))
            .map(|issuer| (issuer.record.id, issuer.scope));
        let new = NewRevocation { certificate: &certificate, issuer: signer, at: now, reason, listed: true };
        let recorded = self.store.record_revocation(&new, !stored).await?;
        if signer.is_none() {
            // Its issuer may have come while this was written, and looked for it too early.
            let after = self.store.authorities().await?;
            if let Some(issuer) = after.issuer_of(&certificate) {
                let place = (issuer.record.id, issuer.scope);
                self.store.adopt_revocations(place, &issuer.certificate).await?;
            }
        }
        Ok(Revoked::Yes(recorded))
    }

    async fn candidate(&self, wanted: &Wanted) -> Result<Candidate, Error> {
        match wanted {
            Wanted::Serial(text) if text.is_empty() => {
                Err(Error::invalid("The serial number must be provided"))
            }
            Wanted::Serial(text) => {
                let serial = text.parse().map_err(|_| not_found(text))?;
                self.stored_candidate(&serial).await?.ok_or_else(|| not_found(text))
            }
            Wanted::Certificate(pem) => self.presented_candidate(&read_certificate(pem)?).await,
        }
    }

    async fn stored_candidate(&self, serial: &SerialNumber) -> Result<Option<Candidate>, Error> {
        let Some(record) = self.store.certificate(serial).await? else { return Ok(None) };
        let certificate = parsed(&record)?;
        Ok(Some(Candidate { certificate, issuer: record.issuer, stored: true }))
    }

    /// A certificate that somebody shows: the one that is stored here, or one that an issuer here signed.
    async fn presented_candidate(&self, presented: &Certificate) -> Result<Candidate, Error> {
        if let Some(stored) = self.stored_candidate(&presented.serial_number()).await? {
            if stored.certificate != *presented {
                return Err(Error::invalid(
                    "certificate with same serial but unequal value already present in this cluster's storage; refusing to revoke",
                ));
            }
            return Ok(stored);
        }
        let authorities = self.store.authorities().await?;
        let issuer = authorities.issuer_of(presented).ok_or_else(|| {
            Error::invalid(
                "unable to verify signature on presented cert from any present issuer in this mount; certificates from previous CAs will need to have their issuing CA and key re-imported if revocation is necessary",
            )
        })?;
        Ok(Candidate { certificate: presented.clone(), issuer: Some(issuer.record.id), stored: false })
    }
}

/// Which certificate a request means.
enum Wanted {
    Serial(String),
    /// In PEM.
    Certificate(String),
}

impl Wanted {
    fn new(serial_number: Option<String>, certificate: Option<String>) -> Result<Self, Error> {
        match (serial_number, certificate) {
            (None, None) => {
                Err(Error::invalid("The serial number or certificate to revoke must be provided."))
            }
            (Some(_), Some(_)) => {
                Err(Error::invalid("Must provide either the certificate or the serial to revoke; not both."))
            }
            (Some(serial), None) => Ok(Self::Serial(serial)),
            (None, Some(pem)) => Ok(Self::Certificate(pem)),
        }
    }
}

fn read_certificate(pem: &str) -> Result<Certificate, Error> {
    if pem.len() < 75 {
        return Err(Error::invalid(
            "provided certificate data was too short; perhaps a path was passed to the API rather than the contents of a PEM file",
        ));
    }
    Certificate::from_pem(pem).map_err(|error| match error {
        CertificateError::Missing => Error::invalid("certificate contains no PEM data"),
        error => Error::invalid(error.to_string()),
    })
}

fn not_found(serial: &str) -> Error {
    Error::invalid(format!("certificate with serial {serial} not found."))
}

/// Whether whoever asks holds the certificate's key.
fn check_possession(pem: &str, certificate: &Certificate) -> Result<(), Error> {
    let key = PrivateKey::from_pem(pem).map_err(|error| match error {
        KeyError::Missing => Error::invalid("provided key PEM block contained no data or failed to parse"),
        error => Error::invalid(format!("failed to parse provided private key: {error}")),
    })?;
    let public = certificate.public_key().ok_or_else(|| {
        Error::invalid(
            "certificate has an unknown public key algorithm; unable to validate provided private key; ask an admin to revoke this certificate instead",
        )
    })?;
    if key.spec().key_type() != public.spec().key_type() {
        return Err(Error::invalid("provided private key type does not match certificate's public key type"));
    }
    if key.public_key() != public {
        return Err(Error::invalid("provided private key does not match certificate's public key"));
    }
    Ok(())
}

/// The issuer here that signed another one: another certificate if there is one, else itself.
fn signer_of<'a>(authorities: &'a Authorities, issuer: &Authority) -> Option<&'a Arc<Authority>> {
    let certificate = &issuer.certificate;
    let signed = |one: &&Arc<Authority>| {
        one.certificate.subject_der() == certificate.issuer_der()
            && certificate.is_signed_by(&one.certificate)
    };
    let mut signers = authorities.issuers().filter(signed).peekable();
    let first = signers.peek().copied();
    signers.find(|one| one.record.id != issuer.record.id).or(first)
}
