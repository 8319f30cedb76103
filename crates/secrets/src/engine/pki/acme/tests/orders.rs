//! Orders from the first name to the certificate, and what goes wrong on the way.

use chancery_issuance::{IssuedCertificate, SerialNumber, Time};

use super::super::records::collection;
use super::client::alpn_certificate;
use super::*;

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_else(|| panic!("{name} in {value}"))
}

#[tokio::test]
async fn whoever_proves_a_name_gets_a_certificate_for_it_and_nothing_else() {
    let bed = Bed::new().await;
    let client = Client::new(&bed, "acme/").await;
    let order = client.order(&["a.example", "b.example"]).await;
    assert_eq!(order.status, 201);
    let url = order.header(Header::Location);
    assert_eq!(order.json()["status"], "pending");
    assert_eq!(order.json()["expires"], "2027-01-16T08:00:00Z");
    assert_eq!(
        order.json()["identifiers"],
        json!([{ "type": "dns", "value": "a.example" }, { "type": "dns", "value": "b.example" }])
    );
    let request = csr("a.example", &["B.example", "a.example"]);
    let early = client.finalize(&order, &request).await;
    assert_eq!(early.refusal(), (403, "orderNotReady".to_owned()));
    assert_eq!(client.read(&format!("{url}/cert")).await.refusal(), (403, "orderNotReady".to_owned()));
    client.prove(&order).await;
    assert_eq!(client.read(&url).await.json()["status"], "ready");
    let done = client.finalize(&order, &request).await;
    assert_eq!((done.status, &done.json()["status"]), (200, &json!("valid")), "{}", done.text());
    assert_eq!(client.finalize(&order, &request).await.refusal(), (403, "orderNotReady".to_owned()));

    let answer = client.read(text(&done.json(), "certificate")).await;
    let chain = Certificate::all_from_pem(&answer.text()).unwrap();
    let [leaf, root] = chain.as_slice() else { panic!("a leaf and its issuer") };
    assert!(leaf.is_signed_by(root));
    assert_eq!(leaf.sans().unwrap().dns, ["a.example", "b.example"], "as the order has them");
    assert_eq!(leaf.common_name(), Some("a.example"));
    assert_eq!(usages(leaf), ["ServerAuth"]);
    let days = (leaf.not_after().as_second() - NOW.as_second()) / 86_400;
    assert_eq!(days, 32, "the mount's default");
    let stored = bed.engine.store.certificate(&leaf.serial_number()).await.unwrap().unwrap();
    assert_eq!(stored.der, leaf.der());
}

fn usages(certificate: &Certificate) -> Vec<&'static str> {
    let (value, _) = certificate.extension(&[0x55, 0x1d, 37]).expect("extended key usage");
    let known = [("ServerAuth", 1_u8), ("ClientAuth", 2), ("CodeSigning", 3)];
    let has = |last: u8| value.windows(8).any(|oid| oid == [0x2b, 6, 1, 5, 5, 7, 3, last]);
    known.into_iter().filter(|(_, last)| has(*last)).map(|(name, _)| name).collect()
}

#[tokio::test]
async fn each_way_to_prove_a_name_works() {
    let bed = Bed::new().await;
    let client = Client::new(&bed, "acme/").await;
    for (name, kind) in [("*.w.example", "dns-01"), ("d.example", "dns-01"), ("t.example", "tls-alpn-01")] {
        let order = client.order(&[name]).await;
        let url = order.json()["authorizations"][0].as_str().unwrap().to_owned();
        let authorization = client.read(&url).await.json();
        let host = text(&authorization["identifier"], "value").to_owned();
        let kinds: Vec<&str> =
            authorization["challenges"].as_array().unwrap().iter().map(|one| text(one, "type")).collect();
        if name.starts_with('*') {
            assert_eq!((kinds, &authorization["wildcard"]), (vec!["dns-01"], &json!(true)));
            assert_eq!(host, "w.example");
        } else {
            assert_eq!(kinds, ["http-01", "dns-01", "tls-alpn-01"]);
            assert!(authorization.get("wildcard").is_none());
        }
        let challenge = client.challenge(&url, kind).await;
        let proof = client.key_authorization(text(&challenge, "token"));
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, proof.as_bytes());
        if kind == "dns-01" {
            let texts = vec!["v=spf1".to_owned(), BASE64URL.encode(digest)];
            bed.world.texts.lock().unwrap().insert(format!("_acme-challenge.{host}"), texts);
        } else {
            let certificate = alpn_certificate(&[&host], digest.as_ref(), true);
            bed.world.presented.lock().unwrap().insert(host, Presented { certificate, acme: true });
        }
        let answer = client.post(text(&challenge, "url"), json!({})).await;
        assert_eq!(answer.header(Header::Link), format!("<{url}>;rel=\"up\""));
        bed.settle().await;
        let after = client.read(&url).await.json();
        assert_eq!(after["status"], "valid", "{after}");
        assert_eq!(client.challenge(&url, kind).await["validated"], "2027-01-15T08:00:00Z");
        let done = client.finalize(&order, &csr("", &[name])).await;
        assert_eq!(done.status, 200, "{}", done.text());
    }
}

#[tokio::test]
async fn addresses_are_proved_over_http() {
    let bed = Bed::new().await;
    let client = Client::new(&bed, "acme/").await;
    let identifiers = json!({ "identifiers": [{ "type": "ip", "value": "192.0.2.7" }] });
    let order = client.post(&client.url("new-order"), identifiers).await;
    client.prove(&order).await;
    let done = client.finalize(&order, &csr("", &["192.0.2.7"])).await;
    assert_eq!(done.status, 200, "{}", done.text());

    bed.write("roles/any", json!({ "allow_any_name": true, "key_type": "any" })).await.unwrap();
    let client = Client::new(&bed, "roles/any/acme/").await;
    let identifiers = json!({ "identifiers": [{ "type": "ip", "value": "192.0.2.7" }] });
    let order = client.post(&client.url("new-order"), identifiers).await;
    client.prove(&order).await;
    let done = client.finalize(&order, &csr("", &["192.0.2.7"])).await;
    assert_eq!(done.status, 200, "a role that wants a common name: {}", done.text());
    let leaf = client.read(text(&done.json(), "certificate")).await.text();
    assert_eq!(Certificate::from_pem(&leaf).unwrap().common_name(), Some("192.0.2.7"));
}

#[tokio::test]
async fn a_proof_that_does_not_hold_is_looked_at_five_times() {
    let bed = Bed::new().await;
    let client = Client::new(&bed, "acme/").await;
    let order = client.order(&["a.example"]).await;
    let url = order.json()["authorizations"][0].as_str().unwrap().to_owned();
    let challenge = client.challenge(&url, "http-01").await;
    bed.world
        .files
        .lock()
        .unwrap()
        .insert(format!("a.example/{}", text(&challenge, "token")), b"other".to_vec());
    client.post(text(&challenge, "url"), json!({})).await;
    bed.settle().await;
    for (look, pause) in [(1, 5), (2, 10), (3, 15), (4, 20)] {
        let now = client.challenge(&url, "http-01").await;
        assert_eq!((text(&now, "status"), bed.world.asked()), ("processing", look));
        assert_eq!(now["error"]["type"], "urn:ietf:params:acme:error:incorrectResponse");
        bed.later(pause - 1);
        bed.tick().await;
        assert_eq!(bed.world.asked(), look, "not yet");
        bed.later(1);
        bed.tick().await;
    }
    assert_eq!(text(&client.challenge(&url, "http-01").await, "status"), "invalid");
    assert_eq!(client.read(&url).await.json()["status"], "invalid");
    assert_eq!(client.read(&order.header(Header::Location)).await.json()["status"], "invalid");
    bed.later(100);
    bed.tick().await;
    assert_eq!(bed.world.asked(), 5);
    let again = client.post(text(&challenge, "url"), json!({})).await;
    assert_eq!(again.json()["status"], "invalid", "what is decided stays decided");
}

#[tokio::test]
async fn a_proof_that_comes_late_is_found_at_the_next_look() {
    let bed = Bed::new().await;
    let client = Client::new(&bed, "acme/").await;
    let order = client.order(&["a.example"]).await;
    let url = order.json()["authorizations"][0].as_str().unwrap().to_owned();
    let challenge = client.challenge(&url, "http-01").await;
    client.post(text(&challenge, "url"), json!({})).await;
    bed.settle().await;
    let waiting = client.challenge(&url, "http-01").await;
    assert_eq!(waiting["error"]["type"], "urn:ietf:params:acme:error:connection");
    client.publish("a.example", text(&challenge, "token"));
    bed.later(5);
    bed.tick().await;
    let found = client.challenge(&url, "http-01").await;
    assert_eq!((text(&found, "status"), found.get("error")), ("valid", None));
}

#[tokio::test]
async fn what_was_being_looked_at_is_taken_up_after_a_restart() {
    let bed = Bed::new().await;
    let client = Client::new(&bed, "acme/").await;
    let order = client.order(&["a.example"]).await;
    let url = order.json()["authorizations"][0].as_str().unwrap().to_owned();
    let challenge = client.challenge(&url, "http-01").await;
    client.publish("a.example", text(&challenge, "token"));
    let answer = client.post(text(&challenge, "url"), json!({})).await;
    assert_eq!(answer.json()["status"], "processing");
    // The process ends before its job has begun.
    let again = bed.restarted().await;
    let client = Client { bed: &again, key: client.key, directory: client.directory, kid: client.kid };
    assert_eq!(text(&client.challenge(&url, "http-01").await, "status"), "processing");
    again.tick().await;
    assert_eq!(client.read(&url).await.json()["status"], "valid");
}

#[tokio::test]
async fn what_a_look_found_counts_once_it_is_durable() {
    let bed = Bed::new().await;
    let client = Client::new(&bed, "acme/").await;
    for fault in [Fault::Fails, Fault::FailsAfterPersisting] {
        let order = client.order(&["a.example"]).await;
        let url = order.json()["authorizations"][0].as_str().unwrap().to_owned();
        let challenge = client.challenge(&url, "http-01").await;
        client.publish("a.example", text(&challenge, "token"));
        let looks = bed.world.asked();
        client.post(text(&challenge, "url"), json!({})).await;
        bed.next_commit(fault);
        bed.settle().await;
        let status = client.read(&url).await.json()["status"].clone();
        assert_eq!(status, if fault == Fault::Fails { "pending" } else { "valid" }, "{fault:?}");
        bed.tick().await;
        assert_eq!(client.read(&url).await.json()["status"], "valid");
        let more = if fault == Fault::Fails { 2 } else { 1 };
        assert_eq!(bed.world.asked() - looks, more, "what was not written down is looked at again");
    }
}

#[tokio::test]
async fn the_word_that_a_proof_is_there_counts_once_it_is_durable() {
    let bed = Bed::new().await;
    let client = Client::new(&bed, "acme/").await;
    for (fault, status) in [(Fault::Fails, "pending"), (Fault::FailsAfterPersisting, "processing")] {
        let order = client.order(&["a.example"]).await;
        let url = order.json()["authorizations"][0].as_str().unwrap().to_owned();
        let challenge = client.challenge(&url, "http-01").await;
        client.publish("a.example", text(&challenge, "token"));
        let header = client.header(text(&challenge, "url")).await;
        let envelope = client.key.sign(&header, b"{}");
        // Nothing is due as far as the mount knows.
        bed.tick().await;
        bed.next_commit(fault);
        assert_eq!(client.send(text(&challenge, "url"), &envelope).await.status, 500);
        assert_eq!(text(&client.challenge(&url, "http-01").await, "status"), status);
        client.post(text(&challenge, "url"), json!({})).await;
        bed.tick().await;
        assert_eq!(client.read(&url).await.json()["status"], "valid", "{fault:?}");
    }
}

#[tokio::test]
async fn an_account_with_slow_hosts_holds_up_nobody_else() {
    let bed = Bed::new().await;
    let (slow, other) = (Client::new(&bed, "acme/").await, Client::new(&bed, "acme/").await);
    for number in 0..20 {
        slow.claim(&format!("slow{number}.example"), false).await;
    }
    bed.run_on().await;
    assert_eq!(bed.engine.acme.validations.jobs(), 4);
    let url = other.claim("a.example", true).await;
    bed.run_on().await;
    assert_eq!(other.read(&url).await.json()["status"], "valid");
    bed.world.patience.add_permits(20);
    for _ in 0..5 {
        bed.settle().await;
        bed.tick().await;
    }
    assert_eq!(bed.world.asked(), 21, "what waited had its turn");
}

#[tokio::test]
async fn an_account_has_so_many_challenges_looked_at_and_no_more() {
    let bed = Bed::new().await;
    let client = Client::new(&bed, "acme/").await;
    let account = client.kid.rsplit('/').next().unwrap().to_owned();
    let view = bed.engine.store.view.clone();
    let waiting = collection::validations_of(&account);
    let url = client.claim("a.example", false).await;
    bed.settle().await;
    assert_eq!(view.list(&waiting, None, 10).await.unwrap().len(), 1, "it is looked at again");
    for number in 0..99 {
        view.put(&waiting, &chancery_storage::Name::new(format!("{number}")), b"").await.unwrap();
    }
    let order = client.order(&["b.example"]).await;
    let another = order.json()["authorizations"][0].as_str().unwrap().to_owned();
    let another = client.challenge(&another, "http-01").await;
    let refused = client.post(text(&another, "url"), json!({})).await;
    assert_eq!(refused.refusal(), (429, "rateLimited".to_owned()));
    let token = client.challenge(&url, "http-01").await;
    client.publish("a.example", text(&token, "token"));
    bed.later(5);
    bed.tick().await;
    assert_eq!(view.list(&waiting, None, 1_000).await.unwrap().len(), 99, "one is over");
    assert_eq!(client.post(text(&another, "url"), json!({})).await.status, 200);
}

#[tokio::test]
async fn pauses_count_from_the_end_of_a_look() {
    let bed = Bed::new().await;
    let client = Client::new(&bed, "acme/").await;
    client.claim("slow.example", false).await;
    bed.run_on().await;
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    bed.world.patience.add_permits(10);
    bed.settle().await;
    bed.later(5);
    bed.tick().await;
    assert_eq!(bed.world.asked(), 1, "a second has gone by");
    bed.later(600);
    bed.tick().await;
    assert_eq!(bed.world.asked(), 2);
}

#[tokio::test]
async fn two_looks_at_a_time_count_as_one() {
    let bed = Bed::new().await;
    let client = Client::new(&bed, "acme/").await;
    bed.world.patience.add_permits(1);
    client.claim("slow.example", false).await;
    bed.settle().await;
    let view = &bed.engine.store.view;
    let names = view.list(collection::VALIDATIONS, None, 10).await.unwrap();
    let look = |seconds| bed.engine.validate(&names[0], bed.now() + Duration::from_secs(seconds));
    let answers = async {
        for _ in 0..2 {
            bed.run_on().await;
            bed.world.patience.add_permits(1);
        }
    };
    let (one, two, ()) = tokio::join!(look(5), look(6), answers);
    assert!(one.is_ok() && two.is_ok());
    assert_eq!(bed.world.asked(), 3);
    assert_eq!(view.list(collection::VALIDATIONS, None, 10).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_validation_that_cannot_be_read_is_passed_over() {
    let bed = Bed::new().await;
    let client = Client::new(&bed, "acme/").await;
    let bad = chancery_storage::Name::ordered(0, "bad");
    bed.engine.store.view.put(collection::VALIDATIONS, &bad, b"nonsense").await.unwrap();
    let url = client.claim("a.example", false).await;
    bed.settle().await;
    let challenge = client.challenge(&url, "http-01").await;
    client.publish("a.example", text(&challenge, "token"));
    bed.later(5);
    bed.tick().await;
    assert_eq!(client.read(&url).await.json()["status"], "valid");
}

#[tokio::test]
async fn orders_and_certificates_are_made_while_their_account_changes() {
    let bed = Bed::new().await;
    let client = Client::new(&bed, "acme/").await;
    let contact = || client.post(&client.kid, json!({ "contact": ["mailto:b@example.com"] }));
    for _ in 0..5 {
        let (order, changed) = tokio::join!(client.order(&["a.example"]), contact());
        assert_eq!((order.status, changed.status), (201, 200), "{}", order.text());
        client.prove(&order).await;
        let request = csr("", &["a.example"]);
        let (done, changed) = tokio::join!(client.finalize(&order, &request), contact());
        assert_eq!((done.status, changed.status), (200, 200), "{}", done.text());
    }
}

#[tokio::test]
async fn an_order_that_could_not_be_stored_is_not_there() {
    let bed = Bed::new().await;
    let client = Client::new(&bed, "acme/").await;
    for (fault, there) in [(Fault::Fails, 0), (Fault::FailsAfterPersisting, 1)] {
        let url = client.url("new-order");
        let header = client.header(&url).await;
        let body = json!({ "identifiers": [{ "type": "dns", "value": "a.example" }] });
        let envelope = client.key.sign(&header, body.to_string().as_bytes());
        bed.next_commit(fault);
        assert_eq!(client.send(&url, &envelope).await.status, 500);
        let orders = client.read(&client.url("orders")).await.json();
        assert_eq!(orders["orders"].as_array().unwrap().len(), there);
    }
}

#[tokio::test]
async fn a_certificate_that_could_not_be_stored_was_not_given() {
    let bed = Bed::new().await;
    let client = Client::new(&bed, "acme/").await;
    for (fault, status) in [(Fault::Fails, "ready"), (Fault::FailsAfterPersisting, "valid")] {
        let order = client.order(&["a.example"]).await;
        client.prove(&order).await;
        let url = text(&order.json(), "finalize").to_owned();
        let header = client.header(&url).await;
        let body = json!({ "csr": BASE64URL.encode(csr("", &["a.example"])) });
        let envelope = client.key.sign(&header, body.to_string().as_bytes());
        bed.next_commit(fault);
        assert_eq!(client.send(&url, &envelope).await.refusal(), (500, "serverInternal".to_owned()));
        let after = client.read(&order.header(Header::Location)).await.json();
        assert_eq!(after["status"], status, "{fault:?}");
        if status == "ready" {
            assert_eq!(client.finalize(&order, &csr("", &["a.example"])).await.status, 200);
        }
        let after = client.read(&order.header(Header::Location)).await.json();
        assert_eq!(client.read(text(&after, "certificate")).await.status, 200);
    }
}

/// userId (RFC 4519, 2.39).
const UID: [u8; 10] = [0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 1, 1];

#[tokio::test]
async fn a_certificate_stands_on_what_was_read_and_if_that_changed_is_given_only_if_it_still_may() {
    let bed = Bed::new().await;
    let client = Client::new(&bed, "acme/").await;
    let engine = &bed.engine;
    for given_up in [false, true] {
        let order = client.order(&["a.example"]).await;
        client.prove(&order).await;
        let path = text(&order.json(), "finalize").strip_prefix(BASE).unwrap().to_owned();
        let call = bed.call(Operation::Update, &path, Value::Null);
        let directory =
            engine.directory(&call).await.unwrap().unwrap().unwrap_or_else(|why| panic!("{why:?}"));
        let account = engine.account(client.kid.rsplit('/').next().unwrap()).await.unwrap().unwrap();
        let record = engine.own_order(&call, &account.value).await.unwrap();
        let standing = engine.standing(account, record, NOW).await.unwrap_or_else(|why| panic!("{why:?}"));
        if given_up {
            let url = order.json()["authorizations"][0].as_str().unwrap().to_owned();
            assert_eq!(client.post(&url, json!({ "status": "deactivated" })).await.status, 200);
        } else {
            client.post(&client.kid, json!({ "contact": ["mailto:a@example.com"] })).await;
        }
        let serial_number = SerialNumber::generate(NOW, [7; 14]);
        let certificate = IssuedCertificate {
            der: b"leaf".to_vec(),
            pem: String::new(),
            serial_number,
            not_before: Time::from(NOW),
            not_after: Time::from(NOW),
            warnings: Vec::new(),
        };
        let kept = engine.keep(standing, &directory, &call, certificate).await;
        assert_eq!(kept.is_ok(), !given_up);
        let after = client.read(&order.header(Header::Location)).await.json();
        assert_eq!(after["status"], if given_up { "invalid" } else { "valid" });
    }
}

#[tokio::test]
async fn a_csr_asks_for_the_names_of_its_order_and_no_others() {
    let bed = Bed::new().await;
    let client = Client::new(&bed, "acme/").await;
    let order = client.order(&["a.example"]).await;
    client.prove(&order).await;
    let key = PrivateKey::generate(KeySpec::new("ec", 256).unwrap()).unwrap();
    let other = Key::new("ES256");
    for (request, why) in [
        (csr("", &["b.example"]), "missing order DNS identifier a.example"),
        (csr("", &["a.example", "b.example"]), "mismatch on number of DNS identifiers"),
        (csr("b.example", &["a.example"]), "mismatch on number of DNS identifiers"),
        (csr("", &["*.a.example"]), "missing order DNS identifier"),
        (csr("", &["a.example", "192.0.2.1"]), "mismatch on number of IP identifiers"),
        (csr("x", &[]), "missing order DNS identifier"),
        (csr_of(&key, "", &["a.example"], true), "CA set to true"),
        (other.csr_of(&[0x55, 4, 5], &["a.example"]), "which nobody proved"),
        (other.csr_of(&UID, &["a.example"]), "which nobody proved"),
        (b"nonsense".to_vec(), "parsed"),
    ] {
        let answer = client.finalize(&order, &request).await;
        assert_eq!(answer.refusal(), (400, "badCSR".to_owned()), "{}", answer.text());
        assert!(answer.text().contains(why), "{why}: {}", answer.text());
    }
    let mut forged = csr("", &["a.example"]);
    *forged.last_mut().unwrap() ^= 1;
    assert_eq!(client.finalize(&order, &forged).await.problem(), "badCSR");
    let url = text(&order.json(), "finalize").to_owned();
    assert_eq!(client.post(&url, json!({})).await.problem(), "malformed");
    assert_eq!(client.post(&url, json!({ "csr": "%" })).await.problem(), "malformed");
    assert_eq!(client.finalize(&order, &csr("", &["a.example"])).await.status, 200);
}

#[tokio::test]
async fn nobody_sees_or_touches_what_is_anothers() {
    let bed = Bed::new().await;
    let (owner, other) = (Client::new(&bed, "acme/").await, Client::new(&bed, "acme/").await);
    let order = owner.order(&["a.example"]).await;
    let authorization = order.json()["authorizations"][0].as_str().unwrap().to_owned();
    let challenge = owner.challenge(&authorization, "http-01").await;
    let malformed = || (400, "malformed".to_owned());
    assert_eq!(other.read(&order.header(Header::Location)).await.refusal(), malformed());
    assert_eq!(other.read(&authorization).await.refusal(), malformed());
    assert_eq!(other.post(&authorization, json!({ "status": "deactivated" })).await.refusal(), malformed());
    assert_eq!(other.post(text(&challenge, "url"), json!({})).await.refusal(), malformed());
    owner.prove(&order).await;
    assert_eq!(other.finalize(&order, &csr("", &["a.example"])).await.refusal(), malformed());
    assert_eq!(owner.finalize(&order, &csr("", &["a.example"])).await.status, 200);
    let certificate = format!("{}/cert", order.header(Header::Location));
    assert_eq!(other.read(&certificate).await.refusal(), malformed());
    let nowhere = owner.url("order/0190163d-8694-739b-aea5-966c26f8ad91");
    assert_eq!(
        other.read(&order.header(Header::Location)).await.json()["detail"],
        owner.read(&nowhere).await.json()["detail"],
        "another's and none look the same"
    );
    assert_eq!(other.read(&other.kid).await.header(Header::Location), other.kid);
}

#[tokio::test]
async fn an_authorization_that_was_given_up_is_worth_nothing() {
    let bed = Bed::new().await;
    let client = Client::new(&bed, "acme/").await;
    let order = client.order(&["a.example"]).await;
    client.prove(&order).await;
    let url = order.json()["authorizations"][0].as_str().unwrap().to_owned();
    assert_eq!(client.post(&url, json!({ "status": "revoked" })).await.problem(), "malformed");
    bed.next_commit(Fault::Fails);
    assert_eq!(client.post(&url, json!({ "status": "deactivated" })).await.status, 500);
    let ended = client.post(&url, json!({ "status": "deactivated" })).await;
    assert_eq!(ended.json()["status"], "deactivated");
    assert_eq!(client.post(&url, json!({ "status": "deactivated" })).await.problem(), "malformed");
    assert_eq!(client.finalize(&order, &csr("", &["a.example"])).await.problem(), "orderNotReady");
    assert_eq!(client.read(&order.header(Header::Location)).await.json()["status"], "invalid");
}

#[tokio::test]
async fn an_order_ends_after_a_day() {
    let bed = Bed::new().await;
    let client = Client::new(&bed, "acme/").await;
    let (pending, ready) = (client.order(&["a.example"]).await, client.order(&["b.example"]).await);
    client.prove(&ready).await;
    bed.later(24 * 3600);
    for order in [&pending, &ready] {
        assert_eq!(client.read(&order.header(Header::Location)).await.json()["status"], "invalid");
    }
    let url = pending.json()["authorizations"][0].as_str().unwrap().to_owned();
    assert_eq!(client.read(&url).await.json()["status"], "expired");
    let challenge = client.challenge(&url, "http-01").await;
    assert_eq!(client.post(text(&challenge, "url"), json!({})).await.json()["status"], "pending");
    assert_eq!(client.finalize(&ready, &csr("", &["b.example"])).await.problem(), "orderNotReady");
}

#[tokio::test]
async fn roles_say_what_may_be_certified_and_how() {
    let bed = Bed::new().await;
    let strict = json!({ "allowed_domains": "good.example", "allow_subdomains": true, "key_type": "ec", "allow_ip_sans": false,
        "allow_wildcard_certificates": false, "server_flag": false, "client_flag": true, "ttl": "1h", "ou": "team" });
    bed.write("roles/strict", strict).await.unwrap();
    let client = Client::new(&bed, "roles/strict/acme/").await;
    for names in [&["a.bad.example"][..], &["a.good.example", "bad.example"], &["*.good.example"]] {
        assert_eq!(client.order(names).await.refusal(), (400, "rejectedIdentifier".to_owned()), "{names:?}");
    }
    let address = json!({ "identifiers": [{ "type": "ip", "value": "192.0.2.1" }] });
    assert_eq!(client.post(&client.url("new-order"), address).await.problem(), "rejectedIdentifier");

    let leaf = client.certificate(&["a.good.example"]).await;
    assert_eq!(usages(&leaf), ["ServerAuth"], "a name was proved, and no more");
    assert_eq!(leaf.common_name(), Some("a.good.example"), "roles want one");
    assert_eq!(leaf.not_after().as_second() - NOW.as_second(), 3600);
    bed.write("config/acme", json!({ "allow_role_ext_key_usage": true })).await.unwrap();
    assert_eq!(usages(&client.certificate(&["a.good.example"]).await), ["ClientAuth"]);

    bed.write("roles/odd", json!({ "allow_any_name": true, "not_after": "zz" })).await.unwrap();
    let odd = Client::new(&bed, "roles/odd/acme/").await.order(&["a.example"]).await;
    assert_eq!(odd.refusal(), (400, "malformed".to_owned()), "a role that means nothing");
    assert!(!odd.header(Header::ReplayNonce).is_empty());

    bed.write("roles/rsa", json!({ "allow_any_name": true })).await.unwrap();
    let client = Client::new(&bed, "roles/rsa/acme/").await;
    let order = client.order(&["a.example"]).await;
    client.prove(&order).await;
    assert_eq!(client.finalize(&order, &csr("", &["a.example"])).await.refusal(), (400, "badCSR".to_owned()));
}

#[tokio::test]
async fn a_leaf_ends_with_its_issuer_and_after_ninety_days_where_no_role_says_more() {
    let bed = Bed::new().await;
    let short = json!({ "common_name": "short", "key_type": "ec", "issuer_name": "short", "ttl": "24h" });
    bed.write("issuers/generate/root/internal", short).await.unwrap();
    let client = Client::new(&bed, "issuer/short/acme/").await;
    let leaf = client.certificate(&["a.example"]).await;
    assert_eq!(leaf.not_after().as_second() - NOW.as_second(), 86_400);
    bed.engine.mount.tune(Tuning {
        default_lease_ttl: Ttl::hours(50_000),
        max_lease_ttl: Ttl::hours(87_600),
        ..Tuning::default()
    });
    let client = Client::new(&bed, "acme/").await;
    let leaf = client.certificate(&["a.example"]).await;
    assert_eq!(leaf.not_after().as_second() - NOW.as_second(), 90 * 86_400);
}

#[tokio::test]
async fn certificates_are_revoked_by_who_got_them_or_has_their_key() {
    let bed = Bed::new().await;
    let (client, other) = (Client::new(&bed, "acme/").await, Client::new(&bed, "acme/").await);
    let leaf = client.certificate(&["a.example"]).await;
    let url = client.url("revoke-cert");
    let body = |reason: i64| json!({ "certificate": BASE64URL.encode(leaf.der()), "reason": reason });
    assert_eq!(other.post(&url, body(0)).await.refusal(), (400, "malformed".to_owned()));
    for reason in [-1, 2, 6, 7, 8, 9, 10, 256] {
        assert_eq!(client.post(&url, body(reason)).await.problem(), "badRevocationReason", "{reason}");
    }
    let mut forged = leaf.der().to_vec();
    *forged.last_mut().unwrap() ^= 1;
    let forged = json!({ "certificate": BASE64URL.encode(forged) });
    assert_eq!(client.post(&url, forged).await.problem(), "malformed");
    assert_eq!(client.post(&url, json!({})).await.problem(), "malformed");
    assert_eq!(client.post(&url, json!({ "certificate": "AAAA" })).await.problem(), "malformed");
    assert!(bed.engine.store.revocation(&leaf.serial_number()).await.unwrap().is_none());
    assert_eq!(client.post(&url, body(1)).await.json()["state"], "revoked");
    assert!(bed.engine.store.revocation(&leaf.serial_number()).await.unwrap().is_some());
    assert_eq!(client.post(&url, body(0)).await.refusal(), (400, "alreadyRevoked".to_owned()));

    // With the certificate's own key.
    let key = Key::new("ES256");
    let order = client.order(&["a.example"]).await;
    client.prove(&order).await;
    let done = client.finalize(&order, &key.csr(&["a.example"])).await;
    assert_eq!(done.status, 200, "{}", done.text());
    let pem = client.read(text(&done.json(), "certificate")).await.text();
    let leaf = Certificate::from_pem(&pem).unwrap();
    let body = json!({ "certificate": BASE64URL.encode(leaf.der()) }).to_string();
    for (key, status) in [(&other.key, 400), (&key, 200)] {
        let header =
            json!({ "alg": key.algorithm, "jwk": key.jwk(), "nonce": bed.nonce().await, "url": url });
        assert_eq!(client.send(&url, &key.sign(&header, body.as_bytes())).await.status, status);
    }
}

#[tokio::test]
async fn a_certificate_is_not_for_the_accounts_own_key() {
    let bed = Bed::new().await;
    let client = Client::new(&bed, "acme/").await;
    let order = client.order(&["a.example"]).await;
    client.prove(&order).await;
    let answer = client.finalize(&order, &client.key.csr(&["a.example"])).await;
    assert_eq!(answer.refusal(), (400, "badCSR".to_owned()));
}

#[tokio::test]
async fn orders_are_listed_in_pages_and_bounded_in_number() {
    let bed = Bed::new().await;
    let client = Client::new(&bed, "acme/").await;
    let id = |url: &str| url.rsplit('/').next().unwrap().to_owned();
    let account = id(&client.kid);
    let mut writes = Writes::new();
    let view = bed.engine.store.view.clone();
    for _ in 0..998 {
        let order = super::super::records::fresh_id(NOW).unwrap();
        let name = super::super::records::name_of(&order);
        writes.put(&view, &collection::orders_of(&account), &name, &[]).unwrap();
    }
    view.commit(writes).await.unwrap();
    assert_eq!(client.order(&["a.example"]).await.status, 201);
    assert_eq!(client.order(&["a.example"]).await.status, 201);
    let refused = client.order(&["a.example"]).await;
    assert_eq!(refused.refusal(), (429, "rateLimited".to_owned()));
    assert_eq!(refused.header(Header::RetryAfter), "60");
    let (mut seen, mut url) = (Vec::new(), client.url("orders"));
    loop {
        let page = client.read(&url).await;
        let orders: Vec<String> = serde_json::from_value(page.json()["orders"].clone()).unwrap();
        assert!(orders.len() <= 200);
        seen.extend(orders);
        let next = page.headers.iter().find(|(_, value)| value.ends_with("rel=\"next\""));
        let Some((_, link)) = next else { break };
        url = link.trim_start_matches('<').split('>').next().unwrap().to_owned();
    }
    let count = seen.len();
    seen.sort();
    seen.dedup();
    assert_eq!((count, seen.len()), (1_000, 1_000));
    bed.later(3601);
    assert_eq!(client.order(&["a.example"]).await.status, 201, "the next hour is another");
}

#[tokio::test]
async fn clients_learn_when_to_renew_and_say_what_they_replace() {
    let bed = Bed::new().await;
    let (client, other) = (Client::new(&bed, "acme/").await, Client::new(&bed, "acme/").await);
    let leaf = client.certificate(&["a.example"]).await;
    let id = |leaf: &Certificate| {
        let serial = leaf.serial_number();
        let key = BASE64URL.encode(leaf.authority_key_id().unwrap());
        format!("{key}.{}", BASE64URL.encode(serial.as_bytes()))
    };
    let info = bed.get(&format!("acme/renewal-info/{}", id(&leaf))).await;
    assert_eq!(info.header(Header::RetryAfter), "21600");
    let window = &info.json()["suggestedWindow"];
    let (start, end) = (text(window, "start"), text(window, "end"));
    assert!(start < end && end < leaf.not_after().to_timestamp().to_string().as_str(), "{window}");
    assert!(start > NOW.to_string().as_str());
    for wrong in ["x", "x.y", "AAAA.AAAA", &id(&leaf).replace('.', "A.")] {
        let answer = bed.get(&format!("acme/renewal-info/{wrong}")).await;
        assert_eq!(answer.problem(), "malformed", "{wrong}");
    }
    let replacing = async |client: &Client<'_>, name: &str, id: &str| {
        let body = json!({ "identifiers": [{ "type": "dns", "value": name }], "replaces": id });
        client.post(&client.url("new-order"), body).await
    };
    assert_eq!(replacing(&other, "a.example", &id(&leaf)).await.problem(), "malformed");
    assert_eq!(replacing(&client, "b.example", &id(&leaf)).await.problem(), "malformed");
    let order = replacing(&client, "a.example", &id(&leaf)).await;
    assert_eq!((order.status, &order.json()["replaces"]), (201, &json!(id(&leaf))));
    client.prove(&order).await;
    assert_eq!(client.finalize(&order, &csr("", &["a.example"])).await.status, 200);
    let again = replacing(&client, "a.example", &id(&leaf)).await;
    assert_eq!(again.refusal(), (409, "alreadyReplaced".to_owned()));

    let body = json!({ "certificate": BASE64URL.encode(leaf.der()) });
    client.post(&client.url("revoke-cert"), body).await;
    let window = bed.get(&format!("acme/renewal-info/{}", id(&leaf))).await.json()["suggestedWindow"].clone();
    assert!(
        text(&window, "end") <= NOW.to_string().as_str(),
        "what was revoked is renewed at once: {window}"
    );
}
