//! The PKI engine: a certificate authority per mount.
//!
//! This file is the table of paths and nothing else. `role.rs` turns what operators write into
//! issuance profiles; `sign.rs` and `issue.rs` make leaves; `certs.rs` reads back what was made.
//! `store.rs` holds the records and what of them stays in memory, `authorities.rs` the issuers and
//! keys ready to sign, `records.rs` their stored forms.
//!
//! Authorities are made and kept by `root.rs`, `intermediate.rs`, `import.rs`, `issuers.rs`, `keys.rs`
//! and `config.rs`. Rooms kept free for later: `revoke.rs`, `crl.rs`, `ocsp.rs`, `tidy.rs`, `acme/`,
//! `cel.rs`.

mod authorities;
mod records;
mod role;
mod store;

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
}

/// Issuers, keys, and the settings they share.
fn issuer_routes(routes: Routes<Pki>) -> Routes<Pki> {
    routes
}
