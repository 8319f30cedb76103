//! `chancery controller` as a process, with an API server on one side and `chancery server` on the other: what users see.
//!
//! Each scenario is played with the double of the API server, and with a real one where `KUBEBUILDER_ASSETS` names a folder
//! with `kube-apiserver` and `etcd`, as envtest does:
//!
//! `KUBEBUILDER_ASSETS=/folder cargo test -p chancery --test controller -- real`
//!
//! What goes wrong at a certain request, and what is counted, needs the double.

#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "what a helper of a test expects is part of the test"
)]

mod bed;
mod certificates;
mod damaged;
mod expired;
mod faults;
mod issuers;
mod killed;
mod replicas;
mod report;
mod requests;
mod restart;
mod shared;
mod vault;

use std::pin::Pin;
use std::sync::Arc;

use bed::{Bed, Cluster};
use chancery_testkit::kubernetes::RealApiServer;

type Scenario = fn(Bed) -> Pin<Box<dyn Future<Output = ()>>>;

/// A test with the double for each scenario, and the list of them for a real API server.
macro_rules! scenarios {
    ($($name:ident: $namespace:literal, $scenario:path;)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                $scenario(Bed::new(Cluster::double().await, $namespace).await).await;
            }
        )*

        const SCENARIOS: &[(&str, &str, Scenario)] =
            &[$((stringify!($name), $namespace, |bed| Box::pin($scenario(bed)))),*];
    };
}

scenarios! {
    an_issuer_with_its_secret_is_verified: "verified", issuers::verified;
    an_issuer_that_comes_before_its_secret_is_verified_once_that_is_there: "early", issuers::before_its_secret;
    a_wrong_secret_id_is_told_and_its_correction_is_seen: "wrong", issuers::wrong_secret_id;
    the_certificate_of_istiod_becomes_exactly_the_secret_that_istiod_mounts: "issued", certificates::issued;
    a_deleted_secret_is_issued_again_and_the_old_request_goes: "deleted", certificates::secret_deleted;
    changed_names_and_a_renewal_by_hand_issue_again_with_new_keys: "changed", certificates::changed_and_renewed;
    a_forbidden_name_fails_and_a_change_of_the_spec_is_tried_at_once: "forbidden", certificates::forbidden_name;
    while_the_server_is_sealed_requests_wait_and_then_finish_by_themselves: "sealed", requests::sealed;
    requests_of_a_mesh_are_signed_and_may_go_at_any_moment_without_an_error: "mesh", requests::of_a_mesh;
    of_two_certificates_with_one_secret_the_elder_keeps_it_until_it_is_renamed_or_deleted: "shared", shared::by_two;
    what_is_done_to_secrets_during_an_issuance_does_not_reach_what_is_issued: "damaged", damaged::during_an_issuance;
    an_authority_that_is_garbage_makes_certificates_wait_and_its_repair_is_seen: "authority", damaged::authority;
    a_request_denied_by_hand_fails_its_certificate_with_the_deniers_reason: "denied", requests::denied;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_before_any_of_its_writes_the_controller_ends_in_the_same_state() {
    killed::before_each_write().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_after_any_of_its_writes_the_controller_ends_in_the_same_state() {
    killed::after_each_write().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_the_leader_is_killed_another_signs_what_is_left_and_only_what_was_in_flight_twice() {
    replicas::killed().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_the_leader_is_told_to_stop_another_takes_over_at_once_and_signs_nothing_twice() {
    replicas::stopped().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_takes_over_signs_nothing_again_that_its_lagging_watch_shows_as_unsigned() {
    replicas::behind().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watches_that_expired_in_the_middle_of_work_cost_lists_but_no_write_and_no_signature() {
    expired::in_the_middle().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_controller_that_starts_again_among_hundreds_of_certificates_writes_nothing_about_them() {
    restart::among_hundreds().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_the_api_server_answers_once_each_request_is_signed_once_and_each_certificate_issued() {
    faults::once_each().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_real_api_server_plays_the_same_scenarios() {
    let Some(real) = RealApiServer::start().await else { return };
    let cluster = Cluster::Real(Arc::new(real));
    cluster.install().await;
    for (name, namespace, scenario) in SCENARIOS {
        scenario(Bed::new(cluster.clone(), namespace).await).await;
        eprintln!("passed: {name}");
    }
    eprintln!("SKIPPED: what needs the double of the API server, as kills between two writes do");
}
