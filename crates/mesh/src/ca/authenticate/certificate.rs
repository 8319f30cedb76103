//! Callers that show a certificate of the mesh: workloads that renew what they have.

use std::sync::Arc;

use async_trait::async_trait;
use chancery_api::Clock;
use chancery_issuance::{Certificate, SpiffeId, Time, TrustDomain};

use super::{Authenticator, Caller, Credentials, Denial};
use crate::Workload;
use crate::ca::der::{self, oid};

/// The mesh's trust domain, and other names that it went by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustDomains {
    /// The one that certificates are issued in.
    pub own: TrustDomain,
    /// Those whose certificates are believed as well.
    pub aliases: Vec<TrustDomain>,
}

impl TrustDomains {
    /// Without aliases.
    pub fn new(own: TrustDomain) -> Self {
        Self { own, aliases: Vec::new() }
    }

    /// Whether it is the mesh's, by whichever name.
    pub fn contains(&self, domain: &TrustDomain) -> bool {
        *domain == self.own || self.aliases.contains(domain)
    }
}

/// Knows callers by the certificate that they showed in the handshake.
///
/// TLS has verified it against the mesh's roots. What is left is whose it is: it has exactly one URI among its names, in
/// Istio's form, and no name of another kind. The identity is that URI as it stands, also where its trust domain is an
/// alias: a renewal changes nobody's name.
///
/// It says nothing of a pod, so that it never suffices to ask for somebody else's certificate.
#[derive(Clone)]
pub struct CertificateAuthenticator {
    domains: TrustDomains,
    clock: Arc<dyn Clock>,
}

impl CertificateAuthenticator {
    /// For workloads of these trust domains.
    pub fn new(domains: TrustDomains, clock: Arc<dyn Clock>) -> Self {
        Self { domains, clock }
    }

    fn identity(&self, leaf: &Certificate) -> Result<String, Denial> {
        // Connections outlive certificates, and the handshake was long ago.
        let now = Time::from(self.clock.now());
        if now > leaf.not_after() || now < leaf.not_before() {
            let (begin, end) = (leaf.not_before(), leaf.not_after());
            return Err(Denial::new(
                "certificate_expired",
                format!("certificate is valid from {begin} to {end}"),
            ));
        }
        if leaf.is_ca() {
            return Err(Denial::new("certificate_ca", "certificate is an authority's".to_owned()));
        }
        let names = || {
            let (value, _) = leaf.extension(oid::SUBJECT_ALT_NAME)?;
            der::sequence(value)
        };
        let [(der::URI, uri)] = names().unwrap_or_default()[..] else {
            let detail = "certificate has not exactly one name that is a URI".to_owned();
            return Err(Denial::new("certificate_names", detail));
        };
        let uri = String::from_utf8_lossy(uri);
        let id = SpiffeId::parse(&uri).map_err(|error| {
            Denial::new("certificate_names", format!("certificate's URI {uri:?}: {error}"))
        })?;
        Workload::of(&id).map_err(|error| Denial::new("certificate_names", error.to_string()))?;
        let domain = id.trust_domain();
        if !self.domains.contains(&domain) {
            let detail = format!("certificate is of trust domain {domain}, and not of {}", self.domains.own);
            return Err(Denial::new("trust_domain", detail));
        }
        Ok(id.as_str().to_owned())
    }
}

#[async_trait]
impl Authenticator for CertificateAuthenticator {
    fn name(&self) -> &'static str {
        "certificate"
    }

    async fn authenticate(&self, credentials: &Credentials<'_>) -> Result<Option<Caller>, Denial> {
        let Some(leaf) = credentials.certificates.first() else { return Ok(None) };
        let leaf = Certificate::from_der(leaf)
            .map_err(|error| Denial::new("certificate_malformed", format!("certificate: {error}")))?;
        let identity = self.identity(&leaf)?;
        Ok(Some(Caller { identities: vec![identity], pod: None, by: self.name() }))
    }
}

#[cfg(test)]
mod tests {
    use chancery_api::FixedClock;
    use jiff::Timestamp;
    use rustls::pki_types::CertificateDer;

    use super::*;
    use crate::testing::{
        Authority, HOUR, ME, NOW, Template, basic_constraints, key_usage, names, new_key, uris,
    };

    async fn outcome(template: &Template, now: i64) -> Result<Option<Caller>, Denial> {
        let leaf = Authority::root("root").sign(template, &new_key());
        outcome_of(&[CertificateDer::from(leaf.der().to_vec())], now).await
    }

    async fn outcome_of(
        certificates: &[CertificateDer<'static>],
        now: i64,
    ) -> Result<Option<Caller>, Denial> {
        let domain = |name: &str| TrustDomain::new(name).expect("a trust domain");
        let domains = TrustDomains { own: domain("cluster.local"), aliases: vec![domain("old.local")] };
        let clock = FixedClock::at(Timestamp::from_second(now).expect("a time"));
        let authenticator = CertificateAuthenticator::new(domains, Arc::new(clock));
        // The cluster's id is the tokens' affair.
        let metadata = [(http::HeaderName::from_static("clusterid"), http::HeaderValue::from_static("any"))];
        let metadata = metadata.into_iter().collect();
        authenticator.authenticate(&Credentials { metadata: &metadata, certificates }).await
    }

    #[tokio::test]
    async fn the_only_uri_is_the_identity_and_there_is_no_pod() {
        for id in [ME, "spiffe://old.local/ns/sandbox/sa/httpbin"] {
            let caller = outcome(&Template::leaf(&[id]), NOW).await.expect("known").expect("a certificate");
            assert_eq!(caller, Caller { identities: vec![id.to_owned()], pod: None, by: "certificate" });
        }
        assert_eq!(outcome_of(&[], NOW).await, Ok(None));
    }

    #[tokio::test]
    async fn other_names_are_refused() {
        let with = |extension| Template { extensions: vec![extension], ..Template::leaf(&[ME]) };
        for (template, reason) in [
            (Template::leaf(&[ME, "spiffe://cluster.local/ns/a/sa/b"]), "certificate_names"),
            (Template::leaf(&[]), "certificate_names"),
            (with(key_usage(7, &[0x80])), "certificate_names"),
            (with(names(&[(6, ME.as_bytes()), (2, b"example.com")])), "certificate_names"),
            (with(names(&[(2, b"example.com")])), "certificate_names"),
            (Template::leaf(&["spiffe://cluster.local"]), "certificate_names"),
            (Template::leaf(&["spiffe://cluster.local/ns/a/sa/b/c"]), "certificate_names"),
            (Template::leaf(&["https://cluster.local/ns/a/sa/b"]), "certificate_names"),
            (Template::leaf(&["SPIFFE://cluster.local/ns/a/sa/b"]), "certificate_names"),
            (Template::leaf(&["spiffe://other.local/ns/a/sa/b"]), "trust_domain"),
        ] {
            assert_eq!(
                outcome(&template, NOW).await.expect_err("refused").reason,
                reason,
                "{:?}",
                template.extensions
            );
        }
        let authority = Template {
            extensions: vec![basic_constraints(true, None), uris(&[ME])],
            ..Template::leaf(&[ME])
        };
        assert_eq!(outcome(&authority, NOW).await.expect_err("refused").reason, "certificate_ca");
        let garbage = [CertificateDer::from(vec![0x30, 0])];
        assert_eq!(outcome_of(&garbage, NOW).await.expect_err("refused").reason, "certificate_malformed");
    }

    #[tokio::test]
    async fn a_certificate_that_expired_after_the_handshake_is_refused() {
        let template = Template::leaf(&[ME]);
        for now in [NOW + HOUR + 1, NOW - HOUR] {
            assert_eq!(outcome(&template, now).await.expect_err("refused").reason, "certificate_expired");
        }
    }
}
