//! The admission webhook: objects are judged before they are stored.
//!
//! - `review.rs` is what the API server asks and is answered; `judge.rs` says which rules apply, and keeps none itself.
//! - `identity.rs`, `approval.rs` and `validate/` are the rules, in the API server's words (`field.rs`).
//! - `authority.rs` keeps the webhook's certificate, `bundle.rs` tells API servers whom to believe, `listener.rs` serves.
//!
//! Every replica serves it, also one that leads nothing.

mod approval;
mod authority;
mod bundle;
mod field;
mod identity;
mod judge;
mod listener;
mod review;
#[cfg(test)]
mod tests;
mod validate;

use std::sync::Arc;
use std::time::Duration;

use chancery_api::Clock;
use chancery_kubernetes::{Pauses, follow};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::core::PartialObjectMeta;
use kube::runtime::watcher::Config;
use kube::{Api, Client};
use tokio::net::TcpListener;
use tokio::sync::{Notify, watch};
use tokio::time::sleep;

#[cfg(test)]
pub(crate) use tests::client as test_client;
pub(crate) use validate::extended_usages;

use crate::Error;
use crate::context::Context;
use crate::settings::Settings;
use authority::{AuthorityError, agree};
use judge::{Door, Judge, judge_alone};
use listener::Current;

/// How often everything is looked at without a cause: a watch may be forbidden, or a clock may have been set.
const LONGEST_SLEEP: Duration = Duration::from_secs(300);
/// How long a change is left to settle.
const SETTLE: Duration = Duration::from_secs(1);
/// What is due already is tried again, but not without end.
const SHORTEST_SLEEP: Duration = Duration::from_secs(1);

/// Serves at the address of the settings until `shutdown` says true or is dropped. Without an address it only waits.
///
/// # Errors
/// The address cannot be listened at.
pub async fn run(context: Context, mut shutdown: watch::Receiver<bool>) -> Result<(), Error> {
    let Some(address) = context.settings.webhook_address else {
        let _ = shutdown.wait_for(|stop| *stop).await;
        return Ok(());
    };
    let socket = TcpListener::bind(address).await;
    let socket =
        socket.map_err(|error| Error::Other(format!("webhook: cannot listen at {address}: {error}")))?;
    let Context { client, settings, clock, .. } = context;
    serve(client, settings, clock, socket, shutdown).await;
    Ok(())
}

/// The same on a port that is taken already.
pub async fn serve(
    client: Client,
    settings: Arc<Settings>,
    clock: Arc<dyn Clock>,
    socket: TcpListener,
    shutdown: watch::Receiver<bool>,
) {
    let judge = Arc::new(Judge::new(client.clone()));
    let keeper = Keeper { client, settings, clock, current: Current::default() };
    tokio::select! {
        () = listener::serve(socket, Arc::clone(&keeper.current), judge, shutdown) => {}
        () = keeper.keep() => {}
    }
}

/// What is answered to a body at `/mutate` and at `/validate`, without asking an API server who may approve: for tests with
/// input that strangers could send.
///
/// # Errors
/// Why the body is no AdmissionReview.
pub fn answers_to(body: &[u8]) -> Result<[serde_json::Value; 2], String> {
    let review = review::Request::parse(body)?;
    Ok([Door::Mutate, Door::Validate].map(|door| judge_alone(door, &review).into_review(&review.uid)))
}

/// The names under which API servers, and people, call the webhook.
fn dns_names(settings: &Settings) -> Vec<String> {
    let Settings { webhook_service: service, webhook_namespace: namespace, .. } = settings;
    vec![service.clone(), format!("{service}.{namespace}"), format!("{service}.{namespace}.svc")]
}

/// Keeps the certificate, and what API servers are told of it.
struct Keeper {
    client: Client,
    settings: Arc<Settings>,
    clock: Arc<dyn Clock>,
    current: Current,
}

impl Keeper {
    /// It does not return.
    async fn keep(&self) {
        let (client, settings) = (&self.client, &self.settings);
        let secret = format!("{}-ca", settings.webhook_service);
        let touched = Notify::new();
        let watched = |name: &str| Config::default().fields(&format!("metadata.name={name}"));
        let metadata: Api<PartialObjectMeta<Secret>> =
            Api::namespaced(client.clone(), &settings.webhook_namespace);
        let [mutating, validating] = bundle::KINDS.map(|kind| bundle::api(client, kind));
        let configuration = watched(&settings.webhook_configuration);
        tokio::join!(
            self.tend_always(&secret, &touched),
            follow(metadata, watched(&secret), "the webhook's Secret", |_| touched.notify_one()),
            follow(mutating, configuration.clone(), "the webhook's configuration", |_| touched.notify_one()),
            follow(validating, configuration, "the webhook's configuration", |_| touched.notify_one()),
        );
    }

    async fn tend_always(&self, secret: &str, touched: &Notify) {
        let mut pauses = Pauses::new(Duration::from_millis(500), Duration::from_secs(30));
        loop {
            let pause = match self.tend(secret).await {
                Ok(due) => {
                    pauses.reset();
                    let left = due.duration_since(self.clock.now());
                    Duration::try_from(left).unwrap_or_default().clamp(SHORTEST_SLEEP, LONGEST_SLEEP)
                }
                Err(error) => {
                    let served = self.current.load().is_some();
                    tracing::error!(%error, served, "the webhook's certificate needs looking after");
                    pauses.pause()
                }
            };
            tokio::select! {
                () = sleep(pause) => {}
                // Not at once: somebody else may write the same, and the two of us would outdo each other.
                () = touched.notified() => sleep(SETTLE).await,
            }
        }
    }

    /// Brings authority, leaf and configurations to where they should be; answers when to look again.
    async fn tend(&self, secret: &str) -> Result<Timestamp, AuthorityError> {
        let (settings, now) = (&self.settings, self.clock.now());
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), &settings.webhook_namespace);
        let authority = agree(&secrets, secret, now).await?;
        // First whom to believe, then the certificate to be believed.
        let name = &settings.webhook_configuration;
        let injected = bundle::inject(&self.client, name, &authority.bundle).await;
        let leaf = self.current.load_full().filter(|leaf| leaf.serves(&authority, now));
        let leaf = match leaf {
            Some(leaf) => leaf,
            None => {
                let leaf = Arc::new(authority.leaf(&dns_names(settings), now)?);
                self.current.store(Some(Arc::clone(&leaf)));
                leaf
            }
        };
        injected.map_err(|error| AuthorityError::Configuration { name: name.clone(), error })?;
        Ok(leaf.renew_at.min(authority.renew_at()))
    }
}
