//! The server as its clients meet it: over HTTP, unsealed, in memory.

use chancery_server::config::{Config, StorageConfig};
use chancery_server::{DevOptions, DevServer, start_dev};

/// A server on a port of its own that ends with the runtime.
pub struct TestServer {
    server: DevServer,
}

impl TestServer {
    /// Starts one, with TLS or without.
    pub async fn start(tls: bool) -> Self {
        let options = DevOptions {
            root_token_id: Some("root".to_owned()),
            listen_address: "127.0.0.1:0".to_owned(),
            no_store_token: true,
            tls,
            ..DevOptions::default()
        };
        let started = start_dev(&options, Config::new(StorageConfig::Memory)).await;
        Self { server: started.expect("a server must start") }
    }

    /// What a client writes into `VAULT_ADDR`.
    pub fn url(&self) -> String {
        self.server.running.url()
    }

    /// The token that may do everything.
    pub fn root_token(&self) -> &'static str {
        "root"
    }

    /// The key share that unseals it.
    pub fn unseal_key(&self) -> &str {
        self.server.unseal_key.expose()
    }

    /// With TLS, the file of the authority that clients have to believe.
    pub fn ca_file(&self) -> Option<&std::path::Path> {
        self.server.ca_file.as_deref()
    }
}
