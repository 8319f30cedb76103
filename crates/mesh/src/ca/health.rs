//! What probes are told: whether this replica is to be given calls, and if not, why.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use chancery_api::Clock;
use http::{StatusCode, Uri};
use tokio::sync::watch;

use super::roots::RootsWatch;
use super::serving::ServingCertificate;
use super::signer::ObservedSigner;

/// What the probes look at.
#[derive(Clone)]
pub struct Health {
    /// The service's own certificate.
    pub serving: watch::Receiver<Option<Arc<ServingCertificate>>>,
    /// The mesh's roots.
    pub roots: RootsWatch,
    /// The signer's last answers.
    pub signer: Arc<ObservedSigner>,
    /// Whether calls are taken.
    pub listening: Arc<AtomicBool>,
    /// What else must hold.
    pub further: Arc<[Check]>,
    /// The time.
    pub clock: Arc<dyn Clock>,
}

impl std::fmt::Debug for Health {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Health").field("checks", &self.checks()).finish_non_exhaustive()
    }
}

/// A check's name and what is wrong, if something is.
pub type Checked = (&'static str, Result<(), String>);

/// A check of a part that not every service has.
pub struct Check {
    name: &'static str,
    look: Box<dyn Fn() -> Result<(), String> + Send + Sync>,
}

impl Check {
    /// Under this name; `look` says what is wrong.
    pub fn new(name: &'static str, look: impl Fn() -> Result<(), String> + Send + Sync + 'static) -> Self {
        Self { name, look: Box::new(look) }
    }
}

impl Health {
    /// All that must hold for this replica to be given calls.
    ///
    /// The signer is not among them: it is the same for all replicas, and a service without traffic would never learn
    /// that the signer is back.
    pub fn checks(&self) -> Vec<Checked> {
        let now = self.clock.now();
        let serving = match &*self.serving.borrow() {
            None => Err("there is no serving certificate yet".to_owned()),
            Some(certificate) if certificate.not_after <= now => {
                Err(format!("the serving certificate expired at {}", certificate.not_after))
            }
            Some(certificate) if !certificate.leads_to(&self.roots.borrow(), now) => {
                Err("the serving certificate leads to none of the mesh's roots".to_owned())
            }
            Some(_) => Ok(()),
        };
        let roots = match self.roots.borrow().end() {
            None => Err("the mesh's roots are not known yet".to_owned()),
            Some(end) if end.as_second() <= now.as_second() => {
                Err(format!("the last of the mesh's roots expired at {end}"))
            }
            Some(_) => Ok(()),
        };
        let listening = self.listening.load(Ordering::Relaxed);
        let server = if listening { Ok(()) } else { Err("the server is not listening".to_owned()) };
        let mut checks = vec![("tls_provider", serving), ("grpc_server", server), ("roots", roots)];
        checks.extend(self.further.iter().map(|check| (check.name, (check.look)())));
        checks
    }

    /// The status and text for `/readyz`.
    pub(super) fn ready(&self, asked: &Uri) -> (StatusCode, String) {
        let verbose = asked.query().is_some_and(|query| {
            query.split('&').any(|part| part == "verbose" || part.starts_with("verbose="))
        });
        let checks = self.checks();
        let healthy = checks.iter().all(|(_, check)| check.is_ok());
        let status = if healthy { StatusCode::OK } else { StatusCode::INTERNAL_SERVER_ERROR };
        if healthy && !verbose {
            return (status, "ok".to_owned());
        }
        let mut text = String::new();
        for (name, check) in checks {
            // Writing to a string cannot fail.
            let _ = match check {
                Ok(()) => writeln!(text, "[+]{name} ok"),
                Err(reason) => writeln!(text, "[-]{name} failed: {reason}"),
            };
        }
        let signer = self.signer.state();
        let _ = match (signer.unavailable, signer.signed) {
            (Some((at, _)), _) => {
                writeln!(text, "[ ]signer unavailable at {at}; the reason is in the log (not counted)")
            }
            (None, Some(at)) => writeln!(text, "[+]signer ok at {at}"),
            (None, None) => writeln!(text, "[ ]signer not asked yet (not counted)"),
        };
        let _ = writeln!(text, "readyz check {}", if healthy { "passed" } else { "failed" });
        (status, text)
    }
}
