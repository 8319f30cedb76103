//! Runs through the engine's own routes.

use std::time::Duration;

use chancery_storage::memory::Fault;
use chancery_storage::{Name, Position};
use jiff::{Timestamp, ToSpan};
use serde_json::{Value, json};

use crate::engine::Engine;
use crate::engine::pki::records::{CertificateRecord, IssuerId};
use crate::engine::pki::store::{certificate_name, collection, config};
use crate::engine::pki::tests::{Bed, NOW};
use crate::error::Error;
use crate::request::Operation;
use crate::response::Response;

/// Two days behind the end of certificates of an hour.
fn later() -> Timestamp {
    NOW + 49.hours()
}

/// A mount with certificates of one hour, and one of a week, which is the last in order.
async fn bed(short: usize) -> Bed {
    let bed = Bed::new().await;
    bed.role("web", json!({"allow_any_name": true, "key_type": "ec", "ttl": "1h"})).await;
    for _ in 0..short {
        issue(&bed, NOW, "1h").await;
    }
    // Behind the others in the order of birth.
    issue(&bed, NOW + 1.second(), "168h").await;
    bed
}

async fn issue(bed: &Bed, now: Timestamp, ttl: &str) {
    let body = json!({"common_name": "a.example", "ttl": ttl});
    bed.ask_at(now, Operation::Update, "issue/web", body).await.unwrap();
}

async fn start(bed: &Bed, now: Timestamp, body: Value) -> Response {
    bed.ask_at(now, Operation::Update, "tidy", body).await.unwrap()
}

async fn status(bed: &Bed) -> Value {
    bed.read("tidy-status").await.unwrap()
}

/// What the run that is under way has come to.
async fn ended(bed: &Bed) -> Value {
    for _ in 0..2_000 {
        let status = status(bed).await;
        if !matches!(status["state"].as_str(), Some("Running" | "Cancelling")) {
            return status;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("the run does not end");
}

async fn tidied(bed: &Bed, now: Timestamp, body: Value) -> Value {
    assert_eq!(start(bed, now, body).await.status, Some(202));
    ended(bed).await
}

async fn stored(bed: &Bed) -> usize {
    bed.engine.store.view().list(collection::CERTIFICATES, Position::Start, 10_000).await.unwrap().len()
}

async fn configure(bed: &Bed, body: Value) -> Result<Response, Error> {
    bed.write("config/auto-tidy", body).await
}

async fn tick(bed: &Bed, now: Timestamp) {
    bed.engine.clone().tick(now).await.unwrap();
}

#[tokio::test]
async fn what_has_expired_goes_when_its_safety_buffer_is_over_and_not_before() {
    let bed = bed(7).await;
    let all = json!({"tidy_cert_store": true, "safety_buffer": "48h", "page_size": 5});
    let early = tidied(&bed, NOW + 48.hours(), all.clone()).await;
    assert_eq!(
        (early["state"].as_str(), early["cert_store_deleted_count"].as_u64()),
        (Some("Finished"), Some(0))
    );
    assert_eq!(stored(&bed).await, 8);

    let status = tidied(&bed, later() + 1.second(), all).await;
    assert_eq!(status["cert_store_deleted_count"], 7);
    assert_eq!(stored(&bed).await, 1);
    assert_eq!(status["message"], Value::Null);
    assert_eq!(status["page_size"], 5);
    assert_eq!(status["safety_buffer"], 48 * 3600);
    assert_eq!(status["revoked_safety_buffer"], 48 * 3600);
    assert_eq!(status["internal_backend_uuid"], "mount");
}

#[tokio::test]
async fn a_run_goes_through_page_after_page_and_batch_after_batch() {
    let bed = bed(0).await;
    let view = bed.engine.store.view();
    let (_, record) = view.scan(collection::CERTIFICATES, Position::Start, 1).await.unwrap().remove(0);
    issue(&bed, NOW - 1000.hours(), "1h").await;
    let (_, old) = view.scan(collection::CERTIFICATES, Position::Start, 1).await.unwrap().remove(0);
    for number in 0..1_204_u64 {
        let value = if number % 100 == 0 { &record.value } else { &old.value };
        view.put(collection::CERTIFICATES, &Name::ordered(number, number.to_string()), value).await.unwrap();
    }
    let status = tidied(&bed, NOW, json!({"tidy_cert_store": true, "page_size": 1_000_000_000})).await;
    assert_eq!(status["state"], "Finished", "{status}");
    assert_eq!(status["cert_store_deleted_count"], 1_204 - 13 + 1);
    assert_eq!(stored(&bed).await, 13 + 1);
}

#[tokio::test]
async fn a_run_without_a_switch_does_nothing_and_says_so() {
    let bed = bed(1).await;
    let response = start(&bed, later(), json!({"safety_buffer": "1s"})).await;
    assert_eq!(response.status, Some(202));
    assert!(response.warnings[0].starts_with("Manual tidy requested but no tidy operations were set."));
    assert_eq!(ended(&bed).await["state"], "Finished");
    assert_eq!(stored(&bed).await, 2);
}

#[tokio::test]
async fn before_the_first_run_there_is_nothing_to_say_and_nothing_to_cancel() {
    let bed = Bed::new().await;
    let status = status(&bed).await;
    assert_eq!(status["state"], "Inactive");
    assert_eq!(status["time_started"], Value::Null);
    assert!(status.get("last_auto_tidy_finished").is_none());
    let response = bed.write("tidy-cancel", json!({})).await.unwrap();
    assert_eq!(response.warnings, ["Tidy operation cannot be cancelled as none is currently running."]);
    assert!(response.data.is_none());
}

#[tokio::test]
async fn one_run_at_a_time_and_it_ends_between_two_certificates_when_it_is_cancelled() {
    let bed = bed(20).await;
    let slow = json!({"tidy_cert_store": true, "safety_buffer": "1s", "pause_duration": "20ms"});
    start(&bed, later(), slow.clone()).await;
    let second = start(&bed, later(), slow).await;
    assert_eq!(
        (second.status, second.warnings.as_slice()),
        (None, &["Tidy operation already in progress.".to_owned()][..])
    );
    let mut seen = status(&bed).await;
    while seen["cert_store_deleted_count"].as_u64() < Some(2) {
        tokio::time::sleep(Duration::from_millis(1)).await;
        seen = status(&bed).await;
    }
    assert_eq!(seen["state"], "Running");
    assert_eq!(seen["pause_duration"], "20ms");
    let response = bed.write("tidy-cancel", json!({})).await.unwrap();
    let answer: Value = serde_json::from_str(response.data.unwrap().get()).unwrap();
    assert_eq!(answer["state"], "Cancelling");
    let status = ended(&bed).await;
    assert_eq!((status["state"].as_str(), &status["error"]), (Some("Cancelled"), &Value::Null));
    let message = status["message"].as_str().unwrap();
    assert!(
        message.starts_with("Tidying certificate store: checking entry ")
            && message.contains(" of 1000 on current page"),
        "{message}"
    );
    let removed = usize::try_from(status["cert_store_deleted_count"].as_u64().unwrap()).unwrap();
    assert!((2..20).contains(&removed), "{removed}");
    assert_eq!(stored(&bed).await, 21 - removed);

    let status = tidied(&bed, later(), json!({"tidy_cert_store": true, "safety_buffer": "1s"})).await;
    assert_eq!(status["cert_store_deleted_count"], 20 - removed);
}

#[tokio::test]
async fn what_cannot_be_read_goes_only_if_that_is_asked_for_and_unknown_forms_never_do() {
    let bed = bed(1).await;
    let view = bed.engine.store.view();
    let (_, good) = view.scan(collection::CERTIFICATES, Position::Start, 1).await.unwrap().remove(0);
    let certificate = CertificateRecord::decode(&good.value).unwrap();
    let mut cut = certificate.der.clone();
    // Its validity is still there: only who reads all of it finds the fault.
    let end = cut.len();
    cut[end - 80..].fill(0xff);
    let unreadable = [Vec::new(), b"no certificate".to_vec(), certificate.der[..40].to_vec(), cut];
    for (number, der) in unreadable.iter().enumerate() {
        let record = CertificateRecord::encode(Some(IssuerId::fresh()), der);
        view.put(collection::CERTIFICATES, &Name::ordered(number as u64, "bad"), &record).await.unwrap();
    }
    view.put(collection::CERTIFICATES, &Name::ordered(99, "later"), b"\x02 a form to come").await.unwrap();
    view.put(collection::CERTIFICATES, &Name::ordered(100, "empty"), b"").await.unwrap();

    let status = tidied(&bed, NOW, json!({"tidy_cert_store": true})).await;
    assert_eq!(
        (status["state"].as_str(), status["cert_store_deleted_count"].as_u64()),
        (Some("Finished"), Some(0))
    );
    let status = tidied(&bed, NOW, json!({"tidy_invalid_certs": true})).await;
    assert_eq!(status["cert_store_deleted_count"], unreadable.len());
    assert_eq!(stored(&bed).await, 2 + 2);
}

#[tokio::test]
async fn a_revoked_certificate_is_kept_for_its_own_safety_buffer() {
    let bed = bed(2).await;
    let view = bed.engine.store.view();
    let names = view.list(collection::CERTIFICATES, Position::Start, 1).await.unwrap();
    bed.write("revoke", json!({"serial_number": names[0].text()})).await.unwrap();
    let body = json!({"tidy_cert_store": true, "safety_buffer": "1h", "revoked_safety_buffer": "72h"});
    assert_eq!(tidied(&bed, later(), body.clone()).await["cert_store_deleted_count"], 1);
    let left = view.list(collection::CERTIFICATES, Position::Start, 10).await.unwrap();
    assert!(left.contains(&names[0]) && left.len() == 2);
    assert_eq!(tidied(&bed, later() + 48.hours(), body).await["cert_store_deleted_count"], 1);
}

#[tokio::test]
async fn a_run_whose_commits_fail_ends_with_an_error_and_the_next_one_goes_on() {
    for (fault, left) in [(Fault::Fails, 4), (Fault::FailsAfterPersisting, 1)] {
        let bed = bed(3).await;
        let body = json!({"tidy_cert_store": true, "safety_buffer": "1s"});
        // The first commit says that a run began, the second removes, the third says that it ended.
        bed.next_commits([fault]);
        let status = tidied(&bed, later(), body.clone()).await;
        assert_eq!((status["state"].as_str(), stored(&bed).await), (Some("Error"), 4));
        bed.next_commits([Fault::None, fault]);
        let status = tidied(&bed, later(), body.clone()).await;
        assert_eq!((status["state"].as_str(), stored(&bed).await), (Some("Error"), left), "{fault:?}");
        assert!(status["error"].is_string() && status["message"].is_string(), "{status}");
        bed.next_commits([Fault::None, Fault::None, fault]);
        let status = tidied(&bed, later(), body.clone()).await;
        assert_eq!(
            status["state"],
            if left == 4 { "Error" } else { "Finished" },
            "nothing to remove, no commit"
        );
        bed.next_commits([]);
        assert_eq!(tidied(&bed, later(), body).await["state"], "Finished");
        assert_eq!(stored(&bed).await, 1);
    }
}

#[tokio::test]
async fn what_a_run_may_not_be_told_is_refused_in_the_peers_words() {
    let bed = Bed::new().await;
    for (body, sentence) in [
        (json!({"safety_buffer": 0}), "safety_buffer must be greater than zero"),
        (json!({"revoked_safety_buffer": 0}), "revokedSafetyBuffer must be greater than zero"),
        (json!({"issuer_safety_buffer": 0}), "issuer_safety_buffer must be greater than zero"),
        (json!({"acme_account_safety_buffer": 0}), "acme_account_safety_buffer must be greater than zero"),
        (json!({"pause_duration": "x"}), "Error parsing pause_duration: time: invalid duration \"x\""),
        (json!({"pause_duration": "-1s"}), "received invalid, negative pause_duration"),
        (json!({"page_size": 4}), "page_size must be greater than five"),
    ] {
        let error = bed.write("tidy", body).await.unwrap_err();
        assert_eq!(error.message(), sentence);
    }
    assert_eq!(status(&bed).await["state"], "Inactive");
}

#[tokio::test]
async fn what_auto_tidy_may_not_be_told_is_refused_and_changes_nothing() {
    let bed = Bed::new().await;
    let before = bed.read("config/auto-tidy").await.unwrap();
    for (body, sentence) in [
        (json!({"enabled": true}), "Auto-tidy enabled but no tidy operations were requested."),
        (json!({"safety_buffer": 0}), "given safety_buffer must be at least one second; got: 0"),
        (json!({"issuer_safety_buffer": 0}), "given safety_buffer must be at least one second; got: 0"),
        (json!({"revoked_safety_buffer": 0}), "revoked_safety_buffer must be at least one second; got: 0"),
        (json!({"page_size": 0}), "page_size must be at least 5"),
        (json!({"pause_duration": "x"}), "unable to parse given pause_duration: time: invalid"),
        (
            json!({"publish_stored_certificate_count_metrics": true}),
            "Can not publish a running storage metrics",
        ),
    ] {
        let error = configure(&bed, body).await.unwrap_err();
        assert!(error.message().starts_with(sentence), "{}", error.message());
    }
    assert_eq!(bed.read("config/auto-tidy").await.unwrap(), before);
    assert_eq!(before["revoked_safety_buffer"], 259_200);
}

#[tokio::test]
async fn settings_of_auto_tidy_that_could_not_be_written_are_not_in_force_and_those_that_were_are() {
    let bed = Bed::new().await;
    let on = json!({"enabled": true, "tidy_cert_store": true, "safety_buffer": 100});
    for (fault, enabled) in [(Fault::Fails, false), (Fault::FailsAfterPersisting, true)] {
        bed.next_commits([fault]);
        configure(&bed, on.clone()).await.unwrap_err();
        let shown = bed.read("config/auto-tidy").await.unwrap();
        assert_eq!(shown["enabled"], enabled, "{fault:?}");
        let again = bed.restarted().await.read("config/auto-tidy").await.unwrap();
        assert_eq!(shown, again);
    }
    configure(&bed, json!({"tidy_acme": true})).await.unwrap();
    let shown = bed.read("config/auto-tidy").await.unwrap();
    assert_eq!((&shown["tidy_cert_store"], &shown["revoked_safety_buffer"]), (&json!(true), &json!(100)));
}

#[tokio::test]
async fn runs_begin_by_themselves_an_interval_after_the_last_one_also_across_a_restart() {
    let bed = bed(1).await;
    tick(&bed, NOW).await;
    configure(&bed, json!({"enabled": true, "tidy_cert_store": true, "safety_buffer": "1s"})).await.unwrap();
    tick(&bed, later()).await;
    tick(&bed, later() + 11.hours()).await;
    assert_eq!(status(&bed).await["state"], "Inactive", "the interval begins with the wish for it");
    let bed = bed.restarted().await;
    tick(&bed, later() + 12.hours()).await;
    assert_eq!(ended(&bed).await["cert_store_deleted_count"], 1);

    let bed = bed.restarted().await;
    issue(&bed, NOW, "1h").await;
    tick(&bed, later() + 23.hours()).await;
    assert_eq!(status(&bed).await["state"], "Inactive");
    // A run that was asked for puts the next one off.
    tidied(&bed, later() + 23.hours(), json!({})).await;
    tick(&bed, later() + 34.hours()).await;
    assert_eq!(stored(&bed).await, 2);
    tick(&bed, later() + 36.hours()).await;
    ended(&bed).await;
    assert_eq!(stored(&bed).await, 1);
}

#[tokio::test]
async fn an_interval_of_nothing_is_a_minute_and_a_run_that_fails_is_not_repeated_at_once() {
    let bed = bed(1).await;
    let on = json!({"enabled": true, "tidy_cert_store": true, "safety_buffer": "1s", "interval_duration": 0});
    configure(&bed, on).await.unwrap();
    tick(&bed, later()).await;
    tick(&bed, later() + 59.seconds()).await;
    assert_eq!(status(&bed).await["state"], "Inactive");
    bed.next_commits([Fault::Fails]);
    tick(&bed, later() + 60.seconds()).await;
    assert_eq!(ended(&bed).await["state"], "Error");
    tick(&bed, later() + 61.seconds()).await;
    assert_eq!(ended(&bed).await["state"], "Error");
    tick(&bed, later() + 121.seconds()).await;
    assert_eq!(ended(&bed).await["state"], "Finished");
}

#[tokio::test]
async fn the_first_look_of_auto_tidy_that_cannot_be_written_down_is_reported_and_repeated() {
    for fault in [Fault::Fails, Fault::FailsAfterPersisting] {
        let bed = bed(1).await;
        configure(&bed, json!({"enabled": true, "tidy_cert_store": true})).await.unwrap();
        bed.next_commits([fault]);
        bed.engine.clone().tick(NOW).await.unwrap_err();
        tick(&bed, NOW).await;
        let name = Name::new(config::LAST_TIDY);
        assert!(bed.engine.store.view().get(collection::CONFIG, &name).await.unwrap().is_some());
    }
}

#[tokio::test]
async fn expired_issuers_go_but_for_the_default_one_and_keys_stay() {
    let bed = Bed::empty().await;
    let spec = chancery_issuance::KeySpec::new("ec", 256).unwrap();
    for name in ["first", "second", "default"] {
        bed.add_root(name, spec).await;
    }
    let body = json!({"tidy_expired_issuers": true, "issuer_safety_buffer": "1h"});
    tidied(&bed, NOW + 87_600.hours(), body.clone()).await;
    assert_eq!(bed.keys("issuers", json!({})).await.len(), 3, "the buffer is not over");
    let now = NOW + 87_602.hours();
    for fault in [Fault::Fails, Fault::FailsAfterPersisting] {
        bed.next_commits([Fault::None, fault]);
        assert_eq!(tidied(&bed, now, body.clone()).await["state"], "Error");
        let left = if fault == Fault::Fails { 3 } else { 1 };
        assert_eq!(bed.keys("issuers", json!({})).await.len(), left);
    }
    assert_eq!(tidied(&bed, now, body).await["state"], "Finished");
    assert_eq!(bed.read("issuer/default").await.unwrap()["issuer_name"], "default");
    assert_eq!(bed.keys("keys", json!({})).await.len(), 3);
}

#[tokio::test]
async fn certificates_are_counted_where_that_is_asked_for() {
    let bed = bed(3).await;
    assert_eq!(status(&bed).await["current_cert_store_count"], Value::Null);
    configure(&bed, json!({"maintain_stored_certificate_counts": true})).await.unwrap();
    let start = NOW + 1.hours();
    tick(&bed, start).await;
    issue(&bed, start, "1h").await;
    let response = bed.ask(Operation::Read, "tidy-status", json!({})).await.unwrap();
    assert_eq!(response.warnings.len(), 1, "{:?}", response.warnings);
    assert_eq!(status(&bed).await["current_cert_store_count"], 1);

    tick(&bed, start + 10.seconds()).await;
    while !bed.ask(Operation::Read, "tidy-status", json!({})).await.unwrap().warnings.is_empty() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(status(&bed).await["current_cert_store_count"], 5);
    assert_eq!(status(&bed).await["current_revoked_cert_count"], 0);
    issue(&bed, start, "1h").await;
    tidied(&bed, later(), json!({"tidy_cert_store": true, "safety_buffer": "1s"})).await;
    assert_eq!(status(&bed).await["current_cert_store_count"], 1);
    configure(&bed, json!({"maintain_stored_certificate_counts": false})).await.unwrap();
    tick(&bed, later()).await;
    assert_eq!(status(&bed).await["current_cert_store_count"], Value::Null);
}

#[tokio::test]
async fn what_is_removed_before_it_was_counted_is_not_taken_off() {
    let bed = bed(3).await;
    configure(&bed, json!({"maintain_stored_certificate_counts": true})).await.unwrap();
    tick(&bed, later()).await;
    issue(&bed, later(), "1h").await;
    tidied(&bed, later(), json!({"tidy_cert_store": true, "safety_buffer": "1s"})).await;
    assert_eq!(status(&bed).await["current_cert_store_count"], 1);
    tick(&bed, later() + 10.seconds()).await;
    while !bed.ask(Operation::Read, "tidy-status", json!({})).await.unwrap().warnings.is_empty() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(status(&bed).await["current_cert_store_count"], 2);
    assert_eq!(stored(&bed).await, 2);
}

#[tokio::test]
async fn a_run_is_cancelled_in_the_middle_of_its_pause() {
    let bed = bed(2).await;
    start(&bed, later(), json!({"tidy_cert_store": true, "safety_buffer": "1s", "pause_duration": "1h"}))
        .await;
    tokio::time::sleep(Duration::from_millis(20)).await;
    bed.write("tidy-cancel", json!({})).await.unwrap();
    assert_eq!(ended(&bed).await["state"], "Cancelled");
    assert_eq!(stored(&bed).await, 3);
}

#[tokio::test]
async fn a_revocation_that_cannot_be_read_is_left_alone_and_ends_no_run() {
    for with_the_store in [false, true] {
        let (bed, serials) = bed_with_revoked().await;
        let view = bed.engine.store.view();
        let unreadable = certificate_name(&serials[0].parse().unwrap());
        view.put(collection::REVOKED, &unreadable, b"nonsense").await.unwrap();
        let body = json!({
            "tidy_revoked_certs": true, "tidy_cert_store": with_the_store, "safety_buffer": "1h",
        });
        let status = tidied(&bed, later() + 168.hours(), body).await;
        assert_eq!(status["state"], "Finished", "{status}");
        assert_eq!(status["revoked_cert_deleted_count"], 1, "{status}");
        let left = view.list(collection::REVOKED, Position::Start, 10).await.unwrap();
        assert_eq!(left, [unreadable]);
    }
}

/// A mount with a revoked certificate of an hour, a revoked one of a week, and one that was not revoked.
async fn bed_with_revoked() -> (Bed, Vec<String>) {
    let bed = Bed::new().await;
    bed.role("web", json!({"allow_any_name": true, "key_type": "ec"})).await;
    let mut serials = Vec::new();
    for ttl in ["1h", "168h", "1h"] {
        let made = bed.write("issue/web", json!({"common_name": "a", "ttl": ttl})).await.unwrap();
        let made: Value = serde_json::from_str(made.data.unwrap().get()).unwrap();
        serials.push(made["serial_number"].as_str().unwrap().to_owned());
    }
    for serial in &serials[..2] {
        bed.write("revoke", json!({"serial_number": serial})).await.unwrap();
    }
    (bed, serials)
}

/// Records of revocations, and entries in all journals together.
async fn revocations(bed: &Bed) -> (usize, usize) {
    let view = bed.engine.store.view();
    let records = view.list(collection::REVOKED, Position::Start, 100).await.unwrap().len();
    let mut entries = 0;
    for issuer in bed.engine.store.authorities().await.unwrap().issuers() {
        let journal = bed.engine.store.journals.of(Some(issuer.scope));
        entries += view.list(journal.collection(), Position::Start, 100).await.unwrap().len();
    }
    (records, entries)
}

#[tokio::test]
async fn expired_revoked_certificates_go_with_all_that_is_known_of_them() {
    for with_the_store in [false, true] {
        let (bed, serials) = bed_with_revoked().await;
        let body = json!({
            "tidy_revoked_certs": true, "tidy_cert_store": with_the_store, "safety_buffer": "1h",
        });
        let status = tidied(&bed, later(), body).await;
        assert_eq!(status["revoked_cert_deleted_count"], 1, "{status}");
        assert_eq!(status["cert_store_deleted_count"], if with_the_store { 2 } else { 0 });
        assert_eq!(revocations(&bed).await, (1, 1));
        assert_eq!(stored(&bed).await, if with_the_store { 1 } else { 2 });
        assert_eq!(bed.keys("certs/revoked", json!({})).await, [serials[1].clone()]);
    }
}

#[tokio::test]
async fn without_its_switch_a_revocation_outlives_its_certificate() {
    let (bed, _) = bed_with_revoked().await;
    let status = tidied(&bed, later(), json!({"tidy_cert_store": true, "safety_buffer": "1h"})).await;
    assert_eq!(
        (&status["cert_store_deleted_count"], &status["revoked_cert_deleted_count"]),
        (&json!(2), &json!(0))
    );
    assert_eq!(revocations(&bed).await, (2, 2));
    let status = tidied(&bed, later(), json!({"tidy_revocation_list": true, "safety_buffer": "1h"})).await;
    assert_eq!(
        (&status["tidy_revoked_certs"], &status["revoked_cert_deleted_count"]),
        (&json!(true), &json!(1))
    );
    assert_eq!(revocations(&bed).await, (1, 1));
}

#[tokio::test]
async fn revocations_that_could_not_be_forgotten_are_whole_and_those_that_were_are_gone() {
    for (fault, left) in [(Fault::Fails, (2, 2)), (Fault::FailsAfterPersisting, (1, 1))] {
        let (bed, _) = bed_with_revoked().await;
        let body = json!({"tidy_revoked_certs": true, "safety_buffer": "1h"});
        bed.next_commits([Fault::None, fault]);
        let status = tidied(&bed, later(), body.clone()).await;
        assert_eq!((status["state"].as_str(), revocations(&bed).await), (Some("Error"), left));
        assert_eq!(tidied(&bed, later(), body).await["state"], "Finished");
        assert_eq!((revocations(&bed).await, stored(&bed).await), ((1, 1), 2));
    }
}

#[tokio::test]
async fn a_revocation_whose_issuer_is_another_one_now_learns_its_name() {
    let (bed, serials) = bed_with_revoked().await;
    let pem = bed.read("issuer/root").await.unwrap()["certificate"].clone();
    bed.ask(Operation::Delete, "issuer/root", json!({})).await.unwrap();
    let associate = json!({"tidy_revoked_cert_issuer_associations": true});
    let named = async || bed.read(&format!("cert/{}", serials[0])).await.unwrap()["issuer_id"].clone();
    assert_eq!(tidied(&bed, NOW, associate.clone()).await["missing_issuer_cert_count"], 2);
    assert_eq!(named().await, Value::Null, "nobody here signed it");

    bed.write("issuers/import/cert", json!({"pem_bundle": pem})).await.unwrap();
    for fault in [Fault::Fails, Fault::FailsAfterPersisting] {
        bed.next_commits([Fault::None, fault]);
        assert_eq!(tidied(&bed, NOW, associate.clone()).await["state"], "Error");
    }
    assert_eq!(tidied(&bed, NOW, associate.clone()).await["missing_issuer_cert_count"], 1);
    assert_eq!(json!(bed.keys("issuers", json!({})).await), json!([named().await]));
    assert_eq!(tidied(&bed, NOW, associate).await["missing_issuer_cert_count"], 0);
    assert_eq!(revocations(&bed).await, (2, 2));
}
