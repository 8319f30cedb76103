//! A controller that is killed at each of its writes in turn, before it is done and after it, and started again.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use crate::bed::{Bed, Cluster, condition, until};
use crate::certificates::{leaf, left};
use crate::vault::Vault;

/// Kills a controller at one write after the other, until the work ends before the write comes.
///
/// Answers at how many writes it was killed.
async fn at_every_write(is_done: bool) -> usize {
    let vault = Arc::new(Vault::start().await);
    for number in 0.. {
        let cluster = Cluster::double().await;
        let Cluster::Double(double) = &cluster else { panic!("the double is none") };
        let bed = Bed::with(&cluster, "killed", Arc::clone(&vault)).await;
        let before = vault.signed().await;
        bed.create_secret_id(&vault.secret_id().await).await;
        bed.create_issuer().await;
        bed.create_istiod().await;
        double.stop_at_write(number, is_done);

        let controller = bed.controller(&["-log-level=debug"]);
        let mut is_issued = false;
        until("the write comes, or the work ends", async || {
            is_issued = bed.find("Certificate", "istiod").await.is_some_and(|certificate| {
                condition(&certificate, "Ready")["status"] == "True"
                    && condition(&certificate, "Issuing").is_null()
                    && certificate["status"]["nextPrivateKeySecretName"].is_null()
            });
            (double.stopped_at().is_some() || is_issued).then_some(())
        })
        .await;
        let stopped_at = double.stopped_at();
        let what = format!("write {number}, {stopped_at:?}, done: {is_done}");
        controller.kill().await;
        double.heal();
        // Shown if the test fails.
        eprintln!("killed at {what}");
        // What was signed, but for which the signed certificate did not arrive, has to be signed once more.
        let requests = bed.list("CertificateRequest").await;
        let recorded = requests.iter().filter(|request| !request["status"]["certificate"].is_null()).count();
        let mut signed = vault.signed().await - before;
        if recorded < requests.len() {
            // The server may be signing for the one that was killed.
            until("nothing that was begun arrives any more", async || {
                sleep(Duration::from_millis(300)).await;
                let now = vault.signed().await - before;
                (std::mem::replace(&mut signed, now) == now).then_some(())
            })
            .await;
        }
        let lost = signed.saturating_sub(recorded.max(usize::from(is_issued)));
        // Whoever hears of the request meanwhile signs it, and cannot write that down any more.
        let is_recorded =
            stopped_at.as_ref().is_some_and(|at| at.resource == "certificaterequests/status") && is_done;
        assert!(lost <= usize::from(!is_recorded), "{what}: {lost} signatures are lost");

        let controller = bed.controller(&["-log-level=debug"]);
        let certificate = bed.issued(1).await;
        left(&bed, "istiod-1").await;
        leaf(&bed, &bed.find("Secret", "istiod-tls").await.expect("the Secret"));
        assert!(certificate["status"]["lastFailureTime"].is_null(), "{what}: {certificate}");
        assert_eq!(vault.signed().await - before, 1 + lost, "{what}\n{}", bed.log());
        controller.kill().await;
        if stopped_at.is_none() {
            return number;
        }
    }
    0
}

pub(crate) async fn before_each_write() {
    let writes = at_every_write(false).await;
    assert!(writes >= 6, "only {writes} writes");
}

pub(crate) async fn after_each_write() {
    let writes = at_every_write(true).await;
    assert!(writes >= 6, "only {writes} writes");
}
