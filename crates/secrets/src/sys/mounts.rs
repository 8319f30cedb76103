//! Mounting: `sys/mounts`, `sys/auth`, tuning, moving, and what a UI may know of mounts.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use chancery_api::fields::NoFields;
use chancery_api::{KeyValues, Object, Strings, Ttl, fields};
use serde_json::{Map, Value, json};

use crate::engine::{Call, Class, Tuning};
use crate::error::Error;
use crate::mounts::{MountEntry, MountPoint, full_path, is_provided};
use crate::response::Response;
use crate::route::Routes;
use crate::sys::Sys;

/// How many finished moves are remembered.
const REMEMBERED_MOVES: usize = 100;

/// The moves of this process, newest last: id, from, to.
#[derive(Debug, Default)]
pub(super) struct Moves(Mutex<Vec<(String, String, String)>>);

/// The paths of this family.
pub(super) fn routes(routes: Routes<Sys>) -> Routes<Sys> {
    routes
        .route("mounts", |r| r.read(Sys::list_mounts, "Every secrets engine that is mounted."))
        .route("mounts/{path:rest}", |r| {
            r.read(Sys::read_mount, "One secrets engine.")
                .update(Sys::enable_mount, "Mount a secrets engine.")
                .delete(
                    Sys::disable_mount,
                    "Unmount a secrets engine: its leases are revoked, its storage is emptied.",
                )
        })
        .route("auth", |r| r.read(Sys::list_auth, "Every auth method that is mounted."))
        .route("auth/{path:rest}", |r| {
            r.read(Sys::read_auth, "One auth method.")
                .update(Sys::enable_auth, "Mount an auth method.")
                .delete(
                    Sys::disable_auth,
                    "Unmount an auth method: its tokens are revoked, its storage is emptied.",
                )
                .sudo()
        })
        .route("remount", |r| r.update(Sys::remount, "Move a mount to another path.").sudo())
        .route("remount/status/{migration_id}", |r| r.read(Sys::remount_status, "How a move went."))
}

fields! {
    /// A mount's path.
    #[derive(Debug)]
    pub(super) struct MountPath {
        path {
            /// Where, without `sys/mounts/` or `sys/auth/`.
            path: String,
        }
    }
}

fields! {
    /// What to mount or how to tune it.
    #[derive(Debug)]
    pub(super) struct MountRequest {
        path {
            /// Where, without `sys/mounts/` or `sys/auth/`.
            path: String,
        }
        body {
            /// The engine.
            kind as "type": String = String::new(),
            /// For people.
            description: Option<String>,
            /// Lease limits and the like, when mounting.
            config: Option<Object>,
            /// The engine's options.
            options: Option<KeyValues>,
            /// Accepted and shown; there is one node.
            local: bool = false,
            /// Accepted and shown; everything is sealed.
            seal_wrap: bool = false,
            /// Accepted and shown.
            external_entropy_access: bool = false,
            /// The engine, under its other name.
            plugin_name: String = String::new(),
            /// Engines are built in: when tuning, the server's own version and no other.
            plugin_version: String = String::new(),
            /// Tuning: first lifetime of leases and tokens.
            default_lease_ttl: Option<String>,
            /// Tuning: longest lifetime of leases and tokens.
            max_lease_ttl: Option<String>,
            /// Tuning: accepted, without effect.
            force_no_cache: Option<bool>,
            /// Tuning: whether a UI lists the mount to anybody.
            listing_visibility: Option<String>,
            /// Tuning: request fields that audit records show in the clear.
            audit_non_hmac_request_keys: Option<Strings>,
            /// Tuning: answer fields that audit records show in the clear.
            audit_non_hmac_response_keys: Option<Strings>,
            /// Tuning: request headers handed to the engine.
            passthrough_request_headers: Option<Strings>,
            /// Tuning: answer headers the engine may set.
            allowed_response_headers: Option<Strings>,
            /// Tuning of an auth method: the kind of its tokens.
            token_type: Option<String>,
            /// Tuning of an auth method: when wrong logins lock a name out.
            user_lockout_config: Option<KeyValues>,
        }
    }
}

fields! {
    /// A move.
    #[derive(Debug)]
    pub(super) struct RemountRequest {
        body {
            /// Where the mount is, with `auth/` if it is an auth method.
            from: String = String::new(),
            /// Where it shall be.
            to: String = String::new(),
        }
    }
}

fields! {
    /// Which move.
    #[derive(Debug)]
    pub(super) struct RemountStatusRequest {
        path {
            /// The id that the move was answered with.
            migration_id: String,
        }
    }
}

impl Sys {
    async fn list_mounts(self: Arc<Self>, _: Call, _: NoFields) -> Result<Response, Error> {
        self.listing(Class::Secret)
    }

    async fn list_auth(self: Arc<Self>, _: Call, _: NoFields) -> Result<Response, Error> {
        self.listing(Class::Auth)
    }

    fn listing(&self, class: Class) -> Result<Response, Error> {
        let all = self.active()?.mounts.all();
        let mut shown = BTreeMap::new();
        for (path, point) in all.iter().filter(|(_, point)| point.entry.class == class) {
            let path = path.strip_prefix("auth/").filter(|_| class == Class::Auth).unwrap_or(path);
            shown.insert(path.to_owned(), describe(point));
        }
        Ok(Response::data(&shown)?.flattened())
    }

    async fn read_mount(self: Arc<Self>, _: Call, body: MountPath) -> Result<Response, Error> {
        self.read(Class::Secret, &body.path)
    }

    async fn read_auth(self: Arc<Self>, _: Call, body: MountPath) -> Result<Response, Error> {
        self.read(Class::Auth, &body.path)
    }

    fn read(&self, class: Class, path: &str) -> Result<Response, Error> {
        let mounts = &self.active()?.mounts;
        if let Some(path) = path.trim_end_matches('/').strip_suffix("/tune") {
            // `sys/mounts/auth/approle/tune` is how the command line asks for an auth method's.
            let full = full_path(class, path);
            let point = mounts
                .at(&full)
                .ok_or_else(|| Error::invalid(format!("cannot fetch sysview for path {full:?}")))?;
            let mut shown = tuning_in_force(&point);
            if let Some(object) = shown.as_object_mut() {
                object.insert("description".to_owned(), point.mount.tuning().description.clone().into());
            }
            return Ok(Response::data(&shown)?.flattened());
        }
        let full = full_path(class, path);
        // As the peer does, a path within a secrets engine leads to it.
        let found = match class {
            Class::Secret => mounts.find(&full).map(|(point, _)| point),
            Class::Auth => mounts.at(&full),
        };
        let point = found.ok_or_else(|| {
            let path = path.trim_matches('/');
            Error::invalid(match class {
                Class::Secret => format!("No secret engine mount at {path}/"),
                Class::Auth => format!("No auth engine at {path}/"),
            })
        })?;
        Ok(Response::data(&describe(&point))?.flattened())
    }

    async fn enable_mount(self: Arc<Self>, call: Call, body: MountRequest) -> Result<Response, Error> {
        self.write(Class::Secret, call, body).await
    }

    async fn enable_auth(self: Arc<Self>, call: Call, body: MountRequest) -> Result<Response, Error> {
        self.write(Class::Auth, call, body).await
    }

    async fn write(&self, class: Class, _: Call, body: MountRequest) -> Result<Response, Error> {
        if let Some(path) = body.path.trim_end_matches('/').strip_suffix("/tune") {
            let path = full_path(class, path);
            return self.tune(&path, body).await;
        }
        if body.path.ends_with('/') {
            return Err(Error::invalid("cannot write to a path ending in '/'"));
        }
        let kind = match (body.kind.as_str(), body.plugin_name.as_str()) {
            ("" | "plugin", "") => return Err(Error::invalid("backend type must be specified as a string")),
            ("" | "plugin", name) => name.to_owned(),
            (kind, _) => kind.to_owned(),
        };
        if class == Class::Auth && kind == "token" {
            return Err(Error::invalid("token credential backend cannot be instantiated"));
        }
        let mut tuning = Tuning::default();
        if let Some(Object(config)) = &body.config {
            configure(&mut tuning, config)?;
        }
        tuning.description = body.description.unwrap_or_default();
        if let Some(KeyValues(options)) = body.options {
            tuning.options = options;
        }
        if !tuning.max_lease_ttl.is_zero() && tuning.default_lease_ttl > tuning.max_lease_ttl {
            return Err(Error::invalid("given default lease TTL greater than given max lease TTL"));
        }
        if class == Class::Secret && matches!(kind.as_str(), "system" | "cubbyhole" | "token" | "identity") {
            return Err(Error::invalid(format!("mount type of {kind:?} is not mountable")));
        }
        let mounts = &self.active()?.mounts;
        let entry = MountEntry {
            local: body.local,
            seal_wrap: body.seal_wrap,
            external_entropy_access: body.external_entropy_access,
            ..MountEntry::new(class, &body.path, &kind, tuning)
        };
        let point = mounts.enable(entry).await?;
        tracing::info!(path = point.entry.path, kind = point.entry.kind, "mounted");
        Ok(Response::empty())
    }

    async fn tune(&self, path: &str, body: MountRequest) -> Result<Response, Error> {
        if let Some(name) = body.kept_from(path) {
            return Err(Error::invalid(format!("cannot tune parameter {name} of {path}")));
        }
        let mounts = &self.active()?.mounts;
        mounts.tune(path, |point, tuning| retune(point, tuning, body)).await?;
        Ok(Response::empty())
    }

    async fn disable_mount(self: Arc<Self>, call: Call, body: MountPath) -> Result<Response, Error> {
        self.disable(Class::Secret, &body.path, call).await
    }

    async fn disable_auth(self: Arc<Self>, call: Call, body: MountPath) -> Result<Response, Error> {
        self.disable(Class::Auth, &body.path, call).await
    }

    async fn disable(&self, class: Class, path: &str, call: Call) -> Result<Response, Error> {
        let path = full_path(class, path);
        if class == Class::Auth && path == "auth/token/" {
            return Err(Error::invalid("token credential backend cannot be disabled"));
        }
        let active = self.active()?;
        let Some(unmounting) = active.mounts.taint(class, &path).await? else { return Ok(Response::empty()) };
        if let Err(error) = active.revoke_mount(&unmounting.point, call.now).await {
            unmounting.restore();
            return Err(error);
        }
        unmounting.remove().await?;
        tracing::info!(path, "unmounted");
        Ok(Response::empty())
    }

    async fn remount(self: Arc<Self>, call: Call, body: RemountRequest) -> Result<Response, Error> {
        if body.from.is_empty() || body.to.is_empty() {
            return Err(Error::invalid("both 'from' and 'to' path must be specified as a string"));
        }
        let (from, to) =
            (format!("{}/", body.from.trim_matches('/')), format!("{}/", body.to.trim_matches('/')));
        match (from.starts_with("auth/"), to.starts_with("auth/")) {
            (true, false) => {
                return Err(Error::invalid(format!("cannot remount auth mount to non-auth mount {to:?}")));
            }
            (false, true) => return Err(Error::invalid(format!("cannot remount to destination {to}"))),
            _ => {}
        }
        let active = self.active()?;
        // Before anything is taken back.
        let point = active.mounts.movable(&from, &to)?;
        // Leases name the path that made them; the ones from the old path end with it.
        active.revoke_mount(&point, call.now).await?;
        active.mounts.remount(&from, &to).await?;
        tracing::info!(from, to, "moved");
        let id = uuid::Uuid::new_v4().to_string();
        let mut moves = self.moves.0.lock().unwrap_or_else(PoisonError::into_inner);
        if moves.len() >= REMEMBERED_MOVES {
            moves.remove(0);
        }
        moves.push((id.clone(), from, to));
        Ok(Response::data(&json!({ "migration_id": id }))?.flattened())
    }

    async fn remount_status(self: Arc<Self>, _: Call, body: RemountStatusRequest) -> Result<Response, Error> {
        let moves = self.moves.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (id, from, to) =
            moves.iter().find(|(id, ..)| *id == body.migration_id).ok_or_else(Error::nothing_there)?;
        Response::data(&json!({
            "migration_id": id,
            "migration_info": { "source_mount": from, "target_mount": to, "status": "success" },
        }))
    }
}

/// Mounts of which little can be tuned.
const PROTECTED: [&str; 3] = ["sys/", "cubbyhole/", "identity/"];

impl MountRequest {
    /// The first setting that it names and that the mount at `path` does not let anybody tune.
    fn kept_from(&self, path: &str) -> Option<&'static str> {
        if !PROTECTED.iter().any(|protected| path.starts_with(protected)) {
            return None;
        }
        let named = [
            ("default_lease_ttl", self.default_lease_ttl.is_some()),
            ("max_lease_ttl", self.max_lease_ttl.is_some()),
            ("description", self.description.is_some()),
            ("listing_visibility", self.listing_visibility.is_some()),
            ("passthrough_request_headers", self.passthrough_request_headers.is_some()),
            ("allowed_response_headers", self.allowed_response_headers.is_some()),
            ("token_type", self.token_type.is_some()),
            ("user_lockout_config", self.user_lockout_config.is_some()),
            ("options", self.options.is_some()),
            ("plugin_version", !self.plugin_version.is_empty()),
        ];
        named.into_iter().find(|(_, given)| *given).map(|(name, _)| name)
    }
}

/// Takes over the settings that a tune names.
fn retune(point: &MountPoint, tuning: &mut Tuning, body: MountRequest) -> Result<(), Error> {
    let entry = &point.entry;
    if !body.plugin_version.is_empty() && body.plugin_version != super::info::plugin_version() {
        return Err(Error::invalid(format!(
            "plugin not found in the catalog: {}, version={}",
            entry.kind,
            whole_version(&body.plugin_version)
        )));
    }
    if entry.class == Class::Secret && body.token_type.is_some() {
        return Err(Error::invalid("'token_type' can only be modified on auth mounts"));
    }
    if entry.kind == "token" && body.token_type.is_some() {
        return Err(Error::invalid("'token_type' cannot be set for 'token' or 'ns_token' auth mounts"));
    }
    if body.user_lockout_config.is_some() && entry.kind != "approle" {
        return Err(Error::invalid(format!(
            "tuning of user lockout configuration for auth type {:?} not allowed",
            entry.kind
        )));
    }
    // An empty duration means "leave it"; the command line sends them always.
    if let Some(first) = body.default_lease_ttl.filter(|ttl| !ttl.is_empty()) {
        tuning.default_lease_ttl = tuned_ttl(&first)?;
    }
    if let Some(longest) = body.max_lease_ttl.filter(|ttl| !ttl.is_empty()) {
        tuning.max_lease_ttl = tuned_ttl(&longest)?;
    }
    let mut config = Map::new();
    let mut give = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            config.insert(name.to_owned(), value);
        }
    };
    give("listing_visibility", body.listing_visibility.map(Value::from));
    give("token_type", body.token_type.map(Value::from));
    for (name, list) in [
        ("audit_non_hmac_request_keys", body.audit_non_hmac_request_keys),
        ("audit_non_hmac_response_keys", body.audit_non_hmac_response_keys),
        ("passthrough_request_headers", body.passthrough_request_headers),
        ("allowed_response_headers", body.allowed_response_headers),
    ] {
        give(name, list.map(|list| Value::from(list.non_empty())));
    }
    configure(tuning, &config)?;
    if let Some(description) = body.description {
        tuning.description = description;
    }
    if let Some(KeyValues(options)) = body.options {
        tuning.options.extend(options);
    }
    if let Some(KeyValues(lockout)) = body.user_lockout_config {
        configure_lockout(tuning, lockout)?;
    }
    // Beyond the server's own limit a first lifetime is only shortened.
    let (first, longest) = (tuning.default_lease_ttl, tuning.max_lease_ttl);
    if !longest.is_zero() && first > longest {
        return Err(Error::invalid(format!(
            "backend max lease TTL of {} would be less than backend default lease TTL of {}",
            longest.as_secs(),
            first.as_secs()
        )));
    }
    Ok(())
}

/// A lifetime to tune; "system" is the way to take an earlier setting back.
fn tuned_ttl(text: &str) -> Result<Ttl, Error> {
    if text == "system" {
        return Ok(Ttl::ZERO);
    }
    text.parse().map_err(|error| Error::invalid(format!("{error}")))
}

/// A version with three numbers, as the peer writes it: `v1` is `v1.0.0`.
fn whole_version(text: &str) -> String {
    let missing = 2_usize.saturating_sub(text.matches('.').count());
    format!("v{}{}", text.trim_start_matches('v'), ".0".repeat(missing))
}

/// Takes over the settings that `config` names.
fn configure(tuning: &mut Tuning, config: &Map<String, Value>) -> Result<(), Error> {
    let ttl = |name: &str, label: &str| -> Result<Option<Ttl>, Error> {
        let text = match config.get(name) {
            None | Some(Value::Null) => return Ok(None),
            Some(Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
        };
        // "system" is the way to take an earlier setting back.
        if text == "system" {
            return Ok(Some(Ttl::ZERO));
        }
        text.parse()
            .map(Some)
            .map_err(|error| Error::invalid(format!("unable to parse {label} TTL of {text}: {error}")))
    };
    if let Some(first) = ttl("default_lease_ttl", "default")? {
        tuning.default_lease_ttl = first;
    }
    if let Some(longest) = ttl("max_lease_ttl", "max")? {
        tuning.max_lease_ttl = longest;
    }
    if let Some(Value::Bool(force)) = config.get("force_no_cache") {
        tuning.force_no_cache = *force;
    }
    if let Some(Value::String(visibility)) = config.get("listing_visibility") {
        if !matches!(visibility.as_str(), "" | "hidden" | "unauth") {
            return Err(Error::invalid(format!("invalid listing_visibility {visibility}")));
        }
        tuning.listing_visibility.clone_from(visibility);
    }
    if let Some(Value::Object(lockout)) = config.get("user_lockout_config") {
        let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let lockout = lockout.iter().filter(|(_, value)| !value.is_null());
        configure_lockout(tuning, lockout.map(|(name, value)| (name.clone(), text(value))).collect())?;
    }
    if let Some(Value::String(kind)) = config.get("token_type") {
        if !matches!(kind.as_str(), "" | "default-service" | "default-batch" | "service" | "batch") {
            return Err(Error::invalid("invalid value for 'token_type'"));
        }
        tuning.token_type.clone_from(kind);
    }
    for (name, list) in [
        ("audit_non_hmac_request_keys", &mut tuning.audit_non_hmac_request_keys),
        ("audit_non_hmac_response_keys", &mut tuning.audit_non_hmac_response_keys),
        ("passthrough_request_headers", &mut tuning.passthrough_request_headers),
        ("allowed_response_headers", &mut tuning.allowed_response_headers),
    ] {
        if let Some(Value::Array(values)) = config.get(name) {
            *list = values.iter().filter_map(Value::as_str).map(str::to_owned).collect();
        }
    }
    Ok(())
}

/// Takes over when wrong logins lock a caller out.
fn configure_lockout(tuning: &mut Tuning, given: BTreeMap<String, String>) -> Result<(), Error> {
    for (name, value) in given {
        let value = match name.as_str() {
            "lockout_threshold" => value
                .parse::<u64>()
                .map_err(|_| Error::invalid(format!("invalid value for 'lockout_threshold': {value}")))?
                .to_string(),
            "lockout_duration" | "lockout_counter_reset_duration" => value
                .parse::<Ttl>()
                .map_err(|error| Error::invalid(format!("invalid value for {name:?}: {error}")))?
                .as_secs()
                .to_string(),
            "lockout_disable" => matches!(value.as_str(), "1" | "t" | "true" | "True" | "TRUE").to_string(),
            _ => continue,
        };
        tuning.user_lockout.insert(name, value);
    }
    Ok(())
}

/// When wrong logins lock a caller out, as far as an operator said so: numbers, and a switch.
fn lockout_shown(tuning: &Tuning) -> Map<String, Value> {
    let mut shown = Map::new();
    if tuning.user_lockout.is_empty() {
        return shown;
    }
    let number =
        |name: &str| tuning.user_lockout.get(name).and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
    for name in ["lockout_threshold", "lockout_duration", "lockout_counter_reset_duration"] {
        shown.insert(format!("user_{name}"), number(name).into());
    }
    let disabled = tuning.user_lockout.get("lockout_disable").is_some_and(|text| text == "true");
    shown.insert("user_lockout_disable".to_owned(), disabled.into());
    shown
}

/// What was tuned, as listings show it; zero is "the server's".
fn tuned(point: &MountPoint, first: Ttl, longest: Ttl) -> Value {
    let tuning = point.mount.tuning();
    let mut shown = json!({
        "default_lease_ttl": first,
        "max_lease_ttl": longest,
        "force_no_cache": tuning.force_no_cache,
    });
    let Some(object) = shown.as_object_mut() else { return shown };
    if point.entry.class == Class::Auth {
        let kind = if tuning.token_type.is_empty() { "default-service" } else { &tuning.token_type };
        object.insert("token_type".to_owned(), kind.into());
    }
    if !tuning.listing_visibility.is_empty() {
        object.insert("listing_visibility".to_owned(), tuning.listing_visibility.clone().into());
    }
    for (name, list) in [
        ("audit_non_hmac_request_keys", &tuning.audit_non_hmac_request_keys),
        ("audit_non_hmac_response_keys", &tuning.audit_non_hmac_response_keys),
        ("passthrough_request_headers", &tuning.passthrough_request_headers),
        ("allowed_response_headers", &tuning.allowed_response_headers),
    ] {
        if !list.is_empty() {
            object.insert(name.to_owned(), list.clone().into());
        }
    }
    shown
}

/// What is in force, as a tune read shows it.
fn tuning_in_force(point: &MountPoint) -> Value {
    let mut shown = tuned(point, point.mount.default_ttl(), point.mount.max_ttl());
    let tuning = point.mount.tuning();
    if let Some(object) = shown.as_object_mut() {
        object.extend(lockout_shown(&tuning));
        if !tuning.options.is_empty() {
            object.insert("options".to_owned(), json!(tuning.options));
        }
        if point.entry.external_entropy_access {
            object.insert("external_entropy_access".to_owned(), true.into());
        }
    }
    shown
}

/// A mount as listings show it.
pub(super) fn describe(point: &MountPoint) -> Value {
    let tuning = point.mount.tuning();
    let mut config = tuned(point, tuning.default_lease_ttl, tuning.max_lease_ttl);
    let lockout = lockout_shown(&tuning);
    if let (false, Some(config)) = (lockout.is_empty(), config.as_object_mut()) {
        config.insert("user_lockout_config".to_owned(), lockout.into());
    }
    let mut shown = json!({
        "accessor": point.entry.accessor,
        "config": config,
        "deprecation_status": "supported",
        "description": tuning.description,
        "external_entropy_access": point.entry.external_entropy_access,
        "local": point.entry.local,
        "options": tuning.options,
        "plugin_version": "",
        "running_plugin_version": super::info::plugin_version(),
        "running_sha256": "",
        "seal_wrap": point.entry.seal_wrap,
        "type": point.entry.kind,
        "uuid": point.entry.uuid,
    });
    if let (true, Some(shown)) = (is_provided(&point.entry.path), shown.as_object_mut()) {
        // Nobody mounted them: they have no options, and are no plugins that could be given up.
        shown.insert("options".to_owned(), Value::Null);
        shown.remove("deprecation_status");
    }
    shown
}
