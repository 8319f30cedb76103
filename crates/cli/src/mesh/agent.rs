//! `mesh agent`: The workload agent.

use std::collections::BTreeMap;
use std::io;

use chancery_mesh::agent::{AgentError, Settings, Takes, VARIABLES, run};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

use crate::command::{Arguments, Call, Command, Failure, Outcome};
use crate::flags::{Flag, Kind};

const LOGS: &[Flag] = &[
    Flag::new("log-level", Kind::Text, "\"trace\", \"debug\", \"info\", \"warn\" or \"error\".")
        .default("info"),
    Flag::new("log-format", Kind::Text, "\"standard\" or \"json\".").default("standard"),
];

/// One for each of the agent's settings.
const FLAGS: [Flag; VARIABLES.len()] = {
    let mut flags = [const { Flag::new("", Kind::Text, "") }; VARIABLES.len()];
    let (mut settings, mut places): (_, &mut [Flag]) = (VARIABLES, &mut flags);
    while let ([setting, other_settings @ ..], [place, other_places @ ..]) = (settings, places) {
        let kind = match setting.takes {
            Takes::Text => Kind::Text,
            Takes::Bool => Kind::Bool,
            Takes::Duration => Kind::Duration,
        };
        *place = Flag::new(setting.flag, kind, setting.help);
        (settings, places) = (other_settings, other_places);
    }
    flags
};

pub(super) const COMMANDS: &[Command] = &[Command {
    name: "mesh agent",
    synopsis: "Keep a workload's certificate current and hand it to Envoy",
    usage: "[options]",
    help: "The workload's end of the mesh. It makes a key, has the mesh's CA sign a certificate for the workload's \
           SPIFFE ID, renews it in time, and hands both, with the mesh's roots, to Envoy (secret discovery: the \
           secrets \"default\" and \"ROOTCA\") and to SPIFFE clients (Workload API) on one unix socket. It runs \
           until SIGINT or SIGTERM.\n\nEach option can be set by a variable instead, most of them under Istio's \
           names. CA_HEADER_NAME=value adds a header to each call of the CA.\n\n\
           In a pod, with the token that Kubernetes projects there:\n\n\
           $ {p} mesh agent -ca-address=chancery-mesh-ca.chancery.svc:443 \\\n    \
           -namespace=sandbox -service-account=httpbin\n\n\
           Try it out on one machine:\n\n\
           $ {p} mesh agent -ca-address=127.0.0.1:6443 -ca-root-file=root.pem -token-file=token \\\n    \
           -namespace=sandbox -service-account=httpbin -socket=./agent.sock\n\n\
           Serve the certificate that something else keeps current in files:\n\n\
           $ {p} mesh agent -file-mounted -certs=/etc/certs",
    flags: &[("Command Options", &FLAGS), ("Log Options", LOGS)],
    arguments: Arguments::Exactly(0),
    run: agent,
}];

fn agent(call: &mut Call<'_>) -> Outcome {
    log(call)?;
    let mut variables: BTreeMap<String, String> = BTreeMap::new();
    // These have no fixed names, and are therefore not asked for one by one.
    for (name, value) in std::env::vars_os() {
        if let (Ok(name), Ok(value)) = (name.into_string(), value.into_string())
            && name.starts_with("CA_HEADER_")
        {
            variables.insert(name, value);
        }
    }
    for name in VARIABLES.iter().map(|setting| setting.name).chain(["KUBERNETES_SERVICE_HOST"]) {
        variables.extend((call.ui.env)(name).map(|value| (name.to_owned(), value)));
    }
    for setting in VARIABLES {
        let given = Some(setting.flag).filter(|flag| call.flags.given(flag));
        variables.extend(
            given
                .and_then(|flag| call.flags.text(flag))
                .map(|value| (setting.name.to_owned(), value.to_owned())),
        );
    }
    let settings = Settings::read(&variables).map_err(|error| Failure::Local(error.to_string()))?;
    // One thread: there is one of these beside every workload.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::Local(format!("no runtime: {error}")))?;
    let ended = runtime.block_on(async {
        let failed = |error: io::Error| Failure::Local(format!("no signals: {error}"));
        let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
        let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
        let stopped = async move {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        };
        run(settings, stopped).await.map_err(|error| {
            let when = match error {
                AgentError::ProviderGone(_) | AgentError::Ended(_) => "Error running the agent",
                _ => "Error starting the agent",
            };
            Failure::Local(format!("{when}: {error}"))
        })
    });
    // A name that is still being looked up keeps nobody waiting.
    runtime.shutdown_background();
    ended.map(|()| 0)
}

/// Sends what happens to standard error.
fn log(call: &Call<'_>) -> Result<(), Failure> {
    let level = call.flags.non_empty("log-level").unwrap_or("info");
    if !["trace", "debug", "info", "warn", "error"].contains(&level) {
        return Err(Failure::Local(format!(
            "-log-level: {level:?} is none of trace, debug, info, warn and error"
        )));
    }
    // The libraries below tell how they move bytes, which nobody wants at our own levels.
    let filter = format!("{level},hyper=warn,hyper_util=warn,h2=warn,rustls=warn,tokio_rustls=warn");
    let builder = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(filter))
        .with_writer(io::stderr)
        .with_ansi(false);
    // A program around this one may have set up its own.
    let _ = match call.flags.non_empty("log-format") {
        None | Some("standard") => builder.try_init(),
        Some("json") => builder.json().flatten_event(true).try_init(),
        Some(other) => {
            return Err(Failure::Local(format!("-log-format: {other:?} is neither standard nor json")));
        }
    };
    Ok(())
}
