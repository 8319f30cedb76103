//! Initialisation, sealing and unsealing, health and leadership.

use std::sync::Arc;

use chancery_api::fields::NoFields;
use chancery_api::{Secret, Strings, fields};
use chancery_storage::{SealStatus, Share, ShareScheme};
use data_encoding::{BASE64, HEXLOWER, HEXLOWER_PERMISSIVE};
use serde::Serialize;
use serde_json::json;

use crate::engine::Call;
use crate::error::{Error, Kind};
use crate::response::Response;
use crate::route::Routes;
use crate::sys::{API_VERSION, Sys};

/// The paths of this family.
pub(super) fn routes(routes: Routes<Sys>) -> Routes<Sys> {
    routes
        .route("init", |r| {
            r.read(Sys::read_init, "Whether the server has been initialised.")
                .update(Sys::init, "Make the keys of a new store and a root token.")
                .sealed()
        })
        .route("seal-status", |r| r.read(Sys::read_seal_status, "Whether the server is sealed.").sealed())
        .route("unseal", |r| r.update(Sys::unseal, "Give one key share.").sealed())
        .route("seal", |r| r.update(Sys::seal, "Seal the server: all keys are forgotten.").sudo())
        .route("health", |r| {
            r.read(Sys::health, "Whether the server can serve; the status says so too.").sealed()
        })
        .route("leader", |r| r.read(Sys::leader, "Which node serves.").sealed())
}

fields! {
    /// `sys/init`.
    #[derive(Debug)]
    pub(super) struct InitRequest {
        body {
            /// Into how many shares the unseal key is split.
            secret_shares: i64 = 0,
            /// How many of them are needed.
            secret_threshold: i64 = 0,
            /// With an auto-unseal: into how many shares the recovery key is split.
            recovery_shares: i64 = 0,
            /// With an auto-unseal: how many of them are needed.
            recovery_threshold: i64 = 0,
            /// Encrypting shares to PGP keys is not offered.
            pgp_keys: Strings = Strings::default(),
            /// Encrypting the root token to a PGP key is not offered.
            root_token_pgp_key: String = String::new(),
            /// Encrypting recovery shares to PGP keys is not offered.
            recovery_pgp_keys: Strings = Strings::default(),
            /// Shares kept by an external service are not offered.
            stored_shares: i64 = 0,
        }
    }
}

fields! {
    /// `sys/unseal`.
    #[derive(Debug)]
    pub(super) struct UnsealRequest {
        body {
            /// One share, in hex or base64.
            key: Secret = Secret::default(),
            /// Forget the shares given so far.
            reset: bool = false,
            /// Moving to another seal is not offered.
            migrate: bool = false,
        }
    }
}

fields! {
    /// `sys/health`: which status stands for which state.
    #[derive(Debug)]
    pub(super) struct HealthRequest {
        body {
            /// While active.
            activecode: u16 = 200,
            /// While a standby.
            standbycode: u16 = 429,
            /// While sealed.
            sealedcode: u16 = 503,
            /// Before initialisation.
            uninitcode: u16 = 501,
            /// Count a standby as active.
            standbyok: bool = false,
        }
    }
}

/// The answer of `sys/seal-status` and `sys/unseal`.
#[derive(Serialize)]
struct StatusAnswer {
    #[serde(rename = "type")]
    kind: &'static str,
    initialized: bool,
    sealed: bool,
    t: u8,
    n: u8,
    progress: usize,
    nonce: String,
    recovery_seal: bool,
    version: &'static str,
    commit_date: &'static str,
    migration: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    cluster_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cluster_id: Option<String>,
    storage_type: String,
}

/// A share in hex or base64.
pub(super) fn decode_share(text: &str) -> Result<Share, Error> {
    if text.is_empty() {
        return Err(Error::invalid(
            "'key' must be specified in request body as JSON, or 'reset' set to true",
        ));
    }
    HEXLOWER_PERMISSIVE
        .decode(text.as_bytes())
        .or_else(|_| BASE64.decode(text.as_bytes()))
        .map(Share::new)
        .map_err(|_| Error::invalid("'key' must be a valid hex or base64 string"))
}

/// Shares as `keys` and `keys_base64` print them.
pub(super) fn encode_shares(shares: &[Share]) -> (Vec<String>, Vec<String>) {
    let hex = shares.iter().map(|share| HEXLOWER.encode(share)).collect();
    let base64 = shares.iter().map(|share| BASE64.encode(share)).collect();
    (hex, base64)
}

/// How many shares and how many are needed, or why not.
pub(super) fn scheme(shares: i64, threshold: i64) -> Result<ShareScheme, Error> {
    ShareScheme::new(shares, threshold)
        .map_err(|error| Error::invalid(format!("invalid seal configuration: {error}")))
}

impl Sys {
    async fn read_init(self: Arc<Self>, _: Call, _: NoFields) -> Result<Response, Error> {
        let initialized = self.core()?.barrier.is_initialized().await?;
        Ok(Response::data(&json!({ "initialized": initialized }))?.bare())
    }

    async fn init(self: Arc<Self>, _: Call, body: InitRequest) -> Result<Response, Error> {
        let core = self.core()?;
        let status = core.barrier.status().await?;
        if status.initialized {
            return Err(Error::invalid("Vault is already initialized"));
        }
        let pgp = !body.pgp_keys.is_empty()
            || !body.root_token_pgp_key.is_empty()
            || !body.recovery_pgp_keys.is_empty();
        if pgp {
            return Err(Error::invalid(
                "pgp_keys, recovery_pgp_keys and root_token_pgp_key are not supported; take the shares over TLS",
            ));
        }
        let scheme = if status.recovery_seal {
            refuse_parameters(
                &[("secret_shares", body.secret_shares), ("secret_threshold", body.secret_threshold)],
                &status,
            )?;
            scheme(body.recovery_shares, body.recovery_threshold)?
        } else {
            refuse_parameters(
                &[("recovery_shares", body.recovery_shares), ("recovery_threshold", body.recovery_threshold)],
                &status,
            )?;
            scheme(body.secret_shares, body.secret_threshold)?
        };
        let initialized = core.initialize(scheme, None).await?;
        let (hex, base64) = encode_shares(&initialized.shares);
        let root_token = initialized.root_token.expose();
        let answer = if status.recovery_seal {
            json!({
                "keys": [], "keys_base64": [],
                "recovery_keys": hex, "recovery_keys_base64": base64, "root_token": root_token,
            })
        } else {
            json!({ "keys": hex, "keys_base64": base64, "root_token": root_token })
        };
        Ok(Response::data(&answer)?.bare())
    }

    async fn read_seal_status(self: Arc<Self>, _: Call, _: NoFields) -> Result<Response, Error> {
        self.seal_status().await
    }

    async fn seal_status(&self) -> Result<Response, Error> {
        let core = self.core()?;
        let status = core.barrier.status().await?;
        let named = !core.is_sealed();
        let answer = StatusAnswer {
            kind: status.kind,
            initialized: status.initialized,
            sealed: core.is_sealed(),
            t: status.scheme.map_or(0, ShareScheme::threshold),
            n: status.scheme.map_or(0, ShareScheme::shares),
            progress: status.progress,
            nonce: status.nonce,
            recovery_seal: status.recovery_seal,
            version: API_VERSION,
            commit_date: "",
            migration: false,
            cluster_name: named.then(|| core.config.cluster_name.clone()),
            cluster_id: named.then(|| core.cluster_id()).transpose()?,
            storage_type: core.config.storage_type.clone(),
        };
        Ok(Response::data(&answer)?.bare())
    }

    async fn unseal(self: Arc<Self>, _: Call, body: UnsealRequest) -> Result<Response, Error> {
        let core = self.core()?;
        if body.migrate {
            return Err(Error::invalid("moving to another seal is not supported"));
        }
        if body.reset {
            if !core.is_sealed() {
                return Err(Error::invalid("vault is unsealed"));
            }
            core.barrier.reset_shares().await;
        } else {
            core.unseal(&decode_share(body.key.expose())?).await?;
        }
        self.seal_status().await
    }

    async fn seal(self: Arc<Self>, _: Call, _: NoFields) -> Result<Response, Error> {
        self.ceremonies.forget().await;
        self.core()?.seal().await;
        Ok(Response::empty())
    }

    async fn health(self: Arc<Self>, call: Call, body: HealthRequest) -> Result<Response, Error> {
        let core = self.core()?;
        let initialized = core.barrier.is_initialized().await?;
        let sealed = core.is_sealed();
        let status = match (initialized, sealed) {
            (false, _) => body.uninitcode,
            (true, true) => body.sealedcode,
            (true, false) => body.activecode,
        };
        if !(100..=999).contains(&status) {
            return Err(Error::of(Kind::InvalidRequest, format!("{status} is not an HTTP status")));
        }
        let replication = if sealed { "unknown" } else { "disabled" };
        let mut answer = json!({
            "initialized": initialized,
            "sealed": sealed,
            "standby": sealed,
            "performance_standby": false,
            "replication_performance_mode": replication,
            "replication_dr_mode": replication,
            "server_time_utc": call.now.as_second(),
            "version": API_VERSION,
        });
        if let (false, Some(object)) = (sealed, answer.as_object_mut()) {
            object.insert("cluster_name".to_owned(), core.config.cluster_name.clone().into());
            object.insert("cluster_id".to_owned(), core.cluster_id()?.into());
        }
        Ok(Response::data(&answer)?.bare().status(status))
    }

    async fn leader(self: Arc<Self>, _: Call, _: NoFields) -> Result<Response, Error> {
        self.active()?;
        Ok(Response::data(&json!({ "ha_enabled": false }))?.bare())
    }
}

fn refuse_parameters(parameters: &[(&str, i64)], status: &SealStatus) -> Result<(), Error> {
    let given: Vec<&str> =
        parameters.iter().filter(|(_, value)| *value != 0).map(|(name, _)| *name).collect();
    if given.is_empty() {
        return Ok(());
    }
    Err(Error::invalid(format!("parameters {} not applicable to seal type {}", given.join(","), status.kind)))
}
