//! What an operator says, checked.

mod kubernetes;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use chancery_client::{Config, Login};
use chancery_issuance::{Curve, KeySpec, SpiffeError, TrustDomain};

use super::listener::ListenerSettings;
use super::serving::ServingSettings;
use super::signer::DirectSettings;
use super::tls::{TlsSettings, TlsSettingsError};
use crate::Workload;

pub use kubernetes::{CertificateRequests, Istiod, KubernetesSettings, RootConfigMap};

/// The settings of the certificate service, as they are written.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The mesh's trust domain.
    pub trust_domain: String,
    /// Further trust domains whose workloads are the mesh's own.
    pub trust_domain_aliases: Vec<String>,
    /// The ids of the clusters whose workloads are served.
    pub cluster_ids: Vec<String>,
    /// Where calls are taken.
    pub serving_address: SocketAddr,
    /// Where probes are answered, and at which path.
    pub readiness_address: SocketAddr,
    /// `/readyz`, or another path.
    pub readiness_path: String,
    /// Where metrics are given out; `None` is nowhere.
    pub metrics_address: Option<SocketAddr>,
    /// A bundle of the mesh's roots in PEM.
    pub root_ca_file: Option<PathBuf>,
    /// Take roots that are not self-signed.
    pub allow_intermediate_root: bool,
    /// The service's own certificate.
    pub serving: ServingNames,
    /// Who signs.
    pub signer: SignerChoice,
    /// The longest life of a workload's certificate.
    pub max_client_certificate_duration: Duration,
    /// How callers are known.
    pub authentication: Authentication,
    /// The Kubernetes API; `None` does without: tokens are then held against keys, and the server signs.
    pub kubernetes: Option<KubernetesSettings>,
    /// What one caller may take of the port.
    pub listener: ListenerSettings,
}

/// The service's own certificate, as it is written.
#[derive(Debug, Clone)]
pub struct ServingNames {
    /// Its DNS names.
    pub dns_names: Vec<String>,
    /// How long it shall live.
    pub duration: Duration,
    /// `RSA` or `ECDSA`.
    pub signature_algorithm: String,
    /// The key's bits; 0 is the algorithm's default.
    pub key_size: u32,
    /// `VersionTLS12` or `VersionTLS13`; empty is the former.
    pub tls_min_version: String,
    /// Cipher suites of TLS 1.2; empty is the library's choice.
    pub tls_cipher_suites: Vec<String>,
    /// Key exchanges in their order; empty is the library's choice.
    pub tls_curve_preferences: Vec<String>,
}

/// Who signs.
#[derive(Debug, Clone)]
pub enum SignerChoice {
    /// The server, over its API.
    Direct(Box<DirectSettings>),
    /// cert-manager, by CertificateRequests.
    CertificateRequest(Box<CertificateRequests>),
}

/// How callers are known.
#[derive(Debug, Clone, Default)]
pub struct Authentication {
    /// The audiences that a token may be for.
    pub audiences: Vec<String>,
    /// Keys of a token issuer, in a file: then Kubernetes is not asked, unless `token_review` says so.
    pub jwks_file: Option<PathBuf>,
    /// Also have tokens reviewed by Kubernetes that `jwks_file` does not vouch for: pods and machines come to one service.
    pub token_review: bool,
    /// Who may have issued tokens that are held against `jwks_file`.
    pub jwks_issuers: Vec<String>,
    /// Take client certificates of the mesh in place of a token.
    pub client_certificates: bool,
    /// `namespace/serviceaccount`s that may ask for the certificates of the pods on their node.
    pub trusted_node_accounts: Vec<Workload>,
}

impl Default for ServingNames {
    fn default() -> Self {
        Self {
            dns_names: vec!["cert-manager-istio-csr.cert-manager.svc".to_owned()],
            duration: Duration::from_secs(60 * 60),
            signature_algorithm: "ECDSA".to_owned(),
            key_size: 0,
            tls_min_version: String::new(),
            tls_cipher_suites: Vec::new(),
            tls_curve_preferences: Vec::new(),
        }
    }
}

impl Settings {
    /// The defaults, for the server at this address, as whom `login` says.
    pub fn new(server: Config, login: Login) -> Self {
        let direct = DirectSettings {
            client: server,
            login,
            sign_path: "istioca/sign/cluster-local".to_owned(),
            serving_sign_path: None,
        };
        Self {
            trust_domain: "cluster.local".to_owned(),
            trust_domain_aliases: Vec::new(),
            cluster_ids: vec!["Kubernetes".to_owned()],
            serving_address: SocketAddr::from(([0, 0, 0, 0], 6443)),
            readiness_address: SocketAddr::from(([0, 0, 0, 0], 6060)),
            readiness_path: "/readyz".to_owned(),
            metrics_address: Some(SocketAddr::from(([0, 0, 0, 0], 9402))),
            root_ca_file: None,
            allow_intermediate_root: false,
            serving: ServingNames::default(),
            signer: SignerChoice::Direct(Box::new(direct)),
            max_client_certificate_duration: Duration::from_secs(60 * 60),
            authentication: Authentication {
                audiences: vec!["istio-ca".to_owned()],
                ..Authentication::default()
            },
            kubernetes: Some(KubernetesSettings::default()),
            listener: ListenerSettings::default(),
        }
    }

    /// The settings as they are used.
    ///
    /// # Errors
    /// The first that cannot be used.
    pub fn check(self) -> Result<Checked, SettingsError> {
        let trust_domain = Workload::trust_domain(&self.trust_domain)
            .map_err(|source| SettingsError::TrustDomain { name: self.trust_domain.clone(), source })?;
        let mut aliases = Vec::new();
        for name in &self.trust_domain_aliases {
            let alias = Workload::trust_domain(name)
                .map_err(|source| SettingsError::TrustDomain { name: name.clone(), source })?;
            aliases.push(alias);
        }
        let names = &self.serving;
        if names.dns_names.iter().all(String::is_empty) {
            return Err(SettingsError::NoDnsNames);
        }
        // Below a minute the service would only renew.
        let shortest = Duration::from_secs(60);
        for (setting, duration) in [
            ("serving certificate duration", names.duration),
            ("maximum client certificate duration", self.max_client_certificate_duration),
        ] {
            if duration < shortest {
                return Err(SettingsError::TooShort { setting, duration, least: shortest });
            }
        }
        if !self.readiness_path.starts_with('/') {
            return Err(SettingsError::ReadinessPath(self.readiness_path));
        }
        match &self.signer {
            SignerChoice::Direct(direct) => {
                check_sign_path(&direct.sign_path)?;
                direct.serving_sign_path.as_deref().map_or(Ok(()), check_sign_path)?;
            }
            SignerChoice::CertificateRequest(requests) if !requests.is_complete() => {
                return Err(SettingsError::Issuer);
            }
            SignerChoice::CertificateRequest(requests) => {
                check_annotations(&requests.additional_annotations)?
            }
        }
        if let Some(istiod) = self.kubernetes.as_ref().and_then(|kubernetes| kubernetes.istiod.as_ref()) {
            check_annotations(&istiod.additional_annotations)?;
        }
        let direct = matches!(self.signer, SignerChoice::Direct(_));
        if self.kubernetes.is_none() && (self.authentication.jwks_file.is_none() || !direct) {
            return Err(SettingsError::NeedsKubernetes);
        }
        let Authentication {
            audiences, jwks_file, token_review, jwks_issuers, trusted_node_accounts, ..
        } = &self.authentication;
        if jwks_file.is_some() && jwks_issuers.is_empty() {
            return Err(SettingsError::JwksIssuer);
        }
        if jwks_file.is_none() && !jwks_issuers.is_empty() {
            return Err(SettingsError::JwksFile);
        }
        if audiences.iter().all(String::is_empty) {
            return Err(SettingsError::NoAudiences);
        }
        if self.kubernetes.is_none() && *token_review {
            return Err(SettingsError::OnlyWithKubernetes("-token-review"));
        }
        if self.kubernetes.is_none() && !trusted_node_accounts.is_empty() {
            return Err(SettingsError::OnlyWithKubernetes("-ca-trusted-node-accounts"));
        }
        let serving = ServingSettings {
            dns_names: names.dns_names.iter().filter(|name| !name.is_empty()).cloned().collect(),
            key: key_spec(&names.signature_algorithm, names.key_size)?,
            duration: names.duration,
            tls: TlsSettings::new(
                &names.tls_min_version,
                &names.tls_cipher_suites,
                &names.tls_curve_preferences,
            )?,
            trust_domains: [std::slice::from_ref(&trust_domain), &aliases].concat(),
        };
        Ok(Checked { trust_domain, aliases, serving, settings: self })
    }
}

/// Settings that can be used.
#[derive(Debug, Clone)]
pub struct Checked {
    /// The mesh's trust domain.
    pub trust_domain: TrustDomain,
    /// Further ones.
    pub aliases: Vec<TrustDomain>,
    /// The service's own certificate.
    pub serving: ServingSettings,
    /// All the rest.
    pub settings: Settings,
}

/// A setting that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SettingsError {
    /// No trust domain.
    #[error("the trust domain {name:?} cannot be used: {source}")]
    TrustDomain {
        /// As written.
        name: String,
        /// Why.
        source: SpiffeError,
    },
    /// No name for the service.
    #[error("the list of DNS names to add to the serving certificate is empty")]
    NoDnsNames,
    /// Too short a life.
    #[error("the {setting} of {duration:?} is shorter than {least:?}")]
    TooShort {
        /// Which.
        setting: &'static str,
        /// As written.
        duration: Duration,
        /// The least.
        least: Duration,
    },
    /// An unknown kind of key.
    #[error("unknown signature algorithm {0:?}; there are RSA and ECDSA")]
    Algorithm(String),
    /// A size that the kind of key does not have.
    #[error("{algorithm} keys of {bits} bits are not made; there are {known}")]
    KeySize {
        /// The kind.
        algorithm: &'static str,
        /// As written.
        bits: u32,
        /// The sizes there are.
        known: &'static str,
    },
    /// TLS.
    #[error(transparent)]
    Tls(#[from] TlsSettingsError),
    /// No absolute path.
    #[error("the readiness path {0:?} does not begin with a slash")]
    ReadinessPath(String),
    /// Nothing that signs.
    #[error("the sign path {0:?} is not of the form MOUNT/sign/ROLE")]
    SignPath(String),
    /// Half an issuer, or none at all.
    #[error(
        "the issuer's name, kind and group must all be given, or none of them and a ConfigMap \
         (-runtime-issuance-config-map-name and -namespace) that names one later"
    )]
    Issuer,
    /// Something that only Kubernetes can do.
    #[error("without Kubernetes, tokens must be held against keys (-jwks-file), and -signer must be direct")]
    NeedsKubernetes,
    /// The API would refuse each object.
    #[error("{0:?} is no key of an annotation")]
    Annotation(String),
    /// A setting that would do nothing.
    #[error("{0} needs Kubernetes")]
    OnlyWithKubernetes(&'static str),
    /// A name without keys.
    #[error("-jwks-issuer needs the issuer's keys: give -jwks-file")]
    JwksFile,
    /// No token would be good.
    #[error("the list of audiences is empty")]
    NoAudiences,
    /// Keys without a name.
    #[error("tokens that are held against a key file need the issuer's name: give -jwks-issuer")]
    JwksIssuer,
}

fn check_annotations(annotations: &BTreeMap<String, String>) -> Result<(), SettingsError> {
    let wrong = kubernetes::wrong_annotation(annotations);
    wrong.map_or(Ok(()), |key| Err(SettingsError::Annotation(key.clone())))
}

fn check_sign_path(path: &str) -> Result<(), SettingsError> {
    let mut parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    let (role, verb) = (parts.pop().unwrap_or_default(), parts.pop().unwrap_or_default());
    let mount = !parts.is_empty() && parts.iter().all(|part| !part.is_empty() && *part != "..");
    if mount && verb == "sign" && !role.is_empty() && role != ".." {
        return Ok(());
    }
    // `MOUNT/issuer/ISSUER/sign/ROLE` ends in the same way.
    Err(SettingsError::SignPath(path.to_owned()))
}

/// RSA of 2048 bits and more, or ECDSA over P-256 or P-384; 0 is 2048 and 256.
pub(crate) fn key_spec(algorithm: &str, bits: u32) -> Result<KeySpec, SettingsError> {
    let size = |algorithm, known| SettingsError::KeySize { algorithm, bits, known };
    if algorithm.eq_ignore_ascii_case("RSA") {
        match bits {
            0 => Ok(KeySpec::Rsa(2048)),
            2048 | 3072 | 4096 | 8192 => Ok(KeySpec::Rsa(bits)),
            _ => Err(size("RSA", "2048, 3072, 4096 and 8192")),
        }
    } else if algorithm.eq_ignore_ascii_case("ECDSA") {
        match bits {
            0 | 256 => Ok(KeySpec::Ec(Curve::P256)),
            384 => Ok(KeySpec::Ec(Curve::P384)),
            _ => Err(size("ECDSA", "256 and 384")),
        }
    } else {
        Err(SettingsError::Algorithm(algorithm.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> Settings {
        let login = Login::Token(chancery_api::Secret::from("t").into());
        Settings::new(Config::new("http://h".parse().unwrap()), login)
    }

    fn alone(settings: &mut Settings) {
        settings.kubernetes = None;
        settings.authentication.jwks_file = Some("/keys".into());
        settings.authentication.jwks_issuers = vec!["https://i".into()];
    }

    fn refused(change: impl FnOnce(&mut Settings)) -> String {
        let mut settings = settings();
        change(&mut settings);
        settings.check().unwrap_err().to_string()
    }

    #[test]
    fn the_defaults_can_be_used() {
        let checked = settings().check().unwrap();
        assert_eq!(checked.trust_domain.as_str(), "cluster.local");
        assert_eq!(checked.serving.key, KeySpec::Ec(Curve::P256));
    }

    #[test]
    fn an_issuer_is_named_in_full_or_left_to_a_config_map() {
        let complete = |enabled, [name, kind, group]: [&str; 3], runtime: bool| {
            let requests = CertificateRequests {
                namespace: "istio-system".into(),
                preserve: false,
                additional_annotations: BTreeMap::new(),
                issuer_enabled: enabled,
                issuer_name: name.into(),
                issuer_kind: kind.into(),
                issuer_group: group.into(),
                runtime_config_map: runtime.then(|| ("ns".into(), "map".into())),
            };
            requests.is_complete()
        };
        let (all, some, none) = (["a", "b", "c"], ["a", "", "c"], ["", "", ""]);
        assert!(complete(true, all, false) && complete(true, all, true));
        assert!(!complete(true, some, false) && !complete(true, some, true));
        for (enabled, issuer) in [(true, none), (false, none), (false, some), (false, all)] {
            assert!(!complete(enabled, issuer, false) && complete(enabled, issuer, true));
        }
    }

    #[test]
    fn annotations_have_keys_that_kubernetes_takes() {
        let with = |key: &str| {
            refused(|settings| {
                settings.kubernetes.as_mut().unwrap().istiod = Some(Istiod {
                    name: "istiod".into(),
                    namespace: "istio-system".into(),
                    duration: Duration::from_secs(3600),
                    renew_before: Duration::from_secs(1800),
                    key_algorithm: "RSA".into(),
                    key_size: 0,
                    additional_dns_names: Vec::new(),
                    additional_annotations: BTreeMap::from([(key.to_owned(), "any value".to_owned())]),
                    revisions: Vec::new(),
                });
                // Refused in any case, but later.
                settings.authentication.audiences.clear();
            })
        };
        for good in ["a", "example.com/a", "Example.com/A_b.c"] {
            assert_eq!(with(good), "the list of audiences is empty");
        }
        for bad in ["", "a b", "/a", "a/b/c", "-a"] {
            assert_eq!(with(bad), format!("{bad:?} is no key of an annotation"));
        }
    }

    #[test]
    fn settings_that_cannot_be_used_are_named() {
        for (sentence, refusal) in [
            (
                "the list of DNS names to add to the serving certificate is empty",
                refused(|settings| settings.serving.dns_names.clear()),
            ),
            (
                "unknown signature algorithm \"DSA\"; there are RSA and ECDSA",
                refused(|settings| settings.serving.signature_algorithm = "DSA".into()),
            ),
            (
                "ECDSA keys of 2048 bits are not made; there are 256 and 384",
                refused(|settings| settings.serving.key_size = 2048),
            ),
            (
                "serving tls min version must be VersionTLS12 or higher",
                refused(|settings| settings.serving.tls_min_version = "VersionTLS10".into()),
            ),
            (
                "the serving certificate duration of 1s is shorter than 60s",
                refused(|settings| settings.serving.duration = Duration::from_secs(1)),
            ),
            (
                "the readiness path \"ready\" does not begin with a slash",
                refused(|settings| settings.readiness_path = "ready".into()),
            ),
            (
                "without Kubernetes, tokens must be held against keys (-jwks-file), and -signer must be direct",
                refused(|settings| settings.kubernetes = None),
            ),
            (
                "tokens that are held against a key file need the issuer's name: give -jwks-issuer",
                refused(|settings| settings.authentication.jwks_file = Some("/keys".into())),
            ),
            (
                "-jwks-issuer needs the issuer's keys: give -jwks-file",
                refused(|settings| settings.authentication.jwks_issuers = vec!["https://i".into()]),
            ),
            (
                "the list of audiences is empty",
                refused(|settings| settings.authentication.audiences = vec![String::new()]),
            ),
            ("-token-review needs Kubernetes", {
                refused(|settings| {
                    alone(settings);
                    settings.authentication.token_review = true;
                })
            }),
            ("-ca-trusted-node-accounts needs Kubernetes", {
                refused(|settings| {
                    alone(settings);
                    let ztunnel = Workload { namespace: "a".into(), service_account: "b".into() };
                    settings.authentication.trusted_node_accounts = vec![ztunnel];
                })
            }),
        ] {
            assert_eq!(refusal, sentence);
        }
        assert!(
            refused(|settings| settings.trust_domain = "a/b".into()).starts_with("the trust domain \"a/b\"")
        );
        for path in ["", "sign/x", "pki/issue/x", "pki/sign/", "pki/../sign/x", "pki//sign/x"] {
            let refusal = refused(|settings| {
                if let SignerChoice::Direct(direct) = &mut settings.signer {
                    direct.sign_path = path.to_owned();
                }
            });
            assert_eq!(refusal, format!("the sign path {path:?} is not of the form MOUNT/sign/ROLE"));
        }
    }
}
