//! Issuers that have each certificate signed with its own key.

use std::sync::Arc;

use chancery_issuance::{AiaUrls, PlainSigner, PrivateKey, Signer};
use chancery_kubernetes::cert_manager::{SelfSignedIssuer, names};
use jiff::Timestamp;

use super::local::Template;
use super::secret::{Reader, SecretError};
use super::{Order, SignError, Signed, chain};

/// Has a CSR signed with the key that the request's annotation names.
pub(super) async fn sign(
    client: &kube::Client,
    spec: &SelfSignedIssuer,
    order: &Order<'_>,
    now: Timestamp,
) -> Result<Signed, SignError> {
    let annotation = names::PRIVATE_KEY_SECRET_NAME;
    let failed = |reason: &'static str, message: String| SignError::Failed { reason, message };
    let name = order.annotations.get(annotation).map(String::as_str).unwrap_or_default();
    if name.is_empty() {
        let message = format!("Annotation {annotation:?} missing or reference empty: secret name missing");
        return Err(failed("MissingAnnotation", message));
    }
    let namespace = order.request.namespace.as_str();
    let key = private_key(client, namespace, name).await?;
    let template = Template::of(order).map_err(|reason| {
        failed("ErrorGenerating", format!("Error generating certificate template: {reason}"))
    })?;
    if template.csr.public_key() != key.public_key() {
        let message = "Referenced private key in Secret does not match that in the request: CSR not signed by referenced \
                       private key";
        return Err(failed("ErrorKeyMatch", message.to_owned()));
    }
    let urls =
        AiaUrls { crl_distribution_points: spec.crl_distribution_points.clone(), ..AiaUrls::default() };
    let signed = tokio::task::spawn_blocking(move || {
        let leaf = template.sign(PlainSigner::Itself(&key, &urls), now)?;
        chain::build(leaf, Vec::new()).map_err(|error| error.to_string())
    })
    .await
    .unwrap_or_else(|error| Err(error.to_string()));
    signed.map_err(|reason| failed("ErrorSigning", format!("Error signing certificate: {reason}")))
}

async fn private_key(
    client: &kube::Client,
    namespace: &str,
    name: &str,
) -> Result<Arc<dyn Signer>, SignError> {
    let pending = |reason: &'static str, message: String| SignError::Pending {
        reason,
        message,
        // Secrets of requests are watched by nobody on behalf of an issuer.
        retry_after: Some(super::RETRY),
    };
    let pem = Reader::new(client, namespace).text(name, "tls.key").await.map_err(|error| match &error {
        SecretError::Missing(_) => {
            pending("MissingSecret", format!("Referenced secret {namespace}/{name} not found: {error}"))
        }
        SecretError::Api(_) => pending(
            "ErrorGettingSecret",
            format!("Failed to get certificate key pair from secret {namespace}/{name}: {error}"),
        ),
        SecretError::NoData { .. } | SecretError::NoText { .. } => unreadable(name, &error),
    })?;
    let key = PrivateKey::from_pem(&pem).map_err(|error| unreadable(name, &error))?;
    Ok(Arc::new(key))
}

fn unreadable(name: &str, error: &dyn std::fmt::Display) -> SignError {
    let annotation = names::PRIVATE_KEY_SECRET_NAME;
    SignError::Pending {
        reason: "ErrorParsingKey",
        message: format!("Failed to get key {name:?} referenced in annotation {annotation:?}: {error}"),
        retry_after: Some(super::RETRY),
    }
}
