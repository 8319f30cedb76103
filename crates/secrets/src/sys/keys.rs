//! The barrier's encryption key: its term, and putting a new one in force.

use std::sync::Arc;

use chancery_api::fields::NoFields;
use chancery_api::{Ttl, fields};
use chancery_storage::{Name, View};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::Sys;
use crate::core::Active;
use crate::engine::Call;
use crate::error::Error;
use crate::response::Response;
use crate::route::Routes;
use crate::sealing::system_time;

/// The most records that one key may encrypt; the peer's number.
const MOST_OPERATIONS: u64 = 3_865_470_566;
const FEWEST_OPERATIONS: u64 = 1_000_000;
const SHORTEST_INTERVAL: Ttl = Ttl::hours(24);

/// When a new key is put in force without being asked for.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct RotationPolicy {
    enabled: bool,
    /// After so many records.
    max_operations: u64,
    /// After this time; zero is never.
    interval: Ttl,
}

impl Default for RotationPolicy {
    fn default() -> Self {
        Self { enabled: true, max_operations: MOST_OPERATIONS, interval: Ttl::ZERO }
    }
}

impl RotationPolicy {
    const COLLECTION: &str = "core";
    const NAME: &str = "rotation";

    async fn load(root: &View) -> Result<Self, Error> {
        Ok(root.get_json(Self::COLLECTION, &Name::new(Self::NAME)).await?.unwrap_or_default())
    }
}

/// The paths of this family.
pub(super) fn routes(routes: Routes<Sys>) -> Routes<Sys> {
    let mut routes = routes
        .route("key-status", |r| r.read(Sys::key_status, "Which encryption key is in force, and since when."))
        .route("rotate", |r| r.update(Sys::rotate, "Put a new encryption key in force.").sudo())
        .route("rotate/keyring", |r| r.update(Sys::rotate, "Put a new encryption key in force.").sudo())
        .route("rotate/root", |r| r.update(Sys::rotate_root, "Put a new root key in force.").sudo());
    for path in ["rotate/config", "rotate/keyring/config"] {
        routes = routes.route(path, |r| {
            r.read(Sys::read_rotation_policy, "When a new encryption key is put in force by itself.").update(
                Sys::write_rotation_policy,
                "Say when a new encryption key shall be put in force by itself.",
            )
        });
    }
    routes
}

fields! {
    /// When a new key is put in force by itself.
    #[derive(Debug)]
    pub(super) struct WriteRotationPolicy {
        body {
            /// Whether at all.
            enabled: Option<bool>,
            /// After so many records.
            max_operations: Option<i64>,
            /// After this time; zero is never.
            interval: Option<Ttl>,
        }
    }
}

impl Sys {
    async fn key_status(self: Arc<Self>, _: Call, _: NoFields) -> Result<Response, Error> {
        let status = self.active()?.unsealed.key_status()?;
        let installed = Timestamp::try_from(status.installed_at)
            .map_err(|error| Error::internal("internal error", error))?;
        let answer = json!({
            "term": status.term, "install_time": installed.to_string(), "encryptions": status.encryptions,
        });
        Ok(Response::data(&answer)?.flattened())
    }

    async fn rotate(self: Arc<Self>, call: Call, _: NoFields) -> Result<Response, Error> {
        let status = self.active()?.unsealed.rotate(system_time(call.now)).await?;
        tracing::info!(term = status.term, "a new encryption key is in force");
        Ok(Response::empty())
    }

    async fn rotate_root(self: Arc<Self>, _: Call, _: NoFields) -> Result<Response, Error> {
        let core = self.core()?;
        core.active()?;
        core.barrier.rotate_root_key().await?;
        tracing::info!("a new root key is in force");
        Ok(Response::empty())
    }

    async fn read_rotation_policy(self: Arc<Self>, _: Call, _: NoFields) -> Result<Response, Error> {
        let RotationPolicy { enabled, max_operations, interval } =
            RotationPolicy::load(&self.active()?.root).await?;
        // The peer's form: 0, or Go's notation with every unit.
        let interval = match interval.as_secs() {
            0 => json!(0),
            seconds => json!(format!("{}h{}m{}s", seconds / 3600, seconds / 60 % 60, seconds % 60)),
        };
        Response::data(&json!({ "enabled": enabled, "interval": interval, "max_operations": max_operations }))
    }

    async fn write_rotation_policy(
        self: Arc<Self>,
        _: Call,
        body: WriteRotationPolicy,
    ) -> Result<Response, Error> {
        let active = self.active()?;
        let mut policy = RotationPolicy::load(&active.root).await?;
        policy.enabled = body.enabled.unwrap_or(policy.enabled);
        if let Some(operations) = body.max_operations.filter(|operations| *operations != 0) {
            policy.max_operations = u64::try_from(operations)
                .ok()
                .filter(|operations| (FEWEST_OPERATIONS..=MOST_OPERATIONS).contains(operations))
                .ok_or_else(|| {
                    Error::invalid(format!(
                        "max_operations must be in the range [{FEWEST_OPERATIONS},{MOST_OPERATIONS}]"
                    ))
                })?;
        }
        if let Some(interval) = body.interval {
            if !interval.is_zero() && interval < SHORTEST_INTERVAL {
                return Err(Error::invalid("interval must be greater or equal to 24h0m0s"));
            }
            policy.interval = interval;
        }
        active.root.put_json(RotationPolicy::COLLECTION, &Name::new(RotationPolicy::NAME), &policy).await?;
        Ok(Response::empty())
    }
}

/// Puts a new encryption key in force if the operator's policy says that it is time; part of the core's
/// upkeep.
pub(crate) async fn rotate_if_due(active: &Active, now: Timestamp) -> Result<(), Error> {
    let policy = RotationPolicy::load(&active.root).await?;
    let status = active.unsealed.key_status()?;
    let age = system_time(now).duration_since(status.installed_at).unwrap_or_default();
    let due = policy.enabled
        && (status.encryptions >= policy.max_operations
            || (!policy.interval.is_zero() && age >= policy.interval.0));
    if due {
        let status = active.unsealed.rotate(system_time(now)).await?;
        tracing::info!(term = status.term, "a new encryption key is in force");
    }
    Ok(())
}
