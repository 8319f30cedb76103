//! A server in memory whose pipeline is asked many things in a row.

use std::cell::RefCell;
use std::sync::Arc;

use chancery_api::{FixedClock, Secret};
use chancery_secrets::{Answer, Core, CoreConfig, Error, Operation, Request};
use chancery_storage::{Barrier, Memory, ShareScheme};
use serde_json::{Value, json};
use tokio::runtime::{Builder, Runtime};

/// A server is replaced after so many uses, so that what earlier requests left behind stays small.
const USES: usize = 500;

/// Lives on the thread that made it.
pub(crate) struct Server {
    runtime: Runtime,
    core: Arc<Core>,
    uses: usize,
}

/// Gives the thread's unsealed server: made anew if requests have sealed it, or taken root's rights.
pub(crate) fn with_server(ask: impl FnOnce(&Server)) {
    thread_local!(static SERVER: RefCell<Option<Server>> = const { RefCell::new(None) });
    SERVER.with_borrow_mut(|kept| {
        let fit = kept.take().filter(|server| !server.is_worn());
        let server = kept.insert(fit.unwrap_or_else(Server::furnished));
        server.uses += 1;
        ask(server);
    });
}

/// Gives the thread's sealed server, which takes two of three shares that nobody has.
pub(crate) fn with_sealed_server(ask: impl FnOnce(&Server)) {
    thread_local!(static SERVER: Server = Server::over(3, 2));
    SERVER.with(ask);
}

impl Server {
    /// Initialised; the first share is given.
    fn over(shares: i64, threshold: i64) -> Self {
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime must be had");
        let noon = "2026-06-01T12:00:00Z".parse().expect("an instant must parse");
        let barrier = Barrier::new(Arc::new(Memory::new()), None);
        let core = Core::new(barrier, CoreConfig::default(), Arc::new(FixedClock::at(noon)));
        let scheme = ShareScheme::new(shares, threshold).expect("the numbers must be possible");
        let made = runtime.block_on(core.initialize(scheme, Some(Secret::new("root"))));
        let made = made.expect("an empty store must take a server");
        if let Some(share) = made.shares.first() {
            runtime.block_on(core.unseal(share)).expect("a share must be taken");
        }
        Self { runtime, core, uses: 0 }
    }

    /// Unsealed, with an issuer, roles and an AppRole mount.
    fn furnished() -> Self {
        let server = Self::over(1, 1);
        for (path, body) in [
            ("sys/mounts/pki", json!({ "type": "pki", "config": { "max_lease_ttl": "8760h" } })),
            ("pki/root/generate/internal", json!({ "common_name": "root", "key_type": "ec" })),
            ("pki/roles/web", json!({ "allow_any_name": true, "key_type": "any", "require_cn": false })),
            ("sys/auth/approle", json!({ "type": "approle" })),
            ("auth/approle/role/web", json!({ "token_policies": "web", "role_id": "web" })),
            ("sys/policies/acl/web", json!({ "policy": "path \"pki/*\" { capabilities = [\"read\"] }" })),
        ] {
            server.write(path, &body).expect("the server must be furnished");
        }
        server
    }

    fn is_worn(&self) -> bool {
        let is_root = |answer: Result<Answer, Error>| answer.is_ok();
        self.uses >= USES
            || self.core.is_sealed()
            || !is_root(self.send(Request::new(Operation::Read, "auth/token/lookup-self").token("root")))
    }

    fn send(&self, request: Request) -> Result<Answer, Error> {
        self.runtime.block_on(self.core.handle(request))
    }

    fn write(&self, path: &str, body: &Value) -> Result<Answer, Error> {
        self.send(Request::new(Operation::Update, path).token("root").json(body))
    }

    /// Asks, and encodes the answer as it would go out.
    pub(crate) fn ask(&self, request: Request) {
        if let Ok(answer) = self.send(request)
            && answer.has_body()
        {
            drop(answer.to_json());
        }
    }

    /// Takes `text` for a token and everything else that leads to something.
    pub(crate) fn look_up(&self, text: &str) {
        self.ask(Request::new(Operation::Read, "auth/token/lookup-self").token(text));
        for (path, field) in [
            ("auth/token/lookup", "token"),
            ("auth/token/lookup-accessor", "accessor"),
            ("auth/token/renew", "token"),
            ("sys/leases/lookup", "lease_id"),
            ("sys/leases/revoke", "lease_id"),
            ("sys/wrapping/lookup", "token"),
            ("sys/wrapping/unwrap", "token"),
            ("auth/approle/role/web/secret-id-accessor/lookup", "secret_id_accessor"),
            ("pki/revoke", "serial_number"),
        ] {
            self.ask(Request::new(Operation::Update, path).token("root").json(&json!({ field: text })));
        }
        self.ask(Request::new(Operation::Read, format!("pki/cert/{text}")).token("root"));
        let list = Request::new(Operation::List, "pki/certs/").token("root");
        self.ask(Request { query: vec![("after".to_owned(), text.to_owned())], ..list });
    }

    /// Gives a key share as text.
    pub(crate) fn unseal(&self, text: &str) {
        self.ask(Request::new(Operation::Update, "sys/unseal").json(&json!({ "key": text })));
        self.ask(Request::new(Operation::Read, "sys/seal-status"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parsers::read_http;

    /// Seeds that are all refused would exercise nothing.
    #[test]
    fn most_seeds_of_the_pipeline_are_granted() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/seeds/pipeline");
        let mut refused = Vec::new();
        let mut granted = 0;
        for entry in std::fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            let mut request = read_http(&std::fs::read(&path).expect("a file")).expect("a request");
            request.token.get_or_insert_with(|| Secret::new("root"));
            match Server::furnished().send(request) {
                Ok(_) => granted += 1,
                Err(error) => refused.push(format!("{}: {}", path.display(), error.message())),
            }
        }
        assert!(granted > 3 * refused.len(), "{refused:#?}");
    }
}
