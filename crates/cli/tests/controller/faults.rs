//! An API server that refuses single requests, loses them, or never answers.

use chancery_testkit::kubernetes::Fault;

use crate::bed::{Bed, certificate, name, until};

pub(crate) async fn once_each() {
    let bed = Bed::in_double("faults").await;
    // Those whose requests hang must not keep the others waiting.
    let _controller = bed.controller(&["-workers=64"]);
    bed.ready_quick_issuer().await;
    let double = bed.double();
    let faults = [
        ("409", Fault::Code(409)),
        ("429", Fault::RetryAfter(1)),
        ("500", Fault::Code(500)),
        ("hangs", Fault::Hang),
        ("done-and-hangs", Fault::HangAfter),
        ("done-and-lost", Fault::LoseAnswer),
    ];
    let places = [
        ("read", "get", "certificates", ""),
        ("told", "update", "certificates/status", ""),
        ("asked", "create", "certificaterequests", "-1"),
        ("answered", "update", "certificaterequests/status", "-1"),
        ("stored", "patch", "secrets", "-tls"),
    ];
    let mut names = Vec::new();
    for (fault_name, fault) in &faults {
        for (place, verb, resource, suffix) in places {
            let name = format!("{place}-{fault_name}");
            double.inject_for(verb, resource, &format!("{name}{suffix}"), fault.clone(), 1);
            names.push(name);
        }
    }
    // Nobody knows beforehand what the Secrets of the next keys are called: these hit anyone.
    for verb in ["create", "delete"] {
        for fault in [Fault::Code(409), Fault::RetryAfter(1), Fault::Code(500), Fault::LoseAnswer] {
            double.inject(verb, "secrets", fault, 1);
        }
    }
    for name in &names {
        bed.create(certificate(name, "quick-issuer")).await;
    }
    bed.all_settled(names.len()).await;
    until("only what was issued is left", async || {
        (bed.names("Secret").await.len() == names.len() + 1).then_some(())
    })
    .await;
    let requests = bed.list("CertificateRequest").await;
    let mut expected: Vec<_> = names.iter().map(|name| format!("{name}-1")).collect();
    expected.sort();
    let mut found: Vec<_> = requests.iter().map(name).collect();
    found.sort();
    assert_eq!(found, expected);
    for request in &requests {
        let name = name(request);
        let name = name.trim_end_matches("-1");
        let secret = bed.find("Secret", &format!("{name}-tls")).await.expect("its Secret");
        assert_eq!(secret["data"]["tls.crt"], request["status"]["certificate"], "{name}");
    }
    for certificate in bed.list("Certificate").await {
        assert_eq!(certificate["status"]["revision"], 1, "{certificate}");
    }
    assert_eq!(bed.vault.signed().await, names.len(), "{}", bed.log());
}
