//! When to renew (RFC 9773): a window for each certificate, and orders that say which certificate they replace.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use chancery_issuance::{Certificate, SerialNumber, renewal_time};
use chancery_storage::Writes;
use jiff::Timestamp;
use serde_json::json;

use super::super::Pki;
use super::super::store::certificate_name;
use super::finalize::issued;
use super::problem::{Outcome, Problem, ProblemKind};
use super::records::{AccountRecord, Identifier, OrderRecord, collection, put_changed};
use super::requests::{Asked, CertificateId, Scope};
use super::{dressed, json_answer};
use crate::engine::Call;
use crate::error::Error;
use crate::response::{Header, Response};

/// The longest id of a certificate: more than a serial number and a hash of 64 bytes have. It is stored with an order.
const LONGEST_ID: usize = 128;

/// How often clients shall ask (RFC 9773, 4.3).
const RETRY_AFTER: &str = "21600";

impl Pki {
    /// GET `renewal-info/{certificate_id}`
    pub(in super::super) async fn renewal_info<S: Scope>(
        self: Arc<Self>,
        call: Call,
        _: Asked<S, CertificateId>,
    ) -> Result<Response, Error> {
        let Some(directory) = self.directory(&call).await? else { return Ok(super::not_served()) };
        let answer = match &directory {
            Ok(_) => self.window(&call).await,
            Err(_) => Ok(Response::empty()),
        };
        dressed(&self, directory, |_| answer)
    }

    async fn window(&self, call: &Call) -> Outcome<Response> {
        let capture = call.captures.iter().find(|(name, _)| *name == "certificate_id");
        let (serial, certificate) = self.identified(capture.map_or("", |(_, id)| id.as_str())).await?;
        let (begin, end) = (certificate.not_before().to_timestamp(), certificate.not_after().to_timestamp());
        // What was revoked is to be renewed at once (RFC 9773, 4.2).
        let (start, end) = match self.store.revocation(&serial).await? {
            Some(revoked) => (revoked.at - Duration::from_secs(3600), revoked.at),
            None => (renewal_time(begin, end, 1.0), renewal_time(begin, end, 0.0)),
        };
        // A window has a length, however short the certificate lives.
        let end = if end > start { end } else { start + Duration::from_secs(1) };
        let whole = |instant: Timestamp| super::eab::seconds(instant);
        let shown = json!({ "suggestedWindow": { "start": whole(start), "end": whole(end) } });
        Ok(json_answer(&shown).header(Header::RetryAfter, RETRY_AFTER))
    }

    /// The certificate of an id: base64url of its authority key identifier, a dot, and of its serial number's content
    /// (RFC 9773, 4.1).
    async fn identified(&self, id: &str) -> Outcome<(SerialNumber, Certificate)> {
        if id.len() > LONGEST_ID {
            let detail = format!("the id of a certificate has at most {LONGEST_ID} bytes, not {}", id.len());
            return Err(Problem::malformed(detail).into());
        }
        let malformed = || Problem::malformed(format!("{id:?} does not identify a certificate"));
        let (key_id, serial) = id.split_once('.').ok_or_else(malformed)?;
        let (Ok(key_id), Ok(serial)) = (BASE64URL.decode(key_id), BASE64URL.decode(serial)) else {
            return Err(malformed().into());
        };
        let serial = SerialNumber::from_bytes(&serial).ok_or_else(malformed)?;
        let unknown = || Problem {
            status: Some(404),
            ..Problem::malformed(format!("there is no certificate {id:?} here"))
        };
        let record = self.store.certificate(&serial).await?.ok_or_else(unknown)?;
        let certificate = Certificate::from_der(&record.der)
            .map_err(|error| Error::internal("a stored certificate does not parse", error))?;
        if certificate.authority_key_id() != Some(&key_id) {
            return Err(unknown().into());
        }
        Ok((serial, certificate))
    }

    /// Whether an order may replace that certificate (RFC 9773, 5): the account's own, for one of the same names, and not
    /// replaced before.
    pub(super) async fn check_replaced(
        &self,
        id: &str,
        account: &AccountRecord,
        identifiers: &[Identifier],
    ) -> Outcome<()> {
        let (serial, certificate) = self.identified(id).await?;
        let record = issued(self, &serial).await?.filter(|record| record.value.account == account.id);
        let Some(record) = record else {
            return Err(
                Problem::malformed("'replaces' names a certificate that this account did not get").into()
            );
        };
        if record.value.replaced_by.is_some() {
            let detail = "the certificate has an order that replaces it already";
            return Err(Problem::new(ProblemKind::AlreadyReplaced, detail).into());
        }
        let sans = certificate.sans().unwrap_or_default();
        let shared = identifiers.iter().any(|identifier| match identifier {
            Identifier::Dns(name) => sans.dns.contains(name),
            Identifier::Ip(address) => sans.ip.contains(address),
        });
        if !shared {
            return Err(
                Problem::malformed("'replaces' names a certificate for none of these identifiers").into()
            );
        }
        Ok(())
    }

    /// Puts into the batch that an order took the place of a certificate. One that is gone is replaced all the more.
    pub(super) async fn mark_replaced(
        &self,
        id: &str,
        order: &OrderRecord,
        writes: &mut Writes,
    ) -> Outcome<()> {
        let serial = id.split_once('.').and_then(|(_, serial)| BASE64URL.decode(serial).ok());
        let Some(serial) = serial.and_then(|bytes| SerialNumber::from_bytes(&bytes)) else { return Ok(()) };
        let Some(mut record) = issued(self, &serial).await? else { return Ok(()) };
        if record.value.replaced_by.is_some() {
            // RFC 9773, 5: the client was told that it may; the certificate counts more than the bookkeeping.
            return Ok(());
        }
        record.value.replaced_by = Some(order.id.clone());
        let name = certificate_name(&serial);
        put_changed(writes, &self.mount.view, collection::CERTIFICATES, &name, &record)?;
        Ok(())
    }
}
