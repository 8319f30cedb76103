//! `cert renew`: have Certificates issued anew.

use chancery_controller::operator::renew::{Renewal, Which, find, renew};

use super::{CLUSTER, now, refused, with_cluster};
use crate::command::{Arguments, Call, Command, Failure, Outcome};
use crate::flags::{Flag, Kind};

const CHOICE: &[Flag] = &[
    Flag::new("selector", Kind::Text, "The Certificates with these labels, as app=a,tier!=b.").alias(&["l"]),
    Flag::new("all", Kind::Bool, "All Certificates of the namespace."),
    Flag::new("all-namespaces", Kind::Bool, "With -all or -selector: of every namespace.").alias(&["A"]),
];

pub(super) const COMMANDS: &[Command] = &[Command {
    name: "cert renew",
    synopsis: "Have Certificates issued anew, before they are due",
    usage: "[options] [NAME ...]",
    help: "Marks Certificates to be issued anew; the controller does so at once, also where it waits after failures. A \
           Certificate that is being issued already is left alone.\n\n\
           The exit code is 2 if one of them could not be marked.\n\n\
           $ {p} cert renew istiod -n istio-system\n\n\
           $ {p} cert renew -l app=web -A\n\n\
           $ {p} cert renew -all",
    flags: &[("Command Options", CHOICE), ("Cluster Options", CLUSTER)],
    arguments: Arguments::Any,
    run,
}];

fn run(call: &mut Call<'_>) -> Outcome {
    let (all, everywhere) = (call.flags.on("all"), call.flags.on("all-namespaces"));
    let selector = call.flags.non_empty("selector").map(str::to_owned);
    let which = match (call.args.is_empty(), selector, all) {
        (false, None, false) if everywhere => {
            return Err(Failure::Local("A name is of one namespace: give -n instead of -A".to_owned()));
        }
        (false, None, false) => Which::Named(call.args.clone()),
        (true, Some(selector), false) => Which::Selected(selector),
        (true, None, true) => Which::Selected(String::new()),
        (true, None, false) => {
            return Err(Failure::Local("Give names of Certificates, -l SELECTOR or -all".to_owned()));
        }
        _ => return Err(Failure::Local("Give one of names, -l SELECTOR and -all".to_owned())),
    };
    if everywhere && call.flags.given("namespace") {
        return Err(Failure::Local("Give -n or -A, not both".to_owned()));
    }
    let done = with_cluster(call, async |client, namespace: String| {
        let namespace = Some(namespace.as_str()).filter(|_| !everywhere);
        let mut done = Vec::new();
        for key in find(&client, namespace, &which).await.map_err(refused)? {
            let renewed = renew(&client, &key, now()).await;
            done.push((key, renewed));
        }
        Ok(done)
    })?;
    if done.is_empty() {
        call.ui.hint("No Certificates found");
    }
    let mut code = 0;
    for (key, renewed) in done {
        match renewed {
            Ok(Renewal::Triggered) => {
                call.ui.output(&format!("Manually triggered issuance of Certificate {key}"));
            }
            Ok(Renewal::UnderWay) => {
                call.ui.output(&format!("Issuance of Certificate {key} is under way already"));
            }
            Err(error) => {
                call.ui.error(&error.to_string());
                code = 2;
            }
        }
    }
    Ok(code)
}
