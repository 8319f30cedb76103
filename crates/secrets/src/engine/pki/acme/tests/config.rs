//! What operators decide, and what becomes of directories then.

use super::*;
use crate::error::Kind;

#[tokio::test]
async fn the_config_is_refused_in_the_peers_words_and_then_stays_as_it_was() {
    let bed = Bed::new().await;
    bed.write("roles/web", json!({ "allow_any_name": true })).await.unwrap();
    bed.write("roles/nostore", json!({ "allow_any_name": true, "no_store": true })).await.unwrap();
    for (body, sentence) in [
        (
            json!({ "allowed_roles": "" }),
            "allowed_roles must take a non-zero length value; specify '*' as the value to allow anything or specify enabled=false to disable ACME entirely",
        ),
        (json!({ "allowed_roles": "*,web" }), "cannot use '*' as role name at index 0"),
        (
            json!({ "allowed_roles": "nope" }),
            "allowed_role nope is not a valid acme role: the request message was malformed: role does not exist",
        ),
        (
            json!({ "allowed_roles": "nostore" }),
            "allowed_role nostore is not a valid acme role: the server experienced an internal error: role can not be used as NoStore is set to true",
        ),
        (
            json!({ "allowed_issuers": "" }),
            "allowed_issuers must take a non-zero length value; specify '*' as the value to allow anything or specify enabled=false to disable ACME entirely",
        ),
        (json!({ "allowed_issuers": "root,*" }), "cannot use '*' as issuer name at index 1"),
        (
            json!({ "allowed_issuers": "nope" }),
            "failed validating allowed_issuers: unable to fetch issuer: nope: unable to find PKI issuer for reference: nope",
        ),
        (
            json!({ "default_directory_policy": "x" }),
            "invalid default_directory_policy: string x not a valid Default Directory Policy",
        ),
        (
            json!({ "default_directory_policy": "role:" }),
            "invalid default_directory_policy: no role specified by policy role:",
        ),
        (
            json!({ "default_directory_policy": "role:nope" }),
            "default directory policy role nope is not a valid ACME role: the request message was malformed: role does not exist",
        ),
        (
            json!({ "eab_policy": "x" }),
            "invalid eab policy name provided, valid values are 'not-required', 'new-account-required', 'always-required'",
        ),
        (
            json!({ "dns_resolver": "1.2.3.4" }),
            "failed to parse DNS resolver address: address 1.2.3.4: missing port in address",
        ),
        (
            json!({ "dns_resolver": "ns.example:53" }),
            "failed to parse DNS resolver address: expected IPv4/IPv6 address, likely got hostname",
        ),
    ] {
        let error = bed.write("config/acme", body.clone()).await.unwrap_err();
        assert_eq!(error.message(), format!("1 error occurred:\n\t* {sentence}\n\n"), "{body}");
        assert_eq!(error.kind, Kind::Internal);
    }
    let config = data(&bed.ask(Operation::Read, "config/acme", Value::Null).await.unwrap());
    let expected = json!({
        "allow_role_ext_key_usage": false, "allowed_issuers": ["*"], "allowed_roles": ["*"],
        "default_directory_policy": "sign-verbatim", "dns_resolver": "", "eab_policy": "not-required", "enabled": true,
    });
    assert_eq!(config, expected);
}

fn data(response: &Response) -> Value {
    serde_json::from_str(response.data.as_ref().unwrap().get()).unwrap()
}

#[tokio::test]
async fn acme_is_not_enabled_before_the_cluster_has_a_path() {
    let bed = Bed::new().await;
    bed.write("config/acme", json!({ "enabled": false })).await.unwrap();
    bed.write("config/cluster", json!({ "path": "" })).await.unwrap();
    let error = bed.write("config/acme", json!({ "enabled": true })).await.unwrap_err();
    assert!(
        error.message().contains("ACME feature requires local cluster 'path' field configuration to be set")
    );
    bed.write("config/acme", json!({ "dns_resolver": "127.0.0.1:53" })).await.unwrap();
    let answer = bed.get("acme/directory").await;
    assert_eq!((answer.status, answer.body.len()), (404, 0), "what is not enabled is not there");
}

#[tokio::test]
async fn a_config_that_could_not_be_stored_is_not_in_force_and_one_whose_fate_is_unknown_is_read_again() {
    let bed = Bed::new().await;
    for (fault, status) in [(Fault::Fails, 200), (Fault::FailsAfterPersisting, 404)] {
        assert_eq!(bed.get("acme/directory").await.status, 200);
        bed.next_commit(fault);
        assert!(bed.write("config/acme", json!({ "enabled": false })).await.is_err());
        assert_eq!(bed.get("acme/directory").await.status, status);
    }
}

#[tokio::test]
async fn directories_are_served_as_far_as_the_config_allows() {
    let bed = Bed::new().await;
    bed.write("roles/web", json!({ "allow_any_name": true })).await.unwrap();
    bed.write("roles/other", json!({ "allow_any_name": true })).await.unwrap();
    bed.write("roles/nostore", json!({ "allow_any_name": true, "no_store": true })).await.unwrap();
    let second = json!({ "common_name": "second", "key_type": "ec", "issuer_name": "second" });
    bed.write("issuers/generate/root/internal", second).await.unwrap();
    let status = async |path: &str| bed.get(&format!("{path}acme/directory")).await.refusal();
    let good = || (200, String::new());
    let malformed = || (400, "malformed".to_owned());
    let internal = || (500, "serverInternal".to_owned());
    for path in ["", "roles/web/", "issuer/default/", "issuer/second/roles/web/"] {
        assert_eq!(status(path).await, good(), "{path}");
        let directory = bed.get(&format!("{path}acme/directory")).await.json();
        assert_eq!(directory["newOrder"], format!("{BASE}{path}acme/new-order"));
        assert_eq!(directory["renewalInfo"], format!("{BASE}{path}acme/renewal-info"));
    }
    assert_eq!(status("roles/nope/").await, malformed());
    assert_eq!(status("issuer/nope/").await, malformed());
    assert_eq!(status("roles/nostore/").await, internal());

    let config =
        json!({ "allowed_roles": "web", "allowed_issuers": "root", "default_directory_policy": "forbid" });
    bed.write("config/acme", config).await.unwrap();
    assert_eq!(status("roles/web/").await, good());
    for path in ["", "issuer/default/", "roles/other/", "issuer/second/roles/web/"] {
        assert_eq!(status(path).await, internal(), "{path}");
    }
    bed.write("config/acme", json!({ "default_directory_policy": "role:web" })).await.unwrap();
    assert_eq!(status("").await, good());
    bed.write("issuer/root", json!({ "usage": "read-only", "issuer_name": "root" })).await.unwrap();
    assert_eq!(status("").await, internal());
}

#[tokio::test]
async fn nonces_come_with_every_answer_and_none_is_taken_twice() {
    let bed = Bed::new().await;
    let answer = bed.get("acme/new-nonce").await;
    assert_eq!((answer.status, answer.body.len()), (204, 0));
    assert_eq!(answer.header(Header::Link), format!("<{BASE}acme/directory>;rel=\"index\""));
    let client = Client::new(&bed, "acme/").await;
    let header = client.header(&client.kid).await;
    let envelope = client.key.sign(&header, b"");
    assert_eq!(client.send(&client.kid, &envelope).await.status, 200);
    let replayed = client.send(&client.kid, &envelope).await;
    assert_eq!(replayed.refusal(), (400, "badNonce".to_owned()));
    let fresh = replayed.header(Header::ReplayNonce);
    let again = bed.restarted().await;
    let client = Client { bed: &again, key: client.key, directory: "acme/".to_owned(), kid: client.kid };
    let mut header = client.header(&client.kid).await;
    header["nonce"] = fresh.into();
    let refused = client.send(&client.kid, &client.key.sign(&header, b"")).await;
    assert_eq!(refused.refusal(), (400, "badNonce".to_owned()), "those of before a restart are gone");
    header["nonce"] = refused.header(Header::ReplayNonce).into();
    assert_eq!(client.send(&client.kid, &client.key.sign(&header, b"")).await.status, 200);
}
