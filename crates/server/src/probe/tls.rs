//! TLS with strangers whose certificates nobody vouches for: that is why they are asked.

use std::sync::Arc;

use chancery_secrets::probe::{Host, Presented, ProbeError};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// RFC 8737, 6.2
const ACME_TLS: &[u8] = b"acme-tls/1";

/// What `host` presents when it is asked for `acme-tls/1`.
pub(super) async fn presented(stream: TcpStream, host: &Host) -> Result<Presented, ProbeError> {
    let stream = shake_hands(stream, host, &[ACME_TLS]).await?;
    let (_, connection) = stream.get_ref();
    let certificate = connection.peer_certificates().and_then(<[_]>::first);
    let certificate =
        certificate.ok_or_else(|| ProbeError::Tls(format!("{host} presented no certificate")))?;
    Ok(Presented { certificate: certificate.to_vec(), acme: connection.alpn_protocol() == Some(ACME_TLS) })
}

/// A connection whose other end is whoever answers at the address.
pub(super) async fn shake_hands(
    stream: TcpStream,
    host: &Host,
    protocols: &[&[u8]],
) -> Result<TlsStream<TcpStream>, ProbeError> {
    let name = match host {
        Host::Name(name) => {
            ServerName::try_from(name.clone()).map_err(|error| ProbeError::Tls(format!("{name}: {error}")))?
        }
        Host::Address(address) => ServerName::from(*address),
    };
    let provider = Arc::new(aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| ProbeError::Tls(error.to_string()))?;
    let mut config = config
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(TakeAny { provider }))
        .with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    // Nothing is resumed with a stranger, and nothing of one remembered.
    config.resumption = rustls::client::Resumption::disabled();
    TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await
        .map_err(|error| ProbeError::Tls(format!("handshake with {host}: {error}")))
}

/// Takes any certificate. What is in it is judged later (RFC 8737, 3), or does not matter, as after a redirect to https: the
/// proof is the content, and the way to it was the name's own.
///
/// The handshake's signature is not checked either. It would say that the other side has the key of a certificate which it
/// made up itself; and the one of `tls-alpn-01` has a critical extension, over which the library's check would stumble.
#[derive(Debug)]
struct TakeAny {
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for TakeAny {
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
