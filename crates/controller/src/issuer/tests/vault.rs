//! Issuers behind a server that does as it is told.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::vault_double::VaultDouble;
use super::*;

fn spec(url: &str) -> Value {
    let auth = json!({ "appRole": { "path": "approle", "roleId": "r", "secretRef": { "name": "login", "key": "secretId" } } });
    json!({ "vault": { "server": url, "path": "istioca/sign/mesh", "auth": auth } })
}

async fn bed() -> (Bed, Arc<VaultDouble>) {
    let (bed, vault) = (Bed::new().await, VaultDouble::start().await);
    bed.secret("login", &json!({ "secretId": base64("s1\n") }));
    bed.issuer(&spec(&vault.url()));
    (bed, vault)
}

fn pending(error: SignError) -> (&'static str, String) {
    match error {
        SignError::Pending { reason, message, retry_after: Some(wait) }
            if wait <= Duration::from_secs(76) =>
        {
            (reason, message)
        }
        other => panic!("{other:?}"),
    }
}

fn failed(error: SignError) -> String {
    match error {
        SignError::Failed { reason: "SigningError", message } => message,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn an_issuer_becomes_ready_and_signs_many_with_one_login() {
    let (bed, vault) = bed().await;
    assert_eq!(bed.reconcile().await.unwrap(), Next::After(Duration::from_secs(60)));
    assert_eq!(bed.ready(), ("True".into(), "VaultVerified".into(), "Vault verified".into()));
    let status = bed.api.get("issuers", "default", "issuer").unwrap();
    assert_eq!(status["status"]["conditions"][0]["observedGeneration"], status["metadata"]["generation"]);
    // Nothing changed: nothing is written, and nobody logs in.
    bed.reconcile().await.unwrap();
    let writes = bed.api.requests().iter().filter(|one| one.resource == "issuers/status").count();
    assert_eq!((writes, vault.seen("/login").len()), (1, 1));
    let (_, csr) = csr("a.example");
    let signed = bed.sign(&csr).await.unwrap();
    assert_eq!((count(&signed.certificate), signed.ca.as_deref().map(count)), (2, Some(1)));
    // Login, health, permission, signature: one connection, which is kept.
    let peers: BTreeSet<_> = vault.seen("").into_iter().map(|seen| seen.peer).collect();
    assert_eq!(peers.len(), 1);
    let begun = std::time::Instant::now();
    vault.is().delay = Duration::from_millis(100);
    let signs = (0..40).map(|_| bed.sign(&csr));
    for signed in futures_join(signs.collect()).await {
        signed.unwrap();
    }
    // They do not wait for each other.
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    assert_eq!(vault.seen("/login").len(), 1);
    let seen = vault.seen("/sign/mesh");
    assert_eq!(seen.len(), 41);
    assert_eq!(seen[0].body["ttl"], "2160h0m0s");
    bed.context.issuers.stop().await;
    assert_eq!(vault.seen("/revoke-self").len(), 1);
}

/// All at once, in this task.
async fn futures_join<T>(futures: Vec<impl Future<Output = T>>) -> Vec<T> {
    let mut futures: Vec<_> = futures.into_iter().map(|one| (Box::pin(one), None)).collect();
    std::future::poll_fn(|context| {
        let mut is_done = true;
        for (future, done) in &mut futures {
            if done.is_none() {
                match future.as_mut().poll(context) {
                    std::task::Poll::Ready(value) => *done = Some(value),
                    std::task::Poll::Pending => is_done = false,
                }
            }
        }
        if is_done { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
    futures.into_iter().filter_map(|(_, done)| done).collect()
}

#[tokio::test]
async fn many_that_come_before_the_first_check_share_one_login() {
    let (bed, vault) = bed().await;
    let (_, csr) = csr("a.example");
    for signed in futures_join((0..20).map(|_| bed.sign(&csr)).collect()).await {
        signed.unwrap();
    }
    assert_eq!(vault.seen("/login").len(), 1);
}

#[tokio::test]
async fn a_sealed_server_turns_the_issuer_false_and_true_again() {
    let (bed, vault) = bed().await;
    bed.reconcile().await.unwrap();
    vault.is().is_sealed = true;
    // Sooner than a ready one, and as often as it takes.
    assert_eq!(bed.reconcile().await.unwrap(), Next::After(Duration::from_secs(15)));
    assert_eq!(bed.reconcile().await.unwrap(), Next::After(Duration::from_secs(15)));
    assert_eq!(
        bed.ready(),
        (
            "False".into(),
            "VaultError".into(),
            "Failed to verify Vault is initialized and unsealed: Vault is sealed".into()
        )
    );
    let event = bed.event("ErrInitIssuer").await;
    assert_eq!(
        (event["type"].as_str(), event["message"].as_str(), event["involvedObject"]["kind"].as_str()),
        (Some("Warning"), Some("Error initializing issuer: Vault is sealed"), Some("Issuer"))
    );
    // A request that is under way waits.
    let (_, csr) = csr("a.example");
    let (reason, message) = pending(bed.sign(&csr).await.unwrap_err());
    assert_eq!(reason, "SigningError");
    assert!(
        message.starts_with(&format!(
            "Vault failed to sign certificate: failed to sign certificate by vault: Error making API request.\n\nURL: POST \
             {}/v1/istioca/sign/mesh\nCode: 503. Errors:\n\n* Vault is sealed",
            vault.url()
        )),
        "{message}"
    );
    vault.is().is_sealed = false;
    bed.reconcile().await.unwrap();
    assert_eq!(bed.ready().0, "True");
    bed.sign(&csr).await.unwrap();
    assert_eq!(vault.seen("/login").len(), 1);
}

#[tokio::test]
async fn a_server_that_is_gone_makes_requests_wait_and_is_found_again() {
    let (bed, vault) = bed().await;
    bed.reconcile().await.unwrap();
    vault.go().await;
    let (_, csr) = csr("a.example");
    let (_, message) = pending(bed.sign(&csr).await.unwrap_err());
    assert!(message.contains(&format!("Post \"{}/v1/istioca/sign/mesh\": ", vault.url())), "{message}");
    assert_eq!(pending(bed.sign(&csr).await.unwrap_err()).1, message);
    bed.reconcile().await.unwrap();
    assert!(bed.ready().2.starts_with("Failed to verify Vault is initialized and unsealed: Get \""));
    vault.come_back().await;
    bed.reconcile().await.unwrap();
    bed.sign(&csr).await.unwrap();
}

#[tokio::test]
async fn a_new_issuer_of_a_server_that_is_gone_says_so() {
    let (bed, vault) = bed().await;
    vault.go().await;
    bed.reconcile().await.unwrap();
    let (_, reason, message) = bed.ready();
    assert_eq!(reason, "VaultError");
    let begin = format!(
        "Failed to initialize Vault client: error logging in to Vault server: Post \"{}/v1/auth/approle/login\": ",
        vault.url()
    );
    assert!(message.starts_with(&begin) && message.ends_with("connection refused"), "{message}");
    let (_, csr) = csr("a.example");
    let (reason, message) = pending(bed.sign(&csr).await.unwrap_err());
    assert_eq!(reason, "VaultInitError");
    assert!(
        message.starts_with("Failed to initialise vault client for signing: error logging in"),
        "{message}"
    );
}

#[tokio::test]
async fn a_server_that_hangs_is_cut_off_with_a_sentence() {
    let (bed, vault) = bed().await;
    bed.reconcile().await.unwrap();
    vault.is().delay = Duration::from_secs(60);
    let begun = std::time::Instant::now();
    let (_, csr) = csr("a.example");
    let (_, message) = pending(bed.sign(&csr).await.unwrap_err());
    assert!(begun.elapsed() < Duration::from_secs(10));
    assert!(message.ends_with("context deadline exceeded: the server did not answer in time"), "{message}");
}

#[tokio::test]
async fn refusals_of_the_request_are_final_in_the_servers_words() {
    let (bed, vault) = bed().await;
    bed.reconcile().await.unwrap();
    let (_, csr) = csr("a.example");
    for (status, error) in [(400, "unknown role: nope"), (404, "no handler"), (405, "unsupported operation")]
    {
        vault.is().answer = Some((status, json!({ "errors": [error] }).to_string()));
        assert_eq!(
            failed(bed.sign(&csr).await.unwrap_err()),
            format!(
                "Vault failed to sign certificate: failed to sign certificate by vault: Error making API request.\n\nURL: POST \
                 {}/v1/istioca/sign/mesh\nCode: {status}. Errors:\n\n* {error}",
                vault.url()
            )
        );
    }
    for status in [412, 429, 500, 502] {
        vault.is().answer = Some((status, "{}".into()));
        pending(bed.sign(&csr).await.unwrap_err());
        bed.reconcile().await.unwrap();
    }
    vault.is().answer = Some((400, format!("<html>{}", "ä".repeat(5000))));
    let page = failed(bed.sign(&csr).await.unwrap_err());
    assert!(page.contains("Raw Message:\n\n<html>ä") && page.ends_with('…') && page.len() < 2200, "{page}");
    vault.is().answer = Some((200, "x".repeat(2 << 20)));
    assert!(failed(bed.sign(&csr).await.unwrap_err()).contains("is longer than 1048576 bytes"));
    vault.is().answer = Some((200, String::new()));
    assert!(
        failed(bed.sign(&csr).await.unwrap_err()).contains("failed to decode response returned by vault")
    );
}

#[tokio::test]
async fn a_revoked_token_is_replaced_and_a_missing_right_is_final() {
    let (bed, vault) = bed().await;
    bed.reconcile().await.unwrap();
    vault.revoke_all();
    let (_, csr) = csr("a.example");
    for signed in futures_join((0..10).map(|_| bed.sign(&csr)).collect()).await {
        signed.unwrap();
    }
    assert_eq!(vault.seen("/login").len(), 2);
    vault.is().answer =
        Some((403, json!({ "errors": ["1 error occurred:\n\t* permission denied\n\n"] }).to_string()));
    for _ in 0..3 {
        let message = failed(bed.sign(&csr).await.unwrap_err());
        assert!(
            message.ends_with("Code: 403. Errors:\n\n* 1 error occurred:\n\t* permission denied\n\n"),
            "{message}"
        );
    }
    // Nobody logs in again and again for a right that no token has.
    assert_eq!(vault.seen("/login").len(), 2);
}

#[tokio::test]
async fn a_check_notices_a_revoked_token() {
    let (bed, vault) = bed().await;
    bed.reconcile().await.unwrap();
    vault.revoke_all();
    bed.reconcile().await.unwrap();
    assert_eq!(vault.seen("/login").len(), 2);
    vault.revoke_all();
    vault.is().secret_id = "another".into();
    tokio::time::sleep(Duration::from_millis(10)).await;
    // Within ten seconds of a login after a refusal there is no second one; the check goes on without an answer.
    bed.reconcile().await.unwrap();
}

#[tokio::test]
async fn who_may_not_sign_is_not_ready_and_is_told_the_line() {
    let (bed, vault) = bed().await;
    vault.is().capabilities = Ok(vec!["deny"]);
    assert_eq!(bed.reconcile().await.unwrap(), Next::After(Duration::from_secs(15)));
    let (status, reason, message) = bed.ready();
    assert_eq!((status.as_str(), reason.as_str()), ("False", "VaultError"));
    assert!(message.ends_with(r#"path "istioca/sign/mesh" { capabilities = ["update"] }"#), "{message}");
    assert_eq!(vault.seen("/capabilities-self")[0].body, json!({ "paths": ["istioca/sign/mesh"] }));
    for status in [403, 404] {
        vault.is().capabilities = Err(status);
        bed.reconcile().await.unwrap();
        assert_eq!(bed.ready().0, "True");
    }
    let logins = vault.seen("/login").len();
    for _ in 0..5 {
        bed.reconcile().await.unwrap();
    }
    assert_eq!(vault.seen("/login").len(), logins);
}

#[tokio::test]
async fn a_wrong_secret_id_says_so_until_the_secret_changes() {
    let (bed, vault) = bed().await;
    bed.secret("login", &json!({ "secretId": base64("wrong") }));
    bed.reconcile().await.unwrap_err();
    let message = format!(
        "error logging in to Vault server: Error making API request.\n\nURL: POST {}/v1/auth/approle/login\nCode: 400. \
         Errors:\n\n* invalid role or secret ID",
        vault.url()
    );
    assert_eq!(bed.ready().2, format!("Failed to initialize Vault client: {message}"));
    // The event of our own writing does not cost a login: a few wrong ones lock a role out.
    bed.reconcile().await.unwrap_err();
    assert_eq!(vault.seen("/login").len(), 1);
    assert_eq!(bed.event("ErrInitIssuer").await["message"], format!("Error initializing issuer: {message}"));
    let (_, csr) = csr("a.example");
    assert_eq!(pending(bed.sign(&csr).await.unwrap_err()).0, "VaultInitError");
    assert_eq!(vault.seen("/login").len(), 1);
    bed.secret("login", &json!({ "secretId": base64("s1") }));
    bed.reconcile().await.unwrap();
    assert_eq!(bed.ready().0, "True");
    bed.sign(&csr).await.unwrap();
}

#[tokio::test]
async fn missing_and_malformed_secrets_are_named() {
    let (bed, vault) = bed().await;
    bed.api.remove("secrets", "default", "login");
    bed.reconcile().await.unwrap_err();
    assert_eq!(bed.ready().2, "Failed to initialize Vault client: secrets \"login\" not found");
    let (_, csr) = csr("a.example");
    let (reason, message) = pending(bed.sign(&csr).await.unwrap_err());
    assert_eq!(reason, "SecretMissing");
    assert_eq!(message, "Required secret resource not found: secrets \"login\" not found");
    for data in [json!({}), json!({ "secretId": "" }), json!({ "other": base64("x") })] {
        bed.secret("login", &data);
        bed.reconcile().await.unwrap_err();
        assert_eq!(
            bed.ready().2,
            "Failed to initialize Vault client: no data for \"secretId\" in secret 'default/login'"
        );
    }
    bed.secret("login", &json!({ "secretId": "/w==" }));
    bed.reconcile().await.unwrap_err();
    assert!(bed.ready().2.ends_with("\"secretId\" in secret 'default/login' is no text"));
    assert!(vault.seen("/login").is_empty());
    bed.secret("login", &json!({ "secretId": base64("s1") }));
    bed.reconcile().await.unwrap();
    assert_eq!(bed.ready().0, "True");
}

#[tokio::test]
async fn a_changed_secret_makes_a_new_connection_and_ends_the_old_token() {
    let (bed, vault) = bed().await;
    bed.reconcile().await.unwrap();
    vault.is().secret_id = "s2".into();
    bed.secret("login", &json!({ "secretId": base64("s2") }));
    bed.reconcile().await.unwrap();
    assert_eq!(vault.seen("/login").len(), 2);
    for _ in 0..200 {
        if !vault.seen("/revoke-self").is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(vault.seen("/revoke-self")[0].token, "t1");
    // Gone is gone.
    bed.api.remove("issuers", "default", "issuer");
    bed.context.cache.issuers.delete(&key("issuer"));
    bed.reconcile().await.unwrap();
    assert_eq!(vault.seen("/revoke-self").len(), 2);
}

#[tokio::test]
async fn a_given_token_need_not_look_at_itself_and_is_never_revoked() {
    let (bed, vault) = bed().await;
    bed.secret("login", &json!({ "token": base64(" given\n") }));
    let mut spec = spec(&format!("{}/base", vault.url()));
    spec["vault"]["auth"] = json!({ "tokenSecretRef": { "name": "login" } });
    spec["vault"]["namespace"] = json!("team");
    bed.issuer(&spec);
    vault.is().is_sealed = true;
    bed.reconcile().await.unwrap();
    assert_eq!(bed.ready().2, "Failed to verify Vault is initialized and unsealed: Vault is sealed");
    vault.is().is_sealed = false;
    bed.reconcile().await.unwrap();
    assert_eq!(bed.ready().0, "True");
    let (_, csr) = csr("a.example");
    bed.sign(&csr).await.unwrap();
    assert_eq!(vault.seen("/sys/health")[0].namespace, None);
    let signed = &vault.seen("/base/v1/istioca/sign/mesh")[0];
    assert_eq!((signed.namespace.as_deref(), signed.token.as_str()), (Some("team/"), "given"));
    bed.context.issuers.stop().await;
    assert!(vault.seen("/revoke-self").is_empty());
    vault.is().answer = Some((400, json!({ "errors": ["no"] }).to_string()));
    let message = failed(bed.sign(&csr).await.unwrap_err());
    assert!(message.contains("Error making API request.\n\nNamespace: team\nURL: POST http"), "{message}");
    // One that may not ask for its permissions is noticed all the same when it has come to its end.
    vault.is().answer = None;
    vault.is().capabilities = Err(403);
    bed.reconcile().await.unwrap();
    assert_eq!(bed.ready().0, "True");
    vault.revoke_all();
    bed.reconcile().await.unwrap();
    let message = bed.ready().2;
    assert!(
        message.starts_with("Vault does not allow to sign: the token is refused at \"istioca/sign/mesh\""),
        "{message}"
    );
}

#[tokio::test]
async fn a_service_accounts_token_is_requested_for_each_login_with_its_audiences() {
    static MADE: AtomicUsize = AtomicUsize::new(0);
    let (mut bed, vault) = bed().await;
    let (kubernetes, asked) = token_requests(&MADE).await;
    let options = ClientOptions { server: Some(kubernetes), ..ClientOptions::default() };
    let mut spec = spec(&vault.url());
    spec["vault"]["auth"] = json!({ "kubernetes": { "role": "mesh", "mountPath": "/v1/auth/k8s",
        "serviceAccountRef": { "name": "issuer", "audiences": ["mine"] } } });
    bed.issuer(&spec);
    let issuers = Issuers::new();
    bed.context.client = connect(&options).await.unwrap();
    issuers.attach(&bed.context);
    let (_, csr) = csr("a.example");
    issuers.sign(&order_of(&csr)).await.unwrap();
    vault.revoke_all();
    issuers.sign(&order_of(&csr)).await.unwrap();
    let logins = vault.seen("/v1/auth/k8s/login");
    let bodies: Vec<_> = logins.iter().map(|seen| seen.body.clone()).collect();
    assert_eq!(bodies, [json!({ "role": "mesh", "jwt": "jwt0" }), json!({ "role": "mesh", "jwt": "jwt1" })]);
    let (path, body) = asked.lock().unwrap()[0].clone();
    assert_eq!(path, "/api/v1/namespaces/default/serviceaccounts/issuer/token");
    assert_eq!(body["spec"]["expirationSeconds"], 600);
    assert_eq!(body["spec"]["audiences"], json!(["mine", "vault://default/issuer", vault.url()]));
}

type Asked = Arc<std::sync::Mutex<Vec<(String, Value)>>>;

/// An API server that makes tokens and nothing else.
async fn token_requests(made: &'static AtomicUsize) -> (String, Asked) {
    use http_body_util::{BodyExt, Full};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let asked = Asked::default();
    let log = Arc::clone(&asked);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let log = Arc::clone(&log);
            let answer = hyper::service::service_fn(move |request: http::Request<hyper::body::Incoming>| {
                let log = Arc::clone(&log);
                async move {
                    let path = request.uri().path().to_owned();
                    let body = request.into_body().collect().await.unwrap().to_bytes();
                    log.lock().unwrap().push((path, serde_json::from_slice(&body).unwrap()));
                    let token = format!("jwt{}", made.fetch_add(1, Ordering::Relaxed));
                    let status = json!({ "token": token, "expirationTimestamp": "2030-01-01T00:00:00Z" });
                    let answer = json!({ "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
                        "metadata": {}, "spec": { "audiences": [] }, "status": status });
                    http::Response::builder()
                        .status(201)
                        .body(Full::new(bytes::Bytes::from(answer.to_string())))
                }
            });
            let stream = hyper_util::rt::TokioIo::new(stream);
            tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(stream, answer));
        }
    });
    (url, asked)
}
