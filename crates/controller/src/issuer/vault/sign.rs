//! One signature: what is asked, what comes back, and what an error means.

use std::time::Duration;

use chancery_client::{Error, Request};
use chancery_issuance::{Certificate, KeyPolicy, VerifiedCsr};
use chancery_kubernetes::cert_manager::GoDuration;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::connection::{Connection, is_transient, tell};
use crate::issuer::chain::{self, ChainError};
use crate::issuer::{DEFAULT_DURATION, Order, SignError, Signed};

/// What is asked, as texts throughout; those that are empty are there all the same.
#[derive(Debug, Serialize)]
struct Body<'a> {
    alt_names: String,
    common_name: &'a str,
    csr: &'a str,
    exclude_cn_from_sans: &'static str,
    ip_sans: String,
    ttl: String,
    uri_sans: String,
}

/// The frame of an answer. Types that are wrong are refused, as the API's own clients do.
#[derive(Deserialize)]
struct Frame {
    #[serde(default, rename = "lease_duration")]
    _lease_duration: Option<i64>,
    #[serde(default, rename = "renewable")]
    _renewable: Option<bool>,
    #[serde(default, rename = "warnings")]
    _warnings: Option<Vec<String>>,
    data: Option<Data>,
}

#[derive(Debug, Deserialize)]
struct Data {
    #[serde(default)]
    certificate: String,
    #[serde(default)]
    issuing_ca: Option<String>,
    #[serde(default)]
    ca_chain: Option<Vec<String>>,
    #[serde(default, rename = "serial_number")]
    _serial_number: Option<String>,
}

/// A CSR and what is asked for it.
pub(in crate::issuer) struct Question {
    csr: VerifiedCsr,
    pem: String,
    duration: Duration,
}

/// Why there is no certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::issuer) enum Refusal {
    /// It may be there later. In an outage others need not ask meanwhile.
    Transient { text: String, is_outage: bool },
    /// The token is not good enough, or no longer good.
    Forbidden(String),
    /// It never will.
    Final(String),
}

impl Question {
    pub(in crate::issuer) fn of(order: &Order<'_>) -> Result<Self, SignError> {
        let csr = VerifiedCsr::from_pem(order.csr_pem, &KeyPolicy::any());
        let csr = csr.map_err(|error| failed(&format!("failed to decode CSR for signing: {error}")))?;
        Ok(Self { csr, pem: order.csr_pem.to_owned(), duration: order.duration.unwrap_or(DEFAULT_DURATION) })
    }

    fn body(&self) -> Body<'_> {
        let sans = self.csr.sans();
        let addresses: Vec<String> = sans.ip.iter().map(ToString::to_string).collect();
        // A name with a comma would be several there, which nobody has approved. In the CSR it is one.
        let listed = |names: &[String]| {
            let names = names.iter().filter(|name| !name.contains(','));
            names.map(String::as_str).collect::<Vec<_>>().join(",")
        };
        Body {
            alt_names: listed(&sans.dns),
            common_name: &self.csr.subject().common_name,
            csr: &self.pem,
            exclude_cn_from_sans: "true",
            ip_sans: addresses.join(","),
            ttl: GoDuration(self.duration).to_string(),
            uri_sans: listed(&sans.uri),
        }
    }

    /// The same without a CSR: no server signs it, but each says whether it would.
    pub(super) fn empty() -> Value {
        let names = ["alt_names", "common_name", "csr", "exclude_cn_from_sans", "ip_sans", "ttl", "uri_sans"];
        names.into_iter().map(|name| (name.to_owned(), Value::from(""))).collect::<Map<_, _>>().into()
    }

    /// Reads an answer and holds it against the question.
    fn read(&self, answer: &[u8], now: Timestamp, path: &str) -> Result<Signed, String> {
        let frame: Frame = serde_json::from_slice(answer)
            .map_err(|error| format!("failed to decode response returned by vault: {error}"))?;
        let data = frame.data.ok_or("failed to decode response returned by vault: there is no \"data\"")?;
        let Data { certificate, issuing_ca, ca_chain, .. } = data;
        let above = match ca_chain.filter(|chain| !chain.is_empty()) {
            Some(chain) => chain,
            None => issuing_ca.into_iter().filter(|pem| !pem.is_empty()).collect(),
        };
        let length = certificate.len() + above.iter().map(String::len).sum::<usize>();
        if length > chain::LONGEST {
            return Err(format!(
                "unable to convert certificate bundle to PEM bundle: {length} bytes of PEM, of which at most {} are taken",
                chain::LONGEST
            ));
        }
        let unreadable = |error| format!("unable to convert certificate bundle to PEM bundle: {error}");
        let leaf = Certificate::from_pem(&certificate).map_err(unreadable)?;
        let above: Vec<Certificate> = above
            .iter()
            .map(|pem| Certificate::from_pem(pem))
            .collect::<Result<_, _>>()
            .map_err(unreadable)?;
        if leaf.public_key() != Some(self.csr.public_key()) {
            return Err(format!(
                "the certificate returned by vault is for another key than the request's: does {path:?} sign, as \
                 MOUNT/sign/ROLE does?"
            ));
        }
        if leaf.not_after().as_second() <= now.as_second() {
            return Err(format!(
                "the certificate returned by vault has expired already, at {}: has its authority?",
                leaf.not_after()
            ));
        }
        chain::build(leaf, above)
            .map_err(|error: ChainError| format!("failed to parse certificate chain from vault: {error}"))
    }
}

impl Connection {
    /// Asks once.
    pub(super) async fn ask(&self, question: &Question, now: Timestamp) -> Result<Signed, Refusal> {
        let refused = |error: &Error| {
            let text = format!("failed to sign certificate by vault: {}", tell(error, &self.plan));
            match error.status() {
                Some(403) => Refusal::Forbidden(text),
                _ if is_transient(error) => Refusal::Transient { text, is_outage: is_outage(error) },
                _ => Refusal::Final(text),
            }
        };
        let path = self.plan.path.as_str();
        let request = Request::post(path, &question.body()).map_err(|error| refused(&error))?.plain();
        let response = self.client().send(&request).await.map_err(|error| refused(&error))?;
        question.read(&response.body, now, path).map_err(Refusal::Final)
    }
}

/// Whether others would meet with the same.
fn is_outage(error: &Error) -> bool {
    matches!(error, Error::Transport { .. } | Error::Api { status: 429 | 502..=504, .. })
}

/// It will never be signed.
pub(in crate::issuer) fn failed(reason: &str) -> SignError {
    SignError::Failed {
        reason: "SigningError",
        message: format!("Vault failed to sign certificate: {reason}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::issuer::tests::{Authority, order_of};

    fn api(status: u16) -> Error {
        let errors = vec!["no".to_owned()];
        Error::Api { method: "POST".into(), url: "http://h".into(), status, errors, raw: None }
    }

    #[test]
    fn refusals_of_the_moment_are_told_from_those_of_the_request() {
        for status in [408, 412, 429, 472, 473, 500, 502, 503, 504] {
            assert!(is_transient(&api(status)), "{status}");
        }
        for status in [400, 403, 404, 405, 413, 501] {
            assert!(!is_transient(&api(status)), "{status}");
        }
        assert!(is_outage(&api(503)) && !is_outage(&api(500)) && !is_outage(&api(412)));
        assert!(!is_transient(&Error::Decode("x".into())));
    }

    #[test]
    fn a_question_is_seven_texts_in_order() {
        let (_, csr) =
            crate::issuer::tests::csr_with("", &["a.example", "b.example"], &["10.0.0.1"], &["spiffe://t/x"]);
        let question = Question::of(&order_of(&csr)).unwrap();
        let body = serde_json::to_string(&question.body()).unwrap();
        let csr = serde_json::to_string(&csr).unwrap();
        assert_eq!(
            body,
            format!(
                r#"{{"alt_names":"a.example,b.example","common_name":"","csr":{csr},"exclude_cn_from_sans":"true","ip_sans":"10.0.0.1","ttl":"2160h0m0s","uri_sans":"spiffe://t/x"}}"#
            )
        );
    }

    #[test]
    fn a_name_with_a_comma_does_not_become_two() {
        let uris = ["spiffe://t/ns/a/sa/b,spiffe://t/ns/kube-system/sa/admin", "spiffe://t/x"];
        let (_, csr) = crate::issuer::tests::csr_with("", &[], &[], &uris);
        assert_eq!(Question::of(&order_of(&csr)).unwrap().body().uri_sans, "spiffe://t/x");
    }

    #[test]
    fn an_answer_that_is_not_what_it_should_be_is_refused_with_a_reason() {
        let root = Authority::root("root");
        let (_, csr) = crate::issuer::tests::csr("a.example");
        let question = Question::of(&order_of(&csr)).unwrap();
        let right = root.sign(&csr, 3600);
        let (right, other) = (right.pem().to_owned(), root.leaf("b.example").1.pem().to_owned());
        let expired = root.sign(&csr, 1).pem().to_owned();
        let stranger = Authority::root("stranger").certificate.pem().to_owned();
        let ca = root.certificate.pem().to_owned();
        let now = crate::issuer::tests::now();
        let later = Timestamp::from_second(now.as_second() + 60).unwrap();
        let read = |data: Value| {
            let answer = serde_json::json!({ "data": data, "warnings": null, "lease_duration": 0 });
            question.read(answer.to_string().as_bytes(), later, "istioca/issue/x")
        };
        let good =
            read(serde_json::json!({ "certificate": right, "issuing_ca": ca, "ca_chain": null })).unwrap();
        assert_eq!(good.ca.as_deref(), Some(format!("{}\n", ca.trim_end()).as_bytes()));
        let mut huge = ca.clone();
        huge.push_str(&"x".repeat(chain::LONGEST));
        for (data, reason) in [
            (serde_json::json!({ "certificate": other, "issuing_ca": ca }), "another key"),
            (serde_json::json!({ "certificate": expired, "issuing_ca": ca }), "expired already"),
            (serde_json::json!({ "certificate": right, "issuing_ca": stranger }), "malformed or broken"),
            (serde_json::json!({ "certificate": right, "ca_chain": ca }), "failed to decode response"),
            (serde_json::json!({ "certificate": 7 }), "failed to decode response"),
            (serde_json::json!({ "certificate": right, "ca_chain": [7] }), "failed to decode response"),
            (serde_json::json!({}), "unable to convert"),
            (serde_json::json!(null), "failed to decode response"),
            (serde_json::json!({ "certificate": right, "issuing_ca": huge }), "at most 95000"),
            (
                serde_json::json!({ "certificate": "-----BEGIN CERTIFICATE-----\nAAAA\n", "issuing_ca": ca }),
                "unable to convert",
            ),
        ] {
            let error = read(data).unwrap_err();
            assert!(error.contains(reason), "{error}");
        }
        assert!(question.read(b"[]", later, "x").is_err() && question.read(b"", later, "x").is_err());
        let fraction = br#"{"data":{},"lease_duration":1.5}"#;
        assert!(question.read(fraction, later, "x").unwrap_err().starts_with("failed to decode"));
    }
}
