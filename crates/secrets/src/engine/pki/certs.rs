//! `cert/{serial}` and `certs`: what was made here, and what of it was revoked.

use std::collections::BTreeMap;
use std::sync::Arc;

use chancery_api::fields;
use chancery_issuance::{Certificate, KeySpec, SerialNumber};
use serde::Serialize;

use super::Pki;
use super::authorities::trimmed;
use super::records::CertificateRecord;
use super::roles::ListRequest;
use crate::engine::Call;
use crate::error::Error;
use crate::response::Response;

fields! {
    /// Names a certificate.
    #[derive(Debug)]
    pub(super) struct CertificateName {
        path {
            /// The serial number: hexadecimal bytes, with `:` or `-` between them.
            serial: String,
        }
    }
}

impl CertificateName {
    /// The serial number; `None` if no certificate can have it.
    fn serial_number(&self) -> Result<Option<SerialNumber>, Error> {
        let of_a_serial = |byte: u8| byte.is_ascii_hexdigit() || matches!(byte, b':' | b'-');
        if !self.serial.bytes().all(of_a_serial) {
            return Err(Error::unsupported_path());
        }
        Ok(self.serial.parse().ok())
    }
}

/// A certificate as it is answered.
#[derive(Serialize)]
struct CertificateAnswer<'a> {
    certificate: &'a str,
    /// Whose CRL speaks of it, if it was revoked.
    #[serde(skip_serializing_if = "Option::is_none")]
    issuer_id: Option<String>,
    revocation_time: i64,
    revocation_time_rfc3339: &'a str,
}

/// What `certs/detailed` says of a certificate.
#[derive(Serialize)]
struct CertificateDetail {
    common_name: String,
    /// Null if there are none.
    dns_names: Option<Vec<String>>,
    issuer: String,
    key_bits: u32,
    key_type: &'static str,
    not_after: String,
    not_before: String,
}

impl CertificateDetail {
    fn of(certificate: &Certificate) -> Self {
        let dns_names = certificate.sans().map(|sans| sans.dns).filter(|names| !names.is_empty());
        let key = certificate.public_key().map(|key| key.spec());
        let (key_type, key_bits) = match key {
            // The length of the key itself; elsewhere the API gives Ed25519 no size.
            Some(KeySpec::Ed25519) => ("ed25519", 256),
            Some(key) => (key.key_type().name(), key.bits()),
            None => ("unknown", 0),
        };
        Self {
            common_name: certificate.common_name().unwrap_or_default().to_owned(),
            dns_names,
            issuer: certificate.issuer_name().map(|name| name.to_string()).unwrap_or_default(),
            key_bits,
            key_type,
            not_after: certificate.not_after().to_timestamp().to_string(),
            not_before: certificate.not_before().to_timestamp().to_string(),
        }
    }
}

pub(super) fn parsed(record: &CertificateRecord) -> Result<Certificate, Error> {
    Certificate::from_der(&record.der)
        .map_err(|error| Error::internal("a stored certificate does not parse", error))
}

impl Pki {
    async fn stored(&self, name: &CertificateName) -> Result<Option<Certificate>, Error> {
        let Some(serial) = name.serial_number()? else { return Ok(None) };
        let Some(record) = self.store.certificate(&serial).await? else { return Ok(None) };
        Ok(Some(parsed(&record)?))
    }

    /// GET `cert/{serial}`
    pub(super) async fn read_certificate(
        self: Arc<Self>,
        _: Call,
        body: CertificateName,
    ) -> Result<Response, Error> {
        let certificate = self.stored(&body).await?.ok_or_else(Error::nothing_there)?;
        let revocation = self.store.revocation(&certificate.serial_number()).await?;
        let revoked = revocation.as_ref().map(|revocation| revocation.at);
        Response::data(&CertificateAnswer {
            certificate: trimmed(&certificate),
            issuer_id: revocation.and_then(|revocation| revocation.issuer).map(|id| id.to_string()),
            revocation_time: revoked.map_or(0, |at| at.as_second()),
            revocation_time_rfc3339: &revoked.map(|at| at.to_string()).unwrap_or_default(),
        })
    }

    /// GET `cert/{serial}/raw`
    pub(super) async fn read_certificate_der(
        self: Arc<Self>,
        _: Call,
        body: CertificateName,
    ) -> Result<Response, Error> {
        const TYPE: &str = "application/pkix-cert";
        Ok(match self.stored(&body).await? {
            Some(certificate) => Response::raw(TYPE, certificate.der().to_vec()),
            None => Response::raw(TYPE, Vec::new()).status(204),
        })
    }

    /// GET `cert/{serial}/raw/pem`
    pub(super) async fn read_certificate_pem(
        self: Arc<Self>,
        _: Call,
        body: CertificateName,
    ) -> Result<Response, Error> {
        const TYPE: &str = "application/pem-certificate-chain";
        Ok(match self.stored(&body).await? {
            Some(certificate) => Response::raw(TYPE, trimmed(&certificate).to_owned()),
            None => Response::raw(TYPE, Vec::new()).status(204),
        })
    }

    /// LIST `certs`
    pub(super) async fn list_certificates(
        self: Arc<Self>,
        _: Call,
        body: ListRequest,
    ) -> Result<Response, Error> {
        let names = self.store.serial_numbers(&body.after, body.limit()).await?;
        Response::list(&names.iter().map(ToString::to_string).collect::<Vec<String>>())
    }

    /// LIST `certs/revoked`
    pub(super) async fn list_revoked_certificates(
        self: Arc<Self>,
        _: Call,
        body: ListRequest,
    ) -> Result<Response, Error> {
        let names = self.store.revoked_serial_numbers(&body.after, body.limit()).await?;
        Response::list(&names.iter().map(ToString::to_string).collect::<Vec<String>>())
    }

    /// LIST `certs/detailed`
    pub(super) async fn list_certificates_in_detail(
        self: Arc<Self>,
        _: Call,
        body: ListRequest,
    ) -> Result<Response, Error> {
        let mut keys = Vec::new();
        let mut details = BTreeMap::new();
        for (serial, record) in self.store.certificates(&body.after, body.limit()).await? {
            let serial = serial.to_string();
            details.insert(serial.clone(), CertificateDetail::of(&parsed(&record)?));
            keys.push(serial);
        }
        Response::list_with_info(&keys, &details)
    }
}
