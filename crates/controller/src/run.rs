//! Everything, started in order.

use std::sync::Arc;

use chancery_api::Clock;
use chancery_kubernetes::queue::Verdict;
use kube::Client;
use tokio::sync::watch;

use crate::cache::feed;
use crate::context::{Context, Queues};
use crate::health::Health;
use crate::settings::Settings;
use crate::{Error, Next, certificate, issuer, request, webhook};

/// Runs the controller until `shutdown` says true or is dropped.
///
/// # Errors
/// An address cannot be listened at.
pub async fn run(
    client: Client,
    settings: Settings,
    clock: Arc<dyn Clock>,
    shutdown: watch::Receiver<bool>,
) -> Result<(), Error> {
    let (context, write_events) = Context::new(client, settings, clock);
    let workers = context.settings.workers;
    let watches = feed(context.clone(), Arc::new(Health::default()));
    let Queues { issuers, requests, certificates } = context.queues.clone();
    let work = async {
        let (issuers, requests, certificates, webhook) = tokio::join!(
            issuers.run(workers, shutdown.clone(), |key| {
                let context = context.clone();
                async move { verdict(issuer::reconcile(&context, key).await) }
            }),
            requests.run(workers, shutdown.clone(), |key| {
                let context = context.clone();
                async move { verdict(request::reconcile(&context, key).await) }
            }),
            certificates.run(workers, shutdown.clone(), |key| {
                let context = context.clone();
                async move { verdict(certificate::reconcile(&context, key).await) }
            }),
            webhook::run(context.clone(), shutdown.clone()),
        );
        let ((), (), ()) = (issuers, requests, certificates);
        webhook
    };
    tokio::select! {
        ended = work => ended,
        () = write_events => Ok(()),
        () = watches => Ok(()),
    }
}

fn verdict(next: Result<Next, Error>) -> Verdict {
    match next {
        Ok(Next::Done) => Verdict::Done,
        Ok(Next::After(delay)) => Verdict::After(delay),
        Err(error) => {
            tracing::warn!(%error, "it is tried again");
            Verdict::Failed
        }
    }
}
