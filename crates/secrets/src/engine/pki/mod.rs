//! The PKI engine: a certificate authority per mount.
//!
//! This file is the table of paths and nothing else. `role.rs` turns what operators write into
//! issuance profiles, which `roles.rs` keeps; `sign.rs` and `issue.rs` make leaves out of `requests.rs`
//! on the way that `leaf.rs` describes, the slow ones through `heavy.rs`; `certs.rs` reads back what
//! was made. `store.rs` holds the records and what of them stays in memory, `authorities.rs` the issuers and
//! keys ready to sign, `records.rs` their stored forms.
//!
//! Authorities are made and kept by `root.rs`, `intermediate.rs`, `import.rs`, `issuers.rs`, `keys.rs`
//! and `config.rs`; `urls.rs` fills in the URLs that certificates carry.
//!
//! `revoke.rs` is the way to revoke; `revocations.rs` holds the records of it, and `journal.rs` the order
//! in which CRLs read them. `crl.rs` keeps CRLs, `crl_build.rs` builds them, `crl_records.rs` is their form at rest,
//! `crl_answers.rs` hands them out, `crl_config.rs` says how they are published, `resign.rs` signs lists that
//! others bring. `ocsp.rs` answers for one certificate. `acme/` gives certificates to those who prove a name.
//! `tidy/` removes what has expired.
//! `cel/` lets programs decide in place of roles.

pub mod acme;
mod authorities;
mod authority;
mod cel;
mod certs;
mod config;
mod crl;
mod crl_answers;
mod crl_build;
mod crl_config;
mod crl_records;
mod heavy;
mod import;
mod intermediate;
mod issue;
mod issuers;
mod journal;
mod keys;
mod leaf;
mod ocsp;
mod records;
mod requests;
mod resign;
mod revocations;
mod revoke;
mod role;
mod roles;
mod root;
mod sign;
mod store;
mod tidy;
mod urls;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use chancery_issuance::MountLimits;
use jiff::Timestamp;

use self::acme::Acme;
use self::cel::CelRoles;
pub use self::cel::try_program;
use self::crl::Lists;
use self::ocsp::Answers;
use self::store::Store;
use self::tidy::Tidy;
use crate::engine::{Engine, Mount};
use crate::error::Error;
use crate::route::Routes;

/// A certificate authority's mount.
pub struct Pki {
    mount: Arc<Mount>,
    store: Store,
    lists: Lists,
    acme: Acme,
    tidy: Tidy,
    cel_roles: CelRoles,
    ocsp_answers: Answers,
}

impl Pki {
    /// Opens the engine on a mount. Costs what its issuers cost, whatever the number of certificates.
    pub async fn open(mount: Arc<Mount>) -> Result<Arc<Self>, Error> {
        let store = Store::open(mount.view.clone()).await?;
        let (lists, acme) = (Lists::default(), Acme::new()?);
        let (tidy, cel_roles, ocsp_answers) = (Tidy::default(), CelRoles::default(), Answers::default());
        Ok(Arc::new(Self { mount, store, lists, acme, tidy, cel_roles, ocsp_answers }))
    }

    /// The lifetimes that stand in where a role has none.
    fn limits(&self) -> MountLimits {
        MountLimits { default_ttl: self.mount.default_ttl().0, max_ttl: self.mount.max_ttl().0 }
    }
}

impl Engine for Pki {
    fn routes() -> &'static Routes<Self> {
        static ROUTES: LazyLock<Routes<Pki>> = LazyLock::new(|| {
            let issuing = cel_routes(issuer_routes(leaf_routes(Routes::new())));
            acme::routes(tidy_routes(revocation_routes(issuing)))
        });
        &ROUTES
    }

    async fn tick(self: Arc<Self>, now: Timestamp) -> Result<(), Error> {
        // What fails does not keep the others from being done.
        let adopted = self.store.adopt_pending().await;
        // Beside the upkeep of others, which a large CRL would hold up.
        let pki = Arc::clone(&self);
        tokio::spawn(async move {
            if let Err(error) = pki.tend_crls(now).await {
                tracing::warn!(%error, "a CRL could not be built; it is tried again");
            }
        });
        let validated = self.take_up_validations(now).await;
        self.tidy_if_due(now).await.and(validated).and(adopted)
    }

    async fn revoke(
        self: Arc<Self>,
        internal: BTreeMap<String, String>,
        now: Timestamp,
    ) -> Result<(), Error> {
        self.revoke_leased(&internal, now).await
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
            r.update(Pki::sign, "Signs a CSR under a role")
                .counted("pki.sign")
                .help("Certificates for keys made elsewhere.")
        })
        .route("issuer/{issuer_ref}/sign/{role}", |r| {
            r.update(Pki::issuer_sign, "Signs a CSR under a role with a given issuer")
                .counted("pki.sign")
                .help("Certificates for keys made elsewhere.")
        })
        .route("issue/{role}", |r| {
            r.update(Pki::issue, "Makes a key and a certificate under a role")
                .counted("pki.issue")
                .help("Certificates with their keys. The keys are not stored.")
        })
        .route("issuer/{issuer_ref}/issue/{role}", |r| {
            r.update(Pki::issuer_issue, "Makes a key and a certificate under a role with a given issuer")
                .counted("pki.issue")
                .help("Certificates with their keys. The keys are not stored.")
        })
        .route("sign-verbatim", |r| {
            r.update(Pki::sign_verbatim, "Signs a CSR as it is")
                .counted("pki.sign-verbatim")
                .help("Certificates without a role's rules.")
        })
        .route("sign-verbatim/{role}", |r| {
            r.update(Pki::role_sign_verbatim, "Signs a CSR as it is, with a role's lifetime and issuer")
                .counted("pki.sign-verbatim")
                .help("Certificates without a role's rules.")
        })
        .route("issuer/{issuer_ref}/sign-verbatim", |r| {
            r.update(Pki::issuer_sign_verbatim, "Signs a CSR as it is with a given issuer")
                .counted("pki.sign-verbatim")
                .help("Certificates without a role's rules.")
        })
        .route("issuer/{issuer_ref}/sign-verbatim/{role}", |r| {
            r.update(
                Pki::issuer_role_sign_verbatim,
                "Signs a CSR as it is with a given issuer and a role's lifetime",
            )
            .counted("pki.sign-verbatim")
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
        .route("config/ca", |r| {
            r.update(Pki::import_bundle, "Imports certificates and keys")
                .help("A root made elsewhere, with its key.")
        })
        .route("issuers/import/bundle", |r| r.update(Pki::import_bundle, "Imports certificates and keys"))
        .route("issuers/import/cert", |r| r.update(Pki::import_certificates, "Imports certificates"))
        .route("intermediate/set-signed", |r| {
            r.update(Pki::set_signed, "Imports the certificate of an intermediate whose key is here")
        })
        .route("root", |r| r.delete(Pki::delete_root, "Deletes every issuer and key").sudo())
        .route("root/generate/{exported}", |r| r.update(Pki::generate_root, "Makes a self-signed root"))
        .route("root/rotate/{exported}", |r| r.update(Pki::rotate_root, "Makes the next self-signed root"))
        .route("root/replace", |r| r.update(Pki::replace_root, "Makes another issuer the default"))
        .route("issuers/generate/root/{exported}", |r| {
            r.update(Pki::generate_root, "Makes a self-signed root")
        })
        .route("root/sign-intermediate", |r| {
            r.update(Pki::sign_intermediate, "Signs an intermediate").counted("pki.sign-intermediate")
        })
        .route("issuer/{issuer_ref}/sign-intermediate", |r| {
            r.update(Pki::issuer_sign_intermediate, "Signs an intermediate with a given issuer")
                .counted("pki.sign-intermediate")
        })
        .route("root/sign-self-issued", |r| {
            r.update(Pki::sign_self_issued, "Signs another authority's self-issued certificate anew").sudo()
        })
        .route("issuer/{issuer_ref}/sign-self-issued", |r| {
            r.update(Pki::issuer_sign_self_issued, "Signs another authority's self-issued certificate anew")
                .sudo()
        })
        .route("intermediate/generate/{exported}", |r| {
            r.update(Pki::generate_intermediate, "Makes a key and a CSR for an intermediate")
        })
        .route("issuers/generate/intermediate/{exported}", |r| {
            r.update(Pki::generate_intermediate, "Makes a key and a CSR for an intermediate")
        })
        .route("intermediate/cross-sign", |r| {
            r.update(Pki::cross_sign, "Makes a CSR with a key that is here, for another authority to sign")
        })
        .route("issuers", |r| r.list(Pki::list_issuers, "Lists the issuers").public())
        .route("issuer/{issuer_ref}", |r| {
            r.read(Pki::read_issuer, "Reads an issuer")
                .update(Pki::update_issuer, "Writes an issuer's settings")
                .patch(Pki::patch_issuer, "Changes some of an issuer's settings")
                .delete(Pki::delete_issuer, "Deletes an issuer; its key stays")
        })
        .route("issuer/{issuer_ref}/json", |r| {
            r.read(Pki::read_issuer_json, "Reads an issuer's certificate and chain").public()
        })
        .route("issuer/{issuer_ref}/der", |r| {
            r.read(Pki::read_issuer_der, "An issuer's certificate in DER").public()
        })
        .route("issuer/{issuer_ref}/pem", |r| {
            r.read(Pki::read_issuer_pem, "An issuer's certificate in PEM").public()
        })
        .route("keys", |r| r.list(Pki::list_keys, "Lists the keys"))
        .route("keys/generate/internal", |r| r.update(Pki::generate_internal_key, "Makes a key"))
        .route("keys/generate/exported", |r| {
            r.update(Pki::generate_exported_key, "Makes a key and answers it")
        })
        .route("keys/import", |r| r.update(Pki::import_key, "Imports a key"))
        .route("key/{key_ref}", |r| {
            r.read(Pki::read_key, "Reads what may be known of a key")
                .update(Pki::update_key, "Gives a key another name")
                .delete(Pki::delete_key, "Deletes a key that no issuer uses")
        })
        .route("config/issuers", |r| {
            r.read(Pki::read_config_issuers, "Reads which issuer is the default")
                .update(Pki::write_config_issuers, "Makes another issuer the default")
        })
        .route("config/keys", |r| {
            r.read(Pki::read_config_keys, "Reads which key is the default")
                .update(Pki::write_config_keys, "Makes another key the default")
        })
        .route("config/urls", |r| {
            r.read(Pki::read_config_urls, "Reads the URLs that certificates carry")
                .update(Pki::write_config_urls, "Writes the URLs that certificates carry")
        })
        .route("config/cluster", |r| {
            r.read(Pki::read_config_cluster, "Reads where this cluster is reached")
                .update(Pki::write_config_cluster, "Writes where this cluster is reached")
        })
        .route("config/lint", |r| {
            r.read(Pki::read_config_lint, "Reads what becomes of certificates that break a standard")
                .update(Pki::write_config_lint, "Writes what becomes of certificates that break a standard")
                .help("Every certificate is held against RFC 5280 and, if it names a SPIFFE id, X.509-SVID before it is signed.")
        })
        .route("ocsp", |r| {
            r.raw_update(Pki::ocsp, "Answers an OCSP request").public().counted("pki.ocsp").help(
                "Whether certificates are revoked (RFC 6960): a DER request in the body, a DER answer. Needs no token.",
            )
        })
        .route("ocsp/{req:rest}", |r| {
            r.read(Pki::ocsp_in_path, "Answers an OCSP request in base64")
                .public()
                .counted("pki.ocsp")
                .help("Whether certificates are revoked (RFC 6960, A.1). Needs no token.")
        })
        .route("ca", |r| r.read(Pki::ca_der, "The default issuer's certificate in DER").public())
        .route("ca/pem", |r| r.read(Pki::ca_pem, "The default issuer's certificate in PEM").public())
        .route("ca_chain", |r| r.read(Pki::ca_chain, "The default issuer's chain in PEM").public())
        .route("cert/ca", |r| r.read(Pki::cert_ca, "The default issuer's certificate").public())
        .route("cert/ca/raw", |r| r.read(Pki::ca_der, "The default issuer's certificate in DER").public())
        .route("cert/ca/raw/pem", |r| r.read(Pki::ca_pem, "The default issuer's certificate in PEM").public())
        .route("cert/ca_chain", |r| r.read(Pki::cert_ca_chain, "The default issuer's chain").public())
}

/// Revocation, and what tells the world of it.
fn revocation_routes(routes: Routes<Pki>) -> Routes<Pki> {
    routes
        .route("revoke", |r| {
            r.update(Pki::revoke, "Revokes a certificate").help("By serial number, or by the certificate.")
        })
        .route("revoke-with-key", |r| {
            r.update(Pki::revoke_with_key, "Revokes a certificate whose key the caller has")
                .help("By serial number, or by the certificate.")
        })
        .route("issuer/{issuer_ref}/revoke", |r| {
            r.update(Pki::revoke_issuer, "Revokes an issuer's certificate, and ends its use for certificates")
        })
        .route("config/crl", |r| {
            r.read(Pki::read_config_crl, "Reads how revocation is published")
                .update(Pki::write_config_crl, "Writes how revocation is published")
        })
        .route("crl", |r| r.read(Pki::crl_der, "The default issuer's CRL in DER").public())
        .route("crl/pem", |r| r.read(Pki::crl_as_pem, "The default issuer's CRL in PEM").public())
        .route("crl/delta", |r| r.read(Pki::delta_crl_der, "The default issuer's delta CRL in DER").public())
        .route("crl/delta/pem", |r| {
            r.read(Pki::delta_crl_as_pem, "The default issuer's delta CRL in PEM").public()
        })
        .route("cert/crl", |r| r.read(Pki::cert_crl, "The default issuer's CRL").public())
        .route("cert/delta-crl", |r| r.read(Pki::cert_delta_crl, "The default issuer's delta CRL").public())
        .route("crl/rotate", |r| r.read(Pki::rotate, "Builds every CRL anew"))
        .route("crl/rotate-delta", |r| r.read(Pki::rotate_delta, "Builds every delta CRL anew"))
        .route("issuer/{issuer_ref}/crl", |r| r.read(Pki::issuer_crl, "An issuer's CRL").public())
        .route("issuer/{issuer_ref}/crl/der", |r| {
            r.read(Pki::issuer_crl_der, "An issuer's CRL in DER").public()
        })
        .route("issuer/{issuer_ref}/crl/pem", |r| {
            r.read(Pki::issuer_crl_pem, "An issuer's CRL in PEM").public()
        })
        .route("issuer/{issuer_ref}/crl/delta", |r| {
            r.read(Pki::issuer_delta_crl, "An issuer's delta CRL").public()
        })
        .route("issuer/{issuer_ref}/crl/delta/der", |r| {
            r.read(Pki::issuer_delta_crl_der, "An issuer's delta CRL in DER").public()
        })
        .route("issuer/{issuer_ref}/crl/delta/pem", |r| {
            r.read(Pki::issuer_delta_crl_pem, "An issuer's delta CRL in PEM").public()
        })
        .route("issuer/{issuer_ref}/resign-crls", |r| {
            r.update(Pki::resign_crls, "Merges CRLs of one issuer into one")
        })
        .route("issuer/{issuer_ref}/sign-revocation-list", |r| {
            r.update(Pki::sign_revocation_list, "Signs a list of revoked certificates that the caller brings")
        })
        .route("certs/revoked", |r| {
            r.list(Pki::list_revoked_certificates, "Lists the serial numbers of revoked certificates")
        })
}

/// Removing what has expired.
fn tidy_routes(routes: Routes<Pki>) -> Routes<Pki> {
    routes
        .route("tidy", |r| {
            r.update(Pki::start_tidy, "Removes what has expired, in the background")
                .help("Removes only what the request names, and that not before its safety buffer is over.")
        })
        .route("tidy-cancel", |r| r.update(Pki::cancel_tidy, "Ends the run that is under way"))
        .route("tidy-status", |r| {
            r.read(Pki::read_tidy_status, "Reads how far the run is, or how the last one ended")
        })
        .route("config/auto-tidy", |r| {
            r.read(Pki::read_auto_tidy, "Reads when runs begin by themselves")
                .update(Pki::write_auto_tidy, "Writes when runs begin by themselves, and what they do")
        })
}

/// Roles whose programs decide.
fn cel_routes(routes: Routes<Pki>) -> Routes<Pki> {
    routes
        .route("cel/roles", |r| {
            r.list(Pki::list_cel_roles, "Lists the CEL roles").help("Programs that decide.")
        })
        .route("cel/roles/{name}", |r| {
            r.read(Pki::read_cel_role, "Reads a CEL role")
                .update(Pki::write_cel_role, "Writes a CEL role")
                .patch(Pki::patch_cel_role, "Changes some fields of a CEL role")
                .delete(Pki::delete_cel_role, "Deletes a CEL role")
                .help("A program in the Common Expression Language that decides what a certificate says.")
        })
        .route("cel/issue/{role}", |r| {
            r.update(Pki::cel_issue, "Makes a key and a certificate as a CEL role decides")
                .help("Certificates with their keys. The keys are not stored.")
        })
        .route("cel/sign/{role}", |r| {
            r.update(Pki::cel_sign, "Signs a CSR as a CEL role decides")
                .help("Certificates for keys made elsewhere.")
        })
}
