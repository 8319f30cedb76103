//! The method through its own routes, over memory storage.

mod faults;
mod logins;
mod roles;
mod secret_ids;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use chancery_api::Ttl;
use chancery_storage::memory::Fault;
use chancery_storage::{Barrier, Memory, ShareScheme, Writes};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::AppRole;
use crate::engine::{Call, Class, Engine, Mount, SystemLimits, Tuning};
use crate::error::{Error, Kind};
use crate::request::{Connection, Operation};
use crate::response::{Login, Response};

const NOW: Timestamp = Timestamp::constant(1_800_000_000, 123_456_789);

/// When the store was founded; nothing here looks at it.
fn epoch() -> std::time::SystemTime {
    std::time::SystemTime::UNIX_EPOCH
}

struct Bed {
    memory: Memory,
    share: Vec<u8>,
    fault: Arc<Mutex<Fault>>,
    engine: Arc<AppRole>,
    now: Timestamp,
    address: Option<IpAddr>,
}

impl Bed {
    async fn new() -> Self {
        let memory = Memory::new();
        let barrier = Barrier::new(Arc::new(memory.clone()), None);
        let founding = barrier.found(ShareScheme::new(1, 1).unwrap(), epoch()).await.unwrap();
        let (_, shares) = founding.commit(Writes::new()).await.unwrap();
        Self::over(memory, shares[0].to_vec()).await
    }

    async fn over(memory: Memory, share: Vec<u8>) -> Self {
        let fault = Arc::new(Mutex::new(Fault::None));
        let asked = Arc::clone(&fault);
        let faulty = memory.with_faults(move |_| std::mem::replace(&mut *asked.lock().unwrap(), Fault::None));
        let barrier = Barrier::new(Arc::new(faulty), None);
        assert!(barrier.provide_share(&share).await.unwrap());
        let view = barrier.unsealed().unwrap().view("mount").unwrap();
        let mount = Mount::new(
            "mount".into(),
            "auth_approle_1".into(),
            Class::Auth,
            view,
            SystemLimits::default(),
            Tuning::default(),
        );
        let engine = Arc::new(AppRole::open(Arc::new(mount)).await.unwrap());
        Self { memory, share, fault, engine, now: NOW, address: Some("192.0.2.1".parse().unwrap()) }
    }

    /// The same store after a restart.
    async fn restarted(&self) -> Self {
        let bed = Self::over(self.memory.reopened(), self.share.clone()).await;
        Self { now: self.now, ..bed }
    }

    fn next_commit(&self, fault: Fault) {
        *self.fault.lock().unwrap() = fault;
    }

    fn pass(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
    }

    async fn ask(&self, operation: Operation, path: &str, body: Value) -> Result<Response, Error> {
        let routes = AppRole::routes();
        let matched = routes.matching(path).ok_or_else(Error::unsupported_path)?;
        let call = Call {
            request_id: "request".into(),
            operation,
            path: path.into(),
            captures: matched.captures.clone(),
            body: Bytes::from(body.to_string()),
            query: Vec::new(),
            connection: Connection { address: self.address, ..Connection::default() },
            mount_path: "auth/approle/".into(),
            authorized: None,
            presented: None,
            now: self.now,
        };
        routes.dispatch(Arc::clone(&self.engine), &matched, call).await
    }

    async fn write(&self, path: &str, body: Value) -> Result<Response, Error> {
        self.ask(Operation::Update, path, body).await
    }

    async fn read(&self, path: &str) -> Result<Value, Error> {
        self.ask(Operation::Read, path, json!({})).await.map(|response| data(&response))
    }

    async fn list(&self, path: &str, body: Value) -> Result<Vec<String>, Error> {
        let response = self.ask(Operation::List, path, body).await?;
        Ok(serde_json::from_value(data(&response)["keys"].clone()).unwrap())
    }

    async fn delete(&self, path: &str, body: Value) -> Result<Response, Error> {
        self.ask(Operation::Delete, path, body).await
    }

    /// A role and the role id it got.
    async fn role(&self, name: &str, body: Value) -> String {
        self.write(&format!("role/{name}"), body).await.unwrap();
        let read = self.read(&format!("role/{name}/role-id")).await.unwrap();
        read["role_id"].as_str().unwrap().to_owned()
    }

    /// A secret id and its accessor.
    async fn secret_id(&self, role: &str, body: Value) -> (String, String) {
        let made = data(&self.write(&format!("role/{role}/secret-id"), body).await.unwrap());
        let text = |name: &str| made[name].as_str().unwrap().to_owned();
        (text("secret_id"), text("secret_id_accessor"))
    }

    async fn login(&self, role_id: &str, secret_id: &str) -> Result<Login, Error> {
        let response = self.write("login", json!({ "role_id": role_id, "secret_id": secret_id })).await?;
        Ok(*response.login.unwrap())
    }

    async fn uses_left(&self, role: &str, secret_id: &str) -> Option<u64> {
        let path = format!("role/{role}/secret-id/lookup");
        let response = self.write(&path, json!({ "secret_id": secret_id })).await.unwrap();
        response.data.as_ref()?;
        data(&response)["secret_id_num_uses"].as_u64()
    }
}

fn data(response: &Response) -> Value {
    response.data.as_ref().map_or(Value::Null, |data| serde_json::from_str(data.get()).unwrap())
}

fn message<T: std::fmt::Debug>(outcome: Result<T, Error>) -> (Kind, String) {
    let error = outcome.unwrap_err();
    (error.kind, error.message())
}

fn invalid(text: &str) -> (Kind, String) {
    (Kind::InvalidRequest, text.to_owned())
}
