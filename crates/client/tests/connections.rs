//! How the server is reached, and whom the client believes.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test fails by panicking")]

mod server;

use std::fs;

use chancery_client::{Client, Config, Loss, Request};
use server::{Reply, Server, ask, loss, testdata};

fn path(name: &str) -> String {
    testdata(name).to_str().unwrap().to_owned()
}

const UNKNOWN: &str = "tls: failed to verify certificate: x509: certificate signed by unknown authority";

#[tokio::test]
async fn a_server_is_believed_if_a_given_authority_vouches_for_it() {
    let server = Server::tls("server");
    let (ours, theirs) = (path("authority.pem"), path("other_authority.pem"));
    ask(&server, &[("VAULT_CACERT", &ours)]).await.unwrap();
    ask(&server, &[("VAULT_CACERT_BYTES", &fs::read_to_string(&ours).unwrap())]).await.unwrap();
    for settings in [&[][..], &[("VAULT_CACERT", theirs.as_str())]] {
        let (kind, sentence) = loss(ask(&server, settings).await);
        assert_eq!(kind, Loss::Tls);
        assert_eq!(sentence, format!("Get \"{}/v1/x\": {UNKNOWN}", server.address));
    }
    assert_eq!(server.seen().len(), 2);
}

#[tokio::test]
async fn authorities_are_found_in_a_folder_among_other_files_and_beside_a_single_one() {
    let server = Server::tls("server");
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().to_str().unwrap();
    fs::write(folder.path().join("README"), "not a certificate").unwrap();
    let error = ask(&server, &[("VAULT_CAPATH", place)]).await.unwrap_err();
    assert_eq!(error.to_string(), format!("failed to create client: {place}: holds no certificate in PEM"));

    fs::create_dir(folder.path().join("below")).unwrap();
    fs::copy(testdata("authority.pem"), folder.path().join("below/authority.crt")).unwrap();
    // A link to a folder may lead in a circle.
    std::os::unix::fs::symlink(folder.path(), folder.path().join("circle")).unwrap();
    ask(&server, &[("VAULT_CAPATH", place)]).await.unwrap();
    let theirs = path("other_authority.pem");
    ask(&server, &[("VAULT_CAPATH", place), ("VAULT_CACERT", &theirs)]).await.unwrap();
}

#[tokio::test]
async fn what_cannot_be_an_authority_is_refused_before_anything_is_sent() {
    let server = Server::tls("server");
    for (name, value, expected) in [
        ("VAULT_CACERT", path("absent.pem"), "absent.pem: No such file or directory (os error 2)"),
        ("VAULT_CACERT", path("make.sh"), "make.sh: holds no certificate in PEM"),
        ("VAULT_CACERT_BYTES", "x".to_owned(), "VAULT_CACERT_BYTES: holds no certificate in PEM"),
        ("VAULT_CAPATH", path("absent"), "absent: No such file or directory (os error 2)"),
    ] {
        for unverified in ["false", "true"] {
            let settings = [(name, value.as_str()), ("VAULT_SKIP_VERIFY", unverified)];
            let error = ask(&server, &settings).await.unwrap_err().to_string();
            assert!(error.starts_with("failed to create client: ") && error.ends_with(expected), "{error}");
        }
    }
    assert!(server.seen().is_empty());
}

#[tokio::test]
async fn the_certificate_must_carry_the_host_or_the_name_that_is_asked_for() {
    let server = Server::tls("server_elsewhere");
    let authority = path("authority.pem");
    let named = |name| [("VAULT_CACERT", authority.as_str()), ("VAULT_TLS_SERVER_NAME", name)];
    for (name, expected) in [("", "127.0.0.1"), ("other.test", "other.test")] {
        let (kind, sentence) = loss(ask(&server, &named(name)).await);
        assert_eq!(kind, Loss::Tls, "{sentence}");
        let end = format!("x509: certificate is valid for chancery.test, not {expected}");
        assert!(sentence.ends_with(&end), "{sentence}");
    }
    ask(&server, &named("chancery.test")).await.unwrap();
    // The name is for TLS only.
    let host = server.address.trim_start_matches("https://").to_owned();
    assert_eq!(server.seen()[0].header("host"), Some(host.as_str()));
}

#[tokio::test]
async fn an_expired_certificate_is_named_as_such_and_any_is_believed_on_request() {
    let server = Server::tls("server_expired");
    let (kind, sentence) = loss(ask(&server, &[("VAULT_CACERT", &path("authority.pem"))]).await);
    assert_eq!(kind, Loss::Tls);
    let expected = "tls: failed to verify certificate: x509: certificate has expired or is not yet valid";
    assert!(sentence.contains(expected), "{sentence}");
    ask(&server, &[("VAULT_SKIP_VERIFY", "true")]).await.unwrap();
    ask(&Server::tls("server_elsewhere"), &[("VAULT_SKIP_VERIFY", "1")]).await.unwrap();
    assert!(loss(ask(&server, &[("VAULT_SKIP_VERIFY", "false")]).await).1.contains("x509"));
}

#[tokio::test]
async fn a_client_certificate_is_shown_with_its_key_and_not_without() {
    let server = Server::tls("server");
    let authority = ("VAULT_CACERT", path("authority.pem"));
    let authority = (authority.0, authority.1.as_str());
    let (certificate, key, other) = (path("client.pem"), path("client.key"), path("server.key"));
    ask(&server, &[authority]).await.unwrap();
    ask(&server, &[authority, ("VAULT_CLIENT_CERT", &certificate), ("VAULT_CLIENT_KEY", &key)])
        .await
        .unwrap();
    assert_eq!(server.seen().iter().map(|seen| seen.certified).collect::<Vec<_>>(), [false, true]);

    for half in [("VAULT_CLIENT_CERT", certificate.as_str()), ("VAULT_CLIENT_KEY", &key)] {
        let error = ask(&server, &[authority, half]).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "failed to create client: both client cert and client key must be provided"
        );
    }
    let foreign = [authority, ("VAULT_CLIENT_CERT", &certificate), ("VAULT_CLIENT_KEY", &other)];
    let error = ask(&server, &foreign).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("failed to create client: {other}: tls: private key does not match public key")
    );
    assert_eq!(server.seen().len(), 2);
}

#[tokio::test]
async fn a_name_and_password_in_the_address_are_sent_as_such_and_not_as_a_part_of_it() {
    let server = Server::start(|_, _| Reply::ok());
    let address = server.address.replace("http://", "http://us%3aer:p%40ss@");
    ask(&server, &[("VAULT_ADDR", &address)]).await.unwrap();
    let seen = &server.seen()[0];
    let host = server.address.trim_start_matches("http://");
    assert_eq!((seen.target.as_str(), seen.header("host")), ("/v1/x", Some(host)));
    // us:er:p@ss
    assert_eq!(seen.header("authorization"), Some("Basic dXM6ZXI6cEBzcw=="));

    let (_, sentence) = loss(ask(&server, &[("VAULT_ADDR", "http://user:secret@127.0.0.1:1")]).await);
    assert!(sentence.contains("http://user:xxxxx@127.0.0.1:1/v1/x"), "{sentence}");
}

#[tokio::test]
async fn a_server_without_tls_is_named_as_such() {
    let server = Server::start(|_, _| Reply::ok());
    let address = server.address.replace("http://", "https://");
    let (kind, sentence) = loss(ask(&server, &[("VAULT_ADDR", &address)]).await);
    assert_eq!(kind, Loss::PlainHttp, "{sentence}");
    assert!(sentence.ends_with("http: server gave HTTP response to HTTPS client"), "{sentence}");
}

#[tokio::test]
async fn a_socket_in_the_file_system_is_an_address() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::unix(&folder.path().join("api.sock"));
    ask(&server, &[("VAULT_TOKEN", "t"), ("VAULT_PROXY_ADDR", "")]).await.unwrap();
    let seen = &server.seen()[0];
    assert_eq!((seen.target.as_str(), seen.header("x-vault-token")), ("/v1/x", Some("t")));

    let absent = format!("unix://{}/absent.sock", folder.path().display());
    let (kind, sentence) = loss(ask(&server, &[("VAULT_ADDR", &absent)]).await);
    assert_eq!(kind, Loss::Connect);
    let end = "Get \"http://localhost/v1/x\": dial unix: connect: No such file or directory (os error 2)";
    assert_eq!(sentence, end);
}

#[tokio::test]
async fn the_namespace_goes_into_a_header_with_one_slash_at_its_end() {
    let server = Server::start(|_, _| Reply::ok());
    for (given, sent) in [("a/b", Some("a/b/")), ("/a/", Some("a/")), ("root", Some("root/")), ("", None)] {
        ask(&server, &[("VAULT_NAMESPACE", given)]).await.unwrap();
        assert_eq!(server.seen().last().unwrap().header("x-vault-namespace"), sent, "{given}");
    }
}

#[tokio::test]
async fn an_authority_that_was_replaced_is_believed_after_a_reload() {
    let server = Server::tls("server");
    let folder = tempfile::tempdir().unwrap();
    let bundle = folder.path().join("ca.pem");
    fs::copy(testdata("other_authority.pem"), &bundle).unwrap();
    let mut config = Config::new(server.address.parse().unwrap());
    (config.ca_cert, config.max_retries) = (Some(bundle.clone()), 0);
    let client = Client::new(config).unwrap();
    let clone = client.clone();
    assert_eq!(loss(client.send(&Request::read("x")).await).0, Loss::Tls);
    fs::write(&bundle, "half-written").unwrap();
    client.reload().await.unwrap_err();
    assert_eq!(loss(client.send(&Request::read("x")).await).0, Loss::Tls);
    fs::copy(testdata("authority.pem"), &bundle).unwrap();
    client.reload().await.unwrap();
    clone.send(&Request::read("x")).await.unwrap();
}
