//! The webhook's own certificate: an authority in a Secret that all replicas share, and a leaf in memory.
//!
//! The Secret holds the authority in force (`tls.crt`, `tls.key`) and what API servers are to trust (`ca.crt`): the authority
//! in force, and the one before it while that lives. So a replica that has not noticed a change yet is still believed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use chancery_issuance::{
    AiaUrls, CaRequest, Certificate, CsrRequest, Curve, IssuanceRequest, Issuer, IssuerOptions, KeyForm,
    KeyPolicy, KeySpec, MountLimits, PrivateKey, Profile, ProfileConfig, RequestedNames, SerialNumber,
    Signer, VerifiedCsr, create_csr, prepare, prepare_root, renewal_time,
};
use chancery_kubernetes::cert_manager::names::ALLOW_DIRECT_INJECTION;
use chancery_kubernetes::{ApiError, optional, request};
use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::{ObjectMeta, PostParams};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

/// How long an authority lives. It is followed by another at two thirds.
const AUTHORITY_LIFE: Duration = Duration::from_secs(365 * 24 * 3600);
/// How long a leaf lives.
const LEAF_LIFE: Duration = Duration::from_secs(7 * 24 * 3600);
/// How far back both begin: replicas and API servers do not have one clock.
const BACKDATE: Duration = Duration::from_secs(3600);
const LIMITS: MountLimits = MountLimits { default_ttl: AUTHORITY_LIFE, max_ttl: AUTHORITY_LIFE };

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AuthorityError {
    /// The Secret cannot be read or written.
    #[error("Secret {name}: {error}")]
    Secret { name: String, error: ApiError },
    /// API servers cannot be told.
    #[error("webhook configuration {name}: {error}")]
    Configuration { name: String, error: ApiError },
    /// It cannot be made.
    #[error("it cannot be made: {0}")]
    Made(String),
}

fn made(error: impl std::fmt::Display) -> AuthorityError {
    AuthorityError::Made(error.to_string())
}

/// An authority, ready to sign leaves.
pub(crate) struct Authority {
    issuer: Issuer,
    /// What API servers are to trust, in PEM.
    pub(crate) bundle: String,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").field("certificate", self.issuer.certificate()).finish_non_exhaustive()
    }
}

/// A leaf, as handshakes take it.
#[derive(Debug)]
pub(crate) struct Leaf {
    pub(crate) config: Arc<ServerConfig>,
    pub(crate) renew_at: Timestamp,
    /// DER of the authority's certificate.
    authority: Vec<u8>,
}

impl Leaf {
    /// Whether it still serves: signed by this authority, and not due.
    pub(crate) fn serves(&self, authority: &Authority, now: Timestamp) -> bool {
        self.authority == authority.issuer.certificate().der() && now < self.renew_at
    }
}

impl Authority {
    /// A new one. What `before` is trusted for stays in the bundle.
    fn generate(before: Option<&Self>, now: Timestamp) -> Result<(Self, Secret), AuthorityError> {
        let key = PrivateKey::generate(KeySpec::Ec(Curve::P256)).map_err(made)?;
        let pem = key.to_pem(KeyForm::Pkcs8);
        let signer: Arc<dyn Signer> = Arc::new(key);
        let asked = CaRequest {
            ttl: Some(AUTHORITY_LIFE),
            not_before_duration: BACKDATE,
            ..CaRequest::new("chancery-webhook-ca", LIMITS)
        };
        let prepared = prepare_root(&asked, &signer, &AiaUrls::default(), serial(now)?, now).map_err(made)?;
        let certificate = prepared.sign().map_err(made)?.certificate().map_err(made)?;
        let mut bundle = certificate.pem().to_owned();
        if let Some(before) = before.filter(|before| before.lives(now)) {
            bundle.push_str(before.issuer.certificate().pem());
        }
        let data = BTreeMap::from([
            ("tls.crt".to_owned(), ByteString(certificate.pem().into())),
            ("tls.key".to_owned(), ByteString(pem.as_bytes().to_vec())),
            ("ca.crt".to_owned(), ByteString(bundle.clone().into())),
        ]);
        let issuer = Issuer::new(certificate, signer, IssuerOptions::default()).map_err(made)?;
        Ok((Self { issuer, bundle }, Secret { data: Some(data), ..Secret::default() }))
    }

    /// The authority of a Secret; `None` if there is none in it that can sign.
    fn read(secret: &Secret) -> Option<Self> {
        let text = |key: &str| {
            let bytes = secret.data.as_ref()?.get(key)?;
            std::str::from_utf8(&bytes.0).ok()
        };
        let certificate = Certificate::from_pem(text("tls.crt")?).ok()?;
        let key: Arc<dyn Signer> = Arc::new(PrivateKey::from_pem(text("tls.key")?).ok()?);
        let mut bundle = certificate.pem().to_owned();
        // Whoever can write the Secret is trusted with it; what is no certificate is left out all the same.
        let others = Certificate::all_from_pem(text("ca.crt").unwrap_or_default()).unwrap_or_default();
        for other in others.iter().filter(|other| other.der() != certificate.der()) {
            bundle.push_str(other.pem());
        }
        let issuer = Issuer::new(certificate, key, IssuerOptions::default()).ok()?;
        Some(Self { issuer, bundle })
    }

    fn lives(&self, now: Timestamp) -> bool {
        let certificate = self.issuer.certificate();
        certificate.not_before().to_timestamp() <= now && now < certificate.not_after().to_timestamp()
    }

    /// When another is to follow.
    pub(crate) fn renew_at(&self) -> Timestamp {
        let certificate = self.issuer.certificate();
        renewal_time(certificate.not_before().to_timestamp(), certificate.not_after().to_timestamp(), 0.0)
    }

    /// Signs a leaf with a new key.
    pub(crate) fn leaf(&self, dns_names: &[String], now: Timestamp) -> Result<Leaf, AuthorityError> {
        let key = PrivateKey::generate(KeySpec::Ec(Curve::P256)).map_err(made)?;
        let names = RequestedNames { alt_names: dns_names.to_vec(), ..RequestedNames::default() };
        let csr = create_csr(&CsrRequest { names, critical_names: true, ..CsrRequest::default() }, &key);
        let csr = VerifiedCsr::from_der(&csr.map_err(made)?.der, &KeyPolicy::any()).map_err(made)?;
        let profile = Profile::new(ProfileConfig {
            server_flag: true,
            require_cn: false,
            not_before_duration: BACKDATE,
            ..ProfileConfig::verbatim()
        })
        .map_err(made)?;
        let mut asked =
            IssuanceRequest::new(&RequestedNames::default(), Some(&csr), &profile, LIMITS).map_err(made)?;
        asked.ttl = Some(LEAF_LIFE);
        let prepared =
            prepare(&asked, &csr.key(), &profile, &self.issuer, serial(now)?, now).map_err(made)?;
        let signed = prepared.sign().map_err(made)?;
        let config = server_config(&signed.der, &key)?;
        let renew_at = renewal_time(now, signed.not_after.to_timestamp(), 0.0);
        let authority = self.issuer.certificate().der().to_vec();
        Ok(Leaf { config: Arc::new(config), renew_at, authority })
    }
}

fn server_config(leaf: &[u8], key: &PrivateKey) -> Result<ServerConfig, AuthorityError> {
    let der = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.to_der(KeyForm::Pkcs8).to_vec()));
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(made)?
        .with_no_client_auth()
        .with_single_cert(vec![CertificateDer::from(leaf.to_vec())], der)
        .map_err(made)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

fn serial(now: Timestamp) -> Result<SerialNumber, AuthorityError> {
    let mut random = [0; 14];
    aws_lc_rs::rand::fill(&mut random).map_err(|_| made("there is no randomness"))?;
    Ok(SerialNumber::generate(now, random))
}

/// The authority in force: the Secret's, or a new one that is written there first.
///
/// Whoever comes second takes what the first has written.
pub(crate) async fn agree(
    secrets: &Api<Secret>,
    name: &str,
    now: Timestamp,
) -> Result<Authority, AuthorityError> {
    let failed = |error| AuthorityError::Secret { name: name.to_owned(), error };
    // Each conflict means that somebody else has written one; it is looked at again, but not for ever.
    for _ in 0..4 {
        let found = optional(secrets.get(name)).await.map_err(failed)?;
        let current = match found.as_ref().and_then(Authority::read) {
            Some(current) if current.lives(now) && now < current.renew_at() => return Ok(current),
            current => current,
        };
        if found.is_some() && current.is_none() {
            tracing::warn!(
                secret = name,
                "there is no usable authority in the webhook's Secret; it is replaced"
            );
        }
        let (authority, fresh) = Authority::generate(current.as_ref(), now)?;
        let written = match found {
            None => {
                let metadata = ObjectMeta {
                    name: Some(name.to_owned()),
                    annotations: Some(BTreeMap::from([(
                        ALLOW_DIRECT_INJECTION.to_owned(),
                        "true".to_owned(),
                    )])),
                    ..ObjectMeta::default()
                };
                let secret = Secret { metadata, ..fresh };
                request(secrets.create(&PostParams::default(), &secret)).await
            }
            Some(found) => {
                // With its version: the other's is not written over.
                let secret = Secret { data: fresh.data, ..found };
                request(secrets.replace(name, &PostParams::default(), &secret)).await
            }
        };
        match written {
            Ok(_) => {
                tracing::info!(secret = name, "the webhook has a new authority");
                return Ok(authority);
            }
            Err(error) if error.is_conflict() => {}
            Err(error) => return Err(failed(error)),
        }
    }
    Err(made("others write the Secret all the time"))
}

#[cfg(test)]
mod tests {
    use chancery_testkit::kubernetes::{ApiServer, Fault};

    use super::*;
    use crate::webhook::tests::{client, now};

    const NAME: &str = "cert-manager-webhook-ca";

    async fn bed() -> (ApiServer, Api<Secret>) {
        let server = ApiServer::start().await;
        let secrets = Api::namespaced(client(&server.url()).await, "kube-system");
        (server, secrets)
    }

    fn count(bundle: &str) -> usize {
        Certificate::all_from_pem(bundle).expect("certificates").len()
    }

    #[tokio::test]
    async fn replicas_that_start_together_agree_on_one_authority() {
        let (server, secrets) = bed().await;
        let (one, two) = tokio::join!(agree(&secrets, NAME, now()), agree(&secrets, NAME, now()));
        let (one, two) = (one.expect("an authority"), two.expect("an authority"));
        assert_eq!(one.bundle, two.bundle);
        assert_eq!(server.list("secrets", Some("kube-system")).len(), 1);
        let later = agree(&secrets, NAME, now()).await.expect("an authority");
        assert_eq!(later.bundle, one.bundle, "a restart keeps it");
    }

    #[tokio::test]
    async fn an_authority_is_followed_ahead_of_time_and_stays_trusted() {
        let (_server, secrets) = bed().await;
        let first = agree(&secrets, NAME, now()).await.expect("an authority");
        let leaf = first.leaf(&["a.b.svc".into()], now()).expect("a leaf");
        let due = first.renew_at();
        assert!(due < first.issuer.certificate().not_after().to_timestamp());
        let second = agree(&secrets, NAME, due).await.expect("an authority");
        assert_ne!(second.issuer.certificate().der(), first.issuer.certificate().der());
        assert_eq!(count(&second.bundle), 2);
        assert!(second.bundle.contains(first.issuer.certificate().pem()));
        assert!(
            leaf.serves(&first, now()) && !leaf.serves(&second, now()) && !leaf.serves(&first, leaf.renew_at)
        );
        let read = agree(&secrets, NAME, due).await.expect("an authority");
        assert_eq!(read.bundle, second.bundle);
        // A clock that stood for years: nothing of before is trusted any more.
        let years = due.checked_add(jiff::SignedDuration::from_hours(24 * 1000)).expect("an instant");
        assert_eq!(count(&agree(&secrets, NAME, years).await.expect("an authority").bundle), 1);
    }

    #[tokio::test]
    async fn what_cannot_sign_is_replaced() {
        let (server, secrets) = bed().await;
        for data in [serde_json::json!({}), serde_json::json!({ "tls.crt": "eA==", "tls.key": "eA==" })] {
            server.put(
                "secrets",
                "kube-system",
                serde_json::json!({ "metadata": { "name": NAME }, "data": data }),
            );
            let authority = agree(&secrets, NAME, now()).await.expect("an authority");
            let kept = agree(&secrets, NAME, now()).await.expect("an authority");
            assert_eq!(authority.bundle, kept.bundle);
        }
    }

    #[tokio::test]
    async fn a_lost_answer_leaves_no_second_authority() {
        let (server, secrets) = bed().await;
        server.inject("create", "secrets", Fault::LoseAnswer, 1);
        assert!(agree(&secrets, NAME, now()).await.is_err());
        let first = agree(&secrets, NAME, now()).await.expect("an authority");
        server.inject("update", "secrets", Fault::Race, 1);
        let second = agree(&secrets, NAME, first.renew_at()).await.expect("an authority");
        assert_eq!(count(&second.bundle), 2);
    }
}
