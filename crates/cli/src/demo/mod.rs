//! `demo`: the walkthrough of a service mesh's CA, on real parts, in a temporary folder.
//!
//! A server is started in this process on a fresh embedded store. Then every step is a command line,
//! run by [`crate::run`] as if it had been typed, with its output shown. At the end stands the
//! certificate of a workload, what it says, and who verified it. Whatever happens, the folder is
//! removed: at the end, on an error, and on Ctrl-C.

mod cleanup;
mod envoy;
mod mesh;
mod processes;
mod report;
mod server;
mod steps;
mod terminal;
mod verify;

use std::path::PathBuf;
use std::time::Instant;

use chancery_api::{Clock, Secret, SystemClock};
use chancery_client::Environment;

use crate::command::{Arguments, Call, Command, Failure, Outcome};
use crate::flags::{Flag, Kind};
use crate::output::Format;

use cleanup::Workshop;
use mesh::Mesh;
use report::Report;
use server::DemoServer;

const FLAGS: &[Flag] = &[
    Flag::new(
        "address",
        Kind::Text,
        "Run the steps on this server instead of a new one; it needs a root token in VAULT_TOKEN, and keeps what the steps make.",
    ),
    Flag::new("format", Kind::Text, "\"table\", or \"json\" for programs."),
    Flag::new("keep", Kind::Bool, "Leave the server running at the end, until Ctrl-C."),
    Flag::new("no-color", Kind::Bool, "Print without colours."),
    Flag::new(
        "with-envoy",
        Kind::Bool,
        "Install Envoy, if it is not here, into the cache of this user. Needs python3 and the network.",
    ),
];

pub(crate) const COMMANDS: &[Command] = &[Command {
    name: "demo",
    synopsis: "Watch a mesh's CA being set up, step by step",
    usage: "[options]",
    help: "Starts a server on a fresh store in a temporary folder and sets up the CA of a service mesh on it: a root \
           is imported, an intermediate made, signed and set, a role, a policy and an AppRole for the issuer are \
           written, and a workload's SPIFFE certificate is signed and verified. Then the mesh: the certificate service, two \
           workload agents and, where there is an Envoy, two of them that speak mutual TLS while their certificates \
           are renewed. Each step shows the command that you would type.\n\n$ {p} demo\n\nWith Envoy:\n\n$ {p} demo \
           -with-envoy\n\nLook around afterwards:\n\n$ {p} demo -keep",
    flags: &[("Command Options", FLAGS)],
    arguments: Arguments::Exactly(0),
    run: demo,
}];

fn demo(call: &mut Call<'_>) -> Outcome {
    let began = Instant::now();
    let keep = call.flags.on("keep");
    let plain = call.flags.on("no-color") || !call.ui.stdout_is_terminal || !call.ui.colour;
    let program = call.ui.program.clone();
    let mut report = Report::new(call.format == Format::Json, !plain);

    let workshop =
        Workshop::open().map_err(|error| Failure::Local(format!("no temporary folder: {error}")))?;
    let elsewhere = call.flags.non_empty("address").map(str::to_owned);
    let token = call.token()?.unwrap_or_default();
    report.title(call.ui, &program, workshop.path());
    let server = match elsewhere {
        Some(address) => DemoServer::elsewhere(address, token),
        None => DemoServer::start(&workshop.path().join("store")).map_err(Failure::Local)?,
    };
    report.started(call.ui, &server);

    let envoy = envoy(call, &report)?;
    let connection = if server.is_new { Vec::new() } else { connection(call) };
    let mut bench = steps::Bench {
        ui: &mut *call.ui,
        report: &mut report,
        program: &program,
        folder: workshop.path(),
        address: server.address.clone(),
        token: server.token.clone(),
        connection,
    };
    let made = bench.walk(server.is_new).map_err(Failure::Server)?;
    let root_token: Secret = bench.token.clone();
    let executable =
        std::env::current_exe().map_err(|error| Failure::Local(format!("this program: {error}")))?;
    let mut mesh =
        Mesh { bench: &mut bench, made: &made, running: workshop.running(), program: &executable, envoy };
    let roots = mesh.walk().map_err(Failure::Server)?;
    let verdict = verify::verify(workshop.path(), &made, SystemClock.now());
    let mut verdict = verdict.map_err(Failure::Server)?;
    verdict.verifiers.extend(roots);
    report.verdict(call.ui, &verdict, began.elapsed());
    if !verdict.holds() {
        return Ok(2);
    }
    if keep && server.is_new {
        workshop.expect_interrupt();
        report.kept(call.ui, &program, &server.address, &root_token, workshop.path());
        workshop.wait_for_interrupt();
    }
    Ok(0)
}

/// An Envoy, if there is one; it is installed if that was asked for.
fn envoy(call: &mut Call<'_>, report: &Report) -> Result<Option<PathBuf>, Failure> {
    let search = (call.ui.env)("PATH");
    let cache = envoy::cache((call.ui.env)("XDG_CACHE_HOME").as_deref(), call.ui.home.as_deref());
    let found = envoy::find(search.as_deref(), cache.as_deref());
    if found.is_some() || !call.flags.on("with-envoy") {
        return Ok(found);
    }
    let cache = cache
        .ok_or_else(|| Failure::Local("-with-envoy: there is no home folder to install it into".into()))?;
    report.installing(call.ui, &cache);
    envoy::install(&cache)
        .map(Some)
        .map_err(|error| Failure::Local(format!("Error installing Envoy: {error}")))
}

/// How a server that is there already is reached, as this terminal has it.
fn connection(call: &Call<'_>) -> Vec<(String, String)> {
    let settings =
        ["CACERT", "CAPATH", "CLIENT_CERT", "CLIENT_KEY", "NAMESPACE", "SKIP_VERIFY", "TLS_SERVER_NAME"];
    let value = |name: &&str| Some((format!("VAULT_{name}"), call.ui.setting(name)?));
    settings.iter().filter_map(value).collect()
}
