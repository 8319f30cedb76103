//! Where the parts of the service are put together: who signs, who answers, and what runs beside them.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::rand;
use chancery_api::Clock;
use kube::Client;
use tokio::sync::watch;

use super::authenticate::{
    Authenticator, Authenticators, CertificateAuthenticator, ClusterIds, JwksAuthenticator, JwksOptions,
    JwksSource, TokenReviewAuthenticator, TrustDomains,
};
use super::config::{CertificateRequests, Checked, Istiod, KubernetesSettings, RootConfigMap, SignerChoice};
use super::health::Check;
use super::impersonate::NodeAuthorizer;
use super::roots::RootsWatch;
use super::run::{Last, Parts, RunError, Task};
use super::service::{Service, ServiceOptions};
use super::signer::{DirectSigner, Signer};
use crate::kubernetes::{
    ActiveIssuer, CertificateRequestSettings, CertificateRequestSigner, ClusterReviewer, Elector,
    IssuerWatch, IstiodCertificate, IstiodNames, IstiodSecret, KeyAlgorithm, LEASE, LabelSelector,
    LeaseTimings, PodIndex, RootConfigMapSettings, connect, run_istiod_certificate, run_istiod_secret,
    run_root_config_maps, static_issuer,
};

/// How long it is remembered that a token was good: long enough for a pod that starts, and asks a few times.
const REVIEWS_REMEMBERED: Duration = Duration::from_secs(10);

/// How long the deletions of CertificateRequests may take at the end.
const DELETIONS: Duration = Duration::from_secs(4);

/// The Kubernetes API and what is said about it, where there is one.
pub struct Kubernetes {
    client: Client,
    settings: KubernetesSettings,
    /// The issuer of CertificateRequests, if these are how certificates are signed.
    issuer: Option<Arc<ActiveIssuer>>,
}

impl std::fmt::Debug for Kubernetes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Kubernetes").field("settings", &self.settings).finish_non_exhaustive()
    }
}

/// The way to the Kubernetes API, if there is to be one. Nothing is asked yet.
///
/// # Errors
/// It is not known where the API is, or the issuer's settings do not go together.
pub async fn kubernetes(checked: &Checked) -> Result<Option<Kubernetes>, RunError> {
    let Some(settings) = checked.settings.kubernetes.clone() else { return Ok(None) };
    let client = connect(&settings.connection).await.map_err(failed)?;
    let issuer = match &checked.settings.signer {
        SignerChoice::Direct(_) => None,
        SignerChoice::CertificateRequest(requests) => {
            let CertificateRequests { issuer_enabled, issuer_name, issuer_kind, issuer_group, .. } =
                &**requests;
            let runtime = requests.runtime_config_map.is_some();
            let fixed = static_issuer(*issuer_enabled, issuer_name, issuer_kind, issuer_group, runtime);
            let begin = if runtime { ActiveIssuer::undecided } else { ActiveIssuer::new };
            Some(Arc::new(begin(fixed.map_err(failed)?)))
        }
    };
    Ok(Some(Kubernetes { client, settings, issuer }))
}

/// The configured signer, what it does in the background, and what it does at the end.
///
/// # Errors
/// Its settings cannot be used.
pub fn signer(
    checked: &Checked,
    kubernetes: Option<&Kubernetes>,
    clock: &Arc<dyn Clock>,
) -> Result<(Arc<dyn Signer>, Parts<()>), RunError> {
    match &checked.settings.signer {
        SignerChoice::Direct(settings) => {
            let signer = Arc::new(DirectSigner::new((**settings).clone())?);
            let kept = Arc::clone(&signer);
            let task: Task = Box::pin(async move { RunError::Signer(kept.keep().await.line()) });
            Ok((signer, Parts { tasks: vec![task], ..Parts::new(()) }))
        }
        SignerChoice::CertificateRequest(requests) => {
            let missing = || RunError::Kubernetes("CertificateRequests need it".to_owned());
            let kubernetes = kubernetes.ok_or_else(missing)?;
            let issuer = kubernetes.issuer.clone().ok_or_else(missing)?;
            let settings = CertificateRequestSettings {
                additional_annotations: requests.additional_annotations.clone(),
                preserve: requests.preserve,
                ..CertificateRequestSettings::new(requests.namespace.clone())
            };
            let client = kubernetes.client.clone();
            let signer =
                CertificateRequestSigner::start(client, settings, issuer.subscribe(), Arc::clone(clock));
            let signer = Arc::new(signer);
            let kept = Arc::clone(&signer);
            let last: Last = Box::pin(async move { kept.shut_down(DELETIONS).await });
            let mut tasks: Vec<Task> = Vec::new();
            if let Some((namespace, name)) = requests.runtime_config_map.clone() {
                let client = kubernetes.client.clone();
                tasks.push(Box::pin(async move {
                    issuer.follow_config_map(client, &namespace, &name).await;
                    ended("the watch of the runtime issuer")
                }));
            }
            Ok((signer, Parts { tasks, last: vec![last], ..Parts::new(()) }))
        }
    }
}

/// The service: how callers are known, and what they get; and what is kept right in Kubernetes meanwhile.
///
/// # Errors
/// The keys that tokens are held against cannot be read, or a setting cannot be used.
pub fn assemble(
    checked: &Checked,
    kubernetes: Option<&Kubernetes>,
    signer: Arc<dyn Signer>,
    roots: RootsWatch,
    clock: Arc<dyn Clock>,
    leaving: watch::Receiver<bool>,
) -> Result<Parts<Service>, RunError> {
    let settings = &checked.settings;
    let (mut tasks, mut checks) = (Vec::new(), Vec::new());
    let authenticators = Authenticators::new(authenticators(checked, kubernetes, &clock)?);
    let impersonation =
        kubernetes.and_then(|kubernetes| impersonation(checked, kubernetes, &mut tasks, &mut checks));
    if let Some(kubernetes) = kubernetes {
        tasks.extend(leader(checked, kubernetes, &signer, &roots, &clock, leaving)?);
    }
    let options = ServiceOptions {
        max_duration: settings.max_client_certificate_duration,
        ..ServiceOptions::default()
    };
    let service = Service::new(options, authenticators, impersonation, signer, roots, clock);
    Ok(Parts { tasks, checks, ..Parts::new(service) })
}

/// The ways to know a caller, the cheapest first.
fn authenticators(
    checked: &Checked,
    kubernetes: Option<&Kubernetes>,
    clock: &Arc<dyn Clock>,
) -> Result<Vec<Arc<dyn Authenticator>>, RunError> {
    let settings = &checked.settings;
    let authentication = &settings.authentication;
    let domain = &checked.trust_domain;
    let clusters = Arc::new(ClusterIds::new(settings.cluster_ids.iter().cloned()));
    let mut ways: Vec<Arc<dyn Authenticator>> = Vec::new();
    if authentication.client_certificates {
        let domains = TrustDomains { own: domain.clone(), aliases: checked.aliases.clone() };
        ways.push(Arc::new(CertificateAuthenticator::new(domains, Arc::clone(clock))));
    }
    if let Some(file) = &authentication.jwks_file {
        let issuers = authentication.jwks_issuers.clone();
        let mut options = JwksOptions::new(issuers, domain.clone(), Arc::clone(&clusters));
        options.rules.audiences.clone_from(&authentication.audiences);
        let way = JwksAuthenticator::new(JwksSource::File(file.clone()), options, Arc::clone(clock))?;
        ways.push(Arc::new(way));
    }
    // Only if told so the API gets to see tokens that those keys do not vouch for.
    let is_reviewed = authentication.jwks_file.is_none() || authentication.token_review;
    if let Some(kubernetes) = kubernetes.filter(|_| is_reviewed) {
        // Whichever of its names the cluster is called by, its API is the same.
        let mut names = settings.cluster_ids.iter().filter(|name| !name.is_empty());
        let home = names.next().map_or("Kubernetes", String::as_str);
        let mut reviewer = ClusterReviewer::new(home, kubernetes.client.clone());
        for name in names {
            reviewer = reviewer.with_cluster(name.as_str(), kubernetes.client.clone());
        }
        let reviewer = Arc::new(reviewer.remembering(REVIEWS_REMEMBERED, Arc::clone(clock)));
        let audiences = authentication.audiences.clone();
        ways.push(Arc::new(TokenReviewAuthenticator::new(reviewer, audiences, domain.clone(), clusters)));
    }
    Ok(ways)
}

/// Who may ask for others' certificates. Only then are all pods followed.
fn impersonation(
    checked: &Checked,
    kubernetes: &Kubernetes,
    tasks: &mut Vec<Task>,
    checks: &mut Vec<Check>,
) -> Option<NodeAuthorizer> {
    let trusted = &checked.settings.authentication.trusted_node_accounts;
    if trusted.is_empty() {
        return None;
    }
    let pods = Arc::new(PodIndex::default());
    let (followed, looked_at, client) = (Arc::clone(&pods), Arc::clone(&pods), kubernetes.client.clone());
    checks.push(Check::new("pods", move || looked_at.usable().map_err(|error| error.to_string())));
    tasks.push(Box::pin(async move {
        followed.run(client).await;
        ended("the watch of pods")
    }));
    Some(NodeAuthorizer::new(trusted.iter().cloned(), checked.trust_domain.clone(), pods))
}

/// What only one replica does: the ConfigMaps with the roots, and istiod's certificate.
fn leader(
    checked: &Checked,
    kubernetes: &Kubernetes,
    signer: &Arc<dyn Signer>,
    roots: &RootsWatch,
    clock: &Arc<dyn Clock>,
    leaving: watch::Receiver<bool>,
) -> Result<Option<Task>, RunError> {
    let Kubernetes { client, settings, issuer } = kubernetes;
    let config_maps =
        settings.root_config_map.as_ref().map(|wanted| config_maps(checked, wanted)).transpose()?;
    let istiod = settings.istiod.as_ref().map(|wanted| istiod(checked, wanted)).transpose()?;
    if config_maps.is_none() && istiod.is_none() {
        return Ok(None);
    }
    let elector = Elector::new(
        client.clone(),
        &settings.leader_election_namespace,
        LEASE,
        identity()?,
        LeaseTimings::default(),
        Arc::clone(clock),
    );
    let issuer = issuer.as_ref().map(|issuer| issuer.subscribe());
    let (client, signer, roots, clock) =
        (client.clone(), Arc::clone(signer), roots.clone(), Arc::clone(clock));
    Ok(Some(Box::pin(async move {
        let work = || {
            let (client, signer, roots, clock) =
                (client.clone(), Arc::clone(&signer), roots.clone(), Arc::clone(&clock));
            let (config_maps, istiod, issuer) = (config_maps.clone(), istiod.clone(), issuer.clone());
            async move {
                let maps = async {
                    if let Some(settings) = config_maps {
                        run_root_config_maps(client.clone(), settings, roots.clone(), Arc::clone(&clock))
                            .await;
                    }
                };
                let certificate = async {
                    if let Some(wanted) = istiod {
                        wanted.keep(client.clone(), issuer, signer, roots.clone(), Arc::clone(&clock)).await;
                    }
                };
                tokio::join!(maps, certificate);
            }
        };
        elector.run(leaving.clone(), work).await;
        if *leaving.borrow() {
            // Whoever waits for the lease to be given back sees that nobody is left who could.
            drop(leaving);
            return std::future::pending().await;
        }
        ended("the leader's work")
    })))
}

fn config_maps(checked: &Checked, wanted: &RootConfigMap) -> Result<RootConfigMapSettings, RunError> {
    Ok(RootConfigMapSettings {
        selector: LabelSelector::parse(&wanted.namespace_selector).map_err(failed)?,
        at_once: wanted.max_concurrent_reconciles,
        allow_intermediates: checked.settings.allow_intermediate_root,
    })
}

/// istiod's certificate, by cert-manager or without it.
#[derive(Clone)]
struct IstiodWork {
    certificate: IstiodCertificate,
    secret: IstiodSecret,
}

impl IstiodWork {
    async fn keep(
        self,
        client: Client,
        issuer: Option<IssuerWatch>,
        signer: Arc<dyn Signer>,
        roots: RootsWatch,
        clock: Arc<dyn Clock>,
    ) {
        match issuer {
            Some(issuer) => run_istiod_certificate(client, self.certificate, issuer).await,
            None => run_istiod_secret(client, self.secret, signer, roots, clock).await,
        }
    }
}

fn istiod(checked: &Checked, wanted: &Istiod) -> Result<IstiodWork, RunError> {
    let Istiod { namespace, duration, renew_before, additional_dns_names, revisions, .. } = wanted;
    let names = IstiodNames::new(&checked.trust_domain, namespace, revisions, additional_dns_names);
    let names = names.map_err(failed)?;
    let key = KeyAlgorithm::parse(&wanted.key_algorithm, wanted.key_size).map_err(failed)?;
    let certificate = IstiodCertificate {
        name: wanted.name.clone(),
        namespace: namespace.clone(),
        names: names.clone(),
        duration: *duration,
        renew_before: *renew_before,
        key,
        annotations: wanted.additional_annotations.clone(),
    };
    let secret = IstiodSecret {
        namespace: namespace.clone(),
        names,
        duration: *duration,
        renew_before: *renew_before,
        key,
    };
    Ok(IstiodWork {
        certificate: certificate.validated().map_err(failed)?,
        secret: secret.validated().map_err(failed)?,
    })
}

/// This process, to the other replicas.
fn identity() -> Result<String, RunError> {
    let mut random = [0; 8];
    rand::fill(&mut random)
        .map_err(|_| RunError::Kubernetes("the system gives no random bytes".to_owned()))?;
    let host = std::fs::read_to_string("/etc/hostname").unwrap_or_default();
    Ok(format!("{}_{}", host.trim(), data_encoding::HEXLOWER.encode(&random)))
}

fn failed(error: impl std::fmt::Display) -> RunError {
    RunError::Kubernetes(error.to_string())
}

fn ended(what: &str) -> RunError {
    RunError::Kubernetes(format!("{what} has ended"))
}

#[cfg(test)]
mod tests {
    use chancery_api::{Secret, SystemClock};
    use chancery_client::{Config, Login};

    use super::*;
    use crate::ca::config::Settings;
    use crate::token::dev::DevIssuer;

    #[tokio::test]
    async fn tokens_that_the_keys_do_not_vouch_for_go_to_the_api_only_if_told_so() {
        let folder = tempfile::tempdir().expect("a folder");
        let keys = folder.path().join("jwks.json");
        std::fs::write(&keys, DevIssuer::generate("https://i").expect("an issuer").jwks()).expect("written");
        let url = "http://127.0.0.1:1".parse().expect("a URL");
        let client = Client::try_from(kube::Config::new(url)).expect("a client");
        let kubernetes = Kubernetes { client, settings: KubernetesSettings::default(), issuer: None };
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let ways = |has_keys: bool, token_review: bool| {
            let login = Login::Token(Secret::from("t").into());
            let mut settings = Settings::new(Config::new("http://h".parse().expect("a URL")), login);
            settings.authentication.token_review = token_review;
            if has_keys {
                settings.authentication.jwks_file = Some(keys.clone());
                settings.authentication.jwks_issuers = vec!["https://i".to_owned()];
            }
            let checked = settings.check().expect("settings");
            let ways = authenticators(&checked, Some(&kubernetes), &clock).expect("ways");
            ways.iter().map(|way| way.name()).collect::<Vec<_>>()
        };
        assert_eq!(ways(false, false), ["token_review"]);
        assert_eq!(ways(true, false), ["jwks"]);
        assert_eq!(ways(true, true), ["jwks", "token_review"]);
    }
}
