//! `demo`: the walkthrough of a service mesh's CA, on real parts, in a temporary folder.
//!
//! A server is started in this process on a fresh embedded store. Then every step is a command line,
//! run by [`crate::run`] as if it had been typed, with its output shown. At the end stands the
//! certificate of a workload, what it says, and who verified it. Whatever happens, the folder is
//! removed: at the end, on an error, and on Ctrl-C.

mod cleanup;
mod report;
mod server;
mod steps;
mod terminal;
mod verify;

use std::time::Instant;

use chancery_api::{Clock, Secret, SystemClock};

use crate::command::{Arguments, Call, Command, Failure, Outcome};
use crate::flags::{Flag, Kind};
use crate::output::Format;

use cleanup::Workshop;
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
];

pub(crate) const COMMANDS: &[Command] = &[Command {
    name: "demo",
    synopsis: "Watch a mesh's CA being set up, step by step",
    usage: "[options]",
    help: "Starts a server on a fresh store in a temporary folder and sets up the CA of a service mesh on it: a root \
           is imported, an intermediate made, signed and set, a role, a policy and an AppRole for the issuer are \
           written, and a workload's SPIFFE certificate is signed and verified. Each step shows the command that you \
           would type.\n\n$ {p} demo\n\nLook around afterwards:\n\n$ {p} demo -keep",
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

    let mut bench = steps::Bench {
        ui: &mut *call.ui,
        report: &mut report,
        program: &program,
        folder: workshop.path(),
        address: server.address.clone(),
        token: server.token.clone(),
    };
    let made = bench.walk(server.is_new).map_err(Failure::Server)?;
    let root_token: Secret = bench.token.clone();
    let verdict = verify::verify(workshop.path(), &made, SystemClock.now()).map_err(Failure::Server)?;
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
