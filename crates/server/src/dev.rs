//! `server -dev`: a server to try things out with. In memory, unsealed, its root token known.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use chancery_api::{Clock, Secret, SystemClock};
use chancery_secrets::dev_certificate;
use chancery_storage::ShareScheme;
use data_encoding::BASE64;

use crate::config::{Bind, Config, ListenerConfig, StorageConfig, TlsConfig, TlsVersion};
use crate::run::{Running, StartError, start};

/// How a development server differs from the usual one.
#[derive(Debug, Clone)]
pub struct DevOptions {
    /// The root token's text; made at random if not given.
    pub root_token_id: Option<String>,
    /// `host:port`.
    pub listen_address: String,
    /// Leave the token file of the command line alone.
    pub no_store_token: bool,
    /// Speak TLS, with certificates made for the occasion.
    pub tls: bool,
    /// Where to put them; a temporary folder if not given.
    pub tls_cert_dir: Option<PathBuf>,
    /// Names for the certificate beside `localhost`, the loopback addresses and the one listened on.
    pub tls_sans: Vec<String>,
}

impl Default for DevOptions {
    fn default() -> Self {
        Self {
            root_token_id: None,
            listen_address: "127.0.0.1:8200".to_owned(),
            no_store_token: false,
            tls: false,
            tls_cert_dir: None,
            tls_sans: Vec::new(),
        }
    }
}

/// A development server and the secrets that its owner needs.
pub struct DevServer {
    /// The server.
    pub running: Running,
    /// The one key share, in base64.
    pub unseal_key: Secret,
    /// May do everything.
    pub root_token: Secret,
    /// With TLS, the authority that clients have to believe.
    pub ca_file: Option<PathBuf>,
    /// Goes away with the server.
    certificates: Option<tempfile::TempDir>,
}

/// Starts a development server. Of `config` the storage is replaced, and a listener is added.
///
/// # Errors
/// As [`start`], and if the token file cannot be written.
pub async fn start_dev(options: &DevOptions, config: Config) -> Result<DevServer, StartError> {
    let mut listener = ListenerConfig::new(Bind::Tcp(options.listen_address.clone()));
    listener.unauthenticated_metrics = true;
    let (mut ca_file, mut certificates) = (None, None);
    if options.tls {
        let folder = match &options.tls_cert_dir {
            Some(folder) => folder.clone(),
            None => {
                let made = tempfile::Builder::new().prefix("vault-tls").tempdir();
                let made = made.map_err(|source| StartError::File { path: std::env::temp_dir(), source })?;
                certificates.insert(made).path().to_owned()
            }
        };
        listener.tls = Some(make_certificates(options, &folder)?);
        ca_file = Some(folder.join("vault-ca.pem"));
    }
    let mut listeners = vec![listener];
    listeners.extend(config.listeners);
    let running = start(Config { storage: StorageConfig::Memory, listeners, ..config }).await?;

    let scheme = ShareScheme::new(1, 1).map_err(|error| StartError::Dev(error.to_string()))?;
    let chosen = options.root_token_id.as_deref().filter(|id| !id.is_empty()).map(Secret::new);
    let initialized = running.core().initialize(scheme, chosen).await.map_err(StartError::Unseal)?;
    let share =
        initialized.shares.first().ok_or_else(|| StartError::Dev("no key share was made".to_owned()))?;
    if running.core().is_sealed() {
        running.core().unseal(share).await.map_err(StartError::Unseal)?;
    }
    let unseal_key = Secret::new(BASE64.encode(share));
    if !options.no_store_token {
        store_token(&initialized.root_token)?;
    }
    Ok(DevServer { running, unseal_key, root_token: initialized.root_token, ca_file, certificates })
}

impl DevServer {
    /// The server, and the files that must stay as long as it runs.
    pub(crate) fn into_parts(self) -> (Running, Option<tempfile::TempDir>) {
        (self.running, self.certificates)
    }

    /// The sentences that users of `server -dev` look for.
    #[must_use]
    pub fn banner(&self) -> String {
        let (url, key, token) = (self.running.url(), self.unseal_key.expose(), self.root_token.expose());
        let ca =
            self.ca_file.as_ref().map(|path| format!("    $ export VAULT_CACERT='{}'\n", path.display()));
        let ca = ca.unwrap_or_default();
        format!(
            "WARNING! dev mode is enabled! In this mode, Chancery runs entirely in-memory\n\
             and starts unsealed with a single unseal key. The root token is already\n\
             authenticated to the CLI, so you can immediately begin using Chancery.\n\
             \n\
             You may need to set the following environment variables:\n\
             \n    $ export VAULT_ADDR='{url}'\n\
             {ca}\
             \n\
             The unseal key and root token are displayed below in case you want to\n\
             seal/unseal the Vault or re-authenticate.\n\
             \n\
             Unseal Key: {key}\n\
             Root Token: {token}\n\
             \n\
             Development mode should NOT be used in production installations!\n"
        )
    }
}

/// Makes certificates and writes them where the listener will look for them.
fn make_certificates(options: &DevOptions, folder: &Path) -> Result<TlsConfig, StartError> {
    let mut names: Vec<String> = ["localhost", "127.0.0.1", "::1"].map(str::to_owned).to_vec();
    let host = options.listen_address.rsplit_once(':').map_or("", |(host, _)| host).trim_matches(['[', ']']);
    let unspecified = host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_unspecified());
    names.extend(
        Some(host.to_owned()).filter(|host| !host.is_empty() && !unspecified && !names.contains(host)),
    );
    names.extend(options.tls_sans.iter().cloned());
    let made =
        dev_certificate(&names, SystemClock.now()).map_err(|error| StartError::Dev(error.to_string()))?;
    let write = |name: &str, content: &str| {
        let path = folder.join(name);
        match write_private(&path, content.as_bytes()) {
            Ok(()) => Ok(path),
            Err(source) => Err(StartError::File { path, source }),
        }
    };
    write("vault-ca.pem", &made.authority)?;
    Ok(TlsConfig {
        cert_file: write("vault-cert.pem", &made.certificate)?,
        key_file: write("vault-key.pem", &made.private_key)?,
        client_ca_file: None,
        require_client_cert: false,
        disable_client_certs: false,
        min_version: TlsVersion::Tls12,
        max_version: TlsVersion::Tls13,
    })
}

/// Writes the token where the command line keeps it, for its owner's eyes only.
fn store_token(token: &Secret) -> Result<(), StartError> {
    let Some(home) = std::env::home_dir() else { return Ok(()) };
    let path = home.join(".vault-token");
    write_private(&path, token.expose().as_bytes()).map_err(|source| StartError::File { path, source })
}

/// Writes a file that only its owner may read, whatever was there before: a new file takes its place, since
/// an old one would keep its mode and whoever has it open.
fn write_private(path: &Path, content: &[u8]) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // Such a file has mode 0600 from its creation, and goes away if it does not get its place.
    let mut draft = tempfile::Builder::new().prefix(".vault-").suffix(".tmp").tempfile_in(folder)?;
    draft.write_all(content)?;
    draft.as_file().sync_all()?;
    draft.persist(path).map_err(|error| error.error)?;
    Ok(())
}
