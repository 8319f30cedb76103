//! Issuer and ClusterIssuer.

use chancery_issuance::Certificate;
use chancery_kubernetes::cert_manager::{
    CaIssuer, IssuerSpec, VaultAppRole, VaultAuth, VaultAws, VaultClientCertificate, VaultIssuer,
    VaultKubernetes,
};

use super::secret_reference;
use crate::webhook::field::{Errors, Path};

/// What is wrong with an issuer.
pub(crate) fn issuer(spec: &IssuerSpec) -> Errors {
    let IssuerSpec { ca, self_signed, vault, acme, venafi } = spec;
    let path = Path::new("spec");
    let mut errors = Errors::default();
    let given = [
        ("acme", acme.is_some()),
        ("ca", ca.is_some()),
        ("selfSigned", self_signed.is_some()),
        ("vault", vault.is_some()),
        ("venafi", venafi.is_some()),
    ];
    let mut given = given.into_iter().filter(|(_, is_given)| *is_given);
    if given.next().is_none() {
        errors.required(&path, "at least one issuer must be configured");
    }
    for (name, _) in given {
        errors.forbidden(&path.child(name), "may not specify more than one issuer type");
    }
    if let Some(ca) = ca {
        check_ca(ca, &path.child("ca"), &mut errors);
    }
    if let Some(self_signed) = self_signed {
        let path = path.child("selfSigned").child("crlDistributionPoints");
        check_urls(&self_signed.crl_distribution_points, &path, &mut errors);
    }
    if let Some(vault) = vault {
        check_vault(vault, &path.child("vault"), &mut errors);
    }
    errors
}

/// What will keep an issuer from becoming ready, although the object may be stored.
pub(crate) fn issuer_warnings(spec: &IssuerSpec) -> Vec<String> {
    let Some(vault) = &spec.vault else { return Vec::new() };
    let mut warnings = Vec::new();
    // MOUNT/issue/ROLE answers with a key of the server's making, for which there is no CSR.
    let mut segments = vault.path.trim_matches('/').rsplit('/');
    if segments.nth(1) == Some("issue") {
        let signing = vault.path.replacen("/issue/", "/sign/", 1);
        warnings.push(format!(
            "spec.vault.path: {:?} makes keys of its own and signs no request; {signing:?} may be meant",
            vault.path
        ));
    }
    if vault.server.starts_with("http://") {
        warnings.push("spec.vault.server: tokens and credentials go over plain HTTP".to_owned());
    }
    let VaultAuth { token_secret_ref, app_role, client_certificate, kubernetes, aws } = &vault.auth;
    let methods = [
        token_secret_ref.is_some(),
        app_role.is_some(),
        client_certificate.is_some(),
        kubernetes.is_some(),
        aws.is_some(),
    ];
    if methods.into_iter().filter(|is_given| *is_given).count() > 1 {
        warnings.push(
            "spec.vault.auth: several methods are given, and the issuer will not be ready; keep one"
                .to_owned(),
        );
    }
    if app_role.as_ref().is_some_and(|role| role.secret_ref.key_or("").is_empty()) {
        warnings.push(
            "spec.vault.auth.appRole.secretRef.key: has no default, and the issuer will not be ready"
                .to_owned(),
        );
    }
    warnings
}

fn check_ca(ca: &CaIssuer, path: &Path, errors: &mut Errors) {
    let CaIssuer { secret_name, crl_distribution_points, ocsp_servers, issuing_certificate_urls } = ca;
    if secret_name.is_empty() {
        errors.required(&path.child("secretName"), "");
    }
    check_urls(crl_distribution_points, &path.child("crlDistributionPoints"), errors);
    check_urls(ocsp_servers, &path.child("ocspServers"), errors);
    check_urls(issuing_certificate_urls, &path.child("issuingCertificateURLs"), errors);
}

fn check_urls(urls: &[String], path: &Path, errors: &mut Errors) {
    for (index, url) in urls.iter().enumerate() {
        let is_url = url.parse::<http::Uri>().is_ok_and(|uri| uri.scheme().is_some() && uri.host().is_some());
        // LDAP URLs with distinguished names in them are no http::Uri, and are in use as distribution points.
        if !is_url && !url.starts_with("ldap://") && !url.starts_with("ldaps://") {
            errors.invalid(
                &path.index(index),
                url,
                "must be a valid URL, e.g., http://ca.example.com/ca.crt",
            );
        }
    }
}

fn check_vault(vault: &VaultIssuer, path: &Path, errors: &mut Errors) {
    let VaultIssuer {
        auth,
        server,
        path: sign_path,
        namespace: _,
        server_name: _,
        ca_bundle,
        ca_bundle_secret_ref,
        client_cert_secret_ref,
        client_key_secret_ref,
    } = vault;
    if server.is_empty() {
        errors.required(&path.child("server"), "");
    }
    if sign_path.is_empty() {
        errors.required(&path.child("path"), "");
    }
    check_segments(sign_path, &path.child("path"), errors);
    let ca_bundle = ca_bundle.as_ref().filter(|bundle| !bundle.is_empty());
    if let Some(bundle) = ca_bundle {
        let is_any = bundle.as_str().is_some_and(|text| {
            Certificate::all_from_pem(text).is_ok_and(|certificates| !certificates.is_empty())
        });
        if !is_any {
            // The bundle itself would only hide the sentence.
            errors.invalid(
                &path.child("caBundle"),
                "<snip>",
                "cert bundle didn't contain any valid certificates",
            );
        }
    }
    if let Some(reference) = ca_bundle_secret_ref {
        secret_reference(reference, &path.child("caBundleSecretRef"), errors);
        if ca_bundle.is_some() {
            let detail = "specified caBundle and caBundleSecretRef cannot be used together";
            errors.invalid(&path.child("caBundle"), "<snip>", detail);
            let detail = "specified caBundleSecretRef and caBundle cannot be used together";
            errors.invalid(&path.child("caBundleSecretRef"), &reference.name, detail);
        }
    }
    match (client_cert_secret_ref, client_key_secret_ref) {
        (Some(_), None) => errors.invalid(
            &path.child("clientKeySecretRef"),
            "<snip>",
            "clientKeySecretRef must be provided when defining the clientCertSecretRef",
        ),
        (None, Some(_)) => errors.invalid(
            &path.child("clientCertSecretRef"),
            "<snip>",
            "clientCertSecretRef must be provided when defining the clientKeySecretRef",
        ),
        (Some(certificate), Some(key)) => {
            secret_reference(certificate, &path.child("clientCertSecretRef"), errors);
            secret_reference(key, &path.child("clientKeySecretRef"), errors);
        }
        (None, None) => {}
    }
    check_auth(auth, &path.child("auth"), errors);
}

fn check_auth(auth: &VaultAuth, path: &Path, errors: &mut Errors) {
    let VaultAuth { token_secret_ref, app_role, client_certificate, kubernetes, aws } = auth;
    if token_secret_ref.is_none()
        && app_role.is_none()
        && client_certificate.is_none()
        && kubernetes.is_none()
        && aws.is_none()
    {
        errors.required(
            path,
            "please supply one of: appRole, kubernetes, tokenSecretRef, clientCertificate, aws",
        );
    }
    if let Some(reference) = token_secret_ref {
        secret_reference(reference, &path.child("tokenSecretRef"), errors);
    }
    if let Some(VaultAppRole { path: mount, role_id, secret_ref }) = app_role {
        let path = path.child("appRole");
        check_segments(mount, &path.child("path"), errors);
        if role_id.is_empty() {
            errors.required(&path.child("roleId"), "");
        }
        if secret_ref.name.is_empty() {
            errors.required(&path.child("secretRef").child("name"), "");
        }
    }
    if let Some(VaultClientCertificate { mount_path, secret_name: _, name: _ }) = client_certificate {
        check_mount(mount_path.as_deref(), &path.child("clientCertificate"), errors);
    }
    if let Some(method) = kubernetes {
        check_kubernetes(method, &path.child("kubernetes"), errors);
    }
    if let Some(VaultAws { role, mount_path, service_account_ref, iam_role_arn, .. }) = aws {
        let path = path.child("aws");
        check_mount(mount_path.as_deref(), &path, errors);
        if role.is_empty() {
            errors.required(&path.child("role"), "");
        }
        if service_account_ref.is_some() && iam_role_arn.as_deref().is_none_or(str::is_empty) {
            errors.required(
                &path.child("iamRoleArn"),
                "iamRoleArn is required when using serviceAccountRef for IRSA",
            );
        }
    }
}

fn check_kubernetes(method: &VaultKubernetes, path: &Path, errors: &mut Errors) {
    const ONE_OF: &str = "please supply one of: secretRef, serviceAccountRef";
    let VaultKubernetes { mount_path, secret_ref, service_account_ref, role } = method;
    check_mount(mount_path.as_deref(), path, errors);
    if role.is_empty() {
        errors.required(&path.child("role"), "");
    }
    // An empty reference is none: clients write one where they mean the other.
    let secret = secret_ref.as_ref().filter(|reference| !reference.name.is_empty());
    match (secret, service_account_ref) {
        (None, None) => errors.required(path, ONE_OF),
        (Some(_), Some(_)) => errors.forbidden(path, ONE_OF),
        (None, Some(account)) if account.name.is_empty() => {
            errors.required(&path.child("serviceAccountRef").child("name"), "");
        }
        _ => {}
    }
}

fn check_mount(mount: Option<&str>, path: &Path, errors: &mut Errors) {
    check_segments(mount.unwrap_or_default(), &path.child("mountPath"), errors);
}

/// A path on the server stays below what a policy allows it.
fn check_segments(value: &str, path: &Path, errors: &mut Errors) {
    if value.split('/').any(|segment| segment == "..") {
        errors.invalid(path, value, "must not contain '..' path segments");
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn spec(spec: Value) -> IssuerSpec {
        serde_json::from_value(spec).expect("a spec")
    }

    fn vault(change: Value) -> IssuerSpec {
        let mut vault = json!({
            "server": "https://vault:8200", "path": "istioca/sign/cluster-local",
            "auth": { "appRole": { "path": "approle", "roleId": "r", "secretRef": { "name": "s", "key": "k" } } },
        });
        if let (Some(vault), Value::Object(change)) = (vault.as_object_mut(), change) {
            vault.extend(change);
        }
        spec(json!({ "vault": vault }))
    }

    #[test]
    fn the_issuer_of_the_founding_scenario_is_fine() {
        assert_eq!(issuer(&vault(json!({}))).to_string(), "[]");
        assert!(issuer_warnings(&vault(json!({}))).is_empty());
    }

    #[test]
    fn an_issuer_is_of_exactly_one_type() {
        for (given, refusal) in [
            (json!({}), "spec: Required value: at least one issuer must be configured"),
            (
                json!({ "ca": { "secretName": "s" }, "selfSigned": {} }),
                "spec.selfSigned: Forbidden: may not specify more than one issuer type",
            ),
            (json!({ "selfSigned": {} }), "[]"),
            (json!({ "acme": { "server": "x" } }), "[]"),
            (json!({ "venafi": {} }), "[]"),
            (json!({ "ca": { "secretName": "" } }), "spec.ca.secretName: Required value"),
            (
                json!({ "ca": { "secretName": "s", "ocspServers": ["http://a", "b c"] } }),
                "spec.ca.ocspServers[1]: Invalid value: \"b c\": must be a valid URL, e.g., http://ca.example.com/ca.crt",
            ),
            (
                json!({ "selfSigned": { "crlDistributionPoints": ["ldap:///CN=a b?certificateRevocationList"] } }),
                "[]",
            ),
        ] {
            assert_eq!(issuer(&spec(given.clone())).to_string(), refusal, "{given}");
        }
    }

    #[test]
    fn each_fault_of_a_vault_issuer_is_named_with_its_field() {
        let auth = |auth: Value| json!({ "auth": auth });
        for (change, refusal) in [
            (json!({ "server": "" }), "spec.vault.server: Required value"),
            (json!({ "path": "" }), "spec.vault.path: Required value"),
            (
                json!({ "path": "a/../sign/b" }),
                "spec.vault.path: Invalid value: \"a/../sign/b\": must not contain '..' path segments",
            ),
            (json!({ "path": "a..b/sign/c" }), "[]"),
            (
                json!({ "caBundle": "bm8=" }),
                "spec.vault.caBundle: Invalid value: \"<snip>\": cert bundle didn't contain any valid certificates",
            ),
            (
                json!({ "clientCertSecretRef": { "name": "a" } }),
                "spec.vault.clientKeySecretRef: Invalid value: \"<snip>\": clientKeySecretRef must be provided when defining the \
                 clientCertSecretRef",
            ),
            (
                json!({ "clientKeySecretRef": { "name": "a" } }),
                "spec.vault.clientCertSecretRef: Invalid value: \"<snip>\": clientCertSecretRef must be provided when defining the \
                 clientKeySecretRef",
            ),
            (
                auth(json!({})),
                "spec.vault.auth: Required value: please supply one of: appRole, kubernetes, tokenSecretRef, \
                 clientCertificate, aws",
            ),
            (auth(json!({ "tokenSecretRef": { "name": "t" }, "clientCertificate": {} })), "[]"),
            (
                auth(json!({ "tokenSecretRef": { "name": "" } })),
                "spec.vault.auth.tokenSecretRef.name: Required value: secret name is required",
            ),
            (
                auth(json!({ "appRole": { "path": "../a", "roleId": "", "secretRef": { "name": "" } } })),
                "[spec.vault.auth.appRole.path: Invalid value: \"../a\": must not contain '..' path segments, \
                 spec.vault.auth.appRole.roleId: Required value, \
                 spec.vault.auth.appRole.secretRef.name: Required value]",
            ),
            (
                auth(json!({ "clientCertificate": { "mountPath": "/v1/../auth" } })),
                "spec.vault.auth.clientCertificate.mountPath: Invalid value: \"/v1/../auth\": must not contain '..' path \
                 segments",
            ),
            (
                auth(json!({ "kubernetes": { "role": "" } })),
                "[spec.vault.auth.kubernetes.role: Required value, \
                 spec.vault.auth.kubernetes: Required value: please supply one of: secretRef, serviceAccountRef]",
            ),
            (
                auth(
                    json!({ "kubernetes": { "role": "r", "secretRef": { "name": "a" }, "serviceAccountRef": { "name": "b" } } }),
                ),
                "spec.vault.auth.kubernetes: Forbidden: please supply one of: secretRef, serviceAccountRef",
            ),
            (
                auth(json!({ "aws": { "role": "r", "serviceAccountRef": { "name": "a" } } })),
                "spec.vault.auth.aws.iamRoleArn: Required value: iamRoleArn is required when using serviceAccountRef for IRSA",
            ),
        ] {
            assert_eq!(issuer(&vault(change.clone())).to_string(), refusal, "{change}");
        }
    }

    #[test]
    fn a_bundle_stands_in_the_object_or_in_a_secret() {
        let mut both = vault(json!({ "caBundleSecretRef": { "name": "b" } }));
        let bundle = crate::webhook::tests::root().pem().into();
        if let Some(vault) = &mut both.vault {
            vault.ca_bundle = Some(bundle);
        }
        assert_eq!(
            issuer(&both).to_string(),
            "[spec.vault.caBundle: Invalid value: \"<snip>\": specified caBundle and caBundleSecretRef cannot be used \
             together, spec.vault.caBundleSecretRef: Invalid value: \"b\": specified caBundleSecretRef and caBundle cannot \
             be used together]"
        );
    }

    #[test]
    fn what_will_not_work_is_warned_of() {
        let warnings = |change: Value| issuer_warnings(&vault(change)).join("\n");
        assert!(warnings(json!({ "path": "istioca/issue/a" })).contains("\"istioca/sign/a\" may be meant"));
        assert!(warnings(json!({ "path": "issue/sign/a" })).is_empty());
        assert!(warnings(json!({ "server": "http://vault:8200" })).contains("plain HTTP"));
        let several = json!({ "auth": { "tokenSecretRef": { "name": "a" }, "clientCertificate": {} } });
        assert!(warnings(several).contains("several methods"));
        let keyless =
            json!({ "auth": { "appRole": { "path": "a", "roleId": "b", "secretRef": { "name": "c" } } } });
        assert!(warnings(keyless).contains("secretRef.key"));
    }
}
