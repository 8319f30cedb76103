//! How to come to a token.

use std::fmt;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;

use chancery_api::Secret;
use serde::Serialize;

use crate::session::SessionError;
use crate::{Error, Request};

/// A text that proves who we are.
#[derive(Debug, Clone)]
pub enum Credential {
    /// Known.
    Given(Secret),
    /// In a file that is read anew for each login, since others replace it: Kubernetes the token of a service account,
    /// operators a secret id. Space around it does not count.
    File(PathBuf),
    /// Fetched anew for each login: what is valid for minutes only.
    Fetched(Arc<dyn FetchCredential>),
}

/// Where credentials are fetched. Its `Debug` shows none.
pub trait FetchCredential: fmt::Debug + Send + Sync {
    /// Fetches one; a reason if there is none.
    fn fetch(&self) -> Pin<Box<dyn Future<Output = Result<Secret, String>> + Send + '_>>;
}

/// A credential that is not to be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CredentialError {
    /// A file without one.
    #[error("{}: {reason}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// It could not be fetched.
    #[error("{0}")]
    Fetch(String),
}

/// How to get a token.
#[derive(Debug, Clone)]
pub enum Login {
    /// There is one already.
    Token(Credential),
    /// A role and its secret.
    AppRole {
        /// Where the method is mounted, below `auth/`; usually `approle`.
        mount: String,
        /// The role's id.
        role_id: Credential,
        /// The secret id; empty for a role that needs none.
        secret_id: Credential,
    },
    /// A name and a password.
    UserPass {
        /// Where the method is mounted, below `auth/`; usually `userpass`.
        mount: String,
        /// The name.
        username: String,
        /// The password.
        password: Secret,
    },
    /// The token of a Kubernetes service account.
    Kubernetes {
        /// Where the method is mounted, below `auth/`; usually `kubernetes`.
        mount: String,
        /// The role to log in to.
        role: String,
        /// The service account's token.
        jwt: Credential,
    },
    /// The client certificate of the connection, which the client's configuration names.
    Certificate {
        /// Where the method is mounted, below `auth/`; usually `cert`.
        mount: String,
        /// The role to log in to; empty for any that fits the certificate.
        name: String,
    },
}

impl Credential {
    /// The text.
    ///
    /// # Errors
    /// The file cannot be read, or is empty; or it is one that must be [fetched](Self::fetched) first.
    pub fn read(&self) -> Result<Secret, CredentialError> {
        let path = match self {
            Self::Given(secret) => return Ok(secret.clone()),
            Self::File(path) => path,
            Self::Fetched(_) => return Err(CredentialError::Fetch("it was not fetched yet".to_owned())),
        };
        let wrong = |reason: String| CredentialError::File { path: path.clone(), reason };
        let text =
            std::fs::read_to_string(path).map(Secret::new).map_err(|error| wrong(error.to_string()))?;
        match text.expose().trim() {
            "" => Err(wrong("the file is empty".to_owned())),
            text => Ok(Secret::new(text)),
        }
    }
}

impl Credential {
    /// The same, fetched if it is one that has to be.
    ///
    /// # Errors
    /// It could not be fetched.
    pub async fn fetched(&self) -> Result<Self, CredentialError> {
        match self {
            Self::Fetched(from) => from.fetch().await.map(Self::Given).map_err(CredentialError::Fetch),
            other => Ok(other.clone()),
        }
    }
}

impl From<Secret> for Credential {
    fn from(secret: Secret) -> Self {
        Self::Given(secret)
    }
}

impl Login {
    /// The same, with what has to be fetched fetched.
    ///
    /// # Errors
    /// A credential could not be fetched.
    pub async fn fetched(&self) -> Result<Self, CredentialError> {
        Ok(match self {
            Self::Token(token) => Self::Token(token.fetched().await?),
            Self::AppRole { mount, role_id, secret_id } => Self::AppRole {
                mount: mount.clone(),
                role_id: role_id.fetched().await?,
                secret_id: secret_id.fetched().await?,
            },
            Self::Kubernetes { mount, role, jwt } => {
                Self::Kubernetes { mount: mount.clone(), role: role.clone(), jwt: jwt.fetched().await? }
            }
            other @ (Self::UserPass { .. } | Self::Certificate { .. }) => other.clone(),
        })
    }

    /// The request that logs in; `None` if there is a token already.
    ///
    /// # Errors
    /// A credential cannot be read.
    pub fn request(&self) -> Result<Option<Request>, SessionError> {
        #[derive(Serialize)]
        struct AppRole<'a> {
            role_id: &'a str,
            #[serde(skip_serializing_if = "str::is_empty")]
            secret_id: &'a str,
        }
        #[derive(Serialize)]
        struct Password<'a> {
            password: &'a str,
        }
        #[derive(Serialize)]
        struct Kubernetes<'a> {
            role: &'a str,
            jwt: &'a str,
        }
        #[derive(Serialize)]
        struct Certificate<'a> {
            #[serde(skip_serializing_if = "str::is_empty")]
            name: &'a str,
        }
        let request = match self {
            Self::Token(_) => return Ok(None),
            Self::AppRole { mount, role_id, secret_id } => {
                let (role_id, secret_id) = (role_id.read()?, secret_id.read()?);
                let body = AppRole { role_id: role_id.expose(), secret_id: secret_id.expose() };
                login(mount, "", &body)?
            }
            Self::UserPass { mount, username, password } => {
                login(mount, &format!("/{username}"), &Password { password: password.expose() })?
            }
            Self::Kubernetes { mount, role, jwt } => {
                login(mount, "", &Kubernetes { role, jwt: jwt.read()?.expose() })?
            }
            Self::Certificate { mount, name } => login(mount, "", &Certificate { name })?,
        };
        Ok(Some(request))
    }

    /// The token, if that is all there is.
    pub(crate) fn token(&self) -> Result<Option<Secret>, CredentialError> {
        match self {
            Self::Token(token) => token.read().map(Some),
            _ => Ok(None),
        }
    }

    /// Whether there is nothing but a token, so that a new one cannot be had.
    pub(crate) fn is_given(&self) -> bool {
        matches!(self, Self::Token(Credential::Given(_)))
    }
}

fn login(mount: &str, rest: &str, body: &impl Serialize) -> Result<Request, Error> {
    Ok(Request::post(format!("auth/{}/login{rest}", mount.trim_matches('/')), body)?.anonymous())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The path and body of a login, which must go out without a token.
    fn sent(login: &Login) -> (String, String) {
        let request = login.request().expect("readable").expect("a request");
        let config = crate::Config::new("http://h".parse().expect("an address"));
        let prepared = request.prepare(&config, Some(&Secret::from("t")));
        assert!(prepared.headers.token.is_none());
        let body = prepared.body.expect("a body");
        (request.path().to_owned(), String::from_utf8(body.to_vec()).expect("text"))
    }

    fn given(text: &str) -> Credential {
        Credential::Given(Secret::from(text))
    }

    #[test]
    fn each_login_goes_to_its_mount_without_a_token_and_without_showing_its_secret() {
        let (role_id, secret_id) = (given("r"), given("sekrit"));
        for (login, path, body) in [
            (
                Login::AppRole { mount: "k8s/approle/".into(), role_id: role_id.clone(), secret_id },
                "auth/k8s/approle/login",
                r#"{"role_id":"r","secret_id":"sekrit"}"#,
            ),
            (
                Login::AppRole { mount: "approle".into(), role_id, secret_id: given("") },
                "auth/approle/login",
                r#"{"role_id":"r"}"#,
            ),
            (
                Login::Kubernetes { mount: "/kubernetes".into(), role: "mesh".into(), jwt: given("sekrit") },
                "auth/kubernetes/login",
                r#"{"role":"mesh","jwt":"sekrit"}"#,
            ),
            (
                Login::Certificate { mount: "cert".into(), name: "mesh".into() },
                "auth/cert/login",
                r#"{"name":"mesh"}"#,
            ),
            (Login::Certificate { mount: "cert".into(), name: String::new() }, "auth/cert/login", "{}"),
            (
                Login::UserPass { mount: "u".into(), username: "me".into(), password: "sekrit".into() },
                "auth/u/login/me",
                r#"{"password":"sekrit"}"#,
            ),
        ] {
            assert_eq!(sent(&login), (path.to_owned(), body.to_owned()));
            assert!(!format!("{login:?}").contains("sekrit"));
        }
    }

    #[tokio::test]
    async fn what_is_fetched_is_fetched_anew_for_each_login() {
        #[derive(Debug)]
        struct Counting(std::sync::atomic::AtomicU32);
        impl FetchCredential for Counting {
            fn fetch(&self) -> Pin<Box<dyn Future<Output = Result<Secret, String>> + Send + '_>> {
                let count = self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                Box::pin(async move {
                    if count < 2 { Ok(format!("t{count}").into()) } else { Err("no more".to_owned()) }
                })
            }
        }
        let jwt = Credential::Fetched(Arc::new(Counting(0.into())));
        let login = Login::Kubernetes { mount: "kubernetes".into(), role: "mesh".into(), jwt };
        assert!(login.request().is_err());
        for token in ["t0", "t1"] {
            let fetched = login.fetched().await.expect("fetched");
            assert_eq!(sent(&fetched).1, format!(r#"{{"role":"mesh","jwt":"{token}"}}"#));
        }
        assert_eq!(login.fetched().await.expect_err("nothing").to_string(), "no more");
    }

    #[test]
    fn a_file_is_read_anew_for_each_login() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("token");
        let jwt = Credential::File(path.clone());
        let login = Login::Kubernetes { mount: "kubernetes".into(), role: "mesh".into(), jwt };
        let absent = login.request().expect_err("no file").to_string();
        assert!(absent.contains("token: No such file"), "{absent}");
        std::fs::write(&path, "\n").expect("written");
        assert!(login.request().expect_err("empty").to_string().ends_with("the file is empty"));
        for token in ["first", "second"] {
            std::fs::write(&path, format!("{token}\n")).expect("written");
            assert_eq!(sent(&login).1, format!(r#"{{"role":"mesh","jwt":"{token}"}}"#));
        }
    }
}
