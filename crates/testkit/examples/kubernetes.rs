//! The double of the Kubernetes API server on a port, for programs and people: `kubectl --kubeconfig=FILE get …` works.
//!
//! `cargo run -p chancery-testkit --example kubernetes -- [LISTEN] [KUBECONFIG] [SERVICE…]`
//!
//! - `LISTEN` is where it listens (`127.0.0.1:0`), `KUBECONFIG` a file that is written (`kubeconfig`).
//! - `SERVICE` is `NAMESPACE/NAME=ADDRESS:PORT`: where a Service is that webhook configurations name.
//!
//! It knows the kinds of `cert-manager.io/v1` without their schemas; whoever applies our CustomResourceDefinitions gets the
//! schemas too. Nothing is kept: it ends with SIGINT or SIGTERM, and with it all that was in it.

use std::net::SocketAddr;
use std::process::ExitCode;

use chancery_testkit::kubernetes::ApiServer;
use tokio::signal::unix::{SignalKind, signal};

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match serve(&arguments).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(sentence) => {
            eprintln!("{sentence}");
            ExitCode::FAILURE
        }
    }
}

async fn serve(arguments: &[String]) -> Result<(), String> {
    let mut arguments = arguments.iter().map(String::as_str);
    let listen = address(arguments.next().unwrap_or("127.0.0.1:0"))?;
    let kubeconfig = arguments.next().unwrap_or("kubeconfig");
    let server = ApiServer::start_at(listen).await.map_err(|error| format!("{listen}: {error}"))?;
    for service in arguments {
        let parts = service.split_once('=').and_then(|(name, place)| Some((name.split_once('/')?, place)));
        let ((namespace, name), place) =
            parts.ok_or_else(|| format!("{service:?} is not NAMESPACE/NAME=ADDRESS:PORT"))?;
        server.service(namespace, name, address(place)?);
    }
    let mut interrupted = signal(SignalKind::interrupt()).map_err(|error| error.to_string())?;
    let mut terminated = signal(SignalKind::terminate()).map_err(|error| error.to_string())?;
    server.user("admin", "kubernetes-admin", &["system:masters", "system:authenticated"]);
    std::fs::write(kubeconfig, server.kubeconfig("admin"))
        .map_err(|error| format!("{kubeconfig}: {error}"))?;
    println!("{} is to be had with {kubeconfig}", server.url());
    tokio::select! {
        _ = interrupted.recv() => {}
        _ = terminated.recv() => {}
    }
    Ok(())
}

fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| format!("{text:?} is not ADDRESS:PORT"))
}
