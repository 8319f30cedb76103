//! An issuer's settings, held against the rules: what follows from them can be used.

use chancery_client::Address;
use chancery_kubernetes::cert_manager::{SecretKeySelector, ServiceAccountRef, VaultAuth, VaultIssuer};

use crate::issuer::IssuerKey;

/// Whom to ask, as whom, and where.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::issuer) struct Plan {
    pub(super) address: Address,
    /// Below `/v1/`, without slashes at its ends.
    pub(super) path: String,
    pub(super) namespace: Option<String>,
    pub(super) server_name: Option<String>,
    pub(super) roots: Roots,
    /// The certificate to show, and its key.
    pub(super) identity: Option<(Entry, Entry)>,
    pub(super) method: Method,
}

/// Whom to trust.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Roots {
    System,
    Given(String),
    Secret(Entry),
}

/// An entry of a Secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) secret: String,
    pub(super) key: String,
}

/// How to log in. Mounts are below `auth/`.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Method {
    Token(Entry),
    AppRole {
        mount: String,
        role_id: String,
        secret_id: Entry,
    },
    Kubernetes {
        mount: String,
        role: String,
        jwt: Jwt,
    },
    /// The Secret has an identity of its own to show; none: that of the connection.
    Certificate {
        mount: String,
        name: String,
        secret: Option<String>,
    },
}

/// Where a service account's token comes from.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Jwt {
    Secret(Entry),
    /// Requested for a service account and these audiences.
    Requested {
        account: String,
        audiences: Vec<String>,
    },
}

impl Plan {
    /// The settings of an issuer of this name.
    ///
    /// # Errors
    /// The message of the issuer's condition.
    pub(in crate::issuer) fn of(spec: &VaultIssuer, issuer: &IssuerKey) -> Result<Self, String> {
        let VaultIssuer {
            auth,
            server,
            path,
            namespace,
            server_name,
            ca_bundle,
            ca_bundle_secret_ref,
            client_cert_secret_ref,
            client_key_secret_ref,
        } = spec;
        if server.is_empty() || path.trim_matches('/').is_empty() {
            return Err("Vault server and path are required fields".into());
        }
        let method = method(auth, server, issuer)?;
        check_path(path)?;
        let unusable =
            |reason: &dyn std::fmt::Display| format!("Failed to initialize Vault client: {reason}");
        let address = server.parse::<Address>().map_err(|error| unusable(&error))?;
        let roots = match (ca_bundle.as_ref().filter(|bundle| !bundle.is_empty()), ca_bundle_secret_ref) {
            (Some(_), Some(_)) => {
                return Err(unusable(&"specified caBundle and caBundleSecretRef cannot be used together"));
            }
            (Some(bundle), None) => {
                let pem = bundle.as_str().filter(|pem| pem.contains("BEGIN CERTIFICATE"));
                Roots::Given(pem.ok_or_else(|| unusable(&NO_BUNDLE))?.to_owned())
            }
            (None, Some(reference)) => Roots::Secret(entry(reference, "ca.crt")),
            (None, None) => Roots::System,
        };
        let identity = match (client_cert_secret_ref, client_key_secret_ref) {
            (Some(certificate), Some(key)) => Some((entry(certificate, "tls.crt"), entry(key, "tls.key"))),
            (None, None) => None,
            (Some(_), None) => return Err(unusable(&half("clientKey", "clientCert"))),
            (None, Some(_)) => return Err(unusable(&half("clientCert", "clientKey"))),
        };
        let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        Ok(Self {
            address,
            path: path.split('/').filter(|part| !part.is_empty()).collect::<Vec<_>>().join("/"),
            namespace: given(namespace),
            server_name: given(server_name),
            roots,
            identity,
            method,
        })
    }
}

pub(super) const NO_BUNDLE: &str = "no Vault CA bundles loaded, check bundle contents";

fn half(missing: &str, given: &str) -> String {
    format!("{missing}SecretRef must be provided when defining the {given}SecretRef")
}

fn entry(reference: &SecretKeySelector, default: &str) -> Entry {
    Entry { secret: reference.name.clone(), key: reference.key_or(default).to_owned() }
}

/// A path that signs what a CSR asks for.
fn check_path(path: &str) -> Result<(), String> {
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    if parts.contains(&"..") {
        return Err(format!("Vault path {path:?} must not contain '..' path segments"));
    }
    if let [mount @ .., "issue", role] = parts.as_slice() {
        return Err(format!(
            "Vault path {path:?} makes a key of its own instead of signing the request's; use {:?}",
            format!("{}/sign/{role}", mount.join("/"))
        ));
    }
    Ok(())
}

fn method(auth: &VaultAuth, server: &str, issuer: &IssuerKey) -> Result<Method, String> {
    let VaultAuth { token_secret_ref, app_role, client_certificate, kubernetes, aws } = auth;
    let given = [
        token_secret_ref.is_some(),
        app_role.is_some(),
        client_certificate.is_some(),
        kubernetes.is_some(),
        aws.is_some(),
    ];
    match given.into_iter().filter(|is_given| *is_given).count() {
        0 => {
            return Err(
                "Vault tokenSecretRef, appRole, clientCertificate, kubernetes, or aws is required".into()
            );
        }
        1 => {}
        _ => return Err("Multiple auth methods cannot be set on the same Vault issuer".into()),
    }
    if let Some(token) = token_secret_ref {
        if token.name.is_empty() {
            return Err("Vault Token auth requires tokenSecretRef.name".into());
        }
        return Ok(Method::Token(entry(token, "token")));
    }
    if let Some(role) = app_role {
        if role.role_id.is_empty() || role.secret_ref.name.is_empty() {
            return Err("Vault AppRole auth requires both roleId and tokenSecretRef.name".into());
        }
        if role.secret_ref.key_or("").is_empty() {
            return Err("Vault AppRole auth requires secretRef.key".into());
        }
        let mount = mount(Some(&role.path), "approle")?;
        let secret_id = entry(&role.secret_ref, "");
        return Ok(Method::AppRole { mount, role_id: role.role_id.trim().to_owned(), secret_id });
    }
    if let Some(login) = kubernetes {
        if login.role.is_empty() {
            return Err("Vault Kubernetes auth requires a role to be set".into());
        }
        let secret = login.secret_ref.as_ref().filter(|secret| !secret.name.is_empty());
        let account = login.service_account_ref.as_ref().filter(|account| !account.name.is_empty());
        let jwt = match (secret, account) {
            (Some(_), Some(_)) => {
                return Err("Vault Kubernetes auth cannot be used with both secretRef.name and serviceAccountRef.name".into());
            }
            (None, None) => {
                return Err("Vault Kubernetes auth requires either secretRef.name or serviceAccountRef.name to be set".into());
            }
            (Some(secret), None) => Jwt::Secret(entry(secret, "token")),
            (None, Some(account)) => requested(account, server, issuer),
        };
        let mount = mount(login.mount_path.as_deref(), "kubernetes")?;
        return Ok(Method::Kubernetes { mount, role: login.role.clone(), jwt });
    }
    if let Some(login) = client_certificate {
        let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        return Ok(Method::Certificate {
            mount: mount(login.mount_path.as_deref(), "cert")?,
            name: login.name.clone().unwrap_or_default(),
            secret: given(&login.secret_name),
        });
    }
    Err("Vault AWS auth is not carried out by this controller: use appRole, kubernetes, clientCertificate or \
         tokenSecretRef"
        .into())
}

/// The user's audiences, then those that say for which issuer and for which server the token is.
fn requested(account: &ServiceAccountRef, server: &str, issuer: &IssuerKey) -> Jwt {
    let mut audiences = account.audiences.clone();
    audiences.push(match issuer {
        IssuerKey::Namespaced { namespace, name } => format!("vault://{namespace}/{name}"),
        IssuerKey::Cluster { name } => format!("vault://{name}"),
    });
    audiences.push(server.to_owned());
    Jwt::Requested { account: account.name.clone(), audiences }
}

/// Methods name their mount as `/v1/auth/NAME` or as `NAME`.
fn mount(path: Option<&str>, default: &str) -> Result<String, String> {
    let path = path.unwrap_or_default().trim_matches('/');
    let name = path.strip_prefix("v1/").unwrap_or(path);
    let name = name.strip_prefix("auth/").unwrap_or(name).trim_matches('/');
    if name.split('/').any(|part| part == "..") {
        return Err(format!("Vault auth mount {path:?} must not contain '..' path segments"));
    }
    Ok(if name.is_empty() { default } else { name }.to_owned())
}
