//! A kept connection: one client, one login, one token, for as long as nothing changes that it was made of.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use chancery_api::Secret;
use chancery_client::{
    Client, ClientIdentity, Config, Credential, Error, FetchCredential, Login, Session, SessionError,
};
use chancery_kubernetes::{ApiError, request};
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::Api;
use kube::api::PostParams;
use tokio::task::JoinHandle;
use zeroize::Zeroizing;

use super::plan::{Entry, Jwt, Method, NO_BUNDLE, Plan, Roots};
use crate::issuer::secret::{Reader, SecretError, Versions};

/// The longest answer that is read: a chain of certificates has a few thousand bytes.
const LONGEST_ANSWER: usize = 1 << 20;

/// The longest text of a server that is passed on, in bytes.
const LONGEST_TEXT: usize = 2000;

/// How long revoking a token may take when the controller stops.
const REVOCATION: Duration = Duration::from_secs(5);

/// The life of a service account's token that is requested for one login, in seconds.
const TOKEN_LIFE: i64 = 600;

/// Why there is no connection.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(in crate::issuer) enum OpenError {
    /// A Secret of the login is not there.
    #[error("{0}")]
    Missing(String),
    /// Nobody can say: the API server does not answer.
    #[error("{0}")]
    Unknown(String),
    /// The server is out of reach, or not in a state to answer.
    #[error("{0}")]
    Outage(String),
    /// Something else, which somebody has to change.
    #[error("{0}")]
    Other(String),
}

impl From<SecretError> for OpenError {
    fn from(error: SecretError) -> Self {
        match error {
            SecretError::Missing(message) => Self::Missing(message),
            SecretError::Api(error) if error.is_transient() => Self::Unknown(error.to_string()),
            other => Self::Other(other.to_string()),
        }
    }
}

/// What a connection is made of, read from Secrets.
pub(super) struct Ingredients {
    config: Config,
    login: Login,
    pub(super) versions: Versions,
}

/// A client that is logged in. Its token is kept alive until this is dropped.
pub(in crate::issuer) struct Connection {
    session: Arc<Session>,
    keeper: JoinHandle<SessionError>,
    pub(super) plan: Arc<Plan>,
    pub(super) versions: Versions,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.keeper.abort();
    }
}

impl Ingredients {
    /// Reads what the plan names in this namespace. `limit` bounds each request to the server.
    pub(super) async fn gather(
        plan: &Plan,
        client: &kube::Client,
        namespace: &str,
        limit: Duration,
    ) -> Result<Self, OpenError> {
        let mut secrets = Reader::new(client, namespace);
        let mut config = Config::new(plan.address.clone());
        config.namespace.clone_from(&plan.namespace);
        config.tls_server_name.clone_from(&plan.server_name);
        config.timeout = limit;
        // Whatever is worth repeating is repeated by the queue, which nobody waits for.
        config.max_retries = 0;
        config.max_answer = LONGEST_ANSWER;
        config.ca_cert_pem = match &plan.roots {
            Roots::System => None,
            Roots::Given(pem) => Some(pem.clone()),
            Roots::Secret(at) => {
                let pem = part(&mut secrets, namespace, at, "load vault CA bundle").await?;
                if !pem.contains("BEGIN CERTIFICATE") {
                    return Err(OpenError::Other(NO_BUNDLE.to_owned()));
                }
                Some(pem.to_string())
            }
        };
        if let Some((certificate, key)) = &plan.identity {
            let what = "load vault client certificate";
            let certificate = part(&mut secrets, namespace, certificate, what).await?.to_string();
            let key = Secret::new(part(&mut secrets, namespace, key, what).await?.as_str());
            config.client_identity = Some(ClientIdentity { certificate, key });
        }
        let login = login(plan, client, namespace, &mut secrets, &mut config).await?;
        Ok(Self { config, login, versions: secrets.versions() })
    }

    /// Connects and logs in.
    pub(super) async fn open(self, plan: &Arc<Plan>) -> Result<Connection, OpenError> {
        let Self { config, login, versions } = self;
        let unusable =
            |reason: String| OpenError::Other(format!("the connection cannot be set up: {reason}"));
        // A name server may be asked, and take its time.
        let client = tokio::task::spawn_blocking(move || Client::new(config)).await;
        let client = client.map_err(|error| unusable(error.to_string()))?;
        let client = client.map_err(|error| unusable(error.to_string()))?;
        // A token that is there already is not asked about: whether it may sign is looked at apart, and a server that cannot
        // answer is told by its health. Keeping it alive finds out how long it lives.
        let given = match &login {
            Login::Token(Credential::Given(token)) => Some(token.clone()),
            _ => None,
        };
        let is_given = given.is_some();
        client.set_token(given);
        let session = Arc::new(Session::new(client, login));
        if !is_given {
            session.refresh(0).await.map_err(|error| explain(&error, plan))?;
        }
        let kept = Arc::clone(&session);
        let keeper = tokio::spawn(async move { kept.keep().await });
        Ok(Connection { session, keeper, plan: Arc::clone(plan), versions })
    }
}

impl Connection {
    pub(super) fn client(&self) -> &Client {
        self.session.client()
    }

    /// Which token is in use; for [`Self::log_in_again`].
    pub(super) fn token_number(&self) -> u64 {
        self.session.generation()
    }

    /// Whether there is nothing but a token, so that a new one cannot be had.
    pub(super) fn is_given(&self) -> bool {
        matches!(self.plan.method, Method::Token(_))
    }

    /// Gets another token than the one of this number, which was refused. Says whether there is one: a token that was
    /// given cannot be replaced, and soon after a login there is no second one.
    pub(super) async fn log_in_again(&self, seen: u64) -> Result<bool, OpenError> {
        if self.is_given() {
            return Ok(false);
        }
        let refreshed = self.session.refresh(seen).await;
        refreshed.map_err(|error| explain(&error, &self.plan))
    }

    /// Ends the token, unless it was given.
    pub(in crate::issuer) async fn end(&self) {
        self.keeper.abort();
        match tokio::time::timeout(REVOCATION, self.session.revoke()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(error = error.line(), "a token could not be revoked"),
            Err(_) => tracing::warn!("a token could not be revoked: no answer"),
        }
    }
}

/// An entry of a Secret that TLS needs.
async fn part(
    secrets: &mut Reader<'_>,
    namespace: &str,
    at: &Entry,
    what: &str,
) -> Result<Zeroizing<String>, OpenError> {
    let Entry { secret, key } = at;
    secrets.text(secret, key).await.map_err(|error| match OpenError::from(error) {
        OpenError::Missing(message) => OpenError::Other(format!(
            "failed to {what}: could not access secret '{namespace}/{secret}': {message}"
        )),
        OpenError::Other(message) => OpenError::Other(format!("failed to {what}: {message}")),
        other => other,
    })
}

async fn login(
    plan: &Plan,
    client: &kube::Client,
    namespace: &str,
    secrets: &mut Reader<'_>,
    config: &mut Config,
) -> Result<Login, OpenError> {
    Ok(match &plan.method {
        Method::Token(at) => {
            let token = secrets.text(&at.secret, &at.key).await?;
            Login::Token(Secret::new(token.trim()).into())
        }
        Method::AppRole { mount, role_id, secret_id } => {
            let secret_id = secrets.text(&secret_id.secret, &secret_id.key).await?;
            Login::AppRole {
                mount: mount.clone(),
                role_id: Secret::new(role_id.as_str()).into(),
                secret_id: Secret::new(secret_id.trim()).into(),
            }
        }
        Method::Kubernetes { mount, role, jwt } => {
            let jwt = match jwt {
                Jwt::Secret(at) => {
                    let jwt = secrets.text(&at.secret, &at.key).await?;
                    Secret::new(jwt.as_str()).into()
                }
                Jwt::Requested { account, audiences } => Credential::Fetched(Arc::new(AccountToken {
                    accounts: Api::namespaced(client.clone(), namespace),
                    namespace: namespace.to_owned(),
                    account: account.clone(),
                    audiences: audiences.clone(),
                })),
            };
            Login::Kubernetes { mount: mount.clone(), role: role.clone(), jwt }
        }
        Method::Certificate { mount, name, secret } => {
            if let Some(secret) = secret {
                let certificate = secrets.text(secret, "tls.crt").await?.to_string();
                let key = Secret::new(secrets.text(secret, "tls.key").await?.as_str());
                config.client_identity = Some(ClientIdentity { certificate, key });
            }
            Login::Certificate { mount: mount.clone(), name: name.clone() }
        }
    })
}

/// Requests a token for a service account.
#[derive(Debug)]
struct AccountToken {
    accounts: Api<ServiceAccount>,
    namespace: String,
    account: String,
    audiences: Vec<String>,
}

impl FetchCredential for AccountToken {
    fn fetch(&self) -> Pin<Box<dyn Future<Output = Result<Secret, String>> + Send + '_>> {
        Box::pin(async move {
            let spec = TokenRequestSpec {
                audiences: self.audiences.clone(),
                expiration_seconds: Some(TOKEN_LIFE),
                bound_object_ref: None,
            };
            let asked = TokenRequest { spec, ..TokenRequest::default() };
            let parameters = PostParams::default();
            let Self { namespace, account, .. } = self;
            match request(self.accounts.create_token_request(account, &parameters, &asked)).await {
                Ok(answer) => match answer.status {
                    Some(status) if !status.token.is_empty() => Ok(status.token.into()),
                    _ => {
                        Err(format!("the API server made no token for service account {namespace}/{account}"))
                    }
                },
                Err(error @ ApiError::Refused(_)) => Err(format!(
                    "no token for service account {namespace}/{account}: {error}; the controller needs the verb \"create\" \
                     on \"serviceaccounts/token\" there"
                )),
                Err(error) => Err(format!("no token for service account {namespace}/{account}: {error}")),
            }
        })
    }
}

/// A failed login.
fn explain(error: &SessionError, plan: &Plan) -> OpenError {
    let words = words(error, plan);
    match error {
        SessionError::Request(error) if is_transient(error) => OpenError::Outage(words),
        _ => OpenError::Other(words),
    }
}

/// In the words that users of this API know.
fn words(error: &SessionError, plan: &Plan) -> String {
    let told = match error {
        SessionError::Request(error) => tell(error, plan),
        SessionError::NoToken => return "no token returned".to_owned(),
        other => other.to_string(),
    };
    match plan.method {
        Method::AppRole { .. } => format!("error logging in to Vault server: {told}"),
        Method::Certificate { .. } => format!("error calling Vault server: {told}"),
        Method::Kubernetes { .. } => {
            let calling =
                if matches!(error, SessionError::Request(_)) { "error calling Vault server: " } else { "" };
            format!("while requesting a Vault token using the Kubernetes auth: {calling}{told}")
        }
        Method::Token(_) => told,
    }
}

/// Whether an error is of the moment and not of the request: 408 and 429 ask for patience, 412 is a replica's that lags
/// behind, 472 and 473 a standby's, 503 a sealed server's.
pub(super) fn is_transient(error: &Error) -> bool {
    match error {
        Error::Transport { .. } => true,
        Error::Api { status, .. } => matches!(status, 408 | 412 | 429 | 472 | 473 | 500 | 502..=599),
        Error::Decode(_) | Error::Config(_) => false,
    }
}

/// An error as the API's own clients print it, cut short: it goes into conditions, and may be the page of a proxy.
pub(super) fn tell(error: &Error, plan: &Plan) -> String {
    let mut text = whole(error, plan);
    if text.len() > LONGEST_TEXT {
        text.truncate(text.floor_char_boundary(LONGEST_TEXT));
        text.push('…');
    }
    text
}

fn whole(error: &Error, plan: &Plan) -> String {
    use chancery_client::Loss;
    match (error, &plan.namespace) {
        (Error::Transport { method, url, kind: Loss::Timeout, .. }, _) => {
            let verb = method.to_lowercase();
            let mut letters = verb.chars();
            let first: String = letters.next().into_iter().flat_map(char::to_uppercase).collect();
            format!(
                "{first}{} {url:?}: context deadline exceeded: the server did not answer in time",
                letters.as_str()
            )
        }
        (Error::Api { .. }, Some(namespace)) => {
            let named = format!("\n\nNamespace: {}\nURL: ", namespace.trim_matches('/'));
            error.to_string().replacen("\n\nURL: ", &named, 1)
        }
        _ => error.to_string(),
    }
}
