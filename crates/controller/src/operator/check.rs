//! `check api`: whether `cert-manager.io` is there, and its webhook answers.

use std::collections::BTreeSet;

use chancery_issuance::{CsrRequest, Curve, KeySpec, PrivateKey, RequestedNames, create_csr};
use chancery_kubernetes::cert_manager::{
    API_VERSION, CertificateRequest, CertificateRequestSpec, GROUP, IssuerReference,
};
use chancery_kubernetes::{ApiError, request};
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};

use super::Error;

/// The name that the webhook has in every installation.
pub const WEBHOOK: &str = "webhook.cert-manager.io";

/// What is missing, in the order in which it is looked for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NotReady {
    /// The API server does not answer as one should.
    #[error("the Kubernetes API server cannot be asked ({0})")]
    Api(ApiError),
    /// Kinds are not defined.
    #[error("the cert-manager CRDs are not yet installed on the Kubernetes API server ({0} missing)")]
    Definitions(String),
    /// The webhook is called, and does not answer.
    #[error("the cert-manager webhook deployment is not ready yet ({0})")]
    Webhook(String),
    /// The webhook answers, and the API server does not believe it.
    #[error("the cert-manager webhook CA bundle is not injected yet ({0})")]
    Bundle(String),
    /// A request is created without its requester's name.
    #[error(
        "the cert-manager webhook did not fill in who makes a request: is its mutating configuration installed?"
    )]
    NotMutated,
    /// A request is created that is none.
    #[error(
        "the cert-manager webhook let a request without a CSR through: is its validating configuration installed?"
    )]
    NotValidated,
    /// There is no namespace to create a request in.
    #[error("there is no namespace {0:?} to try it in; name another one")]
    Namespace(String),
    /// A request as it should be is refused.
    #[error("a valid request is refused ({0})")]
    Refused(ApiError),
}

/// Looks once. Nothing is left behind: requests are created as a dry run only.
///
/// # Errors
/// What is missing.
pub async fn check(client: &Client, namespace: &str) -> Result<(), NotReady> {
    const KINDS: [&str; 4] = ["Certificate", "CertificateRequest", "ClusterIssuer", "Issuer"];
    let found = match request(client.list_api_group_resources(API_VERSION)).await {
        Ok(found) => found.resources.into_iter().map(|one| one.kind).collect(),
        Err(error) if error.is_not_found() => BTreeSet::new(),
        Err(error) => return Err(NotReady::Api(error)),
    };
    let missing: Vec<&str> = KINDS.into_iter().filter(|kind| !found.contains(*kind)).collect();
    if !missing.is_empty() {
        return Err(NotReady::Definitions(missing.join(", ")));
    }
    let csr = csr().map_err(|error| NotReady::Webhook(error.to_string()))?;
    let created = dry_run(client, namespace, &csr).await.map_err(|error| classify(error, namespace))?;
    if created.spec.username.as_deref().is_none_or(str::is_empty) {
        return Err(NotReady::NotMutated);
    }
    match dry_run(client, namespace, "no CSR").await {
        Ok(_) => Err(NotReady::NotValidated),
        Err(error) if is_denial(&error) => Ok(()),
        Err(error) => Err(classify(error, namespace)),
    }
}

fn csr() -> Result<String, Error> {
    let failed = |error: &dyn std::fmt::Display| Error::Content(format!("no CSR can be made: {error}"));
    let key = PrivateKey::generate(KeySpec::Ec(Curve::P256)).map_err(|error| failed(&error))?;
    let names =
        RequestedNames { alt_names: vec!["cmapichecker.example".into()], ..RequestedNames::default() };
    let request = CsrRequest { names, critical_names: true, ..CsrRequest::default() };
    Ok(create_csr(&request, &key).map_err(|error| failed(&error))?.pem)
}

async fn dry_run(client: &Client, namespace: &str, csr: &str) -> Result<CertificateRequest, ApiError> {
    let metadata = ObjectMeta { generate_name: Some("cmapichecker-".into()), ..ObjectMeta::default() };
    let spec = CertificateRequestSpec {
        issuer_ref: IssuerReference::new("cmapichecker", "Issuer", GROUP),
        request: csr.into(),
        ..CertificateRequestSpec::default()
    };
    let api: Api<CertificateRequest> = Api::namespaced(client.clone(), namespace);
    let parameters = PostParams { dry_run: true, ..PostParams::default() };
    request(api.create(&parameters, &CertificateRequest::new(metadata, spec))).await
}

/// Whether it was the webhook that refused.
fn is_denial(error: &ApiError) -> bool {
    error.to_string().contains(&format!("admission webhook \"{WEBHOOK}\" denied the request"))
}

/// What an API server's refusal to create a valid request means.
fn classify(error: ApiError, namespace: &str) -> NotReady {
    let text = error.to_string();
    if error.is_not_found() && text.contains(&format!("namespaces {namespace:?} not found")) {
        return NotReady::Namespace(namespace.to_owned());
    }
    if !text.contains("failed calling webhook") && !text.contains("failed to call webhook") {
        return match error {
            ApiError::Refused(_) => NotReady::Refused(error),
            other => NotReady::Api(other),
        };
    }
    if text.contains("x509: ") || text.contains("tls: ") {
        return NotReady::Bundle(text);
    }
    NotReady::Webhook(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_api_server_says_of_a_webhook_tells_what_is_missing() {
        let refused = |message: &str| {
            let status =
                kube::core::Status { message: message.into(), code: 500, ..kube::core::Status::default() };
            classify(ApiError::Refused(Box::new(status)), "sandbox")
        };
        let call = "Internal error occurred: failed calling webhook \"webhook.cert-manager.io\": failed to call webhook: Post \
                    \"https://cert-manager-webhook.cert-manager.svc:443/mutate?timeout=30s\":";
        let dial = refused(&format!("{call} dial tcp 10.96.0.1:443: connect: connection refused"));
        assert!(matches!(dial, NotReady::Webhook(_)));
        let endpoints =
            refused(&format!("{call} no endpoints available for service \"cert-manager-webhook\""));
        assert!(matches!(endpoints, NotReady::Webhook(_)));
        let signed = refused(&format!("{call} x509: certificate signed by unknown authority"));
        assert!(matches!(signed, NotReady::Bundle(_)));
        assert!(matches!(refused("certificaterequests is forbidden"), NotReady::Refused(_)));
        assert!(matches!(
            classify(ApiError::TimedOut(chancery_kubernetes::REQUEST_TIMEOUT), "sandbox"),
            NotReady::Api(_)
        ));
        let status = kube::core::Status {
            message: "namespaces \"sandbox\" not found".into(),
            reason: "NotFound".into(),
            code: 404,
            ..kube::core::Status::default()
        };
        let missing = classify(ApiError::Refused(Box::new(status)), "sandbox");
        assert!(matches!(&missing, NotReady::Namespace(name) if name == "sandbox"), "{missing}");
    }
}
