//! Users, denials, reviews, tokens of service accounts.

use chancery_testkit::kubernetes::{ApiServer, Fault, Grant};
use serde_json::{Value, json};

use crate::bed::{MAPS, ask, map};

#[tokio::test]
async fn tokens_are_users_and_denials_are_for_users() {
    let server = ApiServer::start().await;
    server.user("a", "alice", &["dev"]);
    server.user("b", "bob", &[]);
    server.deny_to("bob", "create", "configmaps");
    ask("POST", MAPS).bearer("a").body(map("m", "1")).good(&server).await;
    let (code, _, message) = ask("POST", MAPS).bearer("b").body(map("n", "1")).refused(&server).await;
    let expected = "configmaps is forbidden: User \"bob\" cannot create resource \"configmaps\" in API group \"\" in the namespace \"default\"";
    assert_eq!((code, message.as_str()), (403, expected));
    server.require_token("c");
    assert_eq!(ask("GET", MAPS).bearer("d").refused(&server).await.0, 401);
    ask("GET", MAPS).bearer("b").good(&server).await;
    let who = ask("POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews").bearer("a").body(json!({}));
    let who = who.good(&server).await;
    assert_eq!(who["status"]["userInfo"]["groups"], json!(["dev", "system:authenticated"]));
}

#[tokio::test]
async fn rights_are_what_was_granted_and_no_more() {
    let server = ApiServer::start().await;
    server.grant(Grant {
        name: "issuers.cert-manager.io/ca".into(),
        namespace: "default".into(),
        ..Grant::new("group:approvers", "approve", "cert-manager.io", "signers")
    });
    let review = |user: &str, group: &str, namespace: &str, name: &str| {
        let spec = json!({ "user": user, "groups": [group], "resourceAttributes": {
            "verb": "approve", "group": "cert-manager.io", "resource": "signers", "name": name, "namespace": namespace,
        }});
        ask("POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews").body(json!({ "spec": spec }))
    };
    let allowed = async |ask: crate::bed::Ask| ask.good(&server).await["status"]["allowed"] == true;
    assert!(allowed(review("alice", "approvers", "default", "issuers.cert-manager.io/ca")).await);
    assert!(!allowed(review("alice", "others", "default", "issuers.cert-manager.io/ca")).await);
    assert!(!allowed(review("alice", "approvers", "other", "issuers.cert-manager.io/ca")).await);
    assert!(!allowed(review("alice", "approvers", "default", "issuers.cert-manager.io/no")).await);
    server.deny_to("alice", "approve", "signers");
    assert!(!allowed(review("alice", "approvers", "default", "issuers.cert-manager.io/ca")).await);
    let own = || {
        let spec = json!({ "resourceAttributes": { "verb": "list", "resource": "secrets" } });
        ask("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews").body(json!({ "spec": spec }))
    };
    assert!(allowed(own()).await);
    server.deny("list", "secrets");
    assert!(!allowed(own()).await);
}

#[tokio::test]
async fn service_accounts_get_tokens_for_whom_they_ask() {
    let server = ApiServer::start().await;
    let path = "/api/v1/namespaces/default/serviceaccounts/signer/token";
    let request =
        || ask("POST", path).body(json!({ "spec": { "audiences": ["vault"], "expirationSeconds": 600 } }));
    assert_eq!(request().refused(&server).await.2, "serviceaccounts \"signer\" not found");
    server.service_account("default", "signer");
    let token = request().good(&server).await["status"]["token"].as_str().expect("a token").to_owned();
    let claims = data_encoding::BASE64URL_NOPAD.decode(token.split('.').nth(1).expect("claims").as_bytes());
    let claims: Value = serde_json::from_slice(&claims.expect("base64")).expect("JSON");
    assert_eq!(
        (&claims["aud"], &claims["sub"]),
        (&json!(["vault"]), &json!("system:serviceaccount:default:signer"))
    );
    let issued = server.issued_tokens();
    assert_eq!((issued.len(), issued[0].seconds, &issued[0].token), (1, 600, &token));
    server.inject("create", "serviceaccounts/token", Fault::Code(500), 1);
    assert_eq!(request().refused(&server).await.0, 500);
    let review = json!({ "spec": { "token": token, "audiences": ["vault"] } });
    let review = ask("POST", "/apis/authentication.k8s.io/v1/tokenreviews").body(review).good(&server).await;
    assert_eq!(review["status"]["user"]["username"], "system:serviceaccount:default:signer");
}
