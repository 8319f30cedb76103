//! Audit devices: `sys/audit`, `sys/audit-hash`.

use std::collections::BTreeMap;
use std::sync::Arc;

use chancery_api::fields::NoFields;
use chancery_api::{KeyValues, Secret, fields};
use serde_json::json;

use crate::audit::{AuditedHeader, DeviceRecord, HeaderName};
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
        .route("config/auditing/request-headers", |r| {
            r.read(Sys::audited_headers, "The request headers that audit records carry.").sudo()
        })
        .route("config/auditing/request-headers/{header:any}", |r| {
            r.read(Sys::audited_header, "How a request header is recorded.")
                .update(Sys::record_header, "Record a request header.")
                .delete(Sys::forget_header, "Record a request header no more.")
                .sudo()
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

fields! {
    /// A request header.
    #[derive(Debug)]
    pub(super) struct HeaderPath {
        path {
            /// Its name, in any case.
            header: String,
        }
    }
}

fields! {
    /// A request header that records shall carry.
    #[derive(Debug)]
    pub(super) struct RecordHeader {
        path {
            /// Its name, in any case.
            header: String,
        }
        body {
            /// Its values stand as a hash; always so for headers that carry a credential.
            hmac: bool = false,
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

    async fn audited_headers(self: Arc<Self>, _: Call, _: NoFields) -> Result<Response, Error> {
        let headers = self.active()?.audit.headers();
        let shown: BTreeMap<&str, &AuditedHeader> =
            headers.iter().map(|(name, header)| (name.as_str(), header)).collect();
        Ok(Response::data(&json!({ "headers": shown }))?.flattened())
    }

    async fn audited_header(self: Arc<Self>, _: Call, body: HeaderPath) -> Result<Response, Error> {
        let headers = self.active()?.audit.headers();
        let found = HeaderName::parse(&body.header).ok().and_then(|name| headers.get(&name).copied());
        let header = found.ok_or_else(|| Error::invalid("Could not find header in config"))?;
        // As the peer does: under the name that was asked for.
        Ok(Response::data(&BTreeMap::from([(body.header, header)]))?.flattened())
    }

    async fn record_header(self: Arc<Self>, _: Call, body: RecordHeader) -> Result<Response, Error> {
        let name = HeaderName::parse(&body.header)?;
        self.active()?.audit.record_header(name, AuditedHeader { hmac: body.hmac }).await?;
        Ok(Response::empty())
    }

    async fn forget_header(self: Arc<Self>, _: Call, body: HeaderPath) -> Result<Response, Error> {
        // What no header can be called is recorded nowhere.
        if let Ok(name) = HeaderName::parse(&body.header) {
            self.active()?.audit.forget_header(&name).await?;
        }
        Ok(Response::empty())
    }
}
