//! Istio's certificate service over HTTP/2: what is refused, what is accepted, and what it is that comes back.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod common;
#[path = "common/log.rs"]
mod log;
#[path = "common/wire.rs"]
mod wire;

use std::time::Duration;

use chancery_issuance::{Certificate, Signer as _};
use chancery_mesh::ca::service::ServiceOptions;
use chancery_mesh::ca::signer::Purpose;
use chancery_mesh::proto::istio::IstioCertificateResponse;
use common::{Authority, HOUR, ME, NOW, Template, csr, csr_with, extension, name, names, new_key, uris};
use tonic::{Code, Status};
use wire::{Ask, Behaviour, Mesh, roots};

const OTHER: &str = "spiffe://cluster.local/ns/a/sa/b";

fn unauthenticated(outcome: Result<IstioCertificateResponse, Status>, case: &str) {
    let status = outcome.expect_err(case);
    assert_eq!(status.code(), Code::Unauthenticated, "{case}");
    assert_eq!(status.message(), "request authenticate failure", "{case}");
}

fn internal(outcome: Result<IstioCertificateResponse, Status>, message: &str, case: &str) {
    let status = outcome.expect_err(case);
    assert_eq!((status.code(), status.message()), (Code::Internal, message), "{case}");
}

const NOT_SIGNED: &str = "failed to sign certificate request";
const NOT_VERIFIED: &str = "failed to parse and verify signed certificate from issuer";

fn header(token: &str) -> Ask<'static> {
    Ask { metadata: vec![("identities", token.to_owned())], ..Ask::default() }
}

#[tokio::test]
async fn an_agent_gets_its_leaf_the_chain_and_the_roots() {
    let mesh = Mesh::new();
    let answer = mesh.ask(Ask::default()).await.expect("a certificate");
    assert_eq!(answer.cert_chain.len(), 3);
    for element in &answer.cert_chain {
        assert_eq!(element.matches("-----BEGIN CERTIFICATE-----\n").count(), 1);
        assert!(element.ends_with("-----END CERTIFICATE-----\n"));
    }
    let leaf = Certificate::from_pem(&answer.cert_chain[0]).unwrap();
    assert_eq!(leaf.sans().unwrap().uri, [ME]);
    assert_eq!(leaf.public_key(), Some(mesh.key.public_key()));
    assert_eq!(answer.cert_chain[1], mesh.signer.intermediate.pem());
    assert_eq!(answer.cert_chain[2], mesh.signer.root.pem());
    let signed = mesh.signed();
    assert_eq!(signed.purpose, Purpose::Workload);
    assert_eq!(signed.identities, [ME]);
    assert_eq!(signed.csr, csr_of(&signed.csr));
}

/// The only block of a text, as it is written canonically.
fn csr_of(text: &str) -> String {
    let policy = chancery_issuance::KeyPolicy::any();
    chancery_issuance::VerifiedCsr::from_pem(text, &policy).unwrap().pem()
}

#[tokio::test]
async fn bad_tokens_and_headers_are_refused() {
    let mesh = Mesh::new();
    unauthenticated(mesh.ask(Ask::by("forged")).await, "a bad token");
    unauthenticated(mesh.ask(Ask::by("")).await, "an empty token");
    unauthenticated(mesh.ask(Ask { metadata: vec![], ..Ask::default() }).await, "no token");
    for value in ["bearer httpbin", "Basic httpbin", "Bearer  httpbin", "httpbin"] {
        let metadata = vec![("authorization", value.to_owned())];
        unauthenticated(mesh.ask(Ask { metadata, ..Ask::default() }).await, value);
    }
    assert_eq!(mesh.calls(), 0);
}

#[tokio::test]
async fn callers_name_an_accepted_cluster_or_none() {
    let mesh = Mesh::new();
    let with = |ids: &[&str]| {
        let mut metadata = vec![("authorization", "Bearer httpbin".to_owned())];
        metadata.extend(ids.iter().map(|id| ("clusterid", (*id).to_owned())));
        Ask { metadata, ..Ask::default() }
    };
    for ids in [&[][..], &[""], &["Kubernetes"], &["east"]] {
        assert!(mesh.ask(with(ids)).await.is_ok(), "{ids:?}");
    }
    unauthenticated(mesh.ask(with(&["west"])).await, "another cluster");
}

#[tokio::test]
async fn csrs_that_ask_for_more_than_the_callers_name_are_refused() {
    let mesh = Mesh::new();
    let key = new_key();
    let with =
        |tag: u8, content: &[u8]| csr_with(&key, name(&[]), &[names(&[(6, ME.as_bytes()), (tag, content)])]);
    for (case, csr) in [
        ("unparsable", "nonsense".to_owned()),
        ("empty", String::new()),
        ("a DNS name", with(2, b"example.com")),
        ("an IP address", with(7, &[10, 0, 0, 1])),
        ("an e-mail address", with(1, b"a@example.com")),
        ("a common name", csr_with(&key, name(&["x"]), &[uris(&[ME])])),
        ("another name", csr(&key, &[OTHER])),
        ("one name more", csr(&key, &[ME, OTHER])),
        ("no name", csr_with(&key, name(&[]), &[])),
        ("an extension", csr_with(&key, name(&[]), &[uris(&[ME]), extension(&[0x2a, 3], false, &[5, 0])])),
    ] {
        unauthenticated(mesh.ask(Ask { csr: Some(csr), ..Ask::default() }).await, case);
    }
    assert_eq!(mesh.calls(), 0);
}

#[tokio::test]
async fn the_names_are_the_callers_in_any_order_and_neither_fewer_nor_more() {
    let mesh = Mesh::new();
    let both = format!("{ME},{OTHER}");
    let asking = |list: &[&str]| Ask { csr: Some(csr(&mesh.key, list)), ..header(&both) };
    for list in [&[ME, OTHER][..], &[OTHER, ME]] {
        let answer = mesh.ask(asking(list)).await.expect("a certificate");
        let leaf = Certificate::from_pem(&answer.cert_chain[0]).unwrap();
        assert_eq!(leaf.sans().unwrap().uri, list);
    }
    unauthenticated(mesh.ask(asking(&[ME])).await, "a subset");
    unauthenticated(mesh.ask(asking(&[ME, OTHER, "spiffe://cluster.local/ns/c/sa/d"])).await, "a superset");
    unauthenticated(mesh.ask(asking(&[ME, ME])).await, "one twice");
    unauthenticated(mesh.ask(header("")).await, "a caller without identities");
    let csr = Some(csr_with(&mesh.key, name(&[]), &[]));
    unauthenticated(mesh.ask(Ask { csr, ..header("") }).await, "neither has names");
}

#[tokio::test]
async fn a_node_proxy_gets_the_certificates_of_its_node() {
    let mesh = Mesh::new();
    let ask = Ask { impersonated: Some(ME), ..Ask::by("ztunnel") };
    let answer = mesh.ask(ask).await.expect("a certificate");
    let leaf = Certificate::from_pem(&answer.cert_chain[0]).unwrap();
    assert_eq!(leaf.sans().unwrap().uri, [ME]);
    assert_eq!(mesh.signed().identities, [ME]);
    // Its own as well.
    let own = "spiffe://cluster.local/ns/istio-system/sa/ztunnel";
    let ask = || Ask { csr: Some(csr(&mesh.key, &[own])), ..Ask::by("ztunnel") };
    assert!(mesh.ask(ask()).await.is_ok());
    assert!(mesh.ask(Ask { impersonated: Some(""), ..ask() }).await.is_ok());
}

#[tokio::test]
async fn others_get_no_certificates_of_others() {
    let mesh = Mesh::new();
    let for_me = |token| Ask { impersonated: Some(ME), ..Ask::by(token) };
    unauthenticated(mesh.ask(for_me("httpbin")).await, "an untrusted caller");
    unauthenticated(mesh.ask(for_me("replaced")).await, "another pod UID");
    unauthenticated(mesh.ask(for_me("other")).await, "another service account");
    unauthenticated(mesh.ask(for_me("gone")).await, "no such pod");
    unauthenticated(mesh.ask(for_me("elsewhere")).await, "not on the node");
    let mine = |id, csr_id| Ask {
        impersonated: Some(id),
        csr: Some(csr(&mesh.key, &[csr_id])),
        ..Ask::by("ztunnel")
    };
    unauthenticated(mesh.ask(mine(OTHER, OTHER)).await, "no such service account on the node");
    unauthenticated(mesh.ask(mine(ME, OTHER)).await, "a CSR for another");
    let own = "spiffe://cluster.local/ns/istio-system/sa/ztunnel";
    unauthenticated(mesh.ask(mine(ME, own)).await, "a CSR for itself");
    let foreign = "spiffe://other.domain/ns/sandbox/sa/httpbin";
    unauthenticated(mesh.ask(mine(foreign, foreign)).await, "another trust domain");
    unauthenticated(mesh.ask(mine("nonsense", ME)).await, "no SPIFFE ID");
    assert_eq!(mesh.calls(), 0);

    let nobody = Mesh::with(ServiceOptions::default(), "");
    unauthenticated(nobody.ask(for_me("ztunnel")).await, "nobody is trusted");
    // A certificate says nothing of a pod.
    let own_leaf = mesh.signer.intermediate.sign(&Template::leaf(&[own]), &new_key());
    let ask = Ask { metadata: vec![], certificates: vec![&own_leaf], ..for_me("") };
    unauthenticated(mesh.ask(ask).await, "a caller known by a certificate");
}

#[tokio::test]
async fn durations_are_kept_below_the_maximum_and_capped_above() {
    for (asked, signed) in [(60, 60), (3600, 3600), (3601, 3600), (i64::MAX, 3600), (0, 3600), (-5, 3600)] {
        let mesh = Mesh::new();
        mesh.ask(Ask { seconds: asked, ..Ask::default() }).await.expect("a certificate");
        assert_eq!(mesh.signed().duration, Duration::from_secs(signed), "{asked}");
    }
}

#[tokio::test]
async fn a_client_certificate_renews_itself() {
    let mesh = Mesh::new();
    let leaf = mesh.signer.intermediate.sign(&Template::leaf(&[ME]), &new_key());
    let ask = || Ask { metadata: vec![], certificates: vec![&leaf], ..Ask::default() };
    assert!(mesh.ask(ask()).await.is_ok());
    let csr_for_other = Some(csr(&mesh.key, &[OTHER]));
    unauthenticated(mesh.ask(Ask { csr: csr_for_other, ..ask() }).await, "another name");
}

#[tokio::test]
async fn an_expired_client_certificate_falls_back_to_the_token() {
    let mesh = Mesh::new();
    let template = Template { not_before: NOW - 2 * HOUR, not_after: NOW - HOUR, ..Template::leaf(&[ME]) };
    let leaf = mesh.signer.intermediate.sign(&template, &new_key());
    let with = |metadata| Ask { certificates: vec![&leaf], metadata, ..Ask::default() };
    unauthenticated(mesh.ask(with(vec![])).await, "an expired certificate alone");
    assert!(mesh.ask(with(Ask::default().metadata)).await.is_ok());
}

#[tokio::test]
async fn a_signer_that_refuses_is_an_internal_error() {
    let mesh = Mesh::new();
    mesh.behave(Behaviour::Refuse);
    internal(mesh.ask(Ask::default()).await, NOT_SIGNED, "refused");
    assert_eq!(mesh.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_signer_that_is_not_able_is_asked_again_within_the_deadline() {
    let mesh = Mesh::new();
    mesh.behave(Behaviour::Unavailable(5));
    assert!(mesh.ask(Ask::default()).await.is_ok());
    assert_eq!(mesh.calls(), 6);

    let mesh = Mesh::new();
    mesh.behave(Behaviour::Unavailable(usize::MAX));
    let begin = tokio::time::Instant::now();
    internal(mesh.ask(Ask::default()).await, NOT_SIGNED, "never able");
    assert!(
        (Duration::from_secs(28)..=Duration::from_secs(30)).contains(&begin.elapsed()),
        "{:?}",
        begin.elapsed()
    );
    // Later and later: not a storm of calls.
    assert!((20..60).contains(&mesh.calls()), "{}", mesh.calls());
}

#[tokio::test(start_paused = true)]
async fn a_signer_that_hangs_ends_with_the_deadline() {
    let options = ServiceOptions { deadline: Duration::from_secs(7), ..ServiceOptions::default() };
    let mesh = Mesh::with(options, "");
    mesh.behave(Behaviour::Hang);
    let begin = tokio::time::Instant::now();
    let status = mesh.ask(Ask::default()).await.expect_err("no answer");
    assert_eq!(status.code(), Code::DeadlineExceeded);
    assert!((7..8).contains(&begin.elapsed().as_secs()), "{:?}", begin.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_caller_with_less_patience_has_its_own_deadline() {
    let mesh = Mesh::new();
    mesh.behave(Behaviour::Unavailable(usize::MAX));
    let begin = tokio::time::Instant::now();
    let patience = Some(Duration::from_secs(2));
    let status = mesh.ask(Ask { patience, ..Ask::default() }).await.expect_err("no answer");
    // Whichever end of the connection notices first.
    assert!([Code::Internal, Code::Cancelled, Code::DeadlineExceeded].contains(&status.code()), "{status:?}");
    assert!(begin.elapsed() <= Duration::from_secs(2), "{:?}", begin.elapsed());
    let calls = mesh.calls();
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert_eq!(mesh.calls(), calls);
}

#[tokio::test(start_paused = true)]
async fn more_calls_than_there_are_places_for_are_turned_away_at_once() {
    let options = ServiceOptions { concurrency: 2, waiting: 1, ..ServiceOptions::default() };
    let mesh = std::sync::Arc::new(Mesh::with(options, ""));
    mesh.behave(Behaviour::Hang);
    let ask = || {
        let mesh = std::sync::Arc::clone(&mesh);
        tokio::spawn(async move { mesh.ask(Ask::default()).await.expect_err("no answer").code() })
    };
    let first: Vec<_> = (0..3).map(|_| ask()).collect();
    // Two are being worked on, one waits.
    while mesh.calls() < 2 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    tokio::time::sleep(Duration::from_millis(10)).await;
    assert_eq!(ask().await.unwrap(), Code::ResourceExhausted);
    assert_eq!(mesh.calls(), 2);
    for call in first {
        assert_eq!(call.await.unwrap(), Code::DeadlineExceeded);
    }
    // Then there is room again.
    mesh.behave(Behaviour::Sign);
    assert!(mesh.ask(Ask::default()).await.is_ok());
}

#[tokio::test]
async fn what_the_signer_sends_is_checked() {
    let mesh = Mesh::new();
    let (root, intermediate) = (&mesh.signer.root, &mesh.signer.intermediate);
    let leaf = intermediate.sign(&Template::leaf(&[ME]), &mesh.key);
    let second = root.sign(&Template::leaf(&[ME]), &mesh.key);
    let other_key = intermediate.sign(&Template::leaf(&[ME]), &new_key());
    let stranger = Authority::root("stranger");
    let of_stranger = stranger.sign(&Template::leaf(&[ME]), &mesh.key);
    let text = |list: &[&Certificate]| list.iter().map(|one| one.pem()).collect::<String>();
    let middle = &intermediate.certificate;
    for (case, chain) in [
        ("garbage", "garbage".to_owned()),
        ("nothing", String::new()),
        ("two chains", text(&[&leaf, middle, &second])),
        ("a missing link", text(&[&leaf])),
        ("not from a current root", text(&[&of_stranger, &stranger.certificate])),
        ("another key", text(&[&other_key, middle])),
    ] {
        mesh.behave(Behaviour::Answer(chain));
        internal(mesh.ask(Ask::default()).await, NOT_VERIFIED, case);
    }
    for (case, twist) in [
        ("another name", (|leaf| leaf.extensions[2] = uris(&[OTHER])) as fn(&mut Template)),
        ("one name more", |leaf| leaf.extensions[2] = uris(&[ME, OTHER])),
        ("an authority", |leaf| leaf.extensions.push(common::basic_constraints(true, None))),
        ("expired", |leaf| leaf.not_after = NOW - 1),
        ("without key usage", |leaf| drop(leaf.extensions.remove(0))),
    ] {
        mesh.behave(Behaviour::Twist(twist));
        internal(mesh.ask(Ask::default()).await, NOT_VERIFIED, case);
    }
    mesh.behave(Behaviour::Answer(text(&[middle, &root.certificate, &leaf, middle])));
    let answer = mesh.ask(Ask::default()).await.expect("a certificate");
    assert_eq!(answer.cert_chain, [leaf.pem(), middle.pem(), root.pem()]);
}

#[tokio::test]
async fn all_roots_are_in_the_last_element_as_soon_as_they_change() {
    let mesh = Mesh::new();
    assert_eq!(mesh.ask(Ask::default()).await.unwrap().cert_chain[2], mesh.signer.root.pem());
    let next = Authority::root("next");
    mesh.roots.send_replace(roots(&[&next.certificate, &mesh.signer.root.certificate]));
    let answer = mesh.ask(Ask::default()).await.expect("a certificate");
    assert_eq!(answer.cert_chain.len(), 3);
    assert_eq!(answer.cert_chain[2], format!("{}{}", next.pem(), mesh.signer.root.pem()));
    mesh.roots.send_replace(roots(&[&next.certificate]));
    internal(mesh.ask(Ask::default()).await, NOT_VERIFIED, "the root is gone");
}

#[tokio::test]
async fn one_connection_carries_many_calls() {
    let mesh = Mesh::new();
    let client = mesh.connect(&[]).await;
    let calls = (0..50).map(|_| {
        let mut client = client.clone();
        let csr = csr(&mesh.key, &[ME]);
        tokio::spawn(async move {
            let request = chancery_mesh::proto::istio::IstioCertificateRequest {
                csr,
                validity_duration: 60,
                metadata: None,
            };
            let mut request = tonic::Request::new(request);
            request.metadata_mut().insert("authorization", "Bearer httpbin".parse().unwrap());
            client.create_certificate(request).await.expect("a certificate").into_inner().cert_chain.len()
        })
    });
    for call in calls.collect::<Vec<_>>() {
        assert_eq!(call.await.unwrap(), 3);
    }
}

#[tokio::test]
async fn calls_are_counted_under_the_names_that_dashboards_know() {
    let buckets = &chancery_mesh::ca::SECONDS_BUCKETS;
    let builder = metrics_exporter_prometheus::PrometheusBuilder::new().set_buckets(buckets).unwrap();
    let recorder = builder.build_recorder();
    let handle = recorder.handle();
    let _guard = metrics::set_default_local_recorder(&recorder);
    let mesh = Mesh::new();
    mesh.ask(Ask::default()).await.expect("a certificate");
    mesh.ask(Ask::by("forged")).await.expect_err("refused");
    mesh.ask(Ask { csr: Some(String::new()), ..Ask::default() }).await.expect_err("refused");
    mesh.behave(Behaviour::Refuse);
    mesh.ask(Ask::default()).await.expect_err("refused");
    let text = handle.render();
    let value = |name: &str, labels: &[&str]| {
        let line = text.lines().find(|line| {
            line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']))
                && labels.iter().all(|label| line.contains(label))
        });
        let value =
            line.and_then(|line| line.rsplit(' ').next()).unwrap_or_else(|| panic!("{name} in {text}"));
        value.parse::<f64>().unwrap()
    };
    const OF_CALL: [&str; 3] = [
        "grpc_type=\"unary\"",
        "grpc_service=\"istio.v1.auth.IstioCertificateService\"",
        "grpc_method=\"CreateCertificate\"",
    ];
    let grpc = |name: &str, label: &str| {
        let labels: Vec<&str> = OF_CALL.into_iter().chain([label]).collect();
        value(&format!("cert_manager_istio_csr_grpc_server_{name}"), &labels)
    };
    assert_eq!(grpc("started_total", ""), 4.0);
    assert_eq!(grpc("msg_received_total", ""), 4.0);
    assert_eq!(grpc("msg_sent_total", ""), 1.0);
    assert_eq!(grpc("handled_total", "grpc_code=\"OK\""), 1.0);
    assert_eq!(grpc("handled_total", "grpc_code=\"Unauthenticated\""), 2.0);
    assert_eq!(grpc("handled_total", "grpc_code=\"Internal\""), 1.0);
    assert_eq!(grpc("handling_seconds_count", ""), 4.0);
    assert_eq!(grpc("handling_seconds_bucket", "le=\"10\""), 4.0);
    let ours = |name: &str, labels: &[&str]| value(&format!("cert_manager_istio_csr_{name}"), labels);
    assert_eq!(ours("authentication_failures_total", &["reason=\"token_review\""]), 1.0);
    assert_eq!(ours("refusals_total", &["step=\"csr\"", "reason=\"csr_malformed\""]), 1.0);
    assert_eq!(ours("refusals_total", &["step=\"sign\"", "reason=\"signer_refused\""]), 1.0);
    assert_eq!(ours("requests_in_flight", &[]), 0.0);
    assert_eq!(ours("signing_seconds_count", &["success=\"1\""]), 1.0);
    assert_eq!(ours("signing_seconds_count", &["success=\"0\""]), 1.0);
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_goes_away_leaves_nothing_behind() {
    let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
    let handle = recorder.handle();
    let _guard = metrics::set_default_local_recorder(&recorder);
    let options = ServiceOptions { concurrency: 1, waiting: 0, ..ServiceOptions::default() };
    let mesh = std::sync::Arc::new(Mesh::with(options, ""));
    mesh.behave(Behaviour::Hang);
    let call = tokio::spawn({
        let mesh = std::sync::Arc::clone(&mesh);
        async move { mesh.ask(Ask::default()).await }
    });
    while mesh.calls() == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert!(handle.render().contains("requests_in_flight 1\n"));
    call.abort();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let text = handle.render();
    assert!(text.contains("requests_in_flight 0\n"), "{text}");
    assert!(text.contains("grpc_code=\"Canceled\"} 1\n"), "{text}");
    assert!(text.contains("signing_seconds_count{success=\"0\"} 1\n"), "{text}");
    // Its place is free.
    mesh.behave(Behaviour::Sign);
    assert!(mesh.ask(Ask::default()).await.is_ok());
}

#[tokio::test]
async fn requests_that_are_too_large_are_not_read() {
    let mesh = Mesh::new();
    let long = |bytes: usize| Some(format!("{}{}", "\n".repeat(bytes), csr(&mesh.key, &[ME])));
    assert!(mesh.ask(Ask { csr: long(10_000), ..Ask::default() }).await.is_ok());
    unauthenticated(mesh.ask(Ask { csr: long(33_000), ..Ask::default() }).await, "a long CSR");
    let status = mesh.ask(Ask { csr: long(70_000), ..Ask::default() }).await.expect_err("a long message");
    assert_eq!(status.code(), Code::OutOfRange);
    assert_eq!(mesh.calls(), 1);
}

#[tokio::test]
async fn a_longer_life_than_was_asked_for_is_told_in_the_log() {
    let mesh = Mesh::new();
    mesh.behave(Behaviour::Twist(|leaf| leaf.not_after = NOW + 100 * HOUR));
    assert!(mesh.ask(Ask::default()).await.is_ok());
    let lines = log::lines();
    assert_eq!(lines.len(), 2, "{lines:#?}");
    assert!(lines[0].contains("longer life than was asked for"), "{lines:#?}");
}

#[tokio::test]
async fn each_call_is_one_line_in_the_log_with_its_reason_and_without_its_token() {
    let mesh = Mesh::new();
    mesh.ask(Ask::default()).await.expect("a certificate");
    mesh.ask(Ask { impersonated: Some(ME), ..Ask::by("ztunnel") }).await.expect("a certificate");
    mesh.ask(Ask::by("forged-token")).await.expect_err("refused");
    mesh.ask(Ask { csr: Some(csr(&mesh.key, &[OTHER])), ..Ask::default() }).await.expect_err("refused");
    let lines = log::lines();
    let has = |index: usize, parts: &[&str]| {
        let line: &String = &lines[index];
        parts.iter().for_each(|part| assert!(line.contains(part), "{part} in {line}"));
    };
    assert_eq!(lines.len(), 4, "{lines:#?}");
    has(
        0,
        &[
            "INFO",
            "certificate issued",
            ME,
            "serial=",
            "not_after=",
            "cluster=\"Kubernetes\"",
            "by=\"token_review\"",
        ],
    );
    has(1, &["INFO", ME, "caller=\"spiffe://cluster.local/ns/istio-system/sa/ztunnel\""]);
    has(
        2,
        &["WARN", "certificate refused", "reason=\"token_review\"", "step=\"authenticate\"", "invalid token"],
    );
    has(
        3,
        &[
            "WARN",
            "reason=\"csr_identity\"",
            "step=\"csr\"",
            "by=\"token_review\"",
            OTHER,
            ME,
            "Unauthenticated",
        ],
    );
    assert!(lines.iter().all(|line| !line.contains("forged-token") && !line.contains("Bearer")));
}

#[tokio::test(start_paused = true)]
async fn an_api_server_that_cannot_be_asked_is_no_verdict() {
    let mesh = Mesh::new();
    let status = mesh.ask(Ask::by("unavailable")).await.expect_err("no verdict");
    assert_eq!((status.code(), status.message()), (Code::Unavailable, "request authenticate failure"));
    // Asking again would not help.
    unauthenticated(mesh.ask(Ask::by("forbidden")).await, "no right to ask");
}

#[tokio::test(start_paused = true)]
async fn callers_who_are_not_known_yet_keep_nobody_else_from_being_worked_on() {
    let options = ServiceOptions { concurrency: 1, ..ServiceOptions::default() };
    let mesh = std::sync::Arc::new(Mesh::with(options, ""));
    let waiting = std::sync::Arc::clone(&mesh);
    let waits = tokio::spawn(async move { waiting.ask(Ask::by("hangs")).await.expect_err("late").code() });
    tokio::time::sleep(Duration::from_millis(10)).await;
    assert!(mesh.ask(Ask::default()).await.is_ok());
    assert_eq!(waits.await.unwrap(), Code::DeadlineExceeded);
}

#[tokio::test]
async fn of_a_long_cluster_id_the_log_has_the_beginning() {
    let mesh = Mesh::new();
    let metadata =
        vec![("authorization", "Bearer httpbin".to_owned()), ("clusterid", format!("{}!", "x".repeat(128)))];
    unauthenticated(mesh.ask(Ask { metadata, ..Ask::default() }).await, "another cluster");
    let lines = log::lines();
    assert!(lines[0].contains(&format!("cluster=\"{}\"", "x".repeat(128))), "{lines:#?}");
}
