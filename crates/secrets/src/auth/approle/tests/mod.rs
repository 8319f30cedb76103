//! The method through its own routes, over memory storage.

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

#[tokio::test]
async fn a_new_role_reads_as_the_peers_does() {
    let bed = Bed::new().await;
    assert_eq!(message(bed.read("role/web").await), (Kind::NotFound, String::new()));
    bed.write("role/web", json!({})).await.unwrap();
    assert_eq!(
        bed.read("role/web").await.unwrap(),
        json!({
            "bind_secret_id": true, "local_secret_ids": false, "secret_id_bound_cidrs": null,
            "secret_id_num_uses": 0, "secret_id_ttl": 0, "token_bound_cidrs": [], "token_explicit_max_ttl": 0,
            "token_max_ttl": 0, "token_no_default_policy": false, "token_num_uses": 0, "token_period": 0,
            "token_policies": [], "token_strictly_bind_ip": false, "token_ttl": 0, "token_type": "default",
        })
    );
}

#[tokio::test]
async fn old_field_names_work_and_are_shown_until_the_new_ones_are_used() {
    let bed = Bed::new().await;
    let given = json!({ "policies": "a,B ,a", "period": "1h", "bound_cidr_list": "10.0.0.0/8,127.0.0.1/32" });
    bed.write("role/web", given).await.unwrap();
    let read = bed.read("role/web").await.unwrap();
    assert_eq!(read["policies"], json!(["a", "b"]));
    assert_eq!(read["token_policies"], json!(["a", "b"]));
    assert_eq!((&read["period"], &read["token_period"]), (&json!(3600), &json!(3600)));
    assert_eq!(read["secret_id_bound_cidrs"], json!(["10.0.0.0/8", "127.0.0.1/32"]));

    // Both given: the new name wins, and both are shown.
    let given =
        json!({ "policies": "y", "token_policies": ["x", "default"], "period": "3h", "token_period": "2h" });
    bed.write("role/web", given).await.unwrap();
    let read = bed.read("role/web").await.unwrap();
    assert_eq!((&read["policies"], &read["period"]), (&json!(["x", "default"]), &json!(7200)));

    bed.write("role/web", json!({ "token_policies": "z", "token_period": 60 })).await.unwrap();
    let read = bed.read("role/web").await.unwrap();
    assert_eq!((&read["policies"], &read["period"]), (&Value::Null, &Value::Null));
    assert_eq!((&read["token_policies"], &read["token_period"]), (&json!(["z"]), &json!(60)));
}

#[tokio::test]
async fn what_a_role_cannot_be_is_refused_in_the_peers_words() {
    let bed = Bed::new().await;
    bed.write("role/web", json!({ "role_id": "taken" })).await.unwrap();
    for (name, body, text) in [
        ("new", json!({ "bind_secret_id": false }), "at least one constraint should be enabled on the role"),
        (
            "new",
            json!({ "bound_cidr_list": "127.0.0.1" }),
            "failed to validate CIDR blocks: invalid CIDR address: 127.0.0.1",
        ),
        ("new", json!({ "role_id": "taken" }), "role_id already in use"),
        ("new", json!({ "role_id": "" }), "invalid role_id supplied, or failed to generate a role_id"),
        ("new", json!({ "secret_id_num_uses": -1 }), "secret_id_num_uses cannot be negative"),
        (
            "web",
            json!({ "local_secret_ids": true }),
            "local_secret_ids can only be modified during role creation",
        ),
        (
            "web",
            json!({ "token_ttl": "2h", "token_max_ttl": "1h" }),
            "'token_ttl' cannot be greater than 'token_max_ttl'",
        ),
        (
            "web",
            json!({ "token_bound_cidrs": "x" }),
            "error parsing address \"x\": Unable to convert \"x\" to an IPv4 or IPv6 address, or a UNIX Socket",
        ),
    ] {
        assert_eq!(message(bed.write(&format!("role/{name}"), body).await), invalid(text));
    }
    assert_eq!(message(bed.read("role/new").await), (Kind::NotFound, String::new()));
    let long = "x".repeat(4097);
    assert_eq!(
        message(bed.write("role/web/role-id", json!({ "role_id": long })).await),
        invalid("role_id is longer than maximum of 4096 bytes")
    );
    assert_eq!(
        message(bed.write(&format!("role/{long}"), json!({})).await),
        invalid("role_name is longer than maximum of 4096 bytes")
    );
}

#[tokio::test]
async fn a_role_that_outlives_its_mount_is_warned_about() {
    let bed = Bed::new().await;
    let given = json!({ "token_max_ttl": "20000h", "token_type": "default-batch", "nonsense": 1 });
    let response = bed.write("role/web", given).await.unwrap();
    assert_eq!(
        response.warnings,
        [
            "default-batch has no useful meaning; adjusting to batch",
            "token_max_ttl is greater than the backend mount's maximum TTL value; issued tokens' max TTL value will be truncated",
            "Endpoint ignored these unrecognized parameters: [nonsense]",
        ]
    );
}

#[tokio::test]
async fn role_names_are_the_same_in_any_case() {
    let bed = Bed::new().await;
    let role_id = bed.role("Web", json!({})).await;
    assert_eq!(bed.list("role", json!({})).await.unwrap(), ["web"]);
    let (secret_id, _) = bed.secret_id("WEB", json!({})).await;
    let login = bed.login(&role_id, &secret_id).await.unwrap();
    assert_eq!(login.metadata, BTreeMap::from([("role_name".to_owned(), "web".to_owned())]));
}

#[tokio::test]
async fn roles_are_listed_in_pages() {
    let bed = Bed::new().await;
    assert_eq!(message(bed.list("role", json!({})).await), (Kind::NotFound, String::new()));
    for name in ["c", "a", "b"] {
        bed.role(name, json!({})).await;
    }
    assert_eq!(bed.list("role/", json!({})).await.unwrap(), ["a", "b", "c"]);
    assert_eq!(bed.list("role", json!({ "after": "a", "limit": 1 })).await.unwrap(), ["b"]);
}

#[tokio::test]
async fn every_setting_is_written_read_and_cleared_by_its_own_path() {
    let bed = Bed::new().await;
    bed.role("web", json!({})).await;
    for (path, given, read, cleared) in [
        (
            "policies",
            json!({"policies": "a,b"}),
            json!({"policies": ["a", "b"], "token_policies": ["a", "b"]}),
            json!({"token_policies": []}),
        ),
        (
            "policies",
            json!({"token_policies": "c"}),
            json!({"token_policies": ["c"]}),
            json!({"token_policies": []}),
        ),
        (
            "bound-cidr-list",
            json!({"bound_cidr_list": "10.0.0.0/8"}),
            json!({"bound_cidr_list": ["10.0.0.0/8"]}),
            json!({"bound_cidr_list": null}),
        ),
        (
            "secret-id-bound-cidrs",
            json!({"secret_id_bound_cidrs": "10.0.0.0/8"}),
            json!({"secret_id_bound_cidrs": ["10.0.0.0/8"]}),
            json!({"secret_id_bound_cidrs": null}),
        ),
        (
            "token-bound-cidrs",
            json!({"token_bound_cidrs": "10.0.0.0/8,192.0.2.1"}),
            json!({"token_bound_cidrs": ["10.0.0.0/8", "192.0.2.1"]}),
            json!({"token_bound_cidrs": null}),
        ),
        (
            "secret-id-num-uses",
            json!({"secret_id_num_uses": "3"}),
            json!({"secret_id_num_uses": 3}),
            json!({"secret_id_num_uses": 0}),
        ),
        (
            "secret-id-ttl",
            json!({"secret_id_ttl": "1h"}),
            json!({"secret_id_ttl": 3600}),
            json!({"secret_id_ttl": 0}),
        ),
        (
            "period",
            json!({"period": "1h"}),
            json!({"period": 3600, "token_period": 3600}),
            json!({"token_period": 0}),
        ),
        ("period", json!({"token_period": "1h"}), json!({"token_period": 3600}), json!({"token_period": 0})),
        ("token-ttl", json!({"token_ttl": "1h"}), json!({"token_ttl": 3600}), json!({"token_ttl": 0})),
        (
            "token-max-ttl",
            json!({"token_max_ttl": "2h"}),
            json!({"token_max_ttl": 7200}),
            json!({"token_max_ttl": 0}),
        ),
        (
            "token-num-uses",
            json!({"token_num_uses": 5}),
            json!({"token_num_uses": 5}),
            json!({"token_num_uses": 0}),
        ),
        (
            "bind-secret-id",
            json!({"bind_secret_id": true}),
            json!({"bind_secret_id": true}),
            json!({"bind_secret_id": true}),
        ),
    ] {
        let at = format!("role/web/{path}");
        bed.write(&at, given.clone()).await.unwrap();
        assert_eq!(bed.read(&at).await.unwrap(), read, "{path}");
        assert_eq!(bed.restarted().await.read(&at).await.unwrap(), read, "{path} after a restart");
        bed.delete(&at, json!({})).await.unwrap();
        assert_eq!(bed.read(&at).await.unwrap(), cleared, "{path}");

        let nowhere = format!("role/none/{path}");
        assert_eq!(message(bed.read(&nowhere).await), (Kind::NotFound, String::new()), "{path}");
        assert_eq!(
            bed.write(&nowhere, given).await.unwrap_err().message(),
            Error::unsupported_path().message()
        );
        bed.delete(&nowhere, json!({})).await.unwrap();
    }
    assert_eq!(bed.read("role/web/local-secret-ids").await.unwrap(), json!({"local_secret_ids": false}));
    for (path, text) in [
        ("policies", "missing token_policies"),
        ("period", "missing period"),
        ("secret-id-num-uses", "missing secret_id_num_uses"),
        ("secret-id-ttl", "missing secret_id_ttl"),
        ("token-ttl", "missing token_ttl"),
        ("token-max-ttl", "missing token_max_ttl"),
        ("token-num-uses", "missing token_num_uses"),
        ("role-id", "missing role_id"),
    ] {
        assert_eq!(message(bed.write(&format!("role/web/{path}"), json!({})).await), invalid(text));
    }
}

#[tokio::test]
async fn the_last_constraint_of_a_role_cannot_be_cleared() {
    let bed = Bed::new().await;
    bed.role("web", json!({ "bind_secret_id": false, "secret_id_bound_cidrs": "10.0.0.0/8" })).await;
    let cleared = bed.delete("role/web/secret-id-bound-cidrs", json!({})).await;
    assert_eq!(message(cleared), invalid("at least one constraint should be enabled on the role"));
}

#[tokio::test]
async fn a_changed_role_id_replaces_the_old_one_and_frees_it() {
    let bed = Bed::new().await;
    let old = bed.role("web", json!({})).await;
    let (secret_id, _) = bed.secret_id("web", json!({})).await;
    bed.login(&old, &secret_id).await.unwrap();
    bed.write("role/web/role-id", json!({ "role_id": "mine" })).await.unwrap();
    bed.login("mine", &secret_id).await.unwrap();
    assert_eq!(message(bed.login(&old, &secret_id).await), invalid("invalid role or secret ID"));
    bed.write("role/other", json!({ "role_id": old })).await.unwrap();
}

#[tokio::test]
async fn a_login_carries_the_roles_terms_and_the_secret_ids_metadata() {
    let bed = Bed::new().await;
    let role = json!({
        "token_policies": "p", "token_ttl": "1h", "token_max_ttl": "2h", "token_num_uses": 7,
        "token_bound_cidrs": "192.0.2.0/24",
    });
    let role_id = bed.role("web", role).await;
    let (secret_id, _) = bed
        .secret_id(
            "web",
            json!({ "metadata": r#"{"k":"v","role_name":"other"}"#, "token_bound_cidrs": "192.0.2.0/28" }),
        )
        .await;
    let login = bed.login(&role_id, &secret_id).await.unwrap();
    assert_eq!(login.policies, ["p"]);
    assert_eq!(
        (login.ttl, login.max_ttl, login.num_uses, login.renewable),
        (Ttl::hours(1), Ttl::hours(2), 7, true)
    );
    assert_eq!(login.metadata["k"], "v");
    assert_eq!(login.metadata["role_name"], "web", "a secret id cannot pass for another role's");
    assert_eq!(login.alias, Some(role_id));
    assert_eq!(login.bound_cidrs, ["192.0.2.0/28".parse().unwrap()]);
}

#[tokio::test]
async fn a_strictly_bound_token_works_from_the_logins_address_only() {
    let bed = Bed::new().await;
    let role_id = bed.role("web", json!({ "token_strictly_bind_ip": true })).await;
    let (secret_id, _) = bed.secret_id("web", json!({})).await;
    assert_eq!(bed.login(&role_id, &secret_id).await.unwrap().bound_cidrs, ["192.0.2.1/32".parse().unwrap()]);
}

#[tokio::test]
async fn wrong_credentials_are_refused_without_saying_which() {
    let bed = Bed::new().await;
    let role_id = bed.role("web", json!({})).await;
    let (secret_id, _) = bed.secret_id("web", json!({})).await;
    let other = bed.role("other", json!({})).await;
    for (role_id, secret_id, text) in [
        ("", "", "missing role_id"),
        (role_id.as_str(), "", "missing secret_id"),
        (role_id.as_str(), "wrong", "invalid role or secret ID"),
        ("wrong", secret_id.as_str(), "invalid role or secret ID"),
        (other.as_str(), secret_id.as_str(), "invalid role or secret ID"),
    ] {
        assert_eq!(message(bed.login(role_id, secret_id).await), invalid(text));
    }
    bed.login(&role_id, &secret_id).await.unwrap();
}

#[tokio::test]
async fn a_role_without_secret_ids_lets_its_networks_in() {
    let mut bed = Bed::new().await;
    let role_id =
        bed.role("web", json!({ "bind_secret_id": false, "bound_cidr_list": "192.0.2.0/24" })).await;
    bed.login(&role_id, "").await.unwrap();
    assert_eq!(
        message(bed.write("role/web/secret-id", json!({})).await),
        invalid("bind_secret_id is not set on the role")
    );
    bed.address = Some("198.51.100.1".parse().unwrap());
    assert_eq!(
        message(bed.login(&role_id, "").await),
        invalid("source address \"198.51.100.1\" unauthorized by CIDR restrictions on the role")
    );
}

#[tokio::test]
async fn a_login_from_a_wrong_network_does_not_cost_a_use() {
    let mut bed = Bed::new().await;
    let role_id = bed.role("web", json!({})).await;
    let (secret_id, _) = bed.secret_id("web", json!({ "num_uses": 1, "cidr_list": "10.0.0.0/8" })).await;
    assert_eq!(
        message(bed.login(&role_id, &secret_id).await),
        invalid("source address \"192.0.2.1\" unauthorized through CIDR restrictions on the secret ID")
    );
    assert_eq!(bed.uses_left("web", &secret_id).await, Some(1));
    bed.address = Some("10.1.1.1".parse().unwrap());
    bed.login(&role_id, &secret_id).await.unwrap();
}

#[tokio::test]
async fn uses_are_counted_down_durably_and_the_last_one_removes_the_secret_id() {
    let bed = Bed::new().await;
    let role_id = bed.role("web", json!({ "secret_id_num_uses": 3 })).await;
    let (secret_id, accessor) = bed.secret_id("web", json!({})).await;
    for left in [Some(2), Some(1), None] {
        bed.login(&role_id, &secret_id).await.unwrap();
        assert_eq!(bed.uses_left("web", &secret_id).await, left);
        assert_eq!(bed.restarted().await.uses_left("web", &secret_id).await, left);
    }
    assert_eq!(message(bed.login(&role_id, &secret_id).await), invalid("invalid role or secret ID"));
    assert_eq!(
        message(
            bed.write("role/web/secret-id-accessor/lookup", json!({ "secret_id_accessor": accessor })).await
        ),
        (Kind::NotFound, format!("failed to find accessor entry for secret_id_accessor: {accessor:?}"))
    );
    assert_eq!(message(bed.list("role/web/secret-id", json!({})).await), (Kind::NotFound, String::new()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn concurrent_logins_use_a_secret_id_exactly_as_often_as_it_allows() {
    let bed = Arc::new(Bed::new().await);
    // A second process on the same store: its locks are not ours, only the stored conditions hold between us.
    let other = Arc::new(bed.restarted().await);
    let role_id = bed.role("web", json!({})).await;
    let (secret_id, _) = bed.secret_id("web", json!({ "num_uses": 20 })).await;
    let logins: Vec<_> = (0..60)
        .map(|number| {
            let bed = Arc::clone(if number % 2 == 0 { &bed } else { &other });
            let (role_id, secret_id) = (role_id.clone(), secret_id.clone());
            tokio::spawn(async move { bed.login(&role_id, &secret_id).await.is_ok() })
        })
        .collect();
    let mut granted = 0;
    for login in logins {
        granted += usize::from(login.await.unwrap());
    }
    assert_eq!(granted, 20);
}

#[tokio::test]
async fn an_unlimited_login_writes_nothing() {
    let bed = Bed::new().await;
    let role_id = bed.role("web", json!({})).await;
    let (secret_id, _) = bed.secret_id("web", json!({ "ttl": "1h" })).await;
    let before = bed.memory.dump();
    for _ in 0..3 {
        bed.login(&role_id, &secret_id).await.unwrap();
    }
    assert_eq!(bed.memory.dump(), before);
}

#[tokio::test]
async fn an_expired_secret_id_is_refused_at_once_and_removed_by_upkeep() {
    let mut bed = Bed::new().await;
    let role_id = bed.role("web", json!({})).await;
    let empty = bed.memory.dump().len();
    let (secret_id, accessor) = bed.secret_id("web", json!({ "ttl": "1h" })).await;
    let (lasting, _) = bed.secret_id("web", json!({ "ttl": "3h" })).await;
    bed.login(&role_id, &secret_id).await.unwrap();
    bed.pass(3600);
    assert_eq!(message(bed.login(&role_id, &secret_id).await), invalid("invalid role or secret ID"));
    assert_eq!(bed.uses_left("web", &secret_id).await, None);
    assert!(bed.list("role/web/secret-id", json!({})).await.unwrap().contains(&accessor));

    Arc::clone(&bed.engine).tick(bed.now).await.unwrap();
    assert!(!bed.list("role/web/secret-id", json!({})).await.unwrap().contains(&accessor));
    bed.login(&role_id, &lasting).await.unwrap();
    bed.pass(7200);
    Arc::clone(&bed.engine).tick(bed.now).await.unwrap();
    assert_eq!(bed.memory.dump().len(), empty, "nothing is left behind");
}

#[tokio::test]
async fn a_text_registered_again_outlives_the_expiry_of_its_first_life() {
    let mut bed = Bed::new().await;
    let role_id = bed.role("web", json!({})).await;
    let custom = |ttl: &str| json!({ "secret_id": "chosen", "ttl": ttl });
    bed.write("role/web/custom-secret-id", custom("1h")).await.unwrap();
    assert_eq!(
        message(bed.write("role/web/custom-secret-id", custom("1h")).await),
        invalid("failed to store secret_id: SecretID is already registered")
    );
    bed.write("role/web/secret-id/destroy", json!({ "secret_id": "chosen" })).await.unwrap();
    bed.write("role/web/custom-secret-id", custom("9h")).await.unwrap();
    bed.pass(2 * 3600);
    Arc::clone(&bed.engine).tick(bed.now).await.unwrap();
    bed.login(&role_id, "chosen").await.unwrap();
}

#[tokio::test]
async fn secret_ids_stay_within_the_roles_limits() {
    let bed = Bed::new().await;
    let role = json!({
        "secret_id_num_uses": 2, "secret_id_ttl": "1h",
        "secret_id_bound_cidrs": "127.0.0.0/8", "token_bound_cidrs": "127.0.0.0/8",
    });
    bed.role("web", role).await;
    let subset = "failed to verify subset relationship between CIDR blocks on the role [\"127.0.0.0/8\"] and CIDR blocks on the secret ID [\"10.0.0.0/8\"]";
    for (body, text) in [
        (json!({ "num_uses": 3 }), "num_uses cannot be higher than the role's secret_id_num_uses"),
        (json!({ "num_uses": 0 }), "num_uses cannot be higher than the role's secret_id_num_uses"),
        (json!({ "num_uses": -1 }), "num_uses cannot be negative"),
        (json!({ "ttl": "2h" }), "ttl cannot be longer than the role's secret_id_ttl"),
        (json!({ "ttl": 0 }), "ttl cannot be longer than the role's secret_id_ttl"),
        (json!({ "cidr_list": "10.0.0.0/8" }), subset),
        (json!({ "token_bound_cidrs": "10.0.0.0/8" }), subset),
    ] {
        assert_eq!(message(bed.write("role/web/secret-id", body).await), invalid(text));
    }
    let made = data(&bed.write("role/web/secret-id", json!({ "num_uses": 1, "ttl": "30m" })).await.unwrap());
    assert_eq!((&made["secret_id_num_uses"], &made["secret_id_ttl"]), (&json!(1), &json!(1800)));
    assert_eq!(
        message(bed.write("role/none/secret-id", json!({})).await),
        (Kind::NotFound, "role \"none\" does not exist".to_owned())
    );
}

#[tokio::test]
async fn a_secret_id_never_outlives_the_mounts_maximum() {
    let bed = Bed::new().await;
    bed.role("web", json!({ "secret_id_ttl": "10000h" })).await;
    let made = data(&bed.write("role/web/secret-id", json!({})).await.unwrap());
    assert_eq!(made["secret_id_ttl"], json!(2_764_800));
    let lookup = json!({ "secret_id": made["secret_id"] });
    let read = data(&bed.write("role/web/secret-id/lookup", lookup).await.unwrap());
    assert_eq!(read["secret_id_ttl"], json!(36_000_000));
    assert_eq!(read["expiration_time"], json!((NOW + Duration::from_secs(2_764_800)).to_string()));
}

#[tokio::test]
async fn looking_up_by_text_and_by_accessor_gives_the_same_properties() {
    let bed = Bed::new().await;
    bed.role("web", json!({})).await;
    let (secret_id, accessor) =
        bed.secret_id("web", json!({ "metadata": r#"{"k":"v"}"#, "cidr_list": "10.0.0.0/8" })).await;
    let by_text =
        data(&bed.write("role/web/secret-id/lookup", json!({ "secret_id": secret_id })).await.unwrap());
    let asked = json!({ "secret_id_accessor": accessor });
    let by_accessor = data(&bed.write("role/web/secret-id-accessor/lookup", asked).await.unwrap());
    assert_eq!(by_text, by_accessor);
    assert_eq!(
        by_text,
        json!({
            "cidr_list": ["10.0.0.0/8"], "creation_time": "2027-01-15T08:00:00.123456789Z",
            "expiration_time": "0001-01-01T00:00:00Z", "last_updated_time": "2027-01-15T08:00:00.123456789Z",
            "metadata": {"k": "v"}, "secret_id_accessor": accessor, "secret_id_num_uses": 0, "secret_id_ttl": 0,
            "token_bound_cidrs": [],
        })
    );
    assert!(
        bed.write("role/web/secret-id/lookup", json!({ "secret_id": "zzz" })).await.unwrap().data.is_none()
    );
}

#[tokio::test]
async fn a_destroyed_secret_id_is_gone_by_either_name() {
    let bed = Bed::new().await;
    let role_id = bed.role("web", json!({})).await;
    let empty = bed.memory.dump().len();
    for operation in [Operation::Update, Operation::Delete] {
        for by in ["secret-id", "secret-id-accessor"] {
            let (secret_id, accessor) = bed.secret_id("web", json!({ "ttl": "1h" })).await;
            bed.login(&role_id, &secret_id).await.unwrap();
            let body = json!({ "secret_id": secret_id, "secret_id_accessor": accessor });
            bed.ask(operation, &format!("role/web/{by}/destroy"), body).await.unwrap();
            assert_eq!(message(bed.login(&role_id, &secret_id).await), invalid("invalid role or secret ID"));
            assert_eq!(bed.memory.dump().len(), empty);
        }
    }
    // Destroying what is not there succeeds by text; an unknown accessor is an error.
    bed.write("role/web/secret-id/destroy", json!({ "secret_id": "zzz" })).await.unwrap();
    let unknown =
        bed.write("role/web/secret-id-accessor/destroy", json!({ "secret_id_accessor": "zzz" })).await;
    assert_eq!(message(unknown).0, Kind::NotFound);
}

#[tokio::test]
async fn secret_ids_are_listed_in_pages_in_the_order_of_their_birth() {
    let mut bed = Bed::new().await;
    bed.role("web", json!({})).await;
    let mut made = Vec::new();
    for _ in 0..5 {
        bed.pass(1);
        made.push(bed.secret_id("web", json!({})).await.1);
    }
    assert_eq!(bed.list("role/web/secret-id", json!({})).await.unwrap(), made);
    assert_eq!(bed.list("role/web/secret-id", json!({ "limit": 2 })).await.unwrap(), made[..2]);
    let next = json!({ "limit": 2, "after": made[1] });
    assert_eq!(bed.list("role/web/secret-id", next).await.unwrap(), made[2..4]);
    assert_eq!(
        message(bed.list("role/none/secret-id", json!({})).await),
        invalid("role \"none\" does not exist")
    );
}

#[tokio::test]
async fn a_deleted_role_takes_its_secret_ids_with_it_even_if_it_is_made_again() {
    let bed = Bed::new().await;
    let empty = bed.memory.dump().len();
    let role_id = bed.role("web", json!({})).await;
    let (secret_id, _) = bed.secret_id("web", json!({})).await;
    bed.login(&role_id, &secret_id).await.unwrap();
    bed.delete("role/web", json!({})).await.unwrap();
    bed.delete("role/web", json!({})).await.unwrap();
    assert_eq!(bed.memory.dump().len(), empty, "nothing is left behind");
    bed.write("role/web", json!({ "role_id": role_id })).await.unwrap();
    assert_eq!(message(bed.login(&role_id, &secret_id).await), invalid("invalid role or secret ID"));
}

#[tokio::test]
async fn five_different_wrong_secret_ids_lock_their_address_out_and_nobody_else() {
    let mut bed = Bed::new().await;
    let role_id = bed.role("web", json!({})).await;
    let (secret_id, _) = bed.secret_id("web", json!({})).await;
    // A client with one stale secret id repeats it for ever and locks nobody out.
    for _ in 0..20 {
        assert_eq!(message(bed.login(&role_id, "stale").await), invalid("invalid role or secret ID"));
    }
    bed.login(&role_id, &secret_id).await.unwrap();
    for number in 1..5 {
        assert_eq!(
            message(bed.login(&role_id, &format!("guess {number}")).await),
            invalid("invalid role or secret ID")
        );
    }
    assert_eq!(
        message(bed.login(&role_id, &secret_id).await),
        (Kind::PermissionDenied, "permission denied".into())
    );
    bed.address = Some("192.0.2.2".parse().unwrap());
    bed.login(&role_id, &secret_id).await.unwrap();
    bed.address = Some("192.0.2.1".parse().unwrap());
    bed.pass(15 * 60);
    bed.login(&role_id, &secret_id).await.unwrap();
}

#[tokio::test]
async fn a_renewal_follows_the_role_as_it_is_now_and_ends_with_it() {
    let bed = Bed::new().await;
    let role_id = bed.role("web", json!({ "token_ttl": "1h", "token_max_ttl": "2h" })).await;
    let (secret_id, _) = bed.secret_id("web", json!({})).await;
    let login = bed.login(&role_id, &secret_id).await.unwrap();
    bed.write("role/web", json!({ "token_ttl": "30m", "token_max_ttl": "40m", "token_period": "90m" }))
        .await
        .unwrap();
    let terms = bed.engine.renewal_terms(&login.internal).await.unwrap();
    assert_eq!(
        (terms.ttl, terms.max_ttl, terms.period),
        (Ttl::seconds(1800), Ttl::seconds(2400), Ttl::seconds(5400))
    );
    bed.delete("role/web", json!({})).await.unwrap();
    assert_eq!(
        message(bed.engine.renewal_terms(&login.internal).await),
        invalid("failed to renew entry: role \"web\" does not exist during renewal")
    );
}

/// What an operator and a client see of a mount with the role `web` and the secret id `chosen`.
async fn seen(bed: &Bed) -> Vec<String> {
    let shown = |outcome: Result<Value, Error>| match outcome {
        Ok(value) => value.to_string(),
        Err(error) => format!("{error:?}"),
    };
    let lookup = bed.write("role/web/secret-id/lookup", json!({ "secret_id": "chosen" })).await;
    let mut listed = bed.list("role/web/secret-id", json!({})).await.map(|keys| keys.len());
    if matches!(&listed, Err(error) if error.kind == Kind::NotFound) {
        listed = Ok(0);
    }
    let properties = lookup.map(|response| {
        let data = data(&response);
        json!([data["secret_id_num_uses"], data["creation_time"]])
    });
    vec![
        shown(bed.read("role/web").await),
        shown(bed.read("role/web/role-id").await),
        shown(properties),
        format!("{listed:?}"),
    ]
}

#[tokio::test]
async fn every_write_either_happens_or_does_not_and_memory_agrees_with_the_store() {
    type Step = (Operation, &'static str, Value);
    let setup: Vec<Step> = vec![
        (Operation::Update, "role/web", json!({ "role_id": "one" })),
        (
            Operation::Update,
            "role/web/custom-secret-id",
            json!({ "secret_id": "chosen", "num_uses": 2, "ttl": "1h" }),
        ),
    ];
    let writes: Vec<(usize, Step)> = vec![
        (0, (Operation::Update, "role/web", json!({ "role_id": "one" }))),
        (1, (Operation::Update, "role/web", json!({ "token_ttl": "1h" }))),
        (1, (Operation::Update, "role/web/role-id", json!({ "role_id": "two" }))),
        (1, (Operation::Update, "role/web/token-ttl", json!({ "token_ttl": "1h" }))),
        (1, (Operation::Delete, "role/web", json!({}))),
        (1, (Operation::Update, "role/web/custom-secret-id", json!({ "secret_id": "chosen" }))),
        (2, (Operation::Update, "login", json!({ "role_id": "one", "secret_id": "chosen" }))),
        (2, (Operation::Update, "role/web/secret-id/destroy", json!({ "secret_id": "chosen" }))),
        (2, (Operation::Delete, "role/web", json!({}))),
    ];
    for (prepared, (operation, path, body)) in writes {
        for fault in [Fault::Fails, Fault::FailsAfterPersisting] {
            let (faulty, expected) = (Bed::new().await, Bed::new().await);
            for (operation, path, body) in setup.iter().take(prepared) {
                faulty.ask(*operation, path, body.clone()).await.unwrap();
                expected.ask(*operation, path, body.clone()).await.unwrap();
            }
            // Copies of everything are in memory before the write.
            assert_eq!(seen(&faulty).await, seen(&expected).await);
            if fault == Fault::FailsAfterPersisting {
                expected.ask(operation, path, body.clone()).await.unwrap();
            }
            faulty.next_commit(fault);
            let outcome = faulty.ask(operation, path, body.clone()).await;
            assert_eq!(outcome.unwrap_err().kind, Kind::Internal, "{path} {fault:?}");
            assert_eq!(seen(&faulty).await, seen(&expected).await, "{path} {fault:?}");
            assert_eq!(
                seen(&faulty.restarted().await).await,
                seen(&expected).await,
                "{path} {fault:?} after a restart"
            );
        }
    }
}

#[tokio::test]
async fn upkeep_that_fails_is_done_by_the_next_one() {
    for fault in [Fault::Fails, Fault::FailsAfterPersisting] {
        let mut bed = Bed::new().await;
        bed.role("web", json!({})).await;
        let empty = bed.memory.dump().len();
        bed.secret_id("web", json!({ "ttl": "1h" })).await;
        bed.pass(3600);
        bed.next_commit(fault);
        Arc::clone(&bed.engine).tick(bed.now).await.unwrap_err();
        Arc::clone(&bed.engine).tick(bed.now).await.unwrap();
        assert_eq!(bed.memory.dump().len(), empty);
    }
}

#[tokio::test]
async fn the_store_never_sees_a_secret_id_and_the_key_survives_a_failed_first_opening() {
    let memory = Memory::new();
    let barrier = Barrier::new(Arc::new(memory.clone()), None);
    let founding = barrier.found(ShareScheme::new(1, 1).unwrap(), epoch()).await.unwrap();
    let (unsealed, _) = founding.commit(Writes::new()).await.unwrap();
    let view = unsealed.view("mount").unwrap();
    let first = super::store::Store::open(view.clone()).await.unwrap();
    let second = super::store::Store::open(view).await.unwrap();
    let role: super::role::Role = serde_json::from_value(json!({
        "name": "web", "uuid": "u", "role_id": "r", "bind_secret_id": true, "secret_id_num_uses": 0,
        "secret_id_ttl": 0, "secret_id_bound_cidrs": null, "local_secret_ids": false, "token": {},
        "old_policies": false, "old_period": false,
    }))
    .unwrap();
    let text = "chosen".into();
    assert_eq!(first.hash(&role, &text).place(), second.hash(&role, &text).place());
    assert_ne!(first.hash(&role, &text).place(), first.hash(&role, &"other".into()).place());
    let elsewhere = super::role::Role { uuid: "v".into(), ..role.clone() };
    assert_ne!(first.hash(&role, &text).place(), first.hash(&elsewhere, &text).place());
}
