//! The PKI engine: a certificate authority per mount.
//!
//! This file is the table of paths and nothing else. `role.rs` turns what operators write into
//! issuance profiles, which `roles.rs` keeps; `sign.rs` and `issue.rs` make leaves out of `requests.rs`
//! on the way that `leaf.rs` describes, the slow ones through `heavy.rs`; `certs.rs` reads back what
//! was made. `store.rs` holds the records and what of them stays in memory, `authorities.rs` the issuers and
//! keys ready to sign, `records.rs` their stored forms.
//!
//! Authorities are made and kept by `root.rs`, `intermediate.rs`, `import.rs`, `issuers.rs`, `keys.rs`
//! and `config.rs`. Rooms kept free for later: `revoke.rs`, `crl.rs`, `ocsp.rs`, `tidy.rs`, `acme/`,
//! `cel.rs`.

mod authorities;
mod certs;
mod heavy;
mod issue;
mod leaf;
mod records;
mod requests;
mod role;
mod roles;
mod sign;
mod store;

#[cfg(test)]
mod tests;

use std::sync::{Arc, LazyLock};

use chancery_issuance::MountLimits;

use self::store::Store;
use crate::engine::{Engine, Mount};
use crate::error::Error;
use crate::route::Routes;

/// A certificate authority's mount.
pub struct Pki {
    mount: Arc<Mount>,
    store: Store,
}

impl Pki {
    /// Opens the engine on a mount. Costs what its issuers cost, whatever the number of certificates.
    pub async fn open(mount: Arc<Mount>) -> Result<Arc<Self>, Error> {
        let store = Store::open(mount.view.clone()).await?;
        Ok(Arc::new(Self { mount, store }))
    }

    /// The lifetimes that stand in where a role has none.
    fn limits(&self) -> MountLimits {
        MountLimits { default_ttl: self.mount.default_ttl().0, max_ttl: self.mount.max_ttl().0 }
    }
}

impl Engine for Pki {
    fn routes() -> &'static Routes<Self> {
        static ROUTES: LazyLock<Routes<Pki>> = LazyLock::new(|| issuer_routes(leaf_routes(Routes::new())));
        &ROUTES
    }
}

/// Roles, leaves, and certificates that were made.
fn leaf_routes(routes: Routes<Pki>) -> Routes<Pki> {
    routes
        .route("roles", |r| r.list(Pki::list_roles, "Lists the roles").help("What may be issued."))
        .route("roles/{name}", |r| {
            r.read(Pki::read_role, "Reads a role")
                .update(Pki::write_role, "Writes a role")
                .patch(Pki::patch_role, "Changes some fields of a role")
                .delete(Pki::delete_role, "Deletes a role")
                .help("What may be issued under this name.")
        })
        .route("sign/{role}", |r| {
            r.update(Pki::sign, "Signs a CSR under a role").help("Certificates for keys made elsewhere.")
        })
        .route("issuer/{issuer_ref}/sign/{role}", |r| {
            r.update(Pki::issuer_sign, "Signs a CSR under a role with a given issuer")
                .help("Certificates for keys made elsewhere.")
        })
        .route("issue/{role}", |r| {
            r.update(Pki::issue, "Makes a key and a certificate under a role")
                .help("Certificates with their keys. The keys are not stored.")
        })
        .route("issuer/{issuer_ref}/issue/{role}", |r| {
            r.update(Pki::issuer_issue, "Makes a key and a certificate under a role with a given issuer")
                .help("Certificates with their keys. The keys are not stored.")
        })
        .route("sign-verbatim", |r| {
            r.update(Pki::sign_verbatim, "Signs a CSR as it is").help("Certificates without a role's rules.")
        })
        .route("sign-verbatim/{role}", |r| {
            r.update(Pki::role_sign_verbatim, "Signs a CSR as it is, with a role's lifetime and issuer")
                .help("Certificates without a role's rules.")
        })
        .route("issuer/{issuer_ref}/sign-verbatim", |r| {
            r.update(Pki::issuer_sign_verbatim, "Signs a CSR as it is with a given issuer")
                .help("Certificates without a role's rules.")
        })
        .route("issuer/{issuer_ref}/sign-verbatim/{role}", |r| {
            r.update(
                Pki::issuer_role_sign_verbatim,
                "Signs a CSR as it is with a given issuer and a role's lifetime",
            )
            .help("Certificates without a role's rules.")
        })
        .route("certs", |r| {
            r.list(Pki::list_certificates, "Lists serial numbers").help("The certificates that are stored.")
        })
        .route("certs/detailed", |r| {
            r.list(Pki::list_certificates_in_detail, "Lists certificates with what they say")
                .help("The certificates that are stored, each with its names, lifetime and kind of key.")
        })
        .route("cert/{serial:any}", |r| {
            r.read(Pki::read_certificate, "Reads a certificate")
                .public()
                .help("A certificate that is stored.")
        })
        .route("cert/{serial:any}/raw", |r| {
            r.read(Pki::read_certificate_der, "Reads a certificate in DER")
                .public()
                .help("A certificate that is stored, in DER.")
        })
        .route("cert/{serial:any}/raw/pem", |r| {
            r.read(Pki::read_certificate_pem, "Reads a certificate in PEM")
                .public()
                .help("A certificate that is stored, in PEM.")
        })
}

/// Issuers, keys, and the settings they share.
fn issuer_routes(routes: Routes<Pki>) -> Routes<Pki> {
    routes
}
