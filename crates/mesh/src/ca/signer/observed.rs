//! How the signer does, for metrics and probes.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use async_trait::async_trait;
use chancery_api::Clock;
use jiff::Timestamp;

use super::{Purpose, SignedChain, Signer, SigningError, SigningRequest};

/// What the signer last did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SignerState {
    /// When it last signed.
    pub signed: Option<Timestamp>,
    /// When and why it was last not able to, if it has not signed since. A refusal is an answer.
    pub unavailable: Option<(Timestamp, String)>,
}

/// A signer whose answers are counted and remembered.
pub struct ObservedSigner {
    inner: Arc<dyn Signer>,
    clock: Arc<dyn Clock>,
    state: Mutex<SignerState>,
}

impl ObservedSigner {
    /// Watches over `inner`.
    pub fn new(inner: Arc<dyn Signer>, clock: Arc<dyn Clock>) -> Self {
        Self { inner, clock, state: Mutex::default() }
    }

    /// What it last did.
    pub fn state(&self) -> SignerState {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl std::fmt::Debug for ObservedSigner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ObservedSigner").field("state", &self.state()).finish_non_exhaustive()
    }
}

#[async_trait]
impl Signer for ObservedSigner {
    async fn sign(&self, request: &SigningRequest) -> Result<SignedChain, SigningError> {
        let purpose = match request.purpose {
            Purpose::Workload => "workload",
            Purpose::Serving => "serving",
        };
        let begun = Instant::now();
        let answer = self.inner.sign(request).await;
        let now = self.clock.now();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let outcome = match &answer {
            Ok(_) => {
                *state = SignerState { signed: Some(now), unavailable: None };
                "signed"
            }
            Err(SigningError::Refused(_)) => {
                state.unavailable = None;
                "refused"
            }
            Err(SigningError::Unavailable(reason)) => {
                state.unavailable = Some((now, reason.clone()));
                "unavailable"
            }
        };
        drop(state);
        metrics::histogram!("cert_manager_istio_csr_signer_seconds", "purpose" => purpose, "outcome" => outcome)
            .record(begun.elapsed());
        answer
    }
}
