//! One issuance: a new key, its CSR, the call, and the checks of what came back.

use std::sync::Arc;
use std::time::Duration;

use chancery_api::Clock;
use chancery_issuance::{
    Certificate, CsrError, CsrRequest, KeyError, KeyForm, KeySpec, PrivateKey, RequestedNames, SpiffeId,
    create_csr,
};
use jiff::Timestamp;

use super::ca_client::{CaClient, CaError};
use super::secret::{KeyPair, SecretError, TrustBundle};
use super::settings::{CaSettings, Settings};

/// Why there is no new certificate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IssueError {
    /// No key could be made.
    #[error("no key: {0}")]
    Key(#[from] KeyError),
    /// The making of a key was interrupted.
    #[error("the making of a key was interrupted")]
    Interrupted,
    /// No CSR could be made.
    #[error("no CSR: {0}")]
    Csr(#[from] CsrError),
    /// The CA gave none.
    #[error("the CA: {0}")]
    Ca(#[from] CaError),
    /// The answer has no roots beside the leaf.
    #[error("the CA's answer has {0} elements: there must be the leaf, and the roots at the end")]
    Elements(usize),
    /// What the CA gave cannot be used.
    #[error("the CA's answer: {0}")]
    Secret(#[from] SecretError),
    /// The certificate is another's.
    #[error("the CA's certificate is for {found:?}, not for {asked}")]
    Identity {
        /// Whom it was asked for.
        asked: String,
        /// The URIs in it.
        found: Vec<String>,
    },
    /// The certificate may sign others (X.509-SVID, section 5.1).
    #[error("the CA's certificate is an authority's")]
    Authority,
    /// The certificate has ended already.
    #[error("the CA's certificate ended at {0}")]
    Ended(Timestamp),
}

/// What was issued, checked.
#[derive(Debug)]
pub struct Issued {
    /// The certificate with all that came with it, and its key.
    pub key_pair: KeyPair,
    /// The roots.
    pub roots: TrustBundle,
    /// The end of the certificate's life.
    pub not_after: Timestamp,
    /// When it came.
    pub received: Timestamp,
}

/// Has certificates issued for one workload.
pub struct Issuer {
    client: CaClient,
    identity: SpiffeId,
    key: KeySpec,
    key_form: KeyForm,
    ttl: Duration,
    clock: Arc<dyn Clock>,
}

impl Issuer {
    /// For the identity that the settings of the CA name.
    pub fn new(ca: CaSettings, settings: &Settings, clock: Arc<dyn Clock>) -> Self {
        let (key, key_form, ttl) = (settings.key, settings.key_form, settings.ttl);
        Self { identity: ca.identity.clone(), client: CaClient::new(ca), key, key_form, ttl, clock }
    }

    /// Makes a new key and asks for its certificate. `current` is shown to the CA if there is no token.
    ///
    /// # Errors
    /// See [`IssueError`]; nothing of it is kept.
    pub async fn issue(&self, current: Option<&KeyPair>) -> Result<Issued, IssueError> {
        let key = match self.key {
            // These take long; what else is asked for meanwhile is answered.
            spec @ KeySpec::Rsa(_) => tokio::task::spawn_blocking(move || PrivateKey::generate(spec))
                .await
                .map_err(|_| IssueError::Interrupted)??,
            spec => PrivateKey::generate(spec)?,
        };
        let names =
            RequestedNames { uri_sans: vec![self.identity.as_str().to_owned()], ..RequestedNames::default() };
        // Without a subject, as Istio's.
        let csr = create_csr(&CsrRequest { names, critical_names: true, ..CsrRequest::default() }, &key)?;
        let now = self.clock.now();
        let chain = self.client.certificate(&csr.pem, self.ttl, current, now).await?;
        check(&chain, &key, &self.identity, self.key_form, self.clock.now())
    }
}

/// Holds an answer against what was asked for.
fn check(
    chain: &[String],
    key: &PrivateKey,
    identity: &SpiffeId,
    key_form: KeyForm,
    received: Timestamp,
) -> Result<Issued, IssueError> {
    let [_, .., last] = chain else { return Err(IssueError::Elements(chain.len())) };
    let roots = TrustBundle::from_pem(last)?;
    let key_pair = KeyPair::new(chain, key.to_pem(key_form))?;
    let leaf = key_pair.leaf().ok_or(IssueError::Elements(0))?;
    let found = uri_names(leaf);
    if found != [identity.as_str()] {
        return Err(IssueError::Identity { asked: identity.as_str().to_owned(), found });
    }
    if leaf.is_ca() {
        return Err(IssueError::Authority);
    }
    let not_after = leaf.not_after().to_timestamp();
    if not_after <= received {
        return Err(IssueError::Ended(not_after));
    }
    if !leads_to(&key_pair, &roots) {
        // Others will not trust it, or this is a partial chain under an intermediate; the operator knows.
        tracing::warn!("the certificate that the CA gave leads to none of the roots that it gave");
    }
    Ok(Issued { roots, not_after, received, key_pair })
}

/// Whether signatures lead from the leaf, over what came with it, to a root. Names and dates are the verifiers'.
fn leads_to(pair: &KeyPair, roots: &TrustBundle) -> bool {
    let Some(mut current) = pair.leaf() else { return false };
    for _ in &pair.certificates {
        if roots.certificates.iter().any(|root| root.is_self_signed() && current.is_signed_by(root)) {
            return true;
        }
        match pair.certificates.iter().find(|issuer| issuer.is_ca() && current.is_signed_by(issuer)) {
            Some(issuer) => current = issuer,
            None => return false,
        }
    }
    false
}

/// The URIs among a certificate's subject alternative names (RFC 5280, 4.2.1.6); none if they cannot be read.
pub(super) fn uri_names(certificate: &Certificate) -> Vec<String> {
    const SUBJECT_ALT_NAME: &[u8] = &[0x55, 0x1d, 0x11];
    const SEQUENCE: u8 = 0x30;
    const URI: u8 = 0x86;
    let names = certificate.extension(SUBJECT_ALT_NAME).and_then(|(value, _)| element(value));
    let Some((SEQUENCE, mut rest, _)) = names else { return Vec::new() };
    let mut found = Vec::new();
    while let Some((tag, content, after)) = element(rest) {
        if tag == URI {
            found.push(String::from_utf8_lossy(content).into_owned());
        }
        rest = after;
    }
    found
}

/// The first DER element: its tag, its content, and what follows it (X.690, 8.1).
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = der.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81 | 0x82 => {
            let (length, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (length.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), rest)
        }
        _ => return None,
    };
    let (content, after) = rest.split_at_checked(length)?;
    Some((tag, content, after))
}

#[cfg(test)]
mod tests {
    use chancery_testkit::mutate::{Dice, mutate};

    use super::super::test_ca::{Ca, now};
    use super::*;

    const ID: &str = "spiffe://cluster.local/ns/sandbox/sa/httpbin";

    fn judge(chain: &[String], key: &str, at: Timestamp) -> Result<Issued, IssueError> {
        let key = PrivateKey::from_pem(key).unwrap();
        check(chain, &key, &SpiffeId::parse(ID).unwrap(), KeyForm::Traditional, at)
    }

    #[test]
    fn an_answer_as_asked_for_is_taken() {
        let ca = Ca::new("root");
        let (leaf, key) = ca.leaf(ID);
        let issued = judge(&[leaf.clone(), ca.root_pem()], &key, now()).unwrap();
        assert_eq!(issued.key_pair.chain, format!("{leaf}{}", ca.root_pem()));
        assert_eq!(issued.key_pair.key, key);
        assert_eq!(issued.roots.pem, ca.root_pem());
        assert_eq!(issued.not_after, Certificate::from_pem(&leaf).unwrap().not_after().to_timestamp());
    }

    #[test]
    fn any_other_answer_is_refused() {
        let ca = Ca::new("root");
        let (leaf, key) = ca.leaf(ID);
        let (other, other_key) = ca.leaf("spiffe://cluster.local/ns/sandbox/sa/other");
        let (no_name, no_name_key) = ca.server_leaf("localhost");
        let root = ca.root_pem();
        let end = Certificate::from_pem(&leaf).unwrap().not_after().to_timestamp();
        let judge = |chain: &[&String], key: &str, at| {
            let chain: Vec<String> = chain.iter().map(|element| (*element).clone()).collect();
            judge(&chain, key, at).expect_err("it must be refused")
        };
        assert!(matches!(judge(&[], &key, now()), IssueError::Elements(0)));
        assert!(matches!(judge(&[&leaf], &key, now()), IssueError::Elements(1)));
        assert!(matches!(
            judge(&[&leaf, &String::new()], &key, now()),
            IssueError::Secret(SecretError::NoRoots)
        ));
        assert!(matches!(
            judge(&[&leaf, &root], &other_key, now()),
            IssueError::Secret(SecretError::Mismatch)
        ));
        assert!(matches!(judge(&[&root, &leaf], &key, now()), IssueError::Secret(SecretError::Mismatch)));
        assert!(matches!(judge(&[&other, &root], &other_key, now()), IssueError::Identity { .. }));
        assert!(matches!(judge(&[&no_name, &root], &no_name_key, now()), IssueError::Identity { .. }));
        assert!(matches!(judge(&[&leaf, &root], &key, end), IssueError::Ended(_)));
    }

    #[test]
    fn signatures_must_lead_to_a_root() {
        let (ca, other) = (Ca::new("root"), Ca::new("other"));
        let (leaf, key) = ca.leaf(ID);
        let pair = KeyPair::new(&[leaf, other.root_pem(), ca.root_pem()], key).unwrap();
        let roots = |ca: &Ca| TrustBundle::from_pem(&ca.root_pem()).unwrap();
        assert!(leads_to(&pair, &roots(&ca)));
        assert!(!leads_to(&pair, &roots(&other)));
    }

    #[test]
    fn names_are_read_from_any_bytes() {
        let (leaf, _) = Ca::new("root").leaf(ID);
        assert_eq!(uri_names(&Certificate::from_pem(&leaf).unwrap()), [ID]);
        for der in [
            &[][..],
            &[0x30],
            &[0x30, 0x80],
            &[0x30, 0x05, 1],
            &[0x30, 0x82, 1],
            &[0x30, 0x84, 0, 0, 0, 1, 1],
        ] {
            assert_eq!(element(der), None, "{der:?}");
        }
        let mut dice = Dice::new(1);
        let seed = [&[0x30, 0x82, 0x00, 0x08, 0x86, 0x81, 0x04][..], b"abcd"].concat();
        for _ in 0..10_000 {
            let der = mutate(&seed, &seed, &mut dice);
            let (mut rest, mut steps) = (der.as_slice(), 0);
            while let Some((_, _, after)) = element(rest) {
                assert!(after.len() < rest.len(), "{der:?}");
                (rest, steps) = (after, steps + 1);
            }
            assert!(steps <= der.len());
        }
        let long = [&[0x86, 0x82, 0x01, 0x00][..], &[b'a'; 256], &[7]].concat();
        assert_eq!(element(&long), Some((0x86, &[b'a'; 256][..], &[7][..])));
    }
}
