//! TLS from files, reloaded on demand.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{DigitallySignedStruct, DistinguishedName, Error, RootCertStore, ServerConfig, SignatureScheme};

use super::possession;
use crate::config::{TlsConfig, TlsVersion};

/// Why a certificate cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file is not there, or not ours to read.
    #[error("error loading TLS cert: {path}: {source}", path = path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file is not what it should be.
    #[error("error loading TLS cert: {path}: {message}", path = path.display())]
    Content {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        message: String,
    },
    /// The settings do not go together.
    #[error("TLS settings: {0}")]
    Settings(String),
}

/// A TLS configuration whose certificate can be replaced while it is used.
///
/// Connections that are open keep what they shook hands with.
#[derive(Debug)]
pub struct ReloadingTls {
    files: TlsConfig,
    certificate: Arc<Certificate>,
    config: Arc<ServerConfig>,
}

/// The certificate of the moment. Read once a handshake, written on reload.
#[derive(Debug)]
struct Certificate(RwLock<Arc<CertifiedKey>>);

impl ReloadingTls {
    /// Reads the files.
    ///
    /// # Errors
    /// If one cannot be read, is no PEM, or the key is not the certificate's.
    pub fn load(files: TlsConfig) -> Result<Self, TlsError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let certificate = certified_key(&files, &provider)?;
        let certificate = Arc::new(Certificate(RwLock::new(Arc::new(certificate))));
        let config = server_config(&files, provider, Arc::clone(&certificate))?;
        Ok(Self { files, certificate, config: Arc::new(config) })
    }

    /// Reads certificate and key again. After an error the old ones stay.
    ///
    /// # Errors
    /// As [`ReloadingTls::load`].
    pub fn reload(&self) -> Result<(), TlsError> {
        let fresh = certified_key(&self.files, self.config.crypto_provider())?;
        *self.certificate.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(fresh);
        Ok(())
    }

    pub(super) fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.config)
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner)))
    }
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    std::fs::read(path).map_err(|source| TlsError::File { path: path.to_owned(), source })
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let wrong = |message: String| TlsError::Content { path: path.to_owned(), message };
    let pem = read(path)?;
    let chain = CertificateDer::pem_slice_iter(&pem).collect::<Result<Vec<_>, _>>();
    let chain = chain.map_err(|error| wrong(error.to_string()))?;
    if chain.is_empty() {
        return Err(wrong("no certificate in it".to_owned()));
    }
    Ok(chain)
}

fn certified_key(files: &TlsConfig, provider: &CryptoProvider) -> Result<CertifiedKey, TlsError> {
    let chain = certificates(&files.cert_file)?;
    let wrong = |message: String| TlsError::Content { path: files.key_file.clone(), message };
    let pem = zeroize::Zeroizing::new(read(&files.key_file)?);
    let key = PrivateKeyDer::from_pem_slice(&pem).map_err(|error| wrong(error.to_string()))?;
    let key = provider.key_provider.load_private_key(key).map_err(|error| wrong(error.to_string()))?;
    let certified = CertifiedKey::new(chain, key);
    match certified.keys_match() {
        // Certificates of odd kinds cannot be compared; then the first handshake will tell.
        Ok(()) | Err(Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => Ok(certified),
        Err(_) => Err(wrong(format!("not the key of the certificate in {}", files.cert_file.display()))),
    }
}

fn server_config(
    files: &TlsConfig,
    provider: Arc<CryptoProvider>,
    certificate: Arc<Certificate>,
) -> Result<ServerConfig, TlsError> {
    let versions: Vec<_> =
        [(TlsVersion::Tls12, &rustls::version::TLS12), (TlsVersion::Tls13, &rustls::version::TLS13)]
            .into_iter()
            .filter(|(version, _)| (files.min_version..=files.max_version).contains(version))
            .map(|(_, version)| version)
            .collect();
    let settings = |error: Error| TlsError::Settings(error.to_string());
    let verifier = client_verifier(files, &provider)?;
    let builder =
        ServerConfig::builder_with_provider(provider).with_protocol_versions(&versions).map_err(settings)?;
    let builder = match verifier {
        Some(verifier) => builder.with_client_cert_verifier(verifier),
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_cert_resolver(certificate);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    // A client that comes back spares both sides a signature.
    config.ticketer = aws_lc_rs::Ticketer::new().map_err(settings)?;
    Ok(config)
}

fn client_verifier(
    files: &TlsConfig,
    provider: &Arc<CryptoProvider>,
) -> Result<Option<Arc<dyn ClientCertVerifier>>, TlsError> {
    if files.disable_client_certs {
        return Ok(None);
    }
    let mut roots = RootCertStore::empty();
    if let Some(path) = &files.client_ca_file {
        let (added, _) = roots.add_parsable_certificates(certificates(path)?);
        if added == 0 {
            let message = "no usable authority in it".to_owned();
            return Err(TlsError::Content { path: path.clone(), message });
        }
    }
    if files.require_client_cert {
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider)).build();
        return verifier
            .map(|verifier| Some(verifier as _))
            .map_err(|error| TlsError::Settings(error.to_string()));
    }
    Ok(Some(Arc::new(AnyClientCertificate {
        hints: roots.subjects(),
        algorithms: provider.signature_verification_algorithms,
    })))
}

/// Asks for a certificate and takes any, or none. That the client holds its key is proved; whether it
/// is good is for the auth method to say.
#[derive(Debug)]
struct AnyClientCertificate {
    hints: Vec<DistinguishedName>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ClientCertVerifier for AnyClientCertificate {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.hints
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        possession::verify(message, certificate, signed, &self.algorithms)?;
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        possession::verify(message, certificate, signed, &self.algorithms)?;
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
