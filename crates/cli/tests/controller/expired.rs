//! Watches that are told 410: the version they stand at is forgotten.

use std::time::Duration;

use chancery_testkit::kubernetes::Fault;
use serde_json::json;

use crate::bed::{Bed, certificate, is_settled, until};
use crate::requests::{new_key, quick_workload};

/// Of each, Certificates and requests of others, in each of two waves.
const WAVE: usize = 12;

/// Lists of what is watched. Secrets are watched three times, each time others.
const WATCHED: [(&str, usize); 4] =
    [("issuers", 1), ("certificates", 1), ("certificaterequests", 1), ("secrets", 3)];

fn lists(bed: &Bed) -> Vec<usize> {
    WATCHED.iter().map(|(resource, _)| bed.double().count("list", resource)).collect()
}

pub(crate) async fn in_the_middle() {
    let bed = Bed::in_double("expired").await;
    let _controller = bed.controller(&[]);
    bed.ready_quick_issuer().await;
    for name in ["deleted", "changed", "gone"] {
        bed.create(certificate(name, "quick-issuer")).await;
    }
    bed.all_settled(3).await;
    let double = bed.double();
    double.forget_requests();
    double.inject("update", "certificaterequests/status", Fault::Delay(Duration::from_millis(50)), 1000);
    let key = new_key();
    let issued =
        || double.tally("certificaterequests", |request| !request["status"]["certificate"].is_null()).1;
    for wave in 0..2 {
        for number in 0..WAVE {
            bed.create(certificate(&format!("server-{wave}-{number}"), "quick-issuer")).await;
            let request = quick_workload(&format!("workload-{wave}-{number}"), &key);
            bed.create(request).await;
        }
        let done = wave * 2 * WAVE + 5;
        until("a part is done", async || (issued() >= done).then_some(())).await;
        let before = lists(&bed);
        // None is taken up again before the version it stands at is forgotten.
        let watches = WATCHED.iter().map(|(_, watches)| watches).sum();
        double.inject("watch", "*", Fault::Code(503), watches);
        if wave == 0 {
            double.drop_watches();
            // Nobody is told of these.
            assert!(double.delete("secrets", "expired", "deleted-tls"));
            assert!(double.delete("certificates", "expired", "gone"));
            let mut changed = double.get("certificates", "expired", "changed").expect("it");
            changed["spec"]["dnsNames"] = json!(["other.mesh.svc"]);
            double.put("certificates", "expired", changed);
        } else {
            double.end_watches();
        }
        double.compact();
        let mut polls = 0;
        until("every watch is begun anew", async || {
            polls += 1;
            if polls % 25 == 0 {
                // What was written after it was forgotten let some watch stand at a newer version.
                double.end_watches();
                double.compact();
            }
            let mut all = lists(&bed).into_iter().zip(&before).zip(WATCHED);
            all.all(|((now, before), (_, watches))| now >= before + watches).then_some(())
        })
        .await;
    }
    for name in ["deleted", "changed"] {
        bed.until("Certificate", name, |found| found["status"]["revision"] == 2 && is_settled(found)).await;
    }
    bed.all_settled(2 * WAVE + 2).await;
    until("all requests are answered, and those of the revision before are gone", async || {
        let all = double.tally("certificaterequests", |_| true).0;
        ((issued(), all) == (4 * WAVE + 2, 4 * WAVE + 2)).then_some(())
    })
    .await;

    // The first three, the waves, and the two that were issued again.
    assert_eq!(bed.vault.signed().await, 3 + 4 * WAVE + 2, "{}", bed.log());
    let issuances = 2 * WAVE + 2;
    let writes = [
        ("create", "certificaterequests", issuances + 2 * WAVE),
        // Each is approved and answered with one write.
        ("update", "certificaterequests/status", issuances + 2 * WAVE),
        // The key, and the Secret.
        ("create", "secrets", issuances),
        ("patch", "secrets", issuances),
        // The key once more, however late a watch tells that it is gone: what was deleted is remembered until one does.
        ("delete", "secrets", issuances),
        // Those of the revision before.
        ("delete", "certificaterequests", 2),
        ("update", "issuers/status", 0),
        ("patch", "issuers/status", 0),
        // Begun, key named, issued.
        ("update", "certificates/status", 3 * issuances),
    ];
    for (verb, resource, wanted) in writes {
        assert_eq!(double.count(verb, resource), wanted, "{verb} {resource}\n{}", bed.log());
    }
    let known = ["events", "certificates"].map(|resource| double.writes(resource)).iter().sum::<usize>();
    let known = known + writes.iter().map(|(_, _, wanted)| wanted).sum::<usize>();
    assert_eq!(double.writes("*"), known, "something else was written");
}
