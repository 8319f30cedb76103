//! `mesh dev-token`: A token issuer for trying it out.

use std::path::Path;
use std::time::Duration;

use chancery_api::{Clock, SystemClock};
use chancery_mesh::Workload;
use chancery_mesh::token::ISTIO_CA;
use chancery_mesh::token::dev::{DevIssuer, ISSUER, TokenRequest, uid};

use crate::command::{Arguments, Call, Command, Failure, Outcome};
use crate::flags::{Flag, Kind};

const FLAGS: &[Flag] = &[
    Flag::new(
        "folder",
        Kind::Text,
        "Where the key and the public keys are, key.pem and jwks.json. They are made if they are not there. Required.",
    ),
    Flag::new("namespace", Kind::Text, "The namespace of the service account.")
        .alias(&["n"])
        .default("default"),
    Flag::new("service-account", Kind::Text, "The service account.").alias(&["sa"]).default("default"),
    Flag::new("audience", Kind::Texts, "Whom the token is for. May be repeated. The default is istio-ca."),
    Flag::new("ttl", Kind::Duration, "How long the token is good.").default("12h"),
    Flag::new("issuer", Kind::Text, "Whom the token says it comes from.").default(ISSUER),
    Flag::new("pod", Kind::Text, "The name of the pod that the token is bound to."),
    Flag::new("pod-uid", Kind::Text, "The UID of that pod. The default is made from its name."),
    Flag::new("node", Kind::Text, "The name of the node that the pod runs on."),
];

pub(super) const COMMANDS: &[Command] = &[Command {
    name: "mesh dev-token",
    synopsis: "Make a service account's token, for trying things out",
    usage: "-folder=DIR [options]",
    help: "Prints a token such as Kubernetes projects into pods (a JWT, signed with ES256), from an issuer of one's own: the \
           certificate service knows its callers by such tokens where there is no Kubernetes API. Whoever can read the \
           folder can be any workload; it is not for production.\n\n\
           A token for the service account httpbin:\n\n\
           $ {p} mesh dev-token -folder=dev -namespace=sandbox -service-account=httpbin > token\n\n\
           Its keys are then in dev/jwks.json, and its issuer is https://kubernetes.default.svc.cluster.local.\n\n\
           A token of a node's proxy, bound to its pod:\n\n\
           $ {p} mesh dev-token -folder=dev -namespace=istio-system -service-account=ztunnel -pod=ztunnel-x1 -node=n1\n\n\
           A token that is soon over, for somebody else:\n\n\
           $ {p} mesh dev-token -folder=dev -audience=other -ttl=10s",
    flags: &[("Command Options", FLAGS)],
    arguments: Arguments::Exactly(0),
    run: dev_token,
}];

fn dev_token(call: &mut Call<'_>) -> Outcome {
    let flags = &call.flags;
    let text = |name: &str| flags.non_empty(name).map(str::to_owned);
    let needed = |name: &str| text(name).ok_or_else(|| Failure::Local(format!("-{name} must not be empty")));
    let folder = needed("folder")?;
    let workload = Workload { namespace: needed("namespace")?, service_account: needed("service-account")? };
    let audiences = match flags.texts("audience") {
        [] => vec![ISTIO_CA.to_owned()],
        given => given.to_vec(),
    };
    let pod = text("pod").map(|name| {
        let uid = text("pod-uid").unwrap_or_else(|| uid(&["pod", &workload.namespace, &name]));
        (name, uid)
    });
    let ttl = flags.duration("ttl").unwrap_or(Duration::from_secs(12 * 3600));
    let request = TokenRequest { workload, audiences, ttl, pod, node: text("node") };
    let failed = |error: chancery_mesh::token::dev::DevError| {
        Failure::Local(format!("Error making the token: {error}"))
    };
    let issuer = DevIssuer::open(Path::new(&folder), needed("issuer")?).map_err(failed)?;
    let token = issuer.token(&request, SystemClock.now()).map_err(failed)?;
    call.ui.output(token.expose());
    Ok(0)
}
