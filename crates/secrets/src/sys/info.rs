//! What the server says of itself: its configuration, its version, the engines it has.

use std::collections::BTreeMap;
use std::sync::Arc;

use chancery_api::fields::NoFields;
use chancery_api::{Strings, fields};
use chancery_storage::{Name, View};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{API_VERSION, Sys};
use crate::core::CoreConfig;
use crate::engine::{Call, Class, kinds};
use crate::error::Error;
use crate::response::Response;
use crate::route::Routes;

/// The paths of this family.
pub(super) fn routes(routes: Routes<Sys>) -> Routes<Sys> {
    routes
        .route("config/state/sanitized", |r| {
            r.read(Sys::sanitized_config, "The configuration in force, without anything secret.")
        })
        .route("config/cors", |r| {
            r.read(Sys::read_cors, "Whether browsers may call from other origins: they may not.").sudo()
        })
        .route("config/ui/headers", |r| {
            r.list(Sys::list_ui_headers, "Headers that an operator added to the UI's.").sudo()
        })
        .route("config/ui/headers/{header:any}", |r| {
            r.read(Sys::read_ui_header, "A header that an operator added to the UI's.").sudo()
        })
        .route("host-info", |r| r.read(Sys::host_info, "The machine that the server runs on."))
        .route("ha-status", |r| r.read(Sys::ha_status, "The nodes of the cluster."))
        .route("step-down", |r| {
            r.update(Sys::step_down, "Give up leadership; with one node nothing happens.").sudo()
        })
        .route("in-flight-req", |r| r.read(Sys::in_flight, "Requests under way."))
        .route("version-history", |r| {
            r.list(Sys::version_history, "The versions that this store was served by.")
        })
        .route("plugins/catalog", |r| r.read(Sys::list_plugins, "Every kind of engine and auth method."))
        .route("plugins/catalog/{plugin_type}", |r| {
            r.list(Sys::list_plugins_of, "The kinds of secrets engines, or of auth methods.").sudo()
        })
        .route("plugins/catalog/{plugin_type}/{name}", |r| {
            r.read(Sys::read_plugin, "One kind of engine.").sudo()
        })
        .route("namespaces", |r| {
            r.list(Sys::no_namespaces, "There are no namespaces.")
                .scan(Sys::no_namespaces, "There are no namespaces.")
        })
        .route("namespaces/{path:rest}", |r| r.read(Sys::no_namespaces, "There are no namespaces."))
        .route("locked-users", |r| {
            r.read(Sys::locked_users, "Names that are locked out; see the auth method for addresses.")
        })
        .route("internal/counters/tokens", |r| r.read(Sys::count_tokens, "How many tokens there are."))
}

fields! {
    /// A kind of engine.
    #[derive(Debug)]
    pub(super) struct PluginType {
        path {
            /// `auth` or `secret`.
            plugin_type: String,
        }
    }
}

fields! {
    /// A kind of engine.
    #[derive(Debug)]
    pub(super) struct PluginName {
        path {
            /// `auth` or `secret`.
            plugin_type: String,
            /// Its name.
            name: String,
        }
    }
}

fields! {
    /// A header of the UI's answers.
    #[derive(Debug)]
    pub(super) struct UiHeader {
        path {
            /// The header's name.
            header: String,
        }
        body {
            /// Its values.
            values: Strings = Strings::default(),
        }
    }
}

/// A version that served this store.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Served {
    version: String,
    since: Timestamp,
}

const VERSIONS: &str = "versions";

/// Notes that this version serves the store from now on, unless it is noted already.
pub(crate) async fn note_version(root: &View, now: Timestamp) -> Result<(), Error> {
    let name = Name::new(API_VERSION);
    if root.get(VERSIONS, &name).await?.is_none() {
        root.put_json(VERSIONS, &name, &Served { version: API_VERSION.to_owned(), since: now }).await?;
    }
    Ok(())
}

impl Sys {
    async fn sanitized_config(self: Arc<Self>, _: Call, _: NoFields) -> Result<Response, Error> {
        let core = self.core()?;
        let CoreConfig { limits, cluster_name, api_address, storage_type, ui, prober: _ } = &core.config;
        let seal = core.barrier.status().await?.kind;
        Response::data(&json!({
            "api_addr": api_address,
            "cluster_addr": "",
            "cluster_name": cluster_name,
            "default_lease_ttl": limits.default_lease_ttl,
            "max_lease_ttl": limits.max_lease_ttl,
            "enable_ui": ui,
            "disable_cache": false,
            "disable_clustering": true,
            "raw_storage_endpoint": false,
            "storage": { "type": storage_type, "cluster_addr": "", "disable_clustering": true, "redirect_addr": api_address },
            "seals": [{ "type": seal, "disabled": false }],
        }))
    }

    async fn read_cors(self: Arc<Self>, _: Call, _: NoFields) -> Result<Response, Error> {
        Response::data(&json!({ "enabled": false }))
    }

    async fn list_ui_headers(self: Arc<Self>, _: Call, _: NoFields) -> Result<Response, Error> {
        Response::list(&[])
    }

    async fn read_ui_header(self: Arc<Self>, _: Call, _: UiHeader) -> Result<Response, Error> {
        Err(Error::nothing_there())
    }

    async fn host_info(self: Arc<Self>, call: Call, _: NoFields) -> Result<Response, Error> {
        let read =
            |path: &str| std::fs::read_to_string(path).map(|text| text.trim().to_owned()).unwrap_or_default();
        let uptime = read("/proc/uptime").split('.').next().and_then(|seconds| seconds.parse::<u64>().ok());
        Response::data(&json!({
            "timestamp": call.now.to_string(),
            "host": {
                "hostname": read("/proc/sys/kernel/hostname"),
                "os": std::env::consts::OS,
                "kernelArch": std::env::consts::ARCH,
                "kernelVersion": read("/proc/sys/kernel/osrelease"),
                "uptime": uptime,
            },
        }))
    }

    async fn ha_status(self: Arc<Self>, call: Call, _: NoFields) -> Result<Response, Error> {
        let core = self.core()?;
        core.active()?;
        let hostname = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let _ = call;
        Ok(Response::data(&json!({
            "nodes": [{
                "hostname": hostname.trim(), "api_address": core.config.api_address, "cluster_address": "",
                "active_node": true, "last_echo": null, "version": API_VERSION, "upgrade_version": API_VERSION,
            }],
        }))?
        .flattened())
    }

    async fn step_down(self: Arc<Self>, _: Call, _: NoFields) -> Result<Response, Error> {
        self.active()?;
        Ok(Response::empty())
    }

    async fn in_flight(self: Arc<Self>, call: Call, _: NoFields) -> Result<Response, Error> {
        // Requests are not kept track of; the one that asks is under way for certain.
        let address = call.connection.address.map(|address| address.to_string()).unwrap_or_default();
        let this = json!({
            "start_time": call.now.to_string(),
            "client_remote_address": format!("{address}:{}", call.connection.port),
            "request_path": "/v1/sys/in-flight-req",
            "request_method": "GET",
        });
        Ok(Response::data(&BTreeMap::from([(call.request_id.clone(), this)]))?.bare())
    }

    async fn version_history(self: Arc<Self>, _: Call, _: NoFields) -> Result<Response, Error> {
        let mut versions = Vec::new();
        for (_, record) in
            self.active()?.root.scan(VERSIONS, chancery_storage::Position::Start, usize::MAX).await?
        {
            versions.push(record.json::<Served>()?);
        }
        versions.sort_by_key(|served| served.since);
        let mut info = BTreeMap::new();
        let mut previous = None;
        for served in &versions {
            info.insert(
                served.version.clone(),
                json!({
                    "build_date": "", "previous_version": previous, "timestamp_installed": served.since.to_string(),
                }),
            );
            previous = Some(served.version.clone());
        }
        let keys: Vec<String> = versions.into_iter().map(|served| served.version).collect();
        Response::list_with_info(&keys, &info)
    }

    async fn list_plugins(self: Arc<Self>, _: Call, _: NoFields) -> Result<Response, Error> {
        let detailed: Vec<Value> = [(Class::Auth, "auth"), (Class::Secret, "secret")]
            .into_iter()
            .flat_map(|(class, word)| kinds(class).iter().map(move |name| (word, *name)))
            .map(|(word, name)| {
                json!({
                    "builtin": true, "deprecation_status": "supported", "name": name, "type": word,
                    "version": plugin_version(),
                })
            })
            .collect();
        Response::data(&json!({
            "auth": kinds(Class::Auth), "database": [], "secret": kinds(Class::Secret), "detailed": detailed,
        }))
    }

    async fn list_plugins_of(self: Arc<Self>, _: Call, body: PluginType) -> Result<Response, Error> {
        let names: Vec<String> = match class_of(&body.plugin_type) {
            Some(class) => kinds(class).iter().map(|&name| name.to_owned()).collect(),
            None if body.plugin_type == "database" => Vec::new(),
            None => {
                return Err(Error::invalid(format!("{:?} is not a supported plugin type", body.plugin_type)));
            }
        };
        Response::list(&names)
    }

    async fn read_plugin(self: Arc<Self>, _: Call, body: PluginName) -> Result<Response, Error> {
        let known =
            class_of(&body.plugin_type).is_some_and(|class| kinds(class).contains(&body.name.as_str()));
        if !known {
            return Err(Error::nothing_there());
        }
        Response::data(&json!({
            "args": null, "builtin": true, "command": "", "deprecation_status": "supported", "name": body.name,
            "oci": false, "sha256": "", "version": plugin_version(),
        }))
    }

    async fn no_namespaces(self: Arc<Self>, _: Call, _: NoFields) -> Result<Response, Error> {
        Err(Error::nothing_there())
    }

    async fn locked_users(self: Arc<Self>, _: Call, _: NoFields) -> Result<Response, Error> {
        Response::data(&json!({
            "by_namespace": [
                { "namespace_id": "root", "namespace_path": "", "counts": 0, "mount_accessors": [] },
            ],
            "total": 0,
        }))
    }

    async fn count_tokens(self: Arc<Self>, call: Call, _: NoFields) -> Result<Response, Error> {
        let active = self.active()?;
        let (mut total, mut after) = (0_u64, None);
        loop {
            let page = active.tokens.page(after).await?;
            let Some(last) = page.last() else { break };
            after = Some(last.key);
            total += page.iter().map(|entry| u64::from(!entry.expired(call.now))).sum::<u64>();
        }
        Response::data(&json!({ "counters": { "service_tokens": { "total": total } } }))
    }
}

fn class_of(plugin_type: &str) -> Option<Class> {
    match plugin_type {
        "auth" => Some(Class::Auth),
        "secret" => Some(Class::Secret),
        _ => None,
    }
}

/// Engines have the server's version.
pub(super) fn plugin_version() -> String {
    format!("v{API_VERSION}")
}
