//! Audit devices: `sys/audit`, `sys/audit-hash`.

use std::collections::BTreeMap;
use std::sync::Arc;

use chancery_api::fields::NoFields;
use chancery_api::{KeyValues, Secret, fields};
use serde_json::json;

use crate::audit::DeviceRecord;
use crate::engine::Call;
use crate::error::Error;
use crate::response::Response;
use crate::route::Routes;
use crate::sys::Sys;

/// The paths of this family.
pub(super) fn routes(routes: Routes<Sys>) -> Routes<Sys> {
    routes
        .route("audit", |r| r.read(Sys::list_audit, "Every audit device.").sudo())
        .route("audit/{path:rest}", |r| {
            r.update(Sys::enable_audit, "Add an audit device.")
                .delete(Sys::disable_audit, "Take an audit device away.")
                .sudo()
        })
        .route("audit-hash/{path:rest}", |r| {
            r.update(Sys::audit_hash, "The hash under which a device writes a text.")
        })
}

fields! {
    /// An audit device to add.
    #[derive(Debug)]
    pub(super) struct EnableAudit {
        path {
            /// The device's name.
            path: String,
        }
        body {
            /// `file`.
            kind as "type": String = String::new(),
            /// For people.
            description: String = String::new(),
            /// `file_path` (or `stdout`, `discard`), `mode`, `log_raw`, `hmac_accessor`, `prefix`, `elide_list_responses`.
            options: KeyValues = KeyValues::default(),
            /// Accepted and shown; there is one node.
            local: bool = false,
        }
    }
}

fields! {
    /// An audit device.
    #[derive(Debug)]
    pub(super) struct AuditPath {
        path {
            /// The device's name.
            path: String,
        }
    }
}

fields! {
    /// A text to hash.
    #[derive(Debug)]
    pub(super) struct AuditHash {
        path {
            /// The device's name.
            path: String,
        }
        body {
            /// The text.
            input: Secret = Secret::default(),
        }
    }
}

impl Sys {
    async fn list_audit(self: Arc<Self>, _: Call, _: NoFields) -> Result<Response, Error> {
        let mut shown = BTreeMap::new();
        for (path, device) in self.active()?.audit.devices().iter() {
            let record = &device.record;
            shown.insert(
                path.clone(),
                json!({
                    "type": record.kind,
                    "description": record.description,
                    "options": record.options,
                    "local": record.local,
                    "path": record.path,
                }),
            );
        }
        Ok(Response::data(&shown)?.flattened())
    }

    async fn enable_audit(self: Arc<Self>, call: Call, body: EnableAudit) -> Result<Response, Error> {
        let record =
            DeviceRecord::new(&body.path, &body.kind, &body.description, body.local, body.options.0)?;
        self.active()?.audit.enable(record, call.now).await?;
        tracing::info!(path = body.path, "audit device enabled");
        Ok(Response::empty())
    }

    async fn disable_audit(self: Arc<Self>, _: Call, body: AuditPath) -> Result<Response, Error> {
        self.active()?.audit.disable(&format!("{}/", body.path.trim_matches('/'))).await?;
        tracing::info!(path = body.path, "audit device disabled");
        Ok(Response::empty())
    }

    async fn audit_hash(self: Arc<Self>, _: Call, body: AuditHash) -> Result<Response, Error> {
        if body.input.is_empty() {
            return Err(Error::invalid("the \"input\" parameter is empty"));
        }
        let path = format!("{}/", body.path.trim_matches('/'));
        let hash = self
            .active()?
            .audit
            .hash(&path, body.input.expose())
            .ok_or_else(|| Error::invalid(format!("unknown audit backend {path:?}")))?;
        Ok(Response::data(&json!({ "hash": hash }))?.flattened())
    }
}
