//! Settings held against the rules, and statuses.

use chancery_kubernetes::cert_manager::IssuerSpec;
use chancery_testkit::kubernetes::Fault;

use super::super::vault::Plan;
use super::*;

fn plan(vault: Value) -> Result<Plan, String> {
    let spec: IssuerSpec = serde_json::from_value(json!({ "vault": vault })).unwrap();
    Plan::of(&spec.vault.unwrap(), &key("issuer"))
}

/// A good one, changed.
fn changed(changes: Value) -> Value {
    let mut vault = json!({ "server": "https://v:8200", "path": "pki/sign/web",
        "auth": { "tokenSecretRef": { "name": "t" } } });
    for (name, value) in changes.as_object().unwrap() {
        vault[name] = value.clone();
    }
    vault
}

#[test]
fn settings_that_cannot_be_used_are_refused_in_known_words() {
    let role = json!({ "path": "approle", "roleId": "r", "secretRef": { "name": "s", "key": "k" } });
    for (changes, message) in [
        (json!({ "server": "" }), "Vault server and path are required fields"),
        (json!({ "path": "/" }), "Vault server and path are required fields"),
        (
            json!({ "auth": {} }),
            "Vault tokenSecretRef, appRole, clientCertificate, kubernetes, or aws is required",
        ),
        (
            json!({ "auth": { "tokenSecretRef": { "name": "t" }, "appRole": role } }),
            "Multiple auth methods cannot be set on the same Vault issuer",
        ),
        (
            json!({ "auth": { "tokenSecretRef": { "name": "" } } }),
            "Vault Token auth requires tokenSecretRef.name",
        ),
        (
            json!({ "auth": { "appRole": { "path": "", "roleId": "", "secretRef": { "name": "s", "key": "k" } } } }),
            "Vault AppRole auth requires both roleId and tokenSecretRef.name",
        ),
        (
            json!({ "auth": { "appRole": { "path": "", "roleId": "r", "secretRef": { "name": "" } } } }),
            "Vault AppRole auth requires both roleId and tokenSecretRef.name",
        ),
        (
            json!({ "auth": { "appRole": { "path": "", "roleId": "r", "secretRef": { "name": "s" } } } }),
            "Vault AppRole auth requires secretRef.key",
        ),
        (
            json!({ "auth": { "kubernetes": { "role": "" } } }),
            "Vault Kubernetes auth requires a role to be set",
        ),
        (
            json!({ "auth": { "kubernetes": { "role": "r" } } }),
            "Vault Kubernetes auth requires either secretRef.name or serviceAccountRef.name to be set",
        ),
        (
            json!({ "auth": { "kubernetes": { "role": "r", "secretRef": { "name": "s" }, "serviceAccountRef": { "name": "a" } } } }),
            "Vault Kubernetes auth cannot be used with both secretRef.name and serviceAccountRef.name",
        ),
        (
            json!({ "auth": { "aws": { "role": "r" } } }),
            "Vault AWS auth is not carried out by this controller: use appRole, kubernetes, clientCertificate or tokenSecretRef",
        ),
        (
            json!({ "path": "pki/issue/web" }),
            "Vault path \"pki/issue/web\" makes a key of its own instead of signing the request's; use \"pki/sign/web\"",
        ),
        (
            json!({ "path": "pki/issuer/default/issue/web/" }),
            "Vault path \"pki/issuer/default/issue/web/\" makes a key of its own instead of signing the request's; use \
             \"pki/issuer/default/sign/web\"",
        ),
        (
            json!({ "path": "pki/../sys/seal" }),
            "Vault path \"pki/../sys/seal\" must not contain '..' path segments",
        ),
        (
            json!({ "auth": { "appRole": { "path": "a/../b", "roleId": "r", "secretRef": { "name": "s", "key": "k" } } } }),
            "Vault auth mount \"a/../b\" must not contain '..' path segments",
        ),
        (
            json!({ "server": "v:8200" }),
            "Failed to initialize Vault client: parse \"v:8200\": missing protocol scheme; did you mean http://v:8200?",
        ),
        (
            json!({ "caBundle": base64("x") }),
            "Failed to initialize Vault client: no Vault CA bundles loaded, check bundle contents",
        ),
        (
            json!({ "caBundle": base64("BEGIN CERTIFICATE"), "caBundleSecretRef": { "name": "s" } }),
            "Failed to initialize Vault client: specified caBundle and caBundleSecretRef cannot be used together",
        ),
        (
            json!({ "clientCertSecretRef": { "name": "s" } }),
            "Failed to initialize Vault client: clientKeySecretRef must be provided when defining the clientCertSecretRef",
        ),
        (
            json!({ "clientKeySecretRef": { "name": "s" } }),
            "Failed to initialize Vault client: clientCertSecretRef must be provided when defining the clientKeySecretRef",
        ),
    ] {
        assert_eq!(plan(changed(changes)).unwrap_err(), message);
    }
    for changes in [
        json!({}),
        json!({ "path": "/pki/root/sign-intermediate" }),
        json!({ "path": "issue/sign/web" }),
        json!({ "path": "pki/sign/issue" }),
        json!({ "auth": { "clientCertificate": {} } }),
        json!({ "clientCertSecretRef": { "name": "s" }, "clientKeySecretRef": { "name": "s" } }),
    ] {
        plan(changed(changes)).unwrap();
    }
}

#[test]
fn mounts_are_named_with_and_without_what_stands_before_them() {
    for path in [json!("/v1/auth/k8s"), json!("k8s"), json!("auth/k8s/"), json!("/v1/auth/k8s/")] {
        let auth = json!({ "kubernetes": { "role": "r", "mountPath": path, "secretRef": { "name": "s" } } });
        let plan = plan(changed(json!({ "auth": auth }))).unwrap();
        assert!(format!("{plan:?}").contains("mount: \"k8s\""), "{plan:?}");
    }
}

#[test]
fn every_secret_that_an_issuer_names_is_known() {
    let spec = json!({ "server": "https://v", "path": "p/sign/r", "caBundleSecretRef": { "name": "roots" },
        "clientCertSecretRef": { "name": "pair" }, "clientKeySecretRef": { "name": "pair" },
        "auth": { "clientCertificate": { "secretName": "login" }, "tokenSecretRef": { "name": "token" },
            "appRole": { "path": "a", "roleId": "r", "secretRef": { "name": "role" } },
            "kubernetes": { "role": "r", "secretRef": { "name": "jwt" } } } });
    let issuer = |spec: Value| {
        let object = json!({ "metadata": { "name": "issuer" }, "spec": spec });
        serde_json::from_value::<Issuer>(object).unwrap()
    };
    let names = |issuer: &Issuer| secrets_of(issuer).into_iter().collect::<Vec<_>>().join(" ");
    assert_eq!(names(&issuer(json!({ "vault": spec }))), "jwt login pair role roots token");
    assert_eq!(names(&issuer(json!({ "ca": { "secretName": "ca" } }))), "ca");
    assert_eq!(names(&issuer(json!({ "selfSigned": {} }))), "");
}

#[tokio::test]
async fn settings_that_cannot_be_used_wait_for_a_change_without_an_event() {
    let bed = Bed::new().await;
    bed.issuer(&json!({ "vault": changed(json!({ "path": "pki/issue/web" })) }));
    assert_eq!(bed.reconcile().await.unwrap(), Next::Done);
    let (status, reason, _) = bed.ready();
    assert_eq!((status.as_str(), reason.as_str()), ("False", "VaultError"));
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(bed.api.list("events", None).is_empty());
    let (_, csr) = csr("a.example");
    let error = bed.sign(&csr).await.unwrap_err();
    assert!(
        matches!(&error, SignError::Pending { reason: "VaultInitError", retry_after: None, .. }),
        "{error:?}"
    );
}

#[tokio::test]
async fn issuers_of_other_types_are_never_touched() {
    let bed = Bed::new().await;
    for spec in [json!({ "acme": { "server": "x" } }), json!({ "venafi": {} }), json!({})] {
        bed.issuer(&spec);
        assert_eq!(bed.reconcile().await.unwrap(), Next::Done);
    }
    assert!(bed.api.requests().iter().all(|one| one.verb == "get"), "{:?}", bed.api.requests());
    bed.issuer(&json!({ "acme": {} }));
    let (_, csr) = csr("a.example");
    assert_eq!(bed.sign(&csr).await.unwrap_err(), SignError::Foreign);
    bed.issuer(&json!({}));
    let error = bed.sign(&csr).await.unwrap_err();
    assert!(matches!(&error, SignError::Pending { reason: "IssuerTypeMissing", .. }), "{error:?}");
}

#[tokio::test]
async fn a_status_that_others_write_too_is_written_again_and_nothing_of_theirs_is_lost() {
    let bed = Bed::new().await;
    bed.issuer(&json!({ "selfSigned": {} }));
    bed.api.inject("patch", "issuers/status", Fault::Race, 2);
    bed.reconcile().await.unwrap();
    assert_eq!(bed.ready().0, "True");
    assert_eq!(bed.api.count("patch", "issuers/status"), 3);
    // The cache lags behind: another condition was set meanwhile.
    bed.issuer(&json!({ "selfSigned": {} }));
    let other = json!({ "conditions": [{ "type": "Ready", "status": "False" }, { "type": "Other", "status": "True" }] });
    bed.api.set_status("issuers", "default", "issuer", other);
    let stale = bed.context.cache.issuers.get(&key("issuer")).unwrap();
    let mut stale = (*stale).clone();
    stale.status = None;
    bed.context.cache.issuers.apply(key("issuer"), stale);
    bed.reconcile().await.unwrap();
    let issuer = bed.api.get("issuers", "default", "issuer").unwrap();
    assert_eq!(issuer["status"]["conditions"][1]["type"], "Other");
    assert_eq!(bed.ready().0, "True");
}

#[tokio::test]
async fn an_api_server_that_fails_says_nothing_about_an_issuer() {
    let bed = Bed::new().await;
    bed.secret("ca", &Authority::root("root").secret(&[]));
    bed.issuer(&json!({ "ca": { "secretName": "ca" } }));
    bed.reconcile().await.unwrap();
    bed.api.inject("get", "secrets", Fault::Code(500), 1);
    bed.reconcile().await.unwrap_err();
    assert_eq!(bed.ready().0, "True");
    bed.reconcile().await.unwrap();
}

#[tokio::test]
async fn the_secrets_of_cluster_issuers_are_in_the_controllers_namespace() {
    let bed = Bed::new().await;
    let secret = json!({ "metadata": { "name": "ca" }, "data": Authority::root("root").secret(&[]) });
    bed.api.put("secrets", "kube-system", secret);
    let object = json!({ "metadata": { "name": "issuer" }, "spec": { "ca": { "secretName": "ca" } } });
    bed.api.put("clusterissuers", "", object);
    bed.watch();
    let key = IssuerKey::Cluster { name: "issuer".into() };
    reconcile(&bed.context, key.clone()).await.unwrap();
    let issuer = bed.api.get("clusterissuers", "", "issuer").unwrap();
    assert_eq!(issuer["status"]["conditions"][0]["reason"], "KeyPairVerified");
    let event = bed.event("KeyPairVerified").await;
    assert_eq!(event["involvedObject"]["kind"], "ClusterIssuer");
    let (_, csr) = csr("a.example");
    bed.context.issuers.sign(&Order { issuer: &key, ..order_of(&csr) }).await.unwrap();
}
