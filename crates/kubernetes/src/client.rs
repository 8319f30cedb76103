//! The way to a Kubernetes API server.

use std::path::PathBuf;
use std::time::Duration;

use kube::config::{AuthInfo, InClusterError, KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::{Client, Config};
use tokio::time::timeout;

/// How long a single request may take. Watches have bounds of their own.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// How many requests of a kind that comes in bursts are under way at once. Each takes a connection (HTTP/1.1), and what
/// waits here for a moment would wait at the API server otherwise.
pub const AT_ONCE: usize = 32;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Where the API server is and who we are to it. With nothing set: as in a pod, else as kubectl does.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClientOptions {
    /// `--kubeconfig`
    pub kubeconfig: Option<PathBuf>,
    /// `--context` of the kubeconfig; none: its current one.
    pub context: Option<String>,
    /// `--cluster` of the kubeconfig; none: the context's.
    pub cluster: Option<String>,
    /// `--user` of the kubeconfig; none: the context's.
    pub user: Option<String>,
    /// `--server`: the API server's URL.
    pub server: Option<String>,
    /// A file with a bearer token; it is read again when it changes.
    pub token_file: Option<PathBuf>,
    /// `--certificate-authority`: a file with the roots that the API server's certificate must lead to.
    pub certificate_authority: Option<PathBuf>,
    /// `--client-certificate`, with `client_key`.
    pub client_certificate: Option<PathBuf>,
    /// `--client-key`
    pub client_key: Option<PathBuf>,
    /// `--tls-server-name`: the name that the API server's certificate must have, if not the URL's.
    pub tls_server_name: Option<String>,
    /// `--insecure-skip-tls-verify`
    pub insecure_skip_tls_verify: bool,
    /// `--as`: act for this user.
    pub impersonate: Option<String>,
}

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The kubeconfig is missing or makes no sense.
    #[error("kubeconfig: {0}")]
    Kubeconfig(#[from] KubeconfigError),
    /// Neither in a pod nor with a kubeconfig.
    #[error("no kubeconfig ({kubeconfig}), and not in a pod ({pod})")]
    Nowhere {
        /// Why there is no kubeconfig.
        kubeconfig: KubeconfigError,
        /// Why this is no pod.
        pod: InClusterError,
    },
    /// A certificate without its key, or a key alone.
    #[error("-client-certificate and -client-key must be given together")]
    HalfPair,
    /// `--server` is no URL.
    #[error("the API server's address {0:?} is no URL")]
    Address(String),
    /// A file cannot be used.
    #[error("the client cannot be set up: {0}")]
    Setup(#[from] kube::Error),
}

/// Makes a client.
///
/// It does not throttle itself: the API server's own fairness decides (`flowcontrol.apiserver.k8s.io`). It does not repeat
/// requests either: whoever asks knows whether that makes sense.
///
/// # Errors
/// The options name nothing usable. The API server itself is not asked yet.
pub async fn connect(options: &ClientOptions) -> Result<Client, ClientError> {
    Ok(Client::try_from(config(options).await?)?)
}

async fn config(options: &ClientOptions) -> Result<Config, ClientError> {
    let ClientOptions {
        kubeconfig,
        context,
        cluster,
        user,
        server,
        token_file,
        certificate_authority,
        client_certificate,
        client_key,
        tls_server_name,
        insecure_skip_tls_verify,
        impersonate,
    } = options;
    let choice = KubeConfigOptions { context: context.clone(), cluster: cluster.clone(), user: user.clone() };
    let address = |server: &String| server.parse().map_err(|_| ClientError::Address(server.clone()));
    if client_certificate.is_some() != client_key.is_some() {
        return Err(ClientError::HalfPair);
    }
    // They choose from a kubeconfig: then it is read, as kubectl does, also in a pod.
    let is_chosen = context.is_some() || cluster.is_some() || user.is_some();
    let mut config = match (kubeconfig, server) {
        (Some(path), _) => Config::from_custom_kubeconfig(Kubeconfig::read_from(path)?, &choice).await?,
        (None, _) if is_chosen => Config::from_kubeconfig(&choice).await?,
        (None, Some(server)) => Config::new(address(server)?),
        (None, None) => match Config::incluster() {
            Ok(config) => config,
            Err(pod) => Config::from_kubeconfig(&choice)
                .await
                .map_err(|kubeconfig| ClientError::Nowhere { kubeconfig, pod })?,
        },
    };
    if let Some(server) = server {
        config.cluster_url = address(server)?;
    }
    if let Some(path) = certificate_authority {
        config.root_cert = None;
        config.root_cert_file = Some(path.clone());
    }
    if let Some(path) = token_file {
        config.auth_info =
            AuthInfo { token_file: Some(path.to_string_lossy().into_owned()), ..AuthInfo::default() };
    }
    if let (Some(certificate), Some(key)) = (client_certificate, client_key) {
        config.auth_info.client_certificate = Some(certificate.to_string_lossy().into_owned());
        config.auth_info.client_key = Some(key.to_string_lossy().into_owned());
    }
    if let Some(user) = impersonate {
        config.auth_info.impersonate = Some(user.clone());
    }
    if let Some(name) = tls_server_name {
        config.tls_server_name = Some(name.clone());
    }
    config.accept_invalid_certs |= *insecure_skip_tls_verify;
    config.connect_timeout = Some(CONNECT_TIMEOUT);
    config.default_retry = false;
    Ok(config)
}

/// Why a request to an API server came to nothing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ApiError {
    /// It was refused.
    #[error("{} ({} {})", .0.message, .0.code, .0.reason)]
    Refused(Box<kube::core::Status>),
    /// It did not get there, or the answer did not get back.
    #[error("{0}")]
    Connection(kube::Error),
    /// There was no answer.
    #[error("no answer from the API server within {0:?}")]
    TimedOut(Duration),
}

impl From<kube::Error> for ApiError {
    fn from(error: kube::Error) -> Self {
        match error {
            kube::Error::Api(status) => Self::Refused(status),
            other => Self::Connection(other),
        }
    }
}

impl ApiError {
    /// Whether the same request may succeed later without anybody changing anything: the server is overloaded, restarting
    /// or out of reach.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Refused(status) => matches!(status.code, 408 | 429 | 500..),
            Self::Connection(_) | Self::TimedOut(_) => true,
        }
    }

    /// There is no such object.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Refused(status) if status.is_not_found())
    }

    /// Somebody else was quicker: the object changed, or it exists already.
    pub fn is_conflict(&self) -> bool {
        matches!(self, Self::Refused(status) if status.is_conflict() || status.is_already_exists())
    }
}

/// Bounds a single request.
///
/// # Errors
/// As the request, or that it took longer than [`REQUEST_TIMEOUT`].
pub async fn request<T>(request: impl Future<Output = Result<T, kube::Error>>) -> Result<T, ApiError> {
    match timeout(REQUEST_TIMEOUT, request).await {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(ApiError::TimedOut(REQUEST_TIMEOUT)),
    }
}

/// Likewise, with `None` for an object that is not there.
///
/// # Errors
/// As [`request`].
pub async fn optional<T>(asked: impl Future<Output = Result<T, kube::Error>>) -> Result<Option<T>, ApiError> {
    match request(asked).await {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn flags_go_over_what_the_kubeconfig_says() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("config");
        let text = "apiVersion: v1\nkind: Config\ncurrent-context: a\n\
            clusters: [{name: one, cluster: {server: 'https://one:6443'}}, {name: two, cluster: {server: 'https://two:6443'}}]\n\
            users: [{name: u, user: {}}]\n\
            contexts: [{name: a, context: {cluster: one, user: u}}, {name: b, context: {cluster: two, user: u}}]\n";
        std::fs::write(&path, text).expect("written");
        let mut options = ClientOptions { kubeconfig: Some(path), ..ClientOptions::default() };
        let found = config(&options).await.expect("a configuration");
        assert_eq!(found.cluster_url, "https://one:6443/");
        assert!(!found.default_retry);
        options.context = Some("b".into());
        assert_eq!(config(&options).await.expect("a configuration").cluster_url, "https://two:6443/");
        options.server = Some("https://three".into());
        options.token_file = Some("/token".into());
        options.certificate_authority = Some("/ca.pem".into());
        let found = config(&options).await.expect("a configuration");
        assert_eq!(found.cluster_url, "https://three/");
        assert_eq!(found.auth_info.token_file.as_deref(), Some("/token"));
        assert_eq!(found.root_cert_file, Some("/ca.pem".into()));
        options.server = Some("not a url".into());
        assert!(matches!(config(&options).await, Err(ClientError::Address(_))));
    }

    #[test]
    fn overload_and_restarts_pass_refusals_do_not() {
        let refused =
            |code| ApiError::Refused(Box::new(kube::core::Status { code, ..kube::core::Status::default() }));
        for code in [408, 429, 500, 503, 504] {
            assert!(refused(code).is_transient(), "{code}");
        }
        for code in [400, 401, 403, 404, 409, 422] {
            assert!(!refused(code).is_transient(), "{code}");
        }
        assert!(ApiError::TimedOut(REQUEST_TIMEOUT).is_transient());
    }

    #[tokio::test]
    async fn half_a_certificate_is_refused() {
        for (certificate, key) in [(true, false), (false, true)] {
            let options = ClientOptions {
                server: Some("https://one".into()),
                client_certificate: certificate.then(|| "/c.pem".into()),
                client_key: key.then(|| "/k.pem".into()),
                ..ClientOptions::default()
            };
            assert!(matches!(config(&options).await, Err(ClientError::HalfPair)));
        }
    }
}
