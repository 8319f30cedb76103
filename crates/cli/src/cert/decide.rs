//! `cert approve`, `cert deny`: whether a CertificateRequest may be signed.

use chancery_controller::Key;
use chancery_controller::operator::decide::{Decision, decide};

use super::{CLUSTER, now, refused, with_cluster};
use crate::command::{Arguments, Call, Command, Outcome};
use crate::flags::{Flag, Kind};

const APPROVAL: &[Flag] = &[
    Flag::new("reason", Kind::Text, "A word for why.").default("KubectlCertManager"),
    Flag::new("message", Kind::Text, "A sentence for why.").default("manually approved by \"chancery cert\""),
];

const DENIAL: &[Flag] = &[
    Flag::new("reason", Kind::Text, "A word for why.").default("KubectlCertManager"),
    Flag::new("message", Kind::Text, "A sentence for why.").default("manually denied by \"chancery cert\""),
];

pub(super) const COMMANDS: &[Command] = &[
    Command {
        name: "cert approve",
        synopsis: "Allow a CertificateRequest to be signed",
        usage: "[options] NAME",
        help: "Approves a CertificateRequest. That needs the permission to approve on signers of its issuer. A decision stands: \
               what is denied cannot be approved any more.\n\n\
               $ {p} cert approve web-1 -n sandbox -reason=Checked -message=\"asked for by Ann\"",
        flags: &[("Command Options", APPROVAL), ("Cluster Options", CLUSTER)],
        arguments: Arguments::Exactly(1),
        run: |call| run(call, Decision::Approve),
    },
    Command {
        name: "cert deny",
        synopsis: "Forbid that a CertificateRequest is signed",
        usage: "[options] NAME",
        help: "Denies a CertificateRequest. That needs the permission to approve on signers of its issuer. A decision stands: \
               what is approved cannot be denied any more.\n\n\
               $ {p} cert deny web-1 -n sandbox -reason=Policy -message=\"the name is not yours\"",
        flags: &[("Command Options", DENIAL), ("Cluster Options", CLUSTER)],
        arguments: Arguments::Exactly(1),
        run: |call| run(call, Decision::Deny),
    },
];

fn run(call: &mut Call<'_>, decision: Decision) -> Outcome {
    let name = call.arg(0);
    let text = |flag: &str| call.flags.text(flag).unwrap_or_default().to_owned();
    let (reason, message) = (text("reason"), text("message"));
    let key = with_cluster(call, async |client, namespace: String| {
        let key = Key { namespace, name };
        decide(&client, &key, decision, (&reason, &message), now()).await.map_err(refused)?;
        Ok(key)
    })?;
    let done = match decision {
        Decision::Approve => "Approved",
        Decision::Deny => "Denied",
    };
    call.ui.output(&format!("{done} CertificateRequest '{key}'"));
    Ok(0)
}
