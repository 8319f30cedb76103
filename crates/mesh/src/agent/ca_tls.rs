//! The connection to the CA: whom the agent trusts there, and what it shows.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

use chancery_issuance::{KeyForm, PrivateKey};
use jiff::Timestamp;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ClientConfig, RootCertStore};
use zeroize::Zeroizing;

use super::files::KeyFiles;
use super::secret::{KeyPair, TrustBundle};
use super::settings::{CaRoots, CaSettings};

/// Where operating systems keep their roots; the first that is there is taken.
pub(super) const SYSTEM_ROOTS: [&str; 8] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/tls/cacert.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/cert.pem",
    "/usr/local/etc/ssl/cert.pem",
    "/etc/ssl/certs/ca-certificates",
];

/// The TLS of one connection. The roots are read anew for each: whoever changes them restarts nothing.
pub(super) fn client_config(
    settings: &CaSettings,
    has_token: bool,
    current: Option<&KeyPair>,
    now: Timestamp,
) -> io::Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(trusted(&settings.roots)?);
    if added == 0 {
        return Err(io::Error::other("none of the roots can be used"));
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_root_certificates(roots);
    let provisioned = settings.provisioned.as_deref().and_then(|folder| provisioned(folder, now));
    // The workload's own certificate vouches for it while its token cannot be read.
    let shown = provisioned.as_ref().or_else(|| current.filter(|pair| !has_token && !ended(pair, now)));
    let mut config = match shown {
        Some(pair) => {
            let (chain, key) = shown_certificate(pair)?;
            builder.with_client_auth_cert(chain, key).map_err(io::Error::other)?
        }
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(Arc::new(config))
}

/// The roots that the CA is verified with.
fn trusted(roots: &CaRoots) -> io::Result<Vec<CertificateDer<'static>>> {
    let path = match roots {
        CaRoots::File(path) => path.as_path(),
        CaRoots::System => system_roots().ok_or_else(|| io::Error::other("this system has no roots"))?,
    };
    let text = fs::read_to_string(path).map_err(|error| named(path, &error))?;
    let bundle = TrustBundle::from_pem(&text).map_err(|error| named(path, &error))?;
    Ok(bundle.certificates.iter().map(|root| CertificateDer::from(root.der().to_vec())).collect())
}

/// The operating system's file of roots.
pub(super) fn system_roots() -> Option<&'static Path> {
    SYSTEM_ROOTS.into_iter().map(Path::new).find(|path| path.exists())
}

fn named(path: &Path, error: &dyn std::fmt::Display) -> io::Error {
    io::Error::other(format!("{}: {error}", path.display()))
}

/// The certificate that a machine was provisioned with; without a good one the token must do.
fn provisioned(folder: &Path, now: Timestamp) -> Option<KeyPair> {
    let files = KeyFiles::of(folder);
    let read = || {
        let chain = fs::read_to_string(&files.chain).map_err(|error| named(&files.chain, &error))?;
        let key = fs::read_to_string(&files.key).map_err(|error| named(&files.key, &error))?;
        KeyPair::new(&[chain], Zeroizing::new(key)).map_err(|error| named(folder, &error))
    };
    match read() {
        Ok(pair) if ended(&pair, now) => {
            tracing::warn!(folder = %folder.display(), "the provisioned certificate has ended and is not shown");
            None
        }
        Ok(pair) => Some(pair),
        Err(error) => {
            tracing::warn!(%error, "the provisioned certificate cannot be used");
            None
        }
    }
}

fn ended(pair: &KeyPair, now: Timestamp) -> bool {
    pair.leaf().is_none_or(|leaf| leaf.not_after().to_timestamp() <= now)
}

fn shown_certificate(pair: &KeyPair) -> io::Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)> {
    let chain = pair.certificates.iter().map(|one| CertificateDer::from(one.der().to_vec())).collect();
    let key = PrivateKey::from_pem(&pair.key).map_err(io::Error::other)?;
    let key = PrivatePkcs8KeyDer::from(key.to_der(KeyForm::Pkcs8).to_vec());
    Ok((chain, key.into()))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::settings::Settings;
    use super::super::test_ca::{Ca, now};
    use super::*;

    fn settings(folder: &Path) -> CaSettings {
        let text = |path: &Path| path.to_str().unwrap().to_owned();
        let pairs = [
            ("POD_NAMESPACE", "a".to_owned()),
            ("SERVICE_ACCOUNT", "b".to_owned()),
            ("CA_ROOT_CA", text(&folder.join("roots.pem"))),
            ("PROV_CERT", text(folder)),
        ];
        let pairs = pairs.map(|(name, value)| (name.to_owned(), value));
        Settings::read(&pairs.into()).unwrap().ca.unwrap()
    }

    fn shows(config: io::Result<Arc<ClientConfig>>) -> bool {
        config.unwrap().client_auth_cert_resolver.has_certs()
    }

    #[test]
    fn roots_that_cannot_be_read_are_an_error_with_their_path() {
        let folder = tempfile::tempdir().unwrap();
        let settings = settings(folder.path());
        let error = client_config(&settings, true, None, now()).expect_err("there is no file");
        assert!(error.to_string().contains("roots.pem"), "{error}");
        fs::write(folder.path().join("roots.pem"), "nothing").unwrap();
        let error = client_config(&settings, true, None, now()).expect_err("there is no root");
        assert!(error.to_string().contains("roots.pem"), "{error}");
    }

    #[test]
    fn a_certificate_is_shown_if_it_is_good() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        let settings = settings(path);
        let ca = Ca::new("root");
        fs::write(path.join("roots.pem"), ca.root_pem()).unwrap();
        assert!(!shows(client_config(&settings, true, None, now())));

        let (leaf, key) = ca.leaf("spiffe://d/ns/a/sa/b");
        fs::write(path.join("cert-chain.pem"), &leaf).unwrap();
        fs::write(path.join("key.pem"), key.as_bytes()).unwrap();
        assert!(shows(client_config(&settings, true, None, now())));
        let later = now() + Duration::from_secs(7200);
        assert!(!shows(client_config(&settings, true, None, later)));

        let (_, other) = ca.leaf("spiffe://d/ns/a/sa/b");
        fs::write(path.join("key.pem"), other.as_bytes()).unwrap();
        assert!(!shows(client_config(&settings, true, None, now())));

        // Its own certificate instead of a token, not beside it.
        let own = KeyPair::new(&[leaf], key).unwrap();
        assert!(!shows(client_config(&settings, true, Some(&own), now())));
        assert!(shows(client_config(&settings, false, Some(&own), now())));
        assert!(!shows(client_config(&settings, false, Some(&own), later)));
    }
}
