//! `cert check api`: whether the API is there, and its webhook answers.

use std::time::{Duration, Instant};

use chancery_controller::operator::check::check;

use super::{CLUSTER, with_cluster};
use crate::command::{Arguments, Call, Command, Failure, Outcome};
use crate::flags::{Flag, Kind};

const WAIT: &[Flag] = &[
    Flag::new("wait", Kind::Duration, "How long to wait until it is ready. The default is not at all.")
        .default("0s"),
    Flag::new("interval", Kind::Duration, "How often to look meanwhile.").default("5s"),
];

pub(super) const COMMANDS: &[Command] = &[Command {
    name: "cert check api",
    synopsis: "Tell whether cert-manager.io is ready to be used",
    usage: "[options]",
    help: "Tells whether the kinds of cert-manager.io are defined, and whether their webhook answers: a request is created as a \
           dry run, and must come back with its requester's name; one without a CSR must be refused by \
           webhook.cert-manager.io. Nothing is left behind.\n\n\
           The exit code is 0 if it is ready, 2 if not. What is missing meanwhile goes to standard error.\n\n\
           $ {p} cert check api -wait=1m",
    flags: &[("Command Options", WAIT), ("Cluster Options", CLUSTER)],
    arguments: Arguments::Exactly(0),
    run,
}];

fn run(call: &mut Call<'_>) -> Outcome {
    let wait = call.flags.duration("wait").unwrap_or_default();
    let interval = call.flags.duration("interval").unwrap_or_default().max(Duration::from_millis(100));
    let end = Instant::now() + wait;
    let mut said = String::new();
    loop {
        let outcome = with_cluster(call, async |client, namespace: String| {
            Ok::<_, Failure>(check(&client, &namespace).await)
        })?;
        let Err(missing) = outcome else {
            call.ui.output("The cert-manager API is ready");
            return Ok(0);
        };
        let text = format!("Not ready: {missing}");
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Failure::Server(text));
        }
        // The same again would only hide what is new.
        if text != said {
            call.ui.hint(&text);
            said = text;
        }
        std::thread::sleep(interval.min(left));
    }
}
