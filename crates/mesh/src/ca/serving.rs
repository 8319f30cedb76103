//! The service's own certificate, and the TLS that it is served with.
//!
//! [`Serving::keep`] has a certificate signed by the mesh's own signer, and a new one with a new key long before it ends.
//! Each handshake takes the [`ServerConfig`] of its moment: a new certificate or new roots are one exchanged pointer, and
//! open connections go on.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use chancery_api::Clock;
use chancery_client::jitter;
use chancery_issuance::{
    Certificate, CsrRequest, KeyForm, KeySpec, PrivateKey, RequestedNames, Signer as _, TrustDomain,
    build_chains, create_csr, renewal_time,
};
use jiff::Timestamp;
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::CertifiedKey;
use tokio::sync::watch;

use super::measure;
use super::roots::{RootStore, Roots};
use super::signer::{Purpose, Signer, SigningRequest};
use super::tls::{TlsSettings, server_config};

/// How long one attempt may take.
const ATTEMPT: Duration = Duration::from_secs(10);
/// The pauses after failed attempts while there is no certificate: from, to.
const FIRST_PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// The pause after a failed renewal.
const RENEWAL_PAUSE: Duration = Duration::from_secs(20);
/// The longest sleep: the clock of the machine may be set, or have stood still.
const LONGEST_SLEEP: Duration = Duration::from_secs(30);

/// What the certificate shall be.
#[derive(Debug, Clone)]
pub struct ServingSettings {
    /// Its names.
    pub dns_names: Vec<String>,
    /// The kind of its key.
    pub key: KeySpec,
    /// How long it shall live.
    pub duration: Duration,
    /// The protocol.
    pub tls: TlsSettings,
    /// Whose workloads may show certificates: the mesh's trust domain and its aliases.
    pub trust_domains: Vec<TrustDomain>,
}

/// The certificate of the moment.
#[derive(Debug)]
pub struct ServingCertificate {
    key: Arc<CertifiedKey>,
    chain: Vec<Certificate>,
    /// From when it counts.
    pub not_before: Timestamp,
    /// When it ends.
    pub not_after: Timestamp,
}

impl ServingCertificate {
    /// Whether clients that have these roots will believe it.
    pub fn leads_to(&self, roots: &Roots, now: Timestamp) -> bool {
        self.chain.iter().any(|one| roots.vouch_for(one, now))
    }
}

/// Why there is no certificate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ServingError(String);

/// What a handshake takes.
#[derive(Debug)]
pub struct Handshake {
    /// The configuration.
    pub config: Arc<ServerConfig>,
    /// The roots that a client's certificate is held against.
    pub roots: Arc<Roots>,
}

/// The service's TLS.
pub struct Serving {
    settings: ServingSettings,
    signer: Arc<dyn Signer>,
    roots: Arc<RootStore>,
    clock: Arc<dyn Clock>,
    handshake: ArcSwapOption<Handshake>,
    /// Held while `handshake` is made, so that the last one made has the newest of both its parts.
    making: Mutex<()>,
    current: watch::Sender<Option<Arc<ServingCertificate>>>,
}

impl std::fmt::Debug for Serving {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Serving").field("current", &self.current.borrow()).finish_non_exhaustive()
    }
}

impl Serving {
    /// Without a certificate yet: [`Self::keep`] will get one.
    pub fn new(
        settings: ServingSettings,
        signer: Arc<dyn Signer>,
        roots: Arc<RootStore>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let current = watch::Sender::new(None);
        let (handshake, making) = (ArcSwapOption::empty(), Mutex::new(()));
        Self { settings, signer, roots, clock, handshake, making, current }
    }

    /// The certificate; its changes are seen at once.
    pub fn subscribe(&self) -> watch::Receiver<Option<Arc<ServingCertificate>>> {
        self.current.subscribe()
    }

    /// What the next handshake takes; `None` while there is no certificate.
    pub fn handshake(&self) -> Option<Arc<Handshake>> {
        self.handshake.load_full()
    }

    /// Gets a certificate, has it renewed, and follows the roots. Never ends; dropping it ends it.
    pub async fn keep(&self) {
        tokio::join!(self.renew(), self.follow_roots());
    }

    async fn renew(&self) {
        let mut failures = 0;
        loop {
            let issued = tokio::time::timeout(ATTEMPT, self.issue()).await;
            let late = || ServingError(format!("the signer did not answer within {} s", ATTEMPT.as_secs()));
            let issued = issued.unwrap_or_else(|_| Err(late()));
            measure::serving_certificate(issued.is_ok());
            match issued {
                Ok((renew_at, certificate)) => {
                    failures = 0;
                    tracing::info!(
                        not_after = %certificate.not_after,
                        renewal = %renew_at,
                        "the service has a new certificate"
                    );
                    tokio::select! {
                        () = self.sleep_until(renew_at) => {}
                        () = self.roots_leave(&certificate) => {
                            tracing::warn!("the service's certificate does not lead to the new roots");
                        }
                    }
                }
                Err(error) => {
                    failures += 1;
                    let has_one = self.current.borrow().is_some();
                    let pause = pause(failures, has_one, jitter());
                    tracing::error!(
                        %error, failures, pause_ms = pause.as_millis(), served = has_one,
                        "no new certificate for the service itself"
                    );
                    tokio::time::sleep(pause).await;
                }
            }
        }
    }

    /// Ends when the certificate leads to no root of the mesh any more.
    async fn roots_leave(&self, certificate: &ServingCertificate) {
        let mut roots = self.roots.subscribe();
        loop {
            let now = Arc::clone(&roots.borrow_and_update());
            if !certificate.leads_to(&now, self.clock.now()) {
                return;
            }
            if roots.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
    }

    async fn sleep_until(&self, moment: Timestamp) {
        loop {
            let left = Duration::try_from(moment.duration_since(self.clock.now())).unwrap_or_default();
            if left.is_zero() {
                return;
            }
            tokio::time::sleep(left.min(LONGEST_SLEEP)).await;
        }
    }

    /// One certificate, from the key to the first handshake with it; and when to renew it.
    async fn issue(&self) -> Result<(Timestamp, Arc<ServingCertificate>), ServingError> {
        let (spec, names) = (self.settings.key, self.settings.dns_names.clone());
        // RSA keys take their time.
        let made = tokio::task::spawn_blocking(move || key_and_csr(spec, names)).await;
        let (key, csr) = made.map_err(|error| ServingError(error.to_string()))??;
        let request = SigningRequest {
            csr,
            identities: self.settings.dns_names.clone(),
            duration: self.settings.duration,
            purpose: Purpose::Serving,
        };
        let signed = self.signer.sign(&request).await.map_err(|error| ServingError(error.to_string()))?;
        let now = self.clock.now();
        let candidate = signed.root.as_deref().map(|root| self.roots.candidate(root, now)).transpose();
        let candidate = candidate.map_err(|error| ServingError(error.to_string()))?.flatten();
        let roots = candidate.map_or_else(|| self.roots.current(), Arc::new);
        if roots.is_empty() {
            return Err(ServingError(
                "the signer names no root, and there is no root file: import the root with the issuer's chain, or \
                 give -root-ca-file"
                    .to_owned(),
            ));
        }
        let certificate = Arc::new(self.accept(&key, &signed.chain, &roots, now)?);
        // Not before: an answer that is no use must not decide what the mesh trusts.
        if let Some(root) = &signed.root {
            let trusted = self.roots.trust_first(root, now);
            trusted.map_err(|error| ServingError(error.to_string()))?;
        }
        self.install(Some(&certificate))?;
        metrics::gauge!("cert_manager_istio_csr_serving_certificate_expiry_timestamp_seconds")
            .set(measure::seconds(certificate.not_after.as_second()));
        // From now, not from its beginning: issuers date certificates back.
        Ok((renewal_time(now, certificate.not_after, jitter()), certificate))
    }

    /// What came back, if it is what was asked for and clients will believe it.
    fn accept(
        &self,
        key: &PrivateKey,
        chain: &str,
        roots: &Roots,
        now: Timestamp,
    ) -> Result<ServingCertificate, ServingError> {
        let wrong = |what: String| ServingError(format!("the signer's answer is no use: {what}"));
        let all = Certificate::all_from_pem(chain).map_err(|error| wrong(error.to_string()))?;
        let leaf = all.first().ok_or_else(|| wrong("there is no certificate in it".to_owned()))?;
        if leaf.public_key() != Some(key.public_key()) {
            return Err(wrong("the certificate is for another key".to_owned()));
        }
        let names = leaf.sans().map(|sans| sans.dns).unwrap_or_default();
        if let Some(missing) = self.settings.dns_names.iter().find(|name| !names.contains(name)) {
            return Err(wrong(format!("the certificate lacks the name {missing}")));
        }
        let (not_before, not_after) = (leaf.not_before().to_timestamp(), leaf.not_after().to_timestamp());
        if not_after <= now {
            return Err(wrong(format!("the certificate ended at {not_after}")));
        }
        let all: Vec<&Certificate> = all.iter().collect();
        let order = build_chains(&all).into_iter().next().unwrap_or_default();
        let chain = order.into_iter().filter_map(|index| all.get(index));
        // Clients have the root; one that is sent along only makes handshakes longer.
        let chain: Vec<&Certificate> = chain.copied().filter(|one| !one.is_self_signed()).collect();
        if !chain.iter().any(|one| roots.vouch_for(one, now)) {
            return Err(wrong("the certificate does not lead to a root of the mesh".to_owned()));
        }
        let leads = chain.iter().map(|&one| one.clone()).collect();
        let chain = chain.iter().map(|one| CertificateDer::from(one.der().to_vec())).collect();
        let der = PrivatePkcs8KeyDer::from(key.to_der(KeyForm::Pkcs8).to_vec());
        let provider = &self.settings.tls.provider;
        let loaded = provider.key_provider.load_private_key(PrivateKeyDer::Pkcs8(der));
        let loaded = loaded.map_err(|error| ServingError(format!("the key cannot be used: {error}")))?;
        let key = Arc::new(CertifiedKey::new(chain, loaded));
        Ok(ServingCertificate { key, chain: leads, not_before, not_after })
    }

    /// Makes the next handshakes take this certificate, or the one of before, and the roots of now.
    fn install(&self, fresh: Option<&Arc<ServingCertificate>>) -> Result<(), ServingError> {
        let making = self.making.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(certificate) = fresh.cloned().or_else(|| self.current.borrow().clone()) else {
            return Ok(());
        };
        let roots = self.roots.current();
        let ServingSettings { tls, trust_domains, .. } = &self.settings;
        let config = server_config(tls, trust_domains, Arc::clone(&certificate.key), &roots);
        let config = Arc::new(config.map_err(|error| ServingError(error.to_string()))?);
        self.handshake.store(Some(Arc::new(Handshake { config, roots })));
        if fresh.is_some() {
            self.current.send_replace(Some(certificate));
        }
        drop(making);
        Ok(())
    }

    /// New roots count for the next handshake.
    async fn follow_roots(&self) {
        let mut roots = self.roots.subscribe();
        while roots.changed().await.is_ok() {
            if let Err(error) = self.install(None) {
                tracing::error!(%error, "clients are still held against the previous roots");
            }
        }
    }
}

/// 1, 2, 4 … 30 s until there is a first certificate, 20 s later; and a twentieth at random.
fn pause(failures: u32, has_one: bool, jitter: f64) -> Duration {
    let (from, to) = FIRST_PAUSES;
    let growing = from.saturating_mul(1 << failures.saturating_sub(1).min(10)).min(to);
    let pause = if has_one { RENEWAL_PAUSE } else { growing };
    pause.mul_f64(1.0 + 0.05 * jitter)
}

fn key_and_csr(spec: KeySpec, names: Vec<String>) -> Result<(PrivateKey, String), ServingError> {
    let key = PrivateKey::generate(spec).map_err(|error| ServingError(format!("no key: {error}")))?;
    let names = RequestedNames { alt_names: names, ..RequestedNames::default() };
    let csr = create_csr(&CsrRequest { names, ..CsrRequest::default() }, &key);
    let csr = csr.map_err(|error| ServingError(format!("no CSR: {error}")))?;
    Ok((key, csr.pem))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_certificate_is_asked_for_ever_less_often_and_a_later_one_every_twenty_seconds() {
        let seconds =
            |has_one| (1..9).map(|failures| pause(failures, has_one, 0.0).as_secs()).collect::<Vec<_>>();
        assert_eq!(seconds(false), [1, 2, 4, 8, 16, 30, 30, 30]);
        assert_eq!(seconds(true), [20; 8]);
        assert_eq!(pause(1, false, 1.0), Duration::from_millis(1050));
        assert_eq!(pause(u32::MAX, false, 0.0), FIRST_PAUSES.1);
    }
}
