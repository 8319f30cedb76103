//! Where the parts of the service are put together: who signs, and who answers.

use std::sync::Arc;

use async_trait::async_trait;
use chancery_api::Clock;
use tonic::{Request, Response, Status};

use super::config::{Checked, SignerChoice};
use super::roots::RootsWatch;
use super::run::{RunError, Task};
use super::signer::{DirectSigner, Signer};
use crate::proto::istio::istio_certificate_service_server::IstioCertificateService;
use crate::proto::istio::{IstioCertificateRequest, IstioCertificateResponse};

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

/// NOT LINKED YET: the service itself, which knows callers, checks CSRs and answers.
///
/// # Errors
/// Always, until then.
pub async fn assemble(
    _checked: &Checked,
    _signer: Arc<dyn Signer>,
    _roots: RootsWatch,
    _clock: Arc<dyn Clock>,
) -> Result<(NotLinked, Vec<Task>), RunError> {
    Err(RunError::NotLinked("the certificate service"))
}

/// Stands for the service until it is there; there is none.
#[derive(Debug, Clone, Copy)]
pub enum NotLinked {}

#[async_trait]
impl IstioCertificateService for NotLinked {
    async fn create_certificate(
        &self,
        _: Request<IstioCertificateRequest>,
    ) -> Result<Response<IstioCertificateResponse>, Status> {
        match *self {}
    }
}
