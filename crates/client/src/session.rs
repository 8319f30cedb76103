//! A token kept alive.
//!
//! [`Session::open`] logs in and puts the token into the client; [`Session::keep`] then runs for as long
//! as the program wants to be logged in. It sleeps to two thirds of the token's life, renews, and logs in
//! again when the token cannot be renewed or has come near its maximum. Who uses the client never sees
//! any of this: the client's clones share the token.

use std::time::Duration;

use aws_lc_rs::rand;
use chancery_api::Secret;
use serde::Serialize;

use crate::{Answer, Auth, Client, Error, Request};

/// The shortest pause between two attempts, however short the token's life.
const SHORTEST_PAUSE: Duration = Duration::from_secs(1);
/// The longest pause between two failing attempts.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// How to get a token.
#[derive(Debug, Clone)]
pub enum Login {
    /// There is one already.
    Token(Secret),
    /// A role and its secret.
    AppRole {
        /// Where the method is mounted, below `auth/`; usually `approle`.
        mount: String,
        /// The role's id.
        role_id: String,
        /// The secret id; empty for a role that needs none.
        secret_id: Secret,
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
}

/// A login that did not work.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The server refused, or was not there.
    #[error(transparent)]
    Request(#[from] Error),
    /// The server answered without a token.
    #[error("the login's answer carries no token")]
    NoToken,
}

impl Login {
    /// The request that logs in; `None` if there is a token already.
    ///
    /// # Errors
    /// The body cannot be written.
    pub fn request(&self) -> Result<Option<Request>, Error> {
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
        let request = match self {
            Self::Token(_) => return Ok(None),
            Self::AppRole { mount, role_id, secret_id } => {
                let path = format!("auth/{}/login", mount.trim_matches('/'));
                Request::write(path, &AppRole { role_id, secret_id: secret_id.expose() })?
            }
            Self::UserPass { mount, username, password } => {
                let path = format!("auth/{}/login/{username}", mount.trim_matches('/'));
                Request::write(path, &Password { password: password.expose() })?
            }
        };
        Ok(Some(request.anonymous()))
    }
}

/// A client that is logged in, and how it came to be.
#[derive(Debug)]
pub struct Session {
    client: Client,
    login: Login,
    life: Life,
}

/// What is known of the current token's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Life {
    /// Zero: it does not end.
    ttl: Duration,
    renewable: bool,
}

impl Session {
    /// Logs in and gives the client its token.
    ///
    /// # Errors
    /// The login is refused, or there is no answer.
    pub async fn open(client: Client, login: Login) -> Result<Self, SessionError> {
        let mut session = Self { client, login, life: Life { ttl: Duration::ZERO, renewable: false } };
        session.log_in().await?;
        Ok(session)
    }

    /// The client; it and its clones always hold the current token.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Keeps the token alive. Returns only if the token has no end or cannot be had anew.
    ///
    /// # Errors
    /// A token that was given, not logged in for, has come to its end.
    pub async fn keep(&mut self) -> Result<(), SessionError> {
        let mut failures = 0;
        loop {
            if self.life.ttl.is_zero() {
                return Ok(());
            }
            let pause = if failures == 0 { self.life.next_renewal(jitter()) } else { retry_pause(failures) };
            tokio::time::sleep(pause).await;
            match self.renew().await {
                Ok(()) => failures = 0,
                Err(error) => {
                    failures += 1;
                    tracing::warn!(error = %error, failures, "the token could not be renewed");
                    if matches!(self.login, Login::Token(_)) && is_final(&error) {
                        return Err(error);
                    }
                }
            }
        }
    }

    /// Renews the token, or logs in again where that no longer helps.
    async fn renew(&mut self) -> Result<(), SessionError> {
        if self.life.renewable {
            let request = Request::write("auth/token/renew-self", &serde_json::json!({ "increment": 0 }))?;
            let asked = self.life.ttl;
            match self.client.answer(&request.plain()).await {
                Ok(Some(Answer { auth: Some(auth), .. })) => {
                    let life = Life::of(&auth);
                    // A shrinking life means that the maximum is near: a new login gives a full one.
                    if life.ttl > asked / 2 || matches!(self.login, Login::Token(_)) {
                        self.life = life;
                        return Ok(());
                    }
                }
                Ok(_) => return Err(SessionError::NoToken),
                Err(error) if matches!(self.login, Login::Token(_)) => return Err(error.into()),
                Err(error) => tracing::info!(error = %error, "renewing failed, logging in again"),
            }
        }
        self.log_in().await
    }

    async fn log_in(&mut self) -> Result<(), SessionError> {
        let Some(request) = self.login.request()? else {
            let Login::Token(token) = &self.login else { return Err(SessionError::NoToken) };
            self.client.set_token(Some(token.clone()));
            let request = Request::read("auth/token/lookup-self").plain();
            let answer = self.client.answer(&request).await?.ok_or(SessionError::NoToken)?;
            let ttl = answer.field("ttl").and_then(crate::Value::as_i64).unwrap_or_default();
            let renewable = answer.field("renewable").and_then(crate::Value::as_bool).unwrap_or_default();
            self.life = Life { ttl: seconds(ttl), renewable };
            return Ok(());
        };
        let answer = self.client.answer(&request.plain()).await?;
        let auth = answer.and_then(|answer| answer.auth).ok_or(SessionError::NoToken)?;
        self.life = Life::of(&auth);
        self.client.set_token(Some(auth.client_token));
        Ok(())
    }
}

impl Life {
    fn of(auth: &Auth) -> Self {
        Self { ttl: seconds(auth.lease_duration), renewable: auth.renewable }
    }

    /// Two thirds of the life, up to a tenth earlier, so that many agents do not come at once.
    fn next_renewal(self, jitter: f64) -> Duration {
        (self.ttl.mul_f64(2.0 / 3.0 - 0.1 * jitter)).max(SHORTEST_PAUSE)
    }
}

fn seconds(number: i64) -> Duration {
    Duration::from_secs(u64::try_from(number).unwrap_or_default())
}

fn retry_pause(failures: u32) -> Duration {
    SHORTEST_PAUSE.saturating_mul(1 << failures.min(6)).min(LONGEST_PAUSE)
}

/// A refusal will not change by asking again; a missing server may come back.
fn is_final(error: &SessionError) -> bool {
    let SessionError::Request(error) = error else { return true };
    error.status().is_some_and(|status| status == 400 || status == 403)
}

/// A number from 0 to 1.
pub(crate) fn jitter() -> f64 {
    let mut byte = [0];
    // Without randomness there is no jitter, which harms nobody.
    if rand::fill(&mut byte).is_err() {
        return 0.0;
    }
    f64::from(byte[0]) / 255.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_renewed_at_about_two_thirds_of_its_life() {
        let life = Life { ttl: Duration::from_secs(3600), renewable: true };
        assert_eq!(life.next_renewal(0.0).as_secs(), 2400);
        assert_eq!(life.next_renewal(1.0).as_secs(), 2040);
        let short = Life { ttl: Duration::from_secs(1), renewable: true };
        assert_eq!(short.next_renewal(0.0), SHORTEST_PAUSE);
    }

    #[test]
    fn pauses_between_failures_grow_to_a_minute() {
        let pauses: Vec<u64> = (1..8).map(|failures| retry_pause(failures).as_secs()).collect();
        assert_eq!(pauses, [2, 4, 8, 16, 32, 60, 60]);
    }

    #[test]
    fn an_approle_login_goes_to_its_mount_without_a_token() {
        let login = Login::AppRole {
            mount: "k8s/approle/".into(),
            role_id: "r".into(),
            secret_id: Secret::from("s"),
        };
        let request = login.request().expect("serialises").expect("a request");
        assert_eq!(request.path(), "auth/k8s/approle/login");
        let config = crate::Config::new("http://h".parse().expect("an address"));
        let prepared = request.prepare(&config, Some(&Secret::from("t")));
        assert!(prepared.headers.token.is_none());
        assert_eq!(prepared.body.expect("a body"), r#"{"role_id":"r","secret_id":"s"}"#);
        assert!(!format!("{login:?}").contains("\"s\""));
    }
}
