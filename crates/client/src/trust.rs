//! TLS as the settings want it: whom the client believes, and as whom it shows itself.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_platform_verifier::BuilderVerifierExt;
use zeroize::Zeroizing;

use crate::{ClientIdentity, Config, ConfigError};

/// The settings for connections to the server, and to a proxy before it.
pub(crate) fn client_config(config: &Config) -> Result<ClientConfig, ConfigError> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider));
    let builder = builder.with_safe_default_protocol_versions().map_err(unusable)?;
    // Read in any case: who names a file wants to hear that it cannot be read.
    let named = trusted(config)?;
    let builder = if config.danger_skip_verify {
        builder.dangerous().with_custom_certificate_verifier(Arc::new(BelieveAny { provider }))
    } else if let Some(named) = named {
        builder.with_root_certificates(named)
    } else {
        match builder.clone().with_platform_verifier() {
            Ok(builder) => builder,
            Err(error) if config.address.is_tls() => return Err(unusable(error)),
            // Needed only if a redirect or a proxy leads to TLS. Nobody is believed then.
            Err(_) => builder.with_root_certificates(RootCertStore::empty()),
        }
    };
    let Some(Identity { chain, key }) = identity(config)? else { return Ok(builder.with_no_client_auth()) };
    builder.with_client_auth_cert(chain, key).map_err(|error| match (error, &config.client_key) {
        (rustls::Error::InconsistentKeys(_), Some(key)) => {
            unreadable(key, "tls: private key does not match public key")
        }
        (error, _) => unusable(error),
    })
}

fn unusable(error: impl fmt::Display) -> ConfigError {
    ConfigError::Http(error.to_string())
}

fn unreadable(path: &Path, reason: impl fmt::Display) -> ConfigError {
    ConfigError::File { path: path.to_owned(), reason: reason.to_string() }
}

/// The certificates named by the settings; `None` if none are named.
fn trusted(config: &Config) -> Result<Option<RootCertStore>, ConfigError> {
    let mut store = RootCertStore::empty();
    if let Some(pem) = &config.ca_cert_pem {
        let place = Path::new("VAULT_CACERT_BYTES");
        let found = add(&mut store, place, pem.as_bytes())?;
        return some(found, place).map(|()| Some(store));
    }
    // As the peer has it, a file and a folder together are all that is trusted.
    if let Some(path) = &config.ca_cert {
        let pem = std::fs::read(path).map_err(|error| unreadable(path, error))?;
        some(add(&mut store, path, &pem)?, path)?;
    }
    if let Some(folder) = &config.ca_path {
        some(collect(&mut store, folder)?, folder)?;
    }
    Ok((!store.is_empty()).then_some(store))
}

/// Adds the certificates in a text of PEM, and says how many there are.
fn add(store: &mut RootCertStore, path: &Path, pem: &[u8]) -> Result<usize, ConfigError> {
    let mut found = 0;
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|error| unreadable(path, error))?;
        store.add(certificate).map_err(|error| unreadable(path, error))?;
        found += 1;
    }
    Ok(found)
}

/// Who names a file wants it to count.
fn some(found: usize, place: &Path) -> Result<(), ConfigError> {
    if found == 0 { Err(unreadable(place, "holds no certificate in PEM")) } else { Ok(()) }
}

/// Adds the certificates of all files below a folder; other files may lie among them.
fn collect(store: &mut RootCertStore, folder: &Path) -> Result<usize, ConfigError> {
    let entries = std::fs::read_dir(folder).map_err(|error| unreadable(folder, error))?;
    let entries: Result<BTreeMap<_, _>, _> =
        entries.map(|entry| entry.and_then(|entry| Ok((entry.path(), entry.file_type()?)))).collect();
    let mut found = 0;
    for (path, kind) in entries.map_err(|error| unreadable(folder, error))? {
        // Links to files are usual in such folders; links to folders could lead in a circle.
        if kind.is_dir() {
            found += collect(store, &path)?;
        } else if path.is_file() {
            let pem = std::fs::read(&path).map_err(|error| unreadable(&path, error))?;
            found += add(store, &path, &pem)?;
        }
    }
    Ok(found)
}

/// What is shown to a server that asks.
struct Identity {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

fn identity(config: &Config) -> Result<Option<Identity>, ConfigError> {
    if let Some(ClientIdentity { certificate, key }) = &config.client_identity {
        let chain = chain(certificate.as_bytes()).map_err(unusable)?;
        let key = PrivateKeyDer::from_pem_slice(key.expose().as_bytes()).map_err(unusable)?;
        return Ok(Some(Identity { chain, key }));
    }
    let (certificate, key) = match (&config.client_cert, &config.client_key) {
        (None, None) => return Ok(None),
        (Some(certificate), Some(key)) => (certificate, key),
        _ => return Err(ConfigError::HalfIdentity),
    };
    let read = |path: &Path| std::fs::read(path).map_err(|error| unreadable(path, error));
    let chain = chain(&read(certificate)?).map_err(|reason| unreadable(certificate, reason))?;
    let pem = Zeroizing::new(read(key)?);
    let key = PrivateKeyDer::from_pem_slice(&pem).map_err(|error| unreadable(key, error))?;
    Ok(Some(Identity { chain, key }))
}

fn chain(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let chain = chain.map_err(|error| error.to_string())?;
    if chain.is_empty() { Err("holds no certificate in PEM".to_owned()) } else { Ok(chain) }
}

/// Takes any certificate, for who asked for that. The handshake's signature is not checked either: it would only say that
/// the other side has the key of a certificate that anyone can make.
#[derive(Debug)]
struct BelieveAny {
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for BelieveAny {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
