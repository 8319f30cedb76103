//! `mesh secrets`: What an Envoy holds. `mesh rootca-compare`: whether two trust each other.

use std::future::Future;

use chancery_api::{Clock as _, SystemClock};
use chancery_issuance::Certificate;
use chancery_mesh::inspect::{
    Dump, Expectations, LiveCertificates, Severity, Source, certs, common_roots, config_dump, findings,
    mesh_roots,
};
use jiff::Timestamp;
use zeroize::Zeroizing;

use crate::command::{Arguments, Call, Command, Failure, Outcome};
use crate::flags::{Flag, Kind};

/// Where secrets come from.
pub(super) const SOURCE: &[Flag] = &[
    Flag::new("admin", Kind::Text, "Host and port of an Envoy's administration interface: 127.0.0.1:15000."),
    Flag::new("f", Kind::Text, "File with what /config_dump answered; - is standard input.").alias(&["file"]),
];

const OUTPUT: &[Flag] = &[
    Flag::new(
        "details",
        Kind::Bool,
        "Show every certificate of every secret, with its names and its SHA-256.",
    ),
    Flag::new("live", Kind::Bool, "Show the certificates that are loaded (/certs) instead."),
    Flag::new("o", Kind::Text, "How to print: \"short\", \"json\" or \"yaml\".")
        .alias(&["output"])
        .default("short"),
    Flag::new("static", Kind::Bool, "Show the secrets of the Envoy's own configuration too."),
];

const CHECKS: &[Flag] = &[
    Flag::new("check", Kind::Bool, "Tell what is wrong with the secrets, and end with 2 if something is.")
        .default("true"),
    Flag::new(
        "least-left",
        Kind::Uint,
        "How much of a workload certificate's lifetime must be left, in per cent.",
    )
    .default("20"),
    Flag::new(
        "root-file",
        Kind::Text,
        "File with the mesh's roots, in PEM or as the ConfigMap istio-ca-root-cert, to compare ROOTCA with.",
    ),
];

pub(super) const COMMANDS: &[Command] = &[
    Command {
        name: "mesh secrets",
        synopsis: "Show the secrets that an Envoy holds",
        usage: "[options] [SOURCE]",
        help: "Shows the certificates and roots that an Envoy holds, as \"istioctl proxy-config secret\" does, and tells what \
               is wrong with them: the workload's certificate (default) is held against its roots (ROOTCA), the mesh's \
               roots and X.509-SVID. Private keys are never shown. SOURCE is an address, a file or -.\n\n\
               What is wrong goes to standard error. The exit code is 0 if nothing is, 1 if the secrets could not be read, \
               2 if something is wrong.\n\n\
               Ask an Envoy:\n\n\
               $ {p} mesh secrets -admin=127.0.0.1:15000\n\n\
               Look at a workload of Kubernetes:\n\n\
               $ kubectl exec POD -c istio-proxy -- pilot-agent request GET config_dump | {p} mesh secrets -f -\n\n\
               The workload's certificate in PEM:\n\n\
               $ {p} mesh secrets -o json -f dump.json | jq -r '.dynamicActiveSecrets[] | select(.name==\"default\")\n  \
               .secret.tlsCertificate.certificateChain.inlineBytes' | base64 -d",
        flags: &[("Command Options", SOURCE), ("Output Options", OUTPUT), ("Checks", CHECKS)],
        arguments: Arguments::Between(0, 1),
        run: secrets,
    },
    Command {
        name: "mesh rootca-compare",
        synopsis: "Tell whether two Envoys have a root in common",
        usage: "SOURCE SOURCE",
        help: "Compares the secrets ROOTCA of two Envoys, each given by the address of its administration interface or by a \
               file with its dump. One certificate in common is enough for each to accept the other.\n\n\
               The exit code is 0 if there is one, 1 if a dump could not be read, 2 if there is none.\n\n\
               $ {p} mesh rootca-compare 127.0.0.1:15000 other-dump.json",
        flags: &[],
        arguments: Arguments::Exactly(2),
        run: compare,
    },
];

fn secrets(call: &mut Call<'_>) -> Outcome {
    let source = source(call)?;
    let output = call.flags.text("o").unwrap_or_default().to_owned();
    if !["short", "json", "yaml"].contains(&output.as_str()) {
        return Err(Failure::Local(format!("output format {output:?} not supported")));
    }
    if call.flags.on("live") {
        let text = match &source {
            Source::Admin(address) => wait(certs(address))?.map_err(local)?,
            other => read_source(call, other)?,
        };
        let live = LiveCertificates::parse(&text).map_err(local)?;
        call.ui.raw(live.table().as_bytes());
        return Ok(0);
    }
    let dump = dump(call, &source)?;
    let now = now();
    let text = match output.as_str() {
        "json" => format!("{}\n", dump.to_json()),
        "yaml" => dump.to_yaml(),
        _ if call.flags.on("details") => dump.details(now),
        _ => dump.table(now, call.flags.on("static")),
    };
    call.ui.raw(text.as_bytes());
    if !call.flags.on("check") {
        return Ok(0);
    }
    let roots = root_file(call, "root-file")?;
    let least_left = call.flags.text("least-left").and_then(|text| text.parse().ok());
    let least_left = least_left.filter(|percent| *percent <= 100);
    let least_left =
        least_left.ok_or_else(|| Failure::Local("-least-left is between 0 and 100".to_owned()))?;
    let mut code = 0;
    for finding in findings(&dump, &Expectations { now, roots: roots.as_deref(), least_left }) {
        let text = finding.to_string();
        if finding.severity == Severity::Fault {
            code = 2;
            call.ui.error(&text);
        } else {
            call.ui.hint(&text);
        }
    }
    Ok(code)
}

fn compare(call: &mut Call<'_>) -> Outcome {
    let (one, other) = (Source::parse(&call.arg(0)), Source::parse(&call.arg(1)));
    if one == Source::Stdin && other == Source::Stdin {
        return Err(Failure::Local("Standard input can be read once only".to_owned()));
    }
    let (one, other) = (dump(call, &one)?, dump(call, &other)?);
    let common = common_roots(&one, &other).map_err(Failure::Local)?;
    if common.is_empty() {
        call.ui.error("Their ROOTCA have no certificate in common: neither accepts the other's certificate.");
        return Ok(2);
    }
    let names: Vec<String> = common.iter().map(name).collect();
    call.ui.output(&format!("Their ROOTCA have in common: {}", names.join(", ")));
    Ok(0)
}

fn name(certificate: &Certificate) -> String {
    let subject = certificate.subject_name().map(|subject| subject.to_string()).unwrap_or_default();
    format!("{subject} ({})", certificate.serial_number())
}

/// The one source that is named.
pub(super) fn source(call: &Call<'_>) -> Result<Source, Failure> {
    let admin = call
        .flags
        .non_empty("admin")
        .map(|text| Source::Admin(text.trim_start_matches("http://").to_owned()));
    let file = call.flags.non_empty("f").map(|text| match text {
        "-" => Source::Stdin,
        text => Source::File(text.into()),
    });
    let named = call.args.first().map(|text| Source::parse(text));
    let all: Vec<Source> = [admin, file, named].into_iter().flatten().collect();
    match <[Source; 1]>::try_from(all) {
        Ok([source]) => Ok(source),
        Err(all) if all.is_empty() => {
            Err(Failure::Local("Name an Envoy or a dump: -admin=HOST:PORT or -f FILE".to_owned()))
        }
        Err(_) => Err(Failure::Local("Name one Envoy or one dump".to_owned())),
    }
}

/// The secrets of a source.
pub(super) fn dump(call: &mut Call<'_>, source: &Source) -> Result<Dump, Failure> {
    let text = match source {
        Source::Admin(address) => wait(config_dump(address))?.map_err(local)?,
        other => read_source(call, other)?,
    };
    Dump::parse(&text).map_err(local)
}

/// The mesh's roots in the file that a flag names.
pub(super) fn root_file(call: &mut Call<'_>, flag: &str) -> Result<Option<Vec<Certificate>>, Failure> {
    let Some(path) = call.flags.non_empty(flag).map(str::to_owned) else { return Ok(None) };
    let text = read_text(call, &path)?;
    let roots = mesh_roots(&text).map_err(|error| Failure::Local(format!("{path}: {error}")))?;
    Ok(Some(roots))
}

fn read_source(call: &mut Call<'_>, source: &Source) -> Result<Zeroizing<String>, Failure> {
    match source {
        Source::Stdin => read_text(call, "-"),
        Source::File(path) => read_text(call, &path.to_string_lossy()),
        Source::Admin(address) => Err(Failure::Local(format!("{address} is no file"))),
    }
}

/// A file, or standard input for `-`.
pub(super) fn read_text(call: &mut Call<'_>, path: &str) -> Result<Zeroizing<String>, Failure> {
    let read = if path == "-" {
        call.ui.read_stdin()
    } else {
        std::fs::read_to_string(path).map_err(|error| error.to_string())
    };
    read.map(Zeroizing::new).map_err(|error| Failure::Local(format!("Error reading {path}: {error}")))
}

fn wait<T>(future: impl Future<Output = T>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::Local(format!("no runtime: {error}")))?;
    Ok(runtime.block_on(future))
}

pub(super) fn now() -> Timestamp {
    SystemClock.now()
}

pub(super) fn local(error: impl std::fmt::Display) -> Failure {
    Failure::Local(error.to_string())
}
