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

use chancery_kubernetes::{Pauses, follow};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::core::PartialObjectMeta;
use kube::runtime::watcher::Config;
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
use judge::Judge;
use listener::Current;

/// How often everything is looked at without a cause: a watch may be forbidden, or a clock may have been set.
const LONGEST_SLEEP: Duration = Duration::from_secs(300);

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
    serve(context, socket, shutdown).await;
    Ok(())
}

/// The same on a port that is taken already.
pub async fn serve(context: Context, socket: TcpListener, shutdown: watch::Receiver<bool>) {
    let leaf = Current::default();
    let judge = Arc::new(Judge::new(context.client.clone()));
    tokio::select! {
        () = listener::serve(socket, Arc::clone(&leaf), judge, shutdown) => {}
        () = keep(&context, &leaf) => {}
    }
}

/// The names under which API servers, and people, call the webhook.
fn dns_names(settings: &Settings) -> Vec<String> {
    let Settings { webhook_service: service, webhook_namespace: namespace, .. } = settings;
    vec![service.clone(), format!("{service}.{namespace}"), format!("{service}.{namespace}.svc")]
}

/// Keeps the certificate, and what API servers are told of it. It does not return.
async fn keep(context: &Context, current: &Current) {
    let settings = &context.settings;
    let secret = format!("{}-ca", settings.webhook_service);
    let secrets: Api<Secret> = Api::namespaced(context.client.clone(), &settings.webhook_namespace);
    let touched = Notify::new();
    let watched = |name: &str| Config::default().fields(&format!("metadata.name={name}"));
    let metadata: Api<PartialObjectMeta<Secret>> =
        Api::namespaced(context.client.clone(), &settings.webhook_namespace);
    let [mutating, validating] = bundle::KINDS.map(|kind| bundle::api(&context.client, kind));
    let configuration = watched(&settings.webhook_configuration);
    tokio::join!(
        tend_always(context, current, &secrets, &secret, &touched),
        follow(metadata, watched(&secret), "the webhook's Secret", |_| touched.notify_one()),
        follow(mutating, configuration.clone(), "the webhook's configuration", |_| touched.notify_one()),
        follow(validating, configuration, "the webhook's configuration", |_| touched.notify_one()),
    );
}

async fn tend_always(
    context: &Context,
    current: &Current,
    secrets: &Api<Secret>,
    secret: &str,
    touched: &Notify,
) {
    let mut pauses = Pauses::new(Duration::from_millis(500), Duration::from_secs(30));
    loop {
        let pause = match tend(context, current, secrets, secret).await {
            Ok(due) => {
                pauses.reset();
                let left = due.duration_since(context.clock.now());
                Duration::try_from(left).unwrap_or_default().clamp(Duration::from_secs(1), LONGEST_SLEEP)
            }
            Err(error) => {
                tracing::error!(%error, served = current.load().is_some(), "the webhook's certificate needs looking after");
                pauses.pause()
            }
        };
        tokio::select! {
            () = sleep(pause) => {}
            () = touched.notified() => {}
        }
    }
}

/// Brings authority, leaf and configurations to where they should be; answers when to look again.
async fn tend(
    context: &Context,
    current: &Current,
    secrets: &Api<Secret>,
    secret: &str,
) -> Result<Timestamp, AuthorityError> {
    let (settings, now) = (&context.settings, context.clock.now());
    let authority = agree(secrets, secret, now).await?;
    // First whom to believe, then the certificate to be believed.
    let injected = bundle::inject(&context.client, &settings.webhook_configuration, &authority.bundle).await;
    let leaf = current.load_full().filter(|leaf| leaf.serves(&authority, now));
    let leaf = match leaf {
        Some(leaf) => leaf,
        None => {
            let leaf = Arc::new(authority.leaf(&dns_names(settings), now)?);
            current.store(Some(Arc::clone(&leaf)));
            leaf
        }
    };
    injected.map_err(|error| AuthorityError::Configuration {
        name: settings.webhook_configuration.clone(),
        error,
    })?;
    Ok(leaf.renew_at.min(authority.renew_at()))
}
