//! Issuers that sign with a key pair of a Secret.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use chancery_issuance::{
    AiaUrls, Certificate, Issuer, IssuerOptions, LeafNotAfter, PlainSigner, PrivateKey, Signer,
};
use chancery_kubernetes::cert_manager::CaIssuer;
use jiff::Timestamp;

use super::local::Template;
use super::secret::{Contents, Reader, SecretError};
use super::{IssuerKey, Order, SignError, Signed, chain};
use crate::Key;

/// Key pairs that were read, by their issuers, as long as their Secrets stay as they are.
#[derive(Default)]
pub(super) struct KeyPairs {
    known: Mutex<HashMap<IssuerKey, (Version, Arc<KeyPair>)>>,
}

/// A Secret's name and `metadata.resourceVersion`.
type Version = (String, String);

/// An authority's key with its certificate and what stands above it.
pub(super) struct KeyPair {
    signer: Arc<dyn Signer>,
    certificate: Certificate,
    above: Vec<Certificate>,
}

/// Why there is no key pair.
#[derive(Debug, thiserror::Error)]
pub(super) enum PairError {
    /// The Secret is not to be had.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// What it holds is no key pair.
    #[error("{0}")]
    Invalid(String),
    /// It is one, but not an authority's.
    #[error("certificate is not a CA")]
    NotAnAuthority,
}

impl KeyPairs {
    /// The key pair that an issuer's Secret holds now.
    pub(super) async fn read(
        &self,
        client: &kube::Client,
        issuer: &IssuerKey,
        namespace: &str,
        name: &str,
    ) -> Result<Arc<KeyPair>, PairError> {
        let read = self.read_live(client, issuer, namespace, name).await;
        if read.is_err() {
            self.forget(issuer);
        }
        read
    }

    async fn read_live(
        &self,
        client: &kube::Client,
        issuer: &IssuerKey,
        namespace: &str,
        name: &str,
    ) -> Result<Arc<KeyPair>, PairError> {
        let contents = Reader::new(client, namespace).secret(name).await?;
        let version = (name.to_owned(), contents.version.clone());
        if let Some((known, pair)) = self.known().get(issuer)
            && *known == version
        {
            return Ok(Arc::clone(pair));
        }
        let secret = Key { namespace: namespace.to_owned(), name: name.to_owned() };
        let pair = Arc::new(KeyPair::read(&contents, &secret)?);
        self.known().insert(issuer.clone(), (version, Arc::clone(&pair)));
        Ok(pair)
    }

    /// Drops what was read for an issuer.
    pub(super) fn forget(&self, issuer: &IssuerKey) {
        self.known().remove(issuer);
    }

    fn known(&self) -> MutexGuard<'_, HashMap<IssuerKey, (Version, Arc<KeyPair>)>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl KeyPair {
    fn read(contents: &Contents, secret: &Key) -> Result<Self, PairError> {
        let text = |entry: &str| {
            let missing = || PairError::Invalid(format!("no data for {entry:?} in secret '{secret}'"));
            contents.text(entry).ok_or_else(missing)
        };
        let invalid = |entry: &str, error: &dyn std::fmt::Display| {
            PairError::Invalid(format!("error decoding {entry:?} of secret '{secret}': {error}"))
        };
        let key = PrivateKey::from_pem(text("tls.key")?).map_err(|error| invalid("tls.key", &error))?;
        let found =
            Certificate::all_from_pem(text("tls.crt")?).map_err(|error| invalid("tls.crt", &error))?;
        let mut found = found.into_iter();
        let certificate = found.next().ok_or_else(|| invalid("tls.crt", &"there is no certificate"))?;
        if certificate.public_key() != Some(key.public_key()) {
            return Err(invalid("tls.key", &"it is not the key of the certificate in \"tls.crt\""));
        }
        if !certificate.is_ca() {
            return Err(PairError::NotAnAuthority);
        }
        Ok(Self { signer: Arc::new(key), certificate, above: found.collect() })
    }

    fn sign(&self, spec: &CaIssuer, template: &Template, now: Timestamp) -> Result<Signed, String> {
        let urls = AiaUrls {
            issuing_certificates: spec.issuing_certificate_urls.clone(),
            crl_distribution_points: spec.crl_distribution_points.clone(),
            ocsp_servers: spec.ocsp_servers.clone(),
            ..AiaUrls::default()
        };
        // What ends later than its issuer does no longer validate then (RFC 5280, 6.1.3).
        let leaf_not_after = LeafNotAfter::Truncate;
        let options = IssuerOptions { urls, leaf_not_after, ..IssuerOptions::default() };
        let issuer = Issuer::new(self.certificate.clone(), Arc::clone(&self.signer), options);
        let issuer = issuer.map_err(|error| error.to_string())?;
        let leaf = template.sign(PlainSigner::Issuer(&issuer), now)?;
        let mut above = vec![self.certificate.clone()];
        above.extend(self.above.iter().cloned());
        chain::build(leaf, above).map_err(|error| error.to_string())
    }
}

/// Has a CSR signed with the key pair of a Secret in this namespace.
pub(super) async fn sign(
    pairs: &KeyPairs,
    client: &kube::Client,
    namespace: &str,
    spec: &CaIssuer,
    order: &Order<'_>,
    now: Timestamp,
) -> Result<Signed, SignError> {
    let name = &spec.secret_name;
    let pending = |reason: &'static str, message: String, is_retried: bool| SignError::Pending {
        reason,
        message,
        retry_after: is_retried.then_some(super::RETRY),
    };
    let pair = pairs.read(client, order.issuer, namespace, name).await.map_err(|error| match &error {
        PairError::Secret(SecretError::Missing(_)) => pending(
            "SecretMissing",
            format!("Referenced secret {namespace}/{name} not found: {error}"),
            false,
        ),
        PairError::Secret(SecretError::Api(_)) => pending(
            "SecretGetError",
            format!("Failed to get certificate key pair from secret {namespace}/{name}: {error}"),
            true,
        ),
        _ => pending(
            "SecretInvalidData",
            format!("Failed to parse signing CA keypair from secret {namespace}/{name}: {error}"),
            false,
        ),
    })?;
    let failed = |what: &str, reason: String| SignError::Failed {
        reason: "SigningError",
        message: format!("{what}: {reason}"),
    };
    let template =
        Template::of(order).map_err(|reason| failed("Error generating certificate template", reason))?;
    let spec = spec.clone();
    // An RSA signature takes milliseconds.
    let signed = tokio::task::spawn_blocking(move || pair.sign(&spec, &template, now)).await;
    let signed = signed.unwrap_or_else(|error| Err(error.to_string()));
    signed.map_err(|reason| failed("Error signing certificate", reason))
}
