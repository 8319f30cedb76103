//! AppRole: logins of machines by a role id and a secret id.
//!
//! A role says what its tokens may do; its role id names it, its secret ids prove that a caller may use
//! it. Of a secret id only a keyed hash is stored. `store` keeps the records and their caches, `login`
//! is the hot path, `lockout` counts wrong guesses, the rest is bookkeeping for operators.

mod lockout;
mod login;
mod role;
mod secret_id;
mod settings;
mod store;

use std::sync::{Arc, LazyLock};

use chancery_api::fields;
use chancery_api::fields::NoFields;
use jiff::Timestamp;

use crate::engine::{Call, Engine, Mount, RenewTerms};
use crate::error::Error;
use crate::response::Response;
use crate::route::Routes;
use crate::token::TokenEntry;

use lockout::Lockout;
use store::Store;

/// The auth method `approle`.
pub struct AppRole {
    mount: Arc<Mount>,
    store: Arc<Store>,
    lockout: Lockout,
}

impl AppRole {
    /// Opens the method over a mount; makes the key that hashes its secret ids on the first opening.
    pub async fn open(mount: Arc<Mount>) -> Result<Self, Error> {
        let store = Arc::new(Store::open(mount.view.clone()).await?);
        Ok(Self { mount, store, lockout: Lockout::new() })
    }

    async fn tidy(self: Arc<Self>, call: Call, _: NoFields) -> Result<Response, Error> {
        let (store, now) = (Arc::clone(&self.store), call.now);
        tokio::spawn(async move {
            if let Err(error) = store.tidy(now).await {
                tracing::warn!(%error, "expired secret ids could not be removed; the next round tries again");
            }
        });
        Ok(Response::empty().status(202).warn(
            "Tidy operation successfully started. Any information from the operation will be printed to the server's logs.",
        ))
    }
}

impl Engine for AppRole {
    fn routes() -> &'static Routes<Self> {
        static ROUTES: LazyLock<Routes<AppRole>> = LazyLock::new(routes);
        &ROUTES
    }

    /// Removes what has expired and what deleted roles left behind.
    async fn tick(self: Arc<Self>, now: Timestamp) -> Result<(), Error> {
        self.store.tidy(now).await
    }

    async fn renew_token(
        self: Arc<Self>,
        token: Arc<TokenEntry>,
        _now: Timestamp,
    ) -> Result<RenewTerms, Error> {
        self.renewal_terms(&token.internal).await
    }
}

fields! {
    /// A request that names a role and says no more.
    #[derive(Debug)]
    pub(super) struct OfRole {
        path {
            /// The role's name; at most 4096 bytes.
            role_name: String,
        }
    }
}

fn routes() -> Routes<AppRole> {
    let routes = Routes::new()
        .route("login", |r| {
            r.public()
                .update(AppRole::login, "Log in with a role id and a secret id")
                .help("Checks the role id and, if the role asks for one, the secret id, and answers a token.")
        })
        .route("role", |r| r.list(AppRole::list_roles, "List the names of the roles"))
        .route("role/{role_name}", |r| {
            r.existence(AppRole::role_exists)
                .read(AppRole::read_role, "Read a role")
                .update(AppRole::write_role, "Create a role, or change what is given")
                .delete(AppRole::delete_role, "Delete a role with its secret ids")
                .help("A role holds the terms of its tokens and what a caller must show to get one.")
        })
        .route("role/{role_name}/role-id", |r| {
            r.read(AppRole::read_role_id, "Read the role id")
                .update(AppRole::write_role_id, "Choose the role id")
                .help("The role id names the role at login. It is not a secret by itself.")
        })
        .route("role/{role_name}/secret-id", |r| {
            r.list(AppRole::list_secret_ids, "List the accessors of the role's secret ids")
                .update(AppRole::generate_secret_id, "Make a secret id")
                .help("A secret id is shown once, when it is made. Only its accessor is listed.")
        })
        .route("role/{role_name}/custom-secret-id", |r| {
            r.update(AppRole::custom_secret_id, "Register a secret id of the operator's choice")
                .help("A chosen secret id is only as strong as it is long and random.")
        })
        .route("role/{role_name}/secret-id/lookup", |r| {
            r.update(AppRole::lookup_secret_id, "Read the properties of a secret id")
        })
        .route("role/{role_name}/secret-id/destroy", |r| {
            r.update(AppRole::destroy_secret_id, "Invalidate a secret id")
                .delete(AppRole::destroy_secret_id, "Invalidate a secret id")
        })
        .route("role/{role_name}/secret-id-accessor/lookup", |r| {
            r.update(AppRole::lookup_accessor, "Read the properties of a secret id by its accessor")
        })
        .route("role/{role_name}/secret-id-accessor/destroy", |r| {
            r.update(AppRole::destroy_accessor, "Invalidate a secret id by its accessor")
                .delete(AppRole::destroy_accessor, "Invalidate a secret id by its accessor")
        })
        .route("tidy/secret-id", |r| {
            r.update(AppRole::tidy, "Remove expired secret ids in the background").help(
                "Expired secret ids are refused at once and removed about once a second; this does it now.",
            )
        });
    settings::routes(routes)
}

#[cfg(test)]
mod tests;
