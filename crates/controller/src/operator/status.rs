//! `status`: an object, and everything that it depends on.

use std::fmt::{self, Write as _};

use chancery_issuance::Certificate as X509;
use chancery_kubernetes::cert_manager::names::{CERTIFICATE_NAME, CERTIFICATE_REVISION};
use chancery_kubernetes::cert_manager::{
    CLUSTER_ISSUER, Certificate, CertificateRequest, ClusterIssuer, Condition, Issuer, IssuerReference,
    IssuerSpec,
};
use chancery_kubernetes::{ApiError, optional, request};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, Secret};
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt as _};

use super::Error;
use super::inspect::{key_text, signature, usages};

/// Events are few per object; who has more has a problem that the first of them tell of.
const MOST_EVENTS: u32 = 50;

/// What is told of a Certificate.
#[derive(Debug)]
pub struct CertificateReport {
    certificate: Certificate,
    events: Told<Vec<Event>>,
    issuer: IssuerReport,
    secret: Told<Option<Secret>>,
    /// The request of the issuance that is under way, and its events.
    request: Told<Option<(CertificateRequest, Told<Vec<Event>>)>>,
}

/// What is told of a CertificateRequest.
#[derive(Debug)]
pub struct RequestReport {
    request: CertificateRequest,
    events: Told<Vec<Event>>,
    issuer: IssuerReport,
}

/// Something that was asked for beside: that it could not be had is told in its place.
type Told<T> = Result<T, ApiError>;

#[derive(Debug)]
struct IssuerReport {
    reference: IssuerReference,
    found: Told<Option<Issuer>>,
    events: Told<Vec<Event>>,
}

/// Gathers what is told of a Certificate.
///
/// # Errors
/// It cannot be read. What else cannot be read is told in the report.
pub async fn certificate(client: &Client, namespace: &str, name: &str) -> Result<CertificateReport, Error> {
    let api: Api<Certificate> = Api::namespaced(client.clone(), namespace);
    let failed = |error| Error::Api(format!("Certificate {namespace}/{name}"), error);
    let certificate = request(api.get(name)).await.map_err(failed)?;
    let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let (events, issuer, secret, request) = tokio::join!(
        events(client, namespace, "Certificate", name),
        issuer(client, namespace, &certificate.spec.issuer_ref),
        optional(secrets.get(&certificate.spec.secret_name)),
        next_request(client, namespace, &certificate),
    );
    Ok(CertificateReport { certificate, events, issuer, secret, request })
}

/// Gathers what is told of a CertificateRequest.
///
/// # Errors
/// It cannot be read. What else cannot be read is told in the report.
pub async fn certificate_request(
    client: &Client,
    namespace: &str,
    name: &str,
) -> Result<RequestReport, Error> {
    let api: Api<CertificateRequest> = Api::namespaced(client.clone(), namespace);
    let failed = |error| Error::Api(format!("CertificateRequest {namespace}/{name}"), error);
    let request = request(api.get(name)).await.map_err(failed)?;
    let (events, issuer) = tokio::join!(
        events(client, namespace, "CertificateRequest", name),
        issuer(client, namespace, &request.spec.issuer_ref),
    );
    Ok(RequestReport { request, events, issuer })
}

async fn issuer(client: &Client, namespace: &str, reference: &IssuerReference) -> IssuerReport {
    let name = reference.name.as_str();
    let found = match reference.kind() {
        // Another controller's kinds are unknown here.
        _ if !reference.is_ours() => Ok(None),
        CLUSTER_ISSUER => {
            let api: Api<ClusterIssuer> = Api::all(client.clone());
            optional(api.get(name)).await.map(|found| found.map(Issuer::from))
        }
        _ => {
            let api: Api<Issuer> = Api::namespaced(client.clone(), namespace);
            optional(api.get(name)).await
        }
    };
    // Events of cluster objects are in "default".
    let home = if reference.kind() == CLUSTER_ISSUER { "default" } else { namespace };
    let events = events(client, home, reference.kind(), name).await;
    IssuerReport { reference: reference.clone(), found, events }
}

async fn events(client: &Client, namespace: &str, kind: &str, name: &str) -> Told<Vec<Event>> {
    let api: Api<Event> = Api::namespaced(client.clone(), namespace);
    let fields = format!("involvedObject.kind={kind},involvedObject.name={name}");
    let listed = request(api.list(&ListParams::default().fields(&fields).limit(MOST_EVENTS))).await?;
    let mut events = listed.items;
    events.sort_by_key(|event| event.last_timestamp.as_ref().map(|time| time.0));
    Ok(events)
}

/// The request of the issuance after the last successful one.
async fn next_request(
    client: &Client,
    namespace: &str,
    certificate: &Certificate,
) -> Told<Option<(CertificateRequest, Told<Vec<Event>>)>> {
    let next = certificate
        .status
        .as_ref()
        .and_then(|status| status.revision)
        .unwrap_or(0)
        .saturating_add(1)
        .to_string();
    let api: Api<CertificateRequest> = Api::namespaced(client.clone(), namespace);
    let mut parameters = ListParams::default().limit(500);
    let name = certificate.name_any();
    loop {
        let page = request(api.list(&parameters)).await?;
        let is_next = |one: &CertificateRequest| {
            let annotation = |key: &str| one.annotations().get(key).map(String::as_str);
            annotation(CERTIFICATE_NAME) == Some(&name) && annotation(CERTIFICATE_REVISION) == Some(&next)
        };
        if let Some(found) = page.items.into_iter().find(is_next) {
            let events = events(client, namespace, "CertificateRequest", &found.name_any()).await;
            return Ok(Some((found, events)));
        }
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => parameters = parameters.continue_token(&token),
            None => return Ok(None),
        }
    }
}

impl CertificateReport {
    /// Whether the Certificate is ready, and so is its issuer, as far as that is known.
    pub fn is_ready(&self) -> bool {
        is_ready(self.certificate.conditions()) && self.issuer.is_ready()
    }
}

impl RequestReport {
    /// Whether the request was signed.
    pub fn is_ready(&self) -> bool {
        is_ready(self.request.conditions())
    }
}

impl IssuerReport {
    fn is_ready(&self) -> bool {
        match &self.found {
            Ok(Some(issuer)) => is_ready(issuer.conditions()),
            Ok(None) => !self.reference.is_ours(),
            Err(_) => true,
        }
    }
}

fn is_ready(conditions: &[Condition]) -> bool {
    chancery_kubernetes::cert_manager::is_true(conditions, chancery_kubernetes::cert_manager::READY)
}

impl fmt::Display for CertificateReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { certificate, events, issuer, secret, request } = self;
        head(f, &certificate.metadata)?;
        write_conditions(f, "", certificate.conditions())?;
        writeln!(f, "DNS Names:")?;
        certificate.spec.dns_names.iter().try_for_each(|name| writeln!(f, "- {name}"))?;
        if !certificate.spec.uris.is_empty() {
            writeln!(f, "URIs:")?;
            certificate.spec.uris.iter().try_for_each(|name| writeln!(f, "- {name}"))?;
        }
        write_events(f, "", events)?;
        write!(f, "{issuer}")?;
        write_secret(f, &certificate.spec.secret_name, secret)?;
        let status = certificate.status.clone().unwrap_or_default();
        let time = |time: Option<chancery_kubernetes::cert_manager::Time>| match time {
            Some(time) => time.0.to_string(),
            None => "<none>".to_owned(),
        };
        writeln!(f, "Not Before: {}", time(status.not_before))?;
        writeln!(f, "Not After: {}", time(status.not_after))?;
        writeln!(f, "Renewal Time: {}", time(status.renewal_time))?;
        if let Some(attempts) = status.failed_issuance_attempts {
            writeln!(
                f,
                "Failed Issuance Attempts: {attempts}, the last at {}",
                time(status.last_failure_time)
            )?;
        }
        match request {
            Err(error) => writeln!(f, "CertificateRequest: {error}"),
            Ok(None) => writeln!(f, "No CertificateRequest found for this Certificate"),
            Ok(Some((request, events))) => {
                writeln!(
                    f,
                    "CertificateRequest:\n  Name: {}\n  Namespace: {}",
                    request.name_any(),
                    space(&request.metadata)
                )?;
                write_conditions(f, "  ", request.conditions())?;
                write_events(f, "  ", events)
            }
        }
    }
}

impl fmt::Display for RequestReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { request, events, issuer } = self;
        head(f, &request.metadata)?;
        writeln!(f, "Requester: {}", request.spec.username.as_deref().unwrap_or("<none>"))?;
        write_conditions(f, "", request.conditions())?;
        write_events(f, "", events)?;
        write!(f, "{issuer}")?;
        let signed = request.status.as_ref().and_then(|status| status.certificate.as_ref());
        match signed.and_then(|pem| X509::from_pem(pem.as_str()?).ok()) {
            Some(certificate) => {
                writeln!(f, "Certificate:")?;
                write_certificate(f, &certificate)?;
                writeln!(f, "  Not Before: {}", certificate.not_before().to_timestamp())?;
                writeln!(f, "  Not After: {}", certificate.not_after().to_timestamp())
            }
            None => writeln!(f, "Certificate: <none>"),
        }
    }
}

impl fmt::Display for IssuerReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { reference, found, events } = self;
        writeln!(f, "Issuer:\n  Name: {}\n  Kind: {}", reference.name, reference.kind())?;
        match found {
            Ok(Some(issuer)) => {
                write_conditions(f, "  ", issuer.conditions())?;
                let IssuerSpec { vault, .. } = &issuer.spec;
                if let Some(vault) = vault {
                    writeln!(f, "  Vault:\n    Server: {}\n    Path: {}", vault.server, vault.path)?;
                }
            }
            Ok(None) if reference.is_ours() => writeln!(f, "  There is none of this name")?,
            Ok(None) => writeln!(f, "  Group: {}", reference.group())?,
            Err(error) => writeln!(f, "  {error}")?,
        }
        write_events(f, "  ", events)
    }
}

fn space(metadata: &kube::api::ObjectMeta) -> &str {
    metadata.namespace.as_deref().unwrap_or_default()
}

fn head(f: &mut fmt::Formatter<'_>, metadata: &kube::api::ObjectMeta) -> fmt::Result {
    let created = metadata.creation_timestamp.as_ref();
    let created = created.and_then(|time| Timestamp::from_second(time.0.as_second()).ok());
    let created = created.map_or("<unknown>".to_owned(), |time| time.to_string());
    let name = metadata.name.as_deref().unwrap_or_default();
    writeln!(f, "Name: {name}\nNamespace: {}\nCreated at: {created}", space(metadata))
}

fn write_conditions(f: &mut fmt::Formatter<'_>, indent: &str, conditions: &[Condition]) -> fmt::Result {
    writeln!(f, "{indent}Conditions:")?;
    if conditions.is_empty() {
        return writeln!(f, "{indent}  No Conditions set");
    }
    for Condition { kind, status, reason, message, .. } in conditions {
        let (kind, reason, message) = (shown(kind), shown(reason), shown(message));
        writeln!(f, "{indent}  {kind}: {status}, Reason: {reason}, Message: {message}")?;
    }
    Ok(())
}

/// A text of somebody else's: it must not move the cursor, nor colour what follows.
fn shown(text: &str) -> String {
    let is_safe = |c: char| !c.is_control() || c == '\n';
    text.chars().map(|c| if is_safe(c) { c } else { char::REPLACEMENT_CHARACTER }).collect()
}

fn write_events(f: &mut fmt::Formatter<'_>, indent: &str, events: &Told<Vec<Event>>) -> fmt::Result {
    let events = match events {
        Ok(events) if events.is_empty() => return writeln!(f, "{indent}Events:  <none>"),
        Ok(events) => events,
        Err(error) => return writeln!(f, "{indent}Events:  {error}"),
    };
    let mut rows = vec![["Type", "Reason", "Last Seen", "From", "Message"].map(str::to_owned)];
    for event in events {
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        let seen = event.last_timestamp.as_ref().map(|time| time.0.to_string()).unwrap_or_default();
        let source = event.source.as_ref().and_then(|source| source.component.clone());
        let source = source.or_else(|| event.reporting_component.clone()).unwrap_or_default();
        let message = text(&event.message).trim().replace('\n', " ");
        let row = [text(&event.type_), text(&event.reason), seen, source, message];
        rows.push(row.map(|cell| shown(&cell)));
    }
    writeln!(f, "{indent}Events:")?;
    let mut widths = [0; 5];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    for row in &rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(widths) {
            write!(line, "{cell:width$}  ")?;
        }
        writeln!(f, "{indent}  {}", line.trim_end())?;
    }
    Ok(())
}

fn write_secret(f: &mut fmt::Formatter<'_>, name: &str, secret: &Told<Option<Secret>>) -> fmt::Result {
    writeln!(f, "Secret:\n  Name: {name}")?;
    let secret = match secret {
        Ok(Some(secret)) => secret,
        Ok(None) => return writeln!(f, "  There is none of this name"),
        Err(error) => return writeln!(f, "  {error}"),
    };
    let chain = secret.data.as_ref().and_then(|data| data.get("tls.crt"));
    let leaf = chain.and_then(|bytes| X509::from_pem(std::str::from_utf8(&bytes.0).ok()?).ok());
    match leaf {
        Some(leaf) => write_certificate(f, &leaf),
        None => writeln!(f, "  There is no certificate in tls.crt"),
    }
}

fn write_certificate(f: &mut fmt::Formatter<'_>, certificate: &X509) -> fmt::Result {
    let issuer = certificate.issuer_name().unwrap_or_default();
    writeln!(f, "  Issuer Country: {}", issuer.country.join(", "))?;
    writeln!(f, "  Issuer Organisation: {}", issuer.organization.join(", "))?;
    writeln!(f, "  Issuer Common Name: {}", issuer.common_name)?;
    writeln!(f, "  Usages: {}", usages(certificate).join(", "))?;
    writeln!(f, "  Public Key Algorithm: {}", key_text(certificate))?;
    writeln!(f, "  Signature Algorithm: {}", signature(certificate))?;
    let hex = |id: Option<&[u8]>| id.map(|id| data_encoding::HEXLOWER.encode(id)).unwrap_or_default();
    writeln!(f, "  Subject Key ID: {}", hex(certificate.subject_key_id()))?;
    writeln!(f, "  Authority Key ID: {}", hex(certificate.authority_key_id()))?;
    writeln!(f, "  Serial Number: {}", certificate.serial_number())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_wrote_does_not_command_the_terminal() {
        struct Conditions([Condition; 1]);
        impl fmt::Display for Conditions {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write_conditions(f, "", &self.0)
            }
        }
        let told = Conditions([Condition::new("Ready", false, "R", "a\u{1b}[2Jb\nc\rd")]).to_string();
        assert_eq!(told, "Conditions:\n  Ready: False, Reason: R, Message: a\u{fffd}[2Jb\nc\u{fffd}d\n");
    }
}
