//! `chancery cert`: what operators ask about certificates in a cluster. Flags, help and printing only.

mod check;
mod decide;
mod inspect;
mod renew;
mod status;

use std::future::Future;

use chancery_api::{Clock as _, SystemClock};
use chancery_controller::operator::Error;
use chancery_kubernetes::connect;
use jiff::Timestamp;

use crate::cluster;
use crate::command::{Call, Command, Failure, Group};
use crate::flags::{Flag, Kind};

pub(crate) const GROUP: Group = Group {
    name: "cert",
    synopsis: "See, renew and approve the certificates of a Kubernetes cluster",
    help: "What operators ask about the certificates of a Kubernetes cluster (cert-manager.io/v1), and do to them. These commands \
           talk to the Kubernetes API only, with the kubeconfig of kubectl, and so work with every controller of these kinds.",
};

/// How the cluster is reached.
const CLUSTER: &[Flag] = &[
    Flag::new("namespace", Kind::Text, "The namespace. The default is the context's.").alias(&["n"]),
    cluster::KUBECONFIG,
    cluster::CONTEXT,
    cluster::CLUSTER,
    cluster::USER,
    cluster::SERVER,
    cluster::AS,
];

pub(crate) fn commands() -> impl Iterator<Item = &'static Command> + Clone {
    let tables = [status::COMMANDS, renew::COMMANDS, decide::COMMANDS, inspect::COMMANDS, check::COMMANDS];
    tables.into_iter().flatten()
}

/// Does something with a client, in the namespace that is meant.
fn with_cluster<T, F: Future<Output = Result<T, Failure>>>(
    call: &mut Call<'_>,
    work: impl FnOnce(kube::Client, String) -> F,
) -> Result<T, Failure> {
    let options = cluster::client_options(&call.flags);
    let namespace = call.flags.non_empty("namespace").map(str::to_owned);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::Local(format!("no runtime: {error}")))?;
    runtime.block_on(async {
        let client = connect(&options).await.map_err(|error| Failure::Local(error.to_string()))?;
        let namespace = namespace.unwrap_or_else(|| client.default_namespace().to_owned());
        work(client, namespace).await
    })
}

/// What the cluster has to say against it.
fn refused(error: Error) -> Failure {
    Failure::Server(error.to_string())
}

fn now() -> Timestamp {
    SystemClock.now()
}
