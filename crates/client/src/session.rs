//! A token kept alive.
//!
//! [`Session::open`] logs in and puts the token into the client; [`Session::keep`] then runs for as long
//! as the program wants to be logged in. It sleeps to two thirds of the token's life, renews, and logs in
//! again when the token cannot be renewed or has come near its maximum. Whoever is refused although the token
//! should be good calls [`Session::refresh`]: of all who do so at once, one logs in and all have the new token.
//! Who only uses the client never sees any of this: the client's clones share the token.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::rand;
use tokio::sync::{Mutex, watch};
use tokio::time::Instant;

use crate::login::{CredentialError, Login};
use crate::{Answer, Auth, Client, Error, Request};

/// The shortest pause between two attempts, however short the token's life.
const SHORTEST_PAUSE: Duration = Duration::from_secs(1);
/// The longest pause between two failing attempts.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// The shortest time between two logins after refusals: who is refused with a new token too lacks the right.
const REFUSED_PAUSE: Duration = Duration::from_secs(10);

/// A login that did not work.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SessionError {
    /// The server refused, or was not there.
    #[error(transparent)]
    Request(#[from] Error),
    /// A file that should hold a credential.
    #[error(transparent)]
    Credential(#[from] CredentialError),
    /// The server answered without a token.
    #[error("the login's answer carries no token")]
    NoToken,
    /// Another login failed less than a second ago, for this reason.
    #[error("{0}")]
    JustFailed(String),
}

impl SessionError {
    /// As [`Error::line`].
    pub fn line(&self) -> String {
        match self {
            Self::Request(error) => error.line(),
            other => other.to_string(),
        }
    }
}

/// A client that is logged in, and how it came to be.
#[derive(Debug)]
pub struct Session {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    client: Client,
    login: Login,
    state: Mutex<State>,
    /// Counts the tokens so far; 0 before the first login.
    generation: watch::Sender<u64>,
}

/// Held while logging in, so that one does it for all.
#[derive(Debug)]
struct State {
    life: Life,
    /// The last login that followed a refusal.
    refused: Option<Instant>,
    /// The last login, if it failed.
    failure: Option<(Instant, String)>,
}

/// What is known of the current token's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Life {
    /// Zero: it does not end.
    ttl: Duration,
    renewable: bool,
}

impl Session {
    /// A session that is not logged in yet: [`Self::keep`] or [`Self::refresh`] will do that.
    pub fn new(client: Client, login: Login) -> Self {
        let life = Life { ttl: Duration::ZERO, renewable: false };
        let state = Mutex::new(State { life, refused: None, failure: None });
        Self { inner: Arc::new(Inner { client, login, state, generation: watch::Sender::new(0) }) }
    }

    /// Logs in and gives the client its token.
    ///
    /// # Errors
    /// The login is refused, or there is no answer.
    pub async fn open(client: Client, login: Login) -> Result<Self, SessionError> {
        let session = Self::new(client, login);
        session.refresh(0).await?;
        Ok(session)
    }

    /// The client; it and its clones always hold the current token.
    pub fn client(&self) -> &Client {
        &self.inner.client
    }

    /// Which token the client holds: 0 before the first login, one more with each.
    pub fn generation(&self) -> u64 {
        self.inner.generation()
    }

    /// Sees to it that there is another token than the one of generation `seen`, which the server refused; with
    /// 0, that there is one at all. Says whether there is: within ten seconds of such a login there is no second
    /// one, for the refusal then means something else.
    ///
    /// # Errors
    /// The login is refused, or there is no answer.
    pub async fn refresh(&self, seen: u64) -> Result<bool, SessionError> {
        let inner = Arc::clone(&self.inner);
        // A login that was begun is finished, also if the one who began it no longer waits: others do.
        let refreshed = tokio::spawn(async move { inner.refresh(seen).await }).await;
        refreshed.unwrap_or_else(|error| Err(SessionError::JustFailed(error.to_string())))
    }

    /// Ends the token that a login made; one that was given is left to whoever gave it.
    ///
    /// # Errors
    /// The server refused, or is not there.
    pub async fn revoke(&self) -> Result<(), Error> {
        let Inner { client, login, .. } = &*self.inner;
        if matches!(login, Login::Token(_)) || client.token().is_none() {
            return Ok(());
        }
        let revoke = Request::post("auth/token/revoke-self", &serde_json::json!({}))?.plain();
        client.send(&revoke).await?;
        client.set_token(None);
        Ok(())
    }

    /// Logs in if nobody has yet, and keeps the token alive. Goes on for ever, but for a token that was given and
    /// has come to its end; the reason is what it returns.
    pub async fn keep(&self) -> SessionError {
        self.inner.keep().await
    }
}

impl Inner {
    fn generation(&self) -> u64 {
        *self.generation.borrow()
    }

    async fn refresh(&self, seen: u64) -> Result<bool, SessionError> {
        let mut state = self.state.lock().await;
        if self.generation() > seen {
            return Ok(true);
        }
        if let Some((at, reason)) = &state.failure
            && at.elapsed() < SHORTEST_PAUSE
        {
            return Err(SessionError::JustFailed(reason.clone()));
        }
        if seen > 0 && state.refused.is_some_and(|refused| refused.elapsed() < REFUSED_PAUSE) {
            return Ok(false);
        }
        self.log_in(&mut state).await?;
        state.refused = Some(Instant::now()).filter(|_| seen > 0);
        Ok(true)
    }

    async fn keep(&self) -> SessionError {
        let mut failures = 0;
        let mut generation = self.generation.subscribe();
        loop {
            let seen = *generation.borrow_and_update();
            let life = self.state.lock().await.life;
            let pause = match (failures, seen) {
                (0, 0) => Some(Duration::ZERO),
                (0, _) if life.ttl.is_zero() => None,
                (0, _) => Some(life.next_renewal(jitter())),
                (failures, _) => Some(retry_pause(failures)),
            };
            let due = async {
                match pause {
                    Some(pause) => tokio::time::sleep(pause).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = due => {}
                // Somebody was refused and has logged in.
                Ok(()) = generation.changed() => { failures = 0; continue; }
            }
            match self.renew(seen).await {
                Ok(()) => failures = 0,
                Err(error) => {
                    failures += 1;
                    tracing::warn!(error = error.line(), failures, "the token could not be had or renewed");
                    if self.login.is_given() && is_final(&error) {
                        return error;
                    }
                }
            }
        }
    }

    /// Renews the token of a generation, or logs in again where that no longer helps.
    async fn renew(&self, seen: u64) -> Result<(), SessionError> {
        let mut state = self.state.lock().await;
        if self.generation() > seen {
            return Ok(());
        }
        if seen > 0 && state.life.renewable {
            let request = Request::write("auth/token/renew-self", &serde_json::json!({ "increment": 0 }))?;
            let asked = state.life.ttl;
            match self.client.answer(&request.plain()).await {
                Ok(Some(Answer { auth: Some(auth), .. })) => {
                    let life = Life::of(&auth);
                    // A shrinking life means that the maximum is near: a new login gives a full one.
                    if life.ttl > asked / 2 || self.login.is_given() {
                        state.life = life;
                        return Ok(());
                    }
                }
                Ok(_) => return Err(SessionError::NoToken),
                Err(error) if self.login.is_given() => return Err(error.into()),
                Err(error) => tracing::info!(error = error.line(), "renewing failed, logging in again"),
            }
        }
        self.log_in(&mut state).await
    }

    async fn log_in(&self, state: &mut State) -> Result<(), SessionError> {
        match self.request_token().await {
            Ok(life) => {
                (state.life, state.failure) = (life, None);
                self.generation.send_modify(|generation| *generation += 1);
                Ok(())
            }
            Err(error) => {
                state.failure = Some((Instant::now(), error.line()));
                Err(error)
            }
        }
    }

    async fn request_token(&self) -> Result<Life, SessionError> {
        let login = self.login.fetched().await?;
        let Some(request) = login.request()? else {
            let token = login.token()?.ok_or(SessionError::NoToken)?;
            let request = Request::read("auth/token/lookup-self").token(token.clone()).plain();
            let answer = self.client.answer(&request).await?.ok_or(SessionError::NoToken)?;
            self.client.set_token(Some(token));
            let ttl = answer.field("ttl").and_then(crate::Value::as_i64).unwrap_or_default();
            let renewable = answer.field("renewable").and_then(crate::Value::as_bool).unwrap_or_default();
            return Ok(Life { ttl: seconds(ttl), renewable });
        };
        if let Login::Certificate { .. } = &self.login {
            // The one that was shown last time may have been replaced.
            self.client.reload().await.map_err(Error::Config)?;
        }
        let answer = self.client.answer(&request.plain()).await?;
        let auth = answer.and_then(|answer| answer.auth).ok_or(SessionError::NoToken)?;
        let life = Life::of(&auth);
        self.client.set_token(Some(auth.client_token));
        Ok(life)
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

/// A number from 0 to 1, another one each time, by which those who wait as long as others do not come with them.
pub fn jitter() -> f64 {
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
}
