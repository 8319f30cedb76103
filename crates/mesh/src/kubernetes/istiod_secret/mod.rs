//! istiod's own certificate without cert-manager: key, certificate and roots in a Secret that this service keeps.
//!
//! The leader makes a key, has it signed as any other, checks what came back, and writes all three together. istiod notices
//! by itself. A Secret that cert-manager keeps is left alone.

mod certificate;
mod secret;

use std::sync::Arc;
use std::time::Duration;

use chancery_api::Clock;
use chancery_issuance::{
    CsrRequest, Curve, KeyForm, KeySpec, PrivateKey, RequestedNames, SerialNumber, Signer as _, create_csr,
};
use jiff::Timestamp;
use kube::api::{PartialObjectMeta, PostParams};
use kube::runtime::watcher;
use kube::{Api, Client};
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};
use zeroize::Zeroizing;

use self::certificate::{Checked, check};
use self::secret::{Datum, TlsSecret};
use super::istiod::{IstiodError, IstiodNames, KeyAlgorithm, SECRET, check_renewal};
use crate::ca::roots::{Roots, RootsWatch};
use crate::ca::signer::{Purpose, Signer, SigningRequest};
use chancery_kubernetes::{ApiError, optional, request};
use chancery_kubernetes::{Pauses, follow};

/// Looked at this often even if nothing seems to happen.
const RESYNC: Duration = Duration::from_secs(300);

/// How long a signature may take.
const SIGNING_DEADLINE: Duration = Duration::from_secs(60);

const CERTIFICATE: &str = "tls.crt";
const KEY: &str = "tls.key";
const ROOTS: &str = "ca.crt";

/// What cert-manager writes on its Secrets.
const CERT_MANAGERS: &str = "cert-manager.io/certificate-name";

/// The Secret that is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IstiodSecret {
    /// The namespace; the name is `istiod-tls`.
    pub namespace: String,
    /// The certificate's names.
    pub names: IstiodNames,
    /// How long it lives.
    pub duration: Duration,
    /// How long before its end it is renewed. If it turns out to live less than that, the last third of its life counts.
    pub renew_before: Duration,
    /// Its key.
    pub key: KeyAlgorithm,
}

/// What is to be done about it.
#[derive(Debug)]
enum Action {
    /// Nothing until then.
    Keep(Timestamp),
    /// The certificate is good; only the roots in it are not these.
    Roots(Box<TlsSecret>),
    /// A new certificate, for this reason, into what is there.
    Issue(String, Option<Box<TlsSecret>>),
    /// It is somebody else's.
    Foreign,
}

/// Why a Secret could not be kept.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("the Secret: {0}")]
    Api(#[from] ApiError),
    #[error("the key: {0}")]
    Key(String),
    #[error("the signature: {0}")]
    Signing(String),
    #[error("what was signed is no use: {0}")]
    Signed(String),
}

impl IstiodSecret {
    /// Checks what types cannot say.
    ///
    /// # Errors
    /// It would be renewed before it begins.
    pub fn validated(self) -> Result<Self, IstiodError> {
        check_renewal(self.duration, self.renew_before)?;
        Ok(self)
    }

    fn decide(
        &self,
        observed: Option<TlsSecret>,
        issued: Option<&Issued>,
        roots: &Roots,
        now: Timestamp,
    ) -> Action {
        let Some(observed) = observed else { return Action::Issue("there is none".into(), None) };
        if observed.metadata.annotations.as_ref().is_some_and(|all| all.contains_key(CERT_MANAGERS)) {
            return Action::Foreign;
        }
        let checked = match self.examine(&observed, roots, now) {
            Ok(checked) => checked,
            Err(reason) => return Action::Issue(reason, Some(Box::new(observed))),
        };
        let due = renewal(&checked, self.renew_before, issued);
        if due <= now {
            return Action::Issue("it is due".into(), Some(Box::new(observed)));
        }
        if observed.text(ROOTS).as_deref() == Some(&roots.pem) {
            return Action::Keep(due);
        }
        let mut wanted = observed;
        wanted.data.insert(ROOTS.to_owned(), Datum::new(&roots.pem));
        Action::Roots(Box::new(wanted))
    }

    fn examine(&self, observed: &TlsSecret, roots: &Roots, now: Timestamp) -> Result<Checked, String> {
        let part = |name: &str| observed.text(name).ok_or_else(|| format!("{name} is missing or not text"));
        let key = PrivateKey::from_pem(&part(KEY)?).map_err(|error| format!("{KEY}: {error}"))?;
        if key.spec() != self.key_spec() {
            return Err("its key is of another kind".into());
        }
        check(&part(CERTIFICATE)?, key.public_key(), &self.names, roots, now)
    }

    fn key_spec(&self) -> KeySpec {
        match self.key {
            KeyAlgorithm::Rsa(bits) => KeySpec::Rsa(bits),
            KeyAlgorithm::Ecdsa(384) => KeySpec::Ec(Curve::P384),
            KeyAlgorithm::Ecdsa(_) => KeySpec::Ec(Curve::P256),
        }
    }

    /// One look, and what follows from it. Says when to look again.
    async fn reconcile(
        &self,
        api: &Api<TlsSecret>,
        signer: &dyn Signer,
        roots: &Roots,
        clock: &dyn Clock,
        issued: &mut Option<Issued>,
    ) -> Result<Duration, Failure> {
        let observed = optional(api.get(SECRET)).await?;
        let now = clock.now();
        match self.decide(observed, issued.as_ref(), roots, now) {
            Action::Keep(due) => Ok(until(due, now)),
            Action::Foreign => {
                tracing::warn!(name = SECRET, "cert-manager keeps istiod's Secret; it is left alone");
                Ok(RESYNC)
            }
            Action::Roots(secret) => {
                request(api.replace(SECRET, &PostParams::default(), &secret)).await?;
                tracing::info!(name = SECRET, "istiod's Secret has the new roots");
                Ok(Duration::ZERO)
            }
            Action::Issue(reason, observed) => {
                let (key, checked) = self.issue(signer, roots, clock).await?;
                let is_new = observed.is_none();
                let mut secret = observed.map_or_else(|| TlsSecret::new(SECRET), |observed| *observed);
                secret.data.insert(CERTIFICATE.to_owned(), Datum::new(&checked.pem));
                secret.data.insert(KEY.to_owned(), Datum::new(&key));
                secret.data.insert(ROOTS.to_owned(), Datum::new(&roots.pem));
                let parameters = PostParams::default();
                if is_new {
                    request(api.create(&parameters, &secret)).await?;
                } else {
                    request(api.replace(SECRET, &parameters, &secret)).await?;
                }
                let end = checked.leaf.not_after().to_timestamp();
                *issued = Some(Issued { serial_number: checked.leaf.serial_number(), at: now });
                tracing::info!(name = SECRET, reason, %end, "istiod's Secret has a new certificate");
                Ok(until(renewal(&checked, self.renew_before, issued.as_ref()), clock.now()))
            }
        }
    }

    async fn issue(
        &self,
        signer: &dyn Signer,
        roots: &Roots,
        clock: &dyn Clock,
    ) -> Result<(Zeroizing<String>, Checked), Failure> {
        let spec = self.key_spec();
        // An RSA key takes long enough to hold up everybody else on this thread.
        let key = tokio::task::spawn_blocking(move || PrivateKey::generate(spec)).await;
        let key = key.map_err(|error| Failure::Key(error.to_string()))?;
        let key = key.map_err(|error| Failure::Key(error.to_string()))?;
        let names = RequestedNames {
            common_name: self.names.common_name.clone(),
            alt_names: self.names.dns_names.clone(),
            uri_sans: vec![self.names.uri.clone()],
            exclude_cn_from_sans: true,
            ..RequestedNames::default()
        };
        let wanted = CsrRequest { names, critical_names: true, ..CsrRequest::default() };
        let csr = create_csr(&wanted, &key).map_err(|error| Failure::Key(error.to_string()))?;
        let mut identities = self.names.dns_names.clone();
        identities.push(self.names.uri.clone());
        let wanted =
            SigningRequest { csr: csr.pem, identities, duration: self.duration, purpose: Purpose::Serving };
        let signed = timeout(SIGNING_DEADLINE, signer.sign(&wanted)).await;
        let signed = signed.map_err(|_| Failure::Signing(format!("none within {SIGNING_DEADLINE:?}")))?;
        let signed = signed.map_err(|error| Failure::Signing(error.to_string()))?;
        // What is no use is not written: it would be replaced at once, and again, and again.
        let checked = check(&signed.chain, key.public_key(), &self.names, roots, clock.now());
        Ok((key.to_pem(KeyForm::Traditional), checked.map_err(Failure::Signed)?))
    }
}

/// A certificate that this process had signed. Certificates may begin long before they are signed, so their own dates do
/// not tell how long they live; a certificate that seems due from the start would be replaced over and over.
#[derive(Debug)]
struct Issued {
    serial_number: SerialNumber,
    at: Timestamp,
}

/// When a certificate is due: so long before its end; or after two thirds of its life, if that is too short.
fn renewal(checked: &Checked, renew_before: Duration, issued: Option<&Issued>) -> Timestamp {
    let Checked { leaf, .. } = checked;
    let issued = issued.filter(|issued| issued.serial_number == leaf.serial_number());
    let issued = issued.map_or(i64::MIN, |issued| issued.at.as_second());
    let (begin, end) = (leaf.not_before().as_second().max(issued), leaf.not_after().as_second());
    let life = end.saturating_sub(begin);
    let before = i64::try_from(renew_before.as_secs()).unwrap_or(i64::MAX);
    let before = if before < life { before } else { life / 3 };
    Timestamp::from_second(end.saturating_sub(before)).unwrap_or(Timestamp::MIN)
}

fn until(due: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(due.duration_since(now)).unwrap_or(Duration::ZERO).min(RESYNC)
}

/// Keeps the Secret as it is wanted. It does not return; drop it to end it.
pub async fn run_istiod_secret(
    client: Client,
    wanted: IstiodSecret,
    signer: Arc<dyn Signer>,
    mut roots: RootsWatch,
    clock: Arc<dyn Clock>,
) {
    let metadata: Api<PartialObjectMeta<TlsSecret>> = Api::namespaced(client.clone(), &wanted.namespace);
    let api: Api<TlsSecret> = Api::namespaced(client, &wanted.namespace);
    let config = watcher::Config::default().fields(&format!("metadata.name={SECRET}"));
    let changed = Notify::new();
    let keep = async {
        let mut issued = None;
        let mut pauses = Pauses::new(Duration::from_millis(200), Duration::from_secs(60));
        loop {
            let current = Arc::clone(&roots.borrow_and_update());
            let mut next = RESYNC;
            if !current.certificates.is_empty() {
                match wanted.reconcile(&api, &*signer, &current, &*clock, &mut issued).await {
                    Ok(again) => {
                        next = again;
                        pauses.reset();
                    }
                    Err(error) => {
                        tracing::warn!(name = SECRET, %error, "istiod's Secret could not be kept; this is tried again");
                        sleep(pauses.pause()).await;
                        continue;
                    }
                }
            }
            let _ = timeout(next, async {
                tokio::select! {
                    () = changed.notified() => {}
                    Ok(()) = roots.changed() => {}
                }
            })
            .await;
        }
    };
    // Only that it changed matters here, so what is in it does not travel.
    tokio::join!(follow(metadata, config, "istiod's Secret", |_| changed.notify_one()), keep);
}

#[cfg(test)]
mod tests;
