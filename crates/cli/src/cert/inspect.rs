//! `cert inspect secret`: what a Secret holds.

use chancery_controller::operator::inspect;
use zeroize::Zeroizing;

use super::{CLUSTER, now, refused, with_cluster};
use crate::command::{Arguments, Call, Command, Failure, Outcome};
use crate::flags::{Flag, Kind};
use crate::output::Format;

const SOURCE: &[Flag] = &[
    Flag::new(
        "file",
        Kind::Text,
        "A file instead: a Secret in YAML or JSON, or certificates in PEM; - is standard input.",
    )
    .alias(&["f"]),
    Flag::new("format", Kind::Text, "How to print: \"table\" or \"json\". The default is table.")
        .alias(&["o", "output"]),
];

pub(super) const COMMANDS: &[Command] = &[Command {
    name: "cert inspect secret",
    synopsis: "Show the certificate in a Secret, and whether it is trusted",
    usage: "[options] [NAME]",
    help: "Shows the certificate of a Secret: its names, dates, issuer and key, the chain above it, its SPIFFE ID, and whether \
           somebody who trusts the Secret's ca.crt would accept it now. The private key is never shown.\n\n\
           The exit code is 0 if it would be accepted, 2 if not.\n\n\
           $ {p} cert inspect secret istiod-tls -n istio-system\n\n\
           $ kubectl get secret istiod-tls -o yaml | {p} cert inspect secret -f -",
    flags: &[("Command Options", SOURCE), ("Cluster Options", CLUSTER)],
    arguments: Arguments::Between(0, 1),
    run,
}];

fn run(call: &mut Call<'_>) -> Outcome {
    let file = call.flags.non_empty("file").map(str::to_owned);
    let contents = match (file, call.args.is_empty()) {
        (Some(path), true) => {
            let text = read(call, &path)?;
            inspect::read(&text).map_err(|error| Failure::Local(format!("{path}: {error}")))?
        }
        (None, false) => {
            let name = call.arg(0);
            with_cluster(call, async |client, namespace: String| {
                inspect::secret(&client, &namespace, &name).await.map_err(refused)
            })?
        }
        _ => return Err(Failure::Local("Give the name of a Secret, or -f FILE".to_owned())),
    };
    let text = match call.format {
        Format::Json => format!("{:#}\n", contents.json(now())),
        Format::Table => contents.text(now()),
        _ => return Err(Failure::Local("-o is \"table\" or \"json\"".to_owned())),
    };
    call.ui.raw(text.as_bytes());
    Ok(if contents.verdict(now()).is_ok() { 0 } else { 2 })
}

fn read(call: &mut Call<'_>, path: &str) -> Result<Zeroizing<String>, Failure> {
    let read = match path {
        "-" => call.ui.read_stdin(),
        path => std::fs::read_to_string(path).map_err(|error| error.to_string()),
    };
    read.map(Zeroizing::new).map_err(|error| Failure::Local(format!("Error reading {path}: {error}")))
}
