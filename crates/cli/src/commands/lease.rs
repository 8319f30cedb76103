//! Leases.

use chancery_client::{Method, Request};
use serde_json::json;

use crate::command::{Arguments, Call, Command, FORMAT, Failure, Group, HTTP, Outcome};
use crate::flags::{Flag, Kind};
use crate::output::at_length;

pub(super) const GROUP: Group = Group {
    name: "lease",
    synopsis: "Interact with leases",
    help: "A lease is a secret's term.\n\n$ {p} lease lookup pki/issue/web/2f6a614c...\n\
           $ {p} lease revoke pki/issue/web/2f6a614c...",
};

pub(super) const COMMANDS: &[Command] = &[
    Command {
        name: "lease lookup",
        synopsis: "Prints what is known of a lease",
        usage: "[options] ID",
        help: "Prints when the lease ID was given and when it ends.\n\n$ {p} lease lookup pki/issue/web/2f6a614c...",
        flags: &[("HTTP Options", HTTP), ("Output Options", FORMAT)],
        arguments: Arguments::Any,
        run: lookup,
    },
    Command {
        name: "lease renew",
        synopsis: "Extends a lease",
        usage: "[options] ID",
        help: "Extends the lease ID, if it can be extended.\n\n$ {p} lease renew -increment=1h database/creds/readonly/2f6a614c...",
        flags: &[
            ("HTTP Options", HTTP),
            ("Output Options", FORMAT),
            ("Command Options", &[Flag::new("increment", Kind::Duration, "How much time to ask for.")]),
        ],
        arguments: Arguments::Exactly(1),
        run: renew,
    },
    Command {
        name: "lease revoke",
        synopsis: "Ends leases",
        usage: "[options] ID",
        help: "Ends the lease ID, or with -prefix all leases below it. Without -sync the server answers at once and \
               works on.\n\n$ {p} lease revoke pki/issue/web/2f6a614c...\n$ {p} lease revoke -prefix pki/issue/web",
        flags: &[
            ("HTTP Options", HTTP),
            (
                "Command Options",
                &[
                    Flag::new("force", Kind::Bool, "Forget the leases even if they cannot be ended where they were given. Needs -prefix.").alias(&["f"]),
                    Flag::new("prefix", Kind::Bool, "End all leases whose id begins so."),
                    Flag::new("sync", Kind::Bool, "Wait until it is done."),
                ],
            ),
        ],
        arguments: Arguments::Exactly(1),
        run: revoke,
    },
];

fn lookup(call: &mut Call<'_>) -> Outcome {
    let id = call.path(0);
    if id.is_empty() {
        return Err(Failure::Local("Missing ID!".to_owned()));
    }
    let request = Request::write("sys/leases/lookup", &json!({ "lease_id": id }))?;
    let answer =
        call.answer(&request).map_err(|error| error.during(format!("error looking up lease id {id}")))?;
    call.print_answer(&answer.unwrap_or_default())
}

fn renew(call: &mut Call<'_>) -> Outcome {
    let id = call.path(0);
    let increment = call.flags.duration("increment").unwrap_or_default().as_secs();
    let request = Request::write("sys/leases/renew", &json!({ "lease_id": id, "increment": increment }))?;
    let answer = call.answer(&request).map_err(|error| error.during(format!("Error renewing {id}")))?;
    call.print_answer(&answer.unwrap_or_default())
}

fn revoke(call: &mut Call<'_>) -> Outcome {
    let id = call.path(0);
    let (force, prefix, sync) = (call.flags.on("force"), call.flags.on("prefix"), call.flags.on("sync"));
    if force && !prefix {
        return Err(Failure::Local("Specifying -force requires also specifying -prefix".to_owned()));
    }
    if force {
        let text =
            "Warning! Force-removing leases can cause the server to become out of sync with secret engines!";
        call.ui.warn(&at_length(text));
    }
    let (request, context, success) = if force {
        (
            Request::new(Method::Put, format!("sys/leases/revoke-force/{id}")),
            format!("Error force revoking leases with prefix {id}"),
            format!("Success! Force revoked any leases with prefix: {id}"),
        )
    } else if prefix {
        (
            Request::write(format!("sys/leases/revoke-prefix/{id}"), &json!({ "sync": sync }))?,
            format!("Error revoking leases with prefix {id}"),
            format!("Success! Revoked any leases with prefix: {id}"),
        )
    } else {
        (
            Request::write(format!("sys/leases/revoke/{id}"), &json!({ "sync": sync }))?,
            format!("Error revoking lease {id}"),
            format!("Success! Revoked lease: {id}"),
        )
    };
    call.send(&request).map_err(|error| error.during(context))?;
    let queued = !force && !sync;
    call.ui.output(if queued { "All revocation operations queued successfully!" } else { &success });
    Ok(0)
}
