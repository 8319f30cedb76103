//! `crl`, `issuer/{ref}/crl` and their relations: CRLs handed out, in every form.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use chancery_api::fields::NoFields;
use chancery_issuance::crl_pem;
use jiff::Timestamp;
use serde_json::json;

use super::Pki;
use super::authorities::DEFAULT;
use super::crl::{Crl, Which};
use super::heavy;
use super::issuers::{IssuerReference, bare};
use crate::engine::Call;
use crate::error::{Error, Kind};
use crate::response::Response;

const DER: &str = "application/pkix-crl";
const PEM: &str = "application/x-pem-file";

/// Bytes beyond which PEM is written off the worker threads.
const LARGE: usize = 1024 * 1024;

impl Pki {
    /// GET `crl`
    pub(super) async fn crl_der(self: Arc<Self>, call: Call, _: NoFields) -> Result<Response, Error> {
        self.default_der(Which::Complete, call.now).await
    }

    /// GET `crl/delta`
    pub(super) async fn delta_crl_der(self: Arc<Self>, call: Call, _: NoFields) -> Result<Response, Error> {
        self.default_der(Which::Delta, call.now).await
    }

    /// GET `crl/pem`
    pub(super) async fn crl_as_pem(self: Arc<Self>, call: Call, _: NoFields) -> Result<Response, Error> {
        self.default_pem(Which::Complete, call.now).await
    }

    /// GET `crl/delta/pem`
    pub(super) async fn delta_crl_as_pem(
        self: Arc<Self>,
        call: Call,
        _: NoFields,
    ) -> Result<Response, Error> {
        self.default_pem(Which::Delta, call.now).await
    }

    /// GET `cert/crl`
    pub(super) async fn cert_crl(self: Arc<Self>, call: Call, _: NoFields) -> Result<Response, Error> {
        self.as_certificate(Which::Complete, call.now).await
    }

    /// GET `cert/delta-crl`
    pub(super) async fn cert_delta_crl(self: Arc<Self>, call: Call, _: NoFields) -> Result<Response, Error> {
        self.as_certificate(Which::Delta, call.now).await
    }

    /// GET `issuer/{issuer_ref}/crl`
    pub(super) async fn issuer_crl(
        self: Arc<Self>,
        call: Call,
        body: IssuerReference,
    ) -> Result<Response, Error> {
        let crl = self.crl_of(&body.issuer_ref, Which::Complete, call.now).await?;
        Response::data(&json!({ "crl": text(&pem(&crl).await?) }))
    }

    /// GET `issuer/{issuer_ref}/crl/delta`
    pub(super) async fn issuer_delta_crl(
        self: Arc<Self>,
        call: Call,
        body: IssuerReference,
    ) -> Result<Response, Error> {
        let crl = self.crl_of(&body.issuer_ref, Which::Delta, call.now).await?;
        Response::data(&json!({ "crl": text(&pem(&crl).await?) }))
    }

    /// GET `issuer/{issuer_ref}/crl/der`
    pub(super) async fn issuer_crl_der(
        self: Arc<Self>,
        call: Call,
        body: IssuerReference,
    ) -> Result<Response, Error> {
        Ok(der_answer(&*self.crl_of(&body.issuer_ref, Which::Complete, call.now).await?, call.now))
    }

    /// GET `issuer/{issuer_ref}/crl/delta/der`
    pub(super) async fn issuer_delta_crl_der(
        self: Arc<Self>,
        call: Call,
        body: IssuerReference,
    ) -> Result<Response, Error> {
        Ok(der_answer(&*self.crl_of(&body.issuer_ref, Which::Delta, call.now).await?, call.now))
    }

    /// GET `issuer/{issuer_ref}/crl/pem`
    pub(super) async fn issuer_crl_pem(
        self: Arc<Self>,
        call: Call,
        body: IssuerReference,
    ) -> Result<Response, Error> {
        let crl = self.crl_of(&body.issuer_ref, Which::Complete, call.now).await?;
        Ok(dated(Response::raw(PEM, pem(&crl).await?), &crl, call.now))
    }

    /// GET `issuer/{issuer_ref}/crl/delta/pem`
    pub(super) async fn issuer_delta_crl_pem(
        self: Arc<Self>,
        call: Call,
        body: IssuerReference,
    ) -> Result<Response, Error> {
        let crl = self.crl_of(&body.issuer_ref, Which::Delta, call.now).await?;
        Ok(dated(Response::raw(PEM, pem(&crl).await?), &crl, call.now))
    }

    /// GET `crl/rotate`
    pub(super) async fn rotate(self: Arc<Self>, call: Call, _: NoFields) -> Result<Response, Error> {
        self.rotate_crls(call.now).await?;
        let mut response = Response::data(&json!({ "success": true }))?;
        response.warnings = self.crl_warnings().await?;
        Ok(response)
    }

    /// GET `crl/rotate-delta`
    pub(super) async fn rotate_delta(self: Arc<Self>, call: Call, _: NoFields) -> Result<Response, Error> {
        let response = Response::data(&json!({ "success": true }))?;
        if !self.store.authorities().await?.crl.value.enable_delta {
            return Ok(response
                .warn("requested rebuild of delta CRL when delta CRL is not enabled; this is a no-op"));
        }
        self.rotate_delta_crls(call.now).await?;
        Ok(response)
    }

    /// What to say of CRLs that nobody may sign, where they are built.
    pub(super) async fn crl_warnings(&self) -> Result<Vec<String>, Error> {
        let authorities = self.store.authorities().await?;
        Ok(if authorities.crl.value.disable { Vec::new() } else { authorities.crl_warnings() })
    }

    async fn default_der(&self, which: Which, now: Timestamp) -> Result<Response, Error> {
        Ok(match self.default_crl(which, now).await? {
            Some(crl) => der_answer(&crl, now),
            None => Response::raw(DER, Vec::new()).status(204),
        })
    }

    async fn default_pem(&self, which: Which, now: Timestamp) -> Result<Response, Error> {
        Ok(match self.default_crl(which, now).await? {
            Some(crl) => dated(Response::raw(PEM, trimmed(&pem(&crl).await?)), &crl, now),
            None => Response::raw(PEM, Vec::new()).status(204),
        })
    }

    async fn as_certificate(&self, which: Which, now: Timestamp) -> Result<Response, Error> {
        let crl = self.crl_of(DEFAULT, which, now).await?;
        Response::data(&json!({
            "certificate": text(&trimmed(&pem(&crl).await?)),
            "revocation_time": 0,
            "revocation_time_rfc3339": "",
        }))
    }

    async fn default_crl(&self, which: Which, now: Timestamp) -> Result<Option<Arc<Crl>>, Error> {
        let authorities = self.store.authorities().await?;
        match authorities.default_issuer() {
            Some(issuer) => self.crl(issuer, which, now).await,
            None => Ok(None),
        }
    }

    async fn crl_of(&self, reference: &str, which: Which, now: Timestamp) -> Result<Arc<Crl>, Error> {
        let authorities = self.store.authorities().await?;
        let issuer = authorities.find_issuer(reference).map_err(bare)?;
        self.crl(issuer, which, now).await?.ok_or_else(|| {
            let id = issuer.record.id;
            Error::of(Kind::Internal, format!("unable to find CRL for issuer: id:{id}/ref:{reference}"))
        })
    }
}

fn der_answer(crl: &Crl, now: Timestamp) -> Response {
    dated(Response::raw(DER, crl.der.clone()), crl, now)
}

/// Says when it was made, so that it is sent to nobody who has it. Nothing is said in the very second, in which another
/// one may follow that nobody could tell from it.
fn dated(mut response: Response, crl: &Crl, now: Timestamp) -> Response {
    if let Some(raw) = &mut response.raw
        && crl.made.this_update < now.as_second()
    {
        crl.told.store(true, Ordering::Release);
        raw.last_modified = Some(crl.made.this_update);
    }
    response
}

/// With a final newline; written once for each CRL.
async fn pem(crl: &Crl) -> Result<Bytes, Error> {
    let written = crl.pem.get_or_try_init(|| async {
        let der = crl.der.clone();
        let write = move || Bytes::from(crl_pem(&der));
        if crl.der.len() < LARGE { Ok(write()) } else { heavy::run(write).await }
    });
    written.await.cloned()
}

fn trimmed(pem: &Bytes) -> Bytes {
    pem.slice(..pem.trim_ascii_end().len())
}

fn text(pem: &Bytes) -> &str {
    std::str::from_utf8(pem).unwrap_or_default()
}
