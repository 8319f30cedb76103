//! TLS as the service speaks it: 1.2 or 1.3, HTTP/2, no resumption, and clients that may show a certificate of the mesh.

use std::fmt;
use std::sync::Arc;

use chancery_issuance::{Certificate, SpiffeId, TrustDomain};
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, NamedGroup, OtherError, RootCertStore,
    ServerConfig, SignatureScheme, SupportedCipherSuite, SupportedProtocolVersion,
};

use super::roots::Roots;
use crate::Workload;

/// The protocol's settings.
#[derive(Debug, Clone)]
pub struct TlsSettings {
    /// With the cipher suites and key exchanges to be used.
    pub provider: Arc<CryptoProvider>,
    /// The versions to be used.
    pub versions: &'static [&'static SupportedProtocolVersion],
}

/// A setting that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TlsSettingsError {
    /// Below what a mesh should speak.
    #[error("serving tls min version must be VersionTLS12 or higher")]
    TooLow,
    /// No version at all.
    #[error("unknown tls version {0:?}; there are VersionTLS12 and VersionTLS13")]
    Version(String),
    /// Unknown, or left out on purpose: without forward secrecy or without authenticated encryption.
    #[error("the cipher suite {0:?} is not offered; for TLS 1.2 there are {1}")]
    CipherSuite(String, String),
    /// Unknown, or not offered.
    #[error("the curve {0:?} is not offered; there are X25519, P-256, P-384 and 4588 (X25519MLKEM768)")]
    Curve(String),
    /// A list with nothing between two commas.
    #[error("an empty curve name")]
    EmptyCurve,
}

static BOTH: [&SupportedProtocolVersion; 2] = [&rustls::version::TLS13, &rustls::version::TLS12];
static NEWEST: [&SupportedProtocolVersion; 1] = [&rustls::version::TLS13];

impl TlsSettings {
    /// From the names that operators write: the lowest version (empty is TLS 1.2), the cipher suites of TLS 1.2 by their
    /// IANA names, and the key exchanges in their order; empty lists are the library's own choice.
    ///
    /// # Errors
    /// A name that is unknown or not offered.
    pub fn new(
        min_version: &str,
        cipher_suites: &[String],
        curves: &[String],
    ) -> Result<Self, TlsSettingsError> {
        let versions: &'static [_] = match min_version {
            "" | "VersionTLS12" => &BOTH,
            "VersionTLS13" => &NEWEST,
            "VersionTLS10" | "VersionTLS11" => return Err(TlsSettingsError::TooLow),
            other => return Err(TlsSettingsError::Version(other.to_owned())),
        };
        let mut provider = aws_lc_rs::default_provider();
        if !cipher_suites.is_empty() {
            let (newer, older): (Vec<_>, Vec<_>) =
                provider.cipher_suites.iter().partition(|suite| suite.tls13().is_some());
            let mut chosen: Vec<SupportedCipherSuite> = newer;
            for name in cipher_suites {
                let suite = older.iter().find(|suite| is_named(suite, name)).ok_or_else(|| {
                    let known: Vec<_> = older.iter().map(|suite| format!("{:?}", suite.suite())).collect();
                    TlsSettingsError::CipherSuite(name.clone(), known.join(", "))
                })?;
                chosen.push(*suite);
            }
            provider.cipher_suites = chosen;
        }
        if !curves.is_empty() {
            let chosen = curves.iter().map(|name| {
                let group = named_group(name)?;
                let offered = aws_lc_rs::ALL_KX_GROUPS.iter().find(|offered| offered.name() == group);
                offered.copied().ok_or_else(|| TlsSettingsError::Curve(name.clone()))
            });
            provider.kx_groups = chosen.collect::<Result<_, _>>()?;
        }
        Ok(Self { provider: Arc::new(provider), versions })
    }
}

impl Default for TlsSettings {
    fn default() -> Self {
        Self { provider: Arc::new(aws_lc_rs::default_provider()), versions: &BOTH }
    }
}

/// Go knows the suites with ChaCha20 also without the hash at their end.
fn is_named(suite: &SupportedCipherSuite, name: &str) -> bool {
    let own = format!("{:?}", suite.suite());
    own == name
        || own.strip_suffix("_SHA256").is_some_and(|short| short.ends_with("POLY1305") && short == name)
}

fn named_group(name: &str) -> Result<NamedGroup, TlsSettingsError> {
    Ok(match name.trim() {
        "" => return Err(TlsSettingsError::EmptyCurve),
        "X25519" => NamedGroup::X25519,
        "CurveP256" | "P-256" | "P256" => NamedGroup::secp256r1,
        "CurveP384" | "P-384" | "P384" => NamedGroup::secp384r1,
        "CurveP521" | "P-521" | "P521" => NamedGroup::secp521r1,
        number => {
            NamedGroup::from(number.parse::<u16>().map_err(|_| TlsSettingsError::Curve(number.to_owned()))?)
        }
    })
}

/// The configuration for handshakes with this certificate, while these are the roots.
pub(super) fn server_config(
    settings: &TlsSettings,
    trust_domains: &[TrustDomain],
    key: Arc<CertifiedKey>,
    roots: &Roots,
) -> Result<ServerConfig, Error> {
    let builder = ServerConfig::builder_with_provider(Arc::clone(&settings.provider));
    let builder = builder.with_protocol_versions(settings.versions)?;
    let mut store = RootCertStore::empty();
    for root in &roots.certificates {
        store.add(CertificateDer::from(root.der().to_vec()))?;
    }
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(store), Arc::clone(&settings.provider))
            .allow_unauthenticated()
            .build()
            .map_err(|error| Error::General(error.to_string()))?;
    let verifier = Arc::new(MeshClients { inner: verifier, trust_domains: trust_domains.to_vec() });
    let resolver = Arc::new(SingleCertAndKey::from(key));
    let mut config = builder.with_client_cert_verifier(verifier).with_cert_resolver(resolver);
    config.alpn_protocols = vec![b"h2".to_vec()];
    // A resumed session would bring the certificate of its first handshake along, whatever the roots are now.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

/// Takes certificates of the mesh's workloads: they lead to a root, and name one workload of a trust domain of the mesh.
#[derive(Debug)]
struct MeshClients {
    inner: Arc<dyn ClientCertVerifier>,
    trust_domains: Vec<TrustDomain>,
}

/// Why a client's certificate is not one of the mesh's.
#[derive(Debug)]
struct NotOfTheMesh(String);

impl fmt::Display for NotOfTheMesh {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for NotOfTheMesh {}

impl MeshClients {
    fn name(&self, leaf: &CertificateDer<'_>) -> Result<(), String> {
        let certificate = Certificate::from_der(leaf).map_err(|error| error.to_string())?;
        let names = certificate.sans().map(|sans| sans.uri).unwrap_or_default();
        // X.509-SVID, 2: exactly one URI.
        let [name] = names.as_slice() else {
            return Err(format!("{} URIs in the client's certificate, where one is expected", names.len()));
        };
        let id = SpiffeId::parse(name).map_err(|error| error.to_string())?;
        Workload::of(&id).map_err(|error| error.to_string())?;
        if !self.trust_domains.contains(&id.trust_domain()) {
            return Err(format!("{name} is not of a trust domain of this mesh"));
        }
        Ok(())
    }
}

impl ClientCertVerifier for MeshClients {
    fn offer_client_auth(&self) -> bool {
        self.inner.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.inner.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.inner.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self.inner.verify_client_cert(end_entity, intermediates, now)?;
        let other = |reason| CertificateError::Other(OtherError(Arc::new(NotOfTheMesh(reason))));
        self.name(end_entity).map_err(|reason| Error::InvalidCertificate(other(reason)))?;
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(names: &[&str]) -> Vec<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    #[test]
    fn versions_suites_and_curves_are_those_that_are_named() {
        let plain = TlsSettings::new("", &[], &[]).unwrap();
        assert_eq!(plain.versions.len(), 2);
        let suites =
            list(&["TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305"]);
        let chosen = TlsSettings::new("VersionTLS13", &suites, &list(&["P-384", "CurveP256", "29"])).unwrap();
        assert_eq!(chosen.versions.len(), 1);
        let older = chosen.provider.cipher_suites.iter().filter(|suite| suite.tls13().is_none()).count();
        assert_eq!(older, 2);
        let groups: Vec<_> = chosen.provider.kx_groups.iter().map(|group| group.name()).collect();
        assert_eq!(groups, [NamedGroup::secp384r1, NamedGroup::secp256r1, NamedGroup::X25519]);
    }

    #[test]
    fn what_is_not_offered_is_named() {
        let refused = |version: &str, suites: &[&str], curves: &[&str]| {
            TlsSettings::new(version, &list(suites), &list(curves)).unwrap_err().to_string()
        };
        assert_eq!(
            refused("VersionTLS11", &[], &[]),
            "serving tls min version must be VersionTLS12 or higher"
        );
        assert!(refused("1.2", &[], &[]).starts_with("unknown tls version \"1.2\""));
        assert!(
            refused("", &["TLS_RSA_WITH_AES_128_CBC_SHA"], &[])
                .contains("TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384")
        );
        assert!(refused("", &[], &["P-521"]).starts_with("the curve \"P-521\" is not offered"));
        assert_eq!(refused("", &[], &["X25519", ""]), "an empty curve name");
    }
}
