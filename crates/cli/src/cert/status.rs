//! `cert status`: a Certificate or a CertificateRequest, and everything that it depends on.

use chancery_controller::operator::status;

use super::{CLUSTER, refused, with_cluster};
use crate::command::{Arguments, Call, Command, Outcome};

pub(super) const COMMANDS: &[Command] = &[
    Command {
        name: "cert status certificate",
        synopsis: "Tell how a Certificate is, and why",
        usage: "[options] NAME",
        help: "Tells of a Certificate with everything that it depends on: its conditions and events, its issuer and what that \
               says of its server, the certificate in its Secret, and the request of the issuance that is under way.\n\n\
               The exit code is 0 if the Certificate and its issuer are ready, 2 if not.\n\n\
               $ {p} cert status certificate istiod -n istio-system",
        flags: &[("Cluster Options", CLUSTER)],
        arguments: Arguments::Exactly(1),
        run: certificate,
    },
    Command {
        name: "cert status certificaterequest",
        synopsis: "Tell how a CertificateRequest is, and why",
        usage: "[options] NAME",
        help: "Tells of a CertificateRequest: who made it, its conditions and events, its issuer, and the certificate that it \
               got.\n\n\
               The exit code is 0 if it is signed, 2 if not.\n\n\
               $ {p} cert status certificaterequest istiod-1 -n istio-system",
        flags: &[("Cluster Options", CLUSTER)],
        arguments: Arguments::Exactly(1),
        run: certificate_request,
    },
];

fn certificate(call: &mut Call<'_>) -> Outcome {
    let name = call.arg(0);
    let report = with_cluster(call, async |client, namespace: String| {
        status::certificate(&client, &namespace, &name).await.map_err(refused)
    })?;
    call.ui.raw(report.to_string().as_bytes());
    Ok(if report.is_ready() { 0 } else { 2 })
}

fn certificate_request(call: &mut Call<'_>) -> Outcome {
    let name = call.arg(0);
    let report = with_cluster(call, async |client, namespace: String| {
        status::certificate_request(&client, &namespace, &name).await.map_err(refused)
    })?;
    call.ui.raw(report.to_string().as_bytes());
    Ok(if report.is_ready() { 0 } else { 2 })
}
