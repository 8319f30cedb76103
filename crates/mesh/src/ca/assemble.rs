//! Where the parts of the service are put together: who signs, and who answers.

use std::sync::Arc;

use chancery_api::Clock;

use super::authenticate::{
    Authenticator, Authenticators, CertificateAuthenticator, ClusterIds, JwksAuthenticator, JwksOptions,
    JwksSource, TokenReviewAuthenticator, TrustDomains,
};
use super::config::{Checked, SignerChoice};
use super::impersonate::NodeAuthorizer;
use super::roots::RootsWatch;
use super::run::{RunError, Task};
use super::service::{Service, ServiceOptions};
use super::signer::{DirectSigner, Signer};

/// The configured signer, and what it does in the background.
///
/// # Errors
/// Its settings cannot be used.
pub async fn signer(checked: &Checked) -> Result<(Arc<dyn Signer>, Vec<Task>), RunError> {
    match &checked.settings.signer {
        SignerChoice::Direct(settings) => {
            let signer = Arc::new(DirectSigner::new((**settings).clone())?);
            let kept = Arc::clone(&signer);
            let task: Task = Box::pin(async move { RunError::Signer(kept.keep().await.line()) });
            Ok((signer, vec![task]))
        }
        SignerChoice::CertificateRequest(_) => Err(RunError::NotLinked("signing by CertificateRequests")),
    }
}

/// The service: how callers are known, and what they get.
///
/// # Errors
/// The keys that tokens are held against cannot be read.
pub async fn assemble(
    checked: &Checked,
    signer: Arc<dyn Signer>,
    roots: RootsWatch,
    clock: Arc<dyn Clock>,
) -> Result<(Service, Vec<Task>), RunError> {
    let settings = &checked.settings;
    let authentication = &settings.authentication;
    let clusters = Arc::new(ClusterIds::new(settings.cluster_ids.iter().cloned()));
    let mut ways: Vec<Arc<dyn Authenticator>> = Vec::new();
    if authentication.client_certificates {
        let domains = TrustDomains { own: checked.trust_domain.clone(), aliases: checked.aliases.clone() };
        ways.push(Arc::new(CertificateAuthenticator::new(domains, Arc::clone(&clock))));
    }
    if let (Some(file), Some(issuer)) = (&authentication.jwks_file, &authentication.jwks_issuer) {
        let mut options =
            JwksOptions::new(vec![issuer.clone()], checked.trust_domain.clone(), Arc::clone(&clusters));
        options.rules.audiences.clone_from(&authentication.audiences);
        let way = JwksAuthenticator::new(JwksSource::File(file.clone()), options, Arc::clone(&clock))?;
        ways.push(Arc::new(way));
    }
    let options = ServiceOptions {
        max_duration: settings.max_client_certificate_duration,
        ..ServiceOptions::default()
    };
    let service = Service::new(options, Authenticators::new(ways), None, signer, roots, clock);
    Ok((service, Vec::new()))
}
