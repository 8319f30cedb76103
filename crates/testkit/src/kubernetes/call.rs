//! Requests for objects: who may, what is read, what is written, and who has a say in it.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderValue, header};
use http_body_util::BodyExt;
use serde_json::{Map, Value, json};

use super::access::review_kind;
use super::admission::{self, Hook, Subject};
use super::apply::{Application, apply};
use super::control::{Shared, State};
use super::kind::{Kind, Target};
use super::patch;
use super::selector::Selectors;
use super::serve::{Answer, failure, json_answer};
use super::status::Failure;
use super::store::{metadata_of, text};
use super::watch::{self, From, Watch};
use super::write::{Fields, How, Part};

/// A request, read.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) target: Target,
    pub(super) parameters: Map<String, Value>,
    pub(super) headers: HeaderMap,
    pub(super) body: Value,
    pub(super) verb: &'static str,
    /// `userInfo` of whoever asks.
    pub(super) user: Value,
}

/// What is to be done about a request.
enum Begun {
    Answered(Box<Answer>),
    Watch(Arc<Kind>),
    Write(Box<Intent>),
}

/// A write that is decided on, but not done.
struct Intent {
    kind: Arc<Kind>,
    name: String,
    operation: &'static str,
    object: Value,
    how: How,
    code: u16,
    /// Whether it is to be thought over again when another writer was quicker.
    again: bool,
}

impl Call {
    pub(super) fn resource(&self) -> String {
        match &self.target.subresource {
            Some(subresource) => format!("{}/{subresource}", self.target.plural),
            None => self.target.plural.clone(),
        }
    }

    /// The name in the body, for creations.
    pub(super) fn body_name(&self) -> &str {
        if self.body.is_object() { text(&self.body, "name") } else { "" }
    }

    pub(super) fn parameter(&self, name: &str) -> &str {
        self.parameters.get(name).and_then(Value::as_str).unwrap_or_default()
    }

    fn is_dry(&self) -> bool {
        self.parameter("dryRun") == "All" || self.body["dryRun"][0] == "All"
    }

    fn home(&self) -> &str {
        self.target.namespace.as_deref().unwrap_or_default()
    }

    pub(super) async fn perform(&self, shared: &Arc<Shared>) -> Answer {
        let done = self.try_perform(shared).await;
        shared.settle();
        done.unwrap_or_else(|refused| failure(&refused))
    }

    async fn try_perform(&self, shared: &Arc<Shared>) -> Result<Answer, Failure> {
        loop {
            let (mut intent, hooks, before) = {
                let mut state = shared.state();
                let intent = match self.begin(&mut state)? {
                    Begun::Answered(answer) => return Ok(*answer),
                    Begun::Watch(kind) => {
                        drop(state);
                        return self.watch(kind, shared);
                    }
                    Begun::Write(intent) => *intent,
                };
                let (hooks, object, before) = self.hooks(&intent, &mut state)?;
                if hooks.is_empty() {
                    let written = self.write(intent, &mut state)?;
                    drop(state);
                    return Ok(self.written(&written.0, written.1, &[]));
                }
                (Intent { object, ..intent }, hooks, before)
            };
            let warnings = self.admit(&mut intent, &hooks, before, shared).await?;
            let again = intent.again;
            let done = self.write(intent, &mut shared.state());
            match done {
                Err(refused) if again && refused.body["reason"] == "Conflict" => {}
                done => return done.map(|(object, code)| self.written(&object, code, &warnings)),
            }
        }
    }

    fn written(&self, object: &Value, code: u16, warnings: &[String]) -> Answer {
        let mut answer = if self.wants_metadata() && object["kind"] != "Status" {
            json_answer(code, &metadata_of(object))
        } else {
            json_answer(code, object)
        };
        for warning in warnings {
            if let Ok(value) = HeaderValue::from_str(&format!("299 - {warning:?}")) {
                answer.headers_mut().append(header::WARNING, value);
            }
        }
        answer
    }

    /// The webhooks that are to be asked, the object as they see it, and what it was.
    fn hooks(&self, intent: &Intent, state: &mut State) -> Result<(Vec<Hook>, Value, Value), Failure> {
        let nobody = (Vec::new(), Value::Null, Value::Null);
        if !state.has_webhooks() {
            return Ok(nobody);
        }
        let before = state
            .store
            .get(&intent.kind, self.home(), &intent.name)
            .map_or(Value::Null, |object| Value::clone(object));
        let mut subject = self.subject(intent, before);
        if state_hooks(state, &subject).is_empty() && subject.kind.plural != "namespaces" {
            // By what the request says; defaults do not matter to any rule.
            return Ok(nobody);
        }
        if intent.operation != "DELETE" {
            let dry = How { dry: true, ..intent.how.clone() };
            let seen = match intent.operation {
                "CREATE" => state.store.create(&intent.kind, self.home(), intent.object.clone(), &dry)?,
                _ => state.store.replace(
                    &intent.kind,
                    self.home(),
                    &intent.name,
                    intent.object.clone(),
                    &dry,
                )?,
            };
            subject.object = Value::clone(&seen);
            match text(&subject.before, "resourceVersion") {
                "" => super::write::remove(&mut subject.object["metadata"], "resourceVersion"),
                version => subject.object["metadata"]["resourceVersion"] = version.into(),
            }
        }
        let hooks = state_hooks(state, &subject);
        Ok((hooks, subject.object, subject.before))
    }

    fn subject<'a>(&'a self, intent: &'a Intent, before: Value) -> Subject<'a> {
        Subject {
            kind: &intent.kind,
            subresource: self.target.subresource.as_deref(),
            namespace: self.home(),
            name: &intent.name,
            operation: intent.operation,
            object: if intent.operation == "DELETE" { Value::Null } else { intent.object.clone() },
            before,
            user: &self.user,
            dry: intent.how.dry,
        }
    }

    async fn admit(
        &self,
        intent: &mut Intent,
        hooks: &[Hook],
        before: Value,
        shared: &Shared,
    ) -> Result<Vec<String>, Failure> {
        let mut warnings = Vec::new();
        let mut subject = self.subject(intent, before);
        for hook in hooks {
            warnings.extend(hook.ask(&mut subject, &shared.idle).await?);
        }
        let object = subject.object;
        if intent.operation != "DELETE" {
            intent.object = object;
        }
        Ok(warnings)
    }

    fn write(&self, intent: Intent, state: &mut State) -> Result<(Arc<Value>, u16), Failure> {
        let Intent { kind, name, operation, object, how, code, .. } = intent;
        let store = &mut state.store;
        let written = match operation {
            "CREATE" => store.create(&kind, self.home(), object, &how)?,
            "UPDATE" => store.replace(&kind, self.home(), &name, object, &how)?,
            _ => {
                let mut options = if self.body.is_object() { self.body.clone() } else { json!({}) };
                if how.dry {
                    options["dryRun"] = json!(["All"]);
                }
                if !self.parameter("propagationPolicy").is_empty() {
                    options["propagationPolicy"] = self.parameter("propagationPolicy").into();
                }
                store.delete(&kind, self.home(), &name, &options)?
            }
        };
        Ok((written, code))
    }

    fn begin(&self, state: &mut State) -> Result<Begun, Failure> {
        let answered = |answer| Ok(Begun::Answered(Box::new(answer)));
        if matches!(self.target.group.as_str(), "authentication.k8s.io" | "authorization.k8s.io") {
            return self.review(state).and_then(answered);
        }
        let kind = state.store.kind_of(&self.target).ok_or_else(Failure::no_such_path)?;
        let namespace = self.target.namespace.as_deref();
        self.check_access(state, &kind)?;
        let part = match self.target.subresource.as_deref() {
            None => Part::Object,
            Some("status") if kind.status => Part::Status,
            Some("token") if kind.plural == "serviceaccounts" && self.verb == "create" => {
                let name = self.target.name.as_deref().unwrap_or_default();
                let account = Arc::clone(state.store.get(&kind, self.home(), name)?);
                let issued = state.access.issue(self.home(), &account, &self.body)?;
                return answered(json_answer(201, &issued));
            }
            Some(_) => return Err(Failure::no_such_path()),
        };
        let not_allowed = || {
            Failure::new(
                405,
                "MethodNotAllowed",
                "the server does not allow this method on the requested resource",
                None,
            )
        };
        let how = How { part, dry: self.is_dry(), fields: Fields::Changed(self.manager()) };
        let intent = |name: &str, operation, object, how, code, again| {
            let (kind, name) = (Arc::clone(&kind), name.to_owned());
            Ok(Begun::Write(Box::new(Intent { kind, name, operation, object, how, code, again })))
        };
        let Some(name) = self.target.name.as_deref() else {
            return match self.verb {
                "watch" => Ok(Begun::Watch(kind)),
                "list" => answered(self.list(&kind, state)?),
                "create" if kind.namespaced && namespace.is_none() => Err(not_allowed()),
                "create" => intent(self.body_name(), "CREATE", self.body.clone(), how, 201, false),
                "deletecollection" => {
                    let answer = self.list(&kind, state)?;
                    for object in state.store.list(&kind, namespace, &self.selectors(&kind)?) {
                        let (namespace, name) = (text(&object, "namespace"), text(&object, "name"));
                        state.store.delete(&kind, namespace, name, &self.body)?;
                    }
                    answered(answer)
                }
                _ => Err(not_allowed()),
            };
        };
        match self.verb {
            "get" => {
                let object = state.store.get(&kind, self.home(), name)?;
                answered(self.written(object, 200, &[]))
            }
            "update" => {
                let named = self.body_name();
                if !named.is_empty() && named != name {
                    return Err(Failure::bad_request(format!(
                        "the name of the object ({named}) does not match the name on the URL ({name})"
                    )));
                }
                intent(name, "UPDATE", self.body.clone(), how, 200, false)
            }
            "patch" => {
                let (object, how, code) = self.patched(&kind, state, name, how)?;
                let again = self.body["metadata"]["resourceVersion"].is_null();
                let operation = if code == 201 { "CREATE" } else { "UPDATE" };
                intent(name, operation, object, how, code, again)
            }
            "delete" => {
                state.store.get(&kind, self.home(), name)?;
                intent(name, "DELETE", Value::Null, how, 200, false)
            }
            _ => Err(not_allowed()),
        }
    }

    fn check_access(&self, state: &State, kind: &Kind) -> Result<(), Failure> {
        let user = self.user["username"].as_str().unwrap_or_default();
        if !state.access.is_denied(user, self.verb, &self.resource()) {
            return Ok(());
        }
        let (name, sub) = (self.target.name.as_deref(), self.target.subresource.as_deref());
        Err(Failure::forbidden(user, self.verb, kind, self.target.namespace.as_deref(), name, sub))
    }

    /// Whom fields belong to that this request writes.
    fn manager(&self) -> String {
        match self.parameter("fieldManager") {
            "" => {
                let agent = self.headers.get(header::USER_AGENT).and_then(|agent| agent.to_str().ok());
                agent.and_then(|agent| agent.split('/').next()).unwrap_or("unknown").to_owned()
            }
            manager => manager.to_owned(),
        }
    }

    /// What a patch makes of an object, how that is to be written, and what is answered then.
    fn patched(
        &self,
        kind: &Kind,
        state: &State,
        name: &str,
        how: How,
    ) -> Result<(Value, How, u16), Failure> {
        let form = self.headers.get(header::CONTENT_TYPE).and_then(|form| form.to_str().ok());
        let form = form.unwrap_or_default();
        let current = state.store.get(kind, self.home(), name).cloned();
        if form.starts_with("application/apply-patch+yaml") {
            if self.parameter("fieldManager").is_empty() {
                return Err(Failure::bad_request(
                    "PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Required value: is required for apply patch",
                ));
            }
            if !self.body.is_object() {
                return Err(Failure::bad_request("an application is an object"));
            }
            if self.body["metadata"]["managedFields"].as_array().is_some_and(|fields| !fields.is_empty()) {
                return Err(Failure::bad_request("metadata.managedFields must be nil"));
            }
            let (current, code) = match current {
                Ok(current) => (Value::clone(&current), 200),
                Err(_) if how.part == Part::Object => (Value::Null, 201),
                Err(missing) => return Err(missing),
            };
            let application = Application {
                manager: self.parameter("fieldManager"),
                force: self.parameter("force") == "true",
                part: how.part,
            };
            let mut object = apply(&current, &self.body, &application, kind)?;
            object["metadata"]["name"] = name.into();
            return Ok((object, How { fields: Fields::Given, ..how }, code));
        }
        let mut object = Value::clone(&*current?);
        if form.starts_with("application/merge-patch+json") {
            patch::merge(&mut object, &self.body);
        } else if form.starts_with("application/strategic-merge-patch+json") && !kind.custom {
            patch::merge_strategically(&mut object, &self.body);
        } else if form.starts_with("application/json-patch+json") {
            patch::apply_operations(&mut object, &self.body)
                .map_err(|cause| Failure::patch_failed(&cause))?;
        } else {
            return Err(Failure::unsupported_patch(form));
        }
        Ok((object, how, 200))
    }

    fn watch(&self, kind: Arc<Kind>, shared: &Arc<Shared>) -> Result<Answer, Failure> {
        let version = self.parameter("resourceVersion");
        let initial_events = self.parameter("sendInitialEvents");
        if !initial_events.is_empty() && self.parameter("resourceVersionMatch") != "NotOlderThan" {
            let why = "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan";
            let message =
                format!("ListOptions.meta.k8s.io \"\" is invalid: resourceVersionMatch: Forbidden: {why}");
            return Err(Failure::new(422, "Invalid", message, None));
        }
        let from = match (version, initial_events) {
            (_, "true") => From::MarkedObjects,
            ("" | "0", "false") => From::Now,
            ("" | "0", _) => From::Objects,
            (version, _) => From::Version(version_of(version)?),
        };
        let events = watch::begin(
            Watch {
                namespace: self.target.namespace.clone(),
                selectors: self.selectors(&kind)?,
                kind,
                from,
                bookmarks: self.parameter("allowWatchBookmarks") == "true",
                timeout: Duration::from_secs(self.parameter("timeoutSeconds").parse().unwrap_or(1800)),
                metadata_only: self.wants_metadata(),
                user: self.user["username"].as_str().unwrap_or_default().to_owned(),
            },
            shared,
        );
        let mut answer = Answer::new(events.boxed());
        answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        Ok(answer)
    }

    /// Questions about tokens and rights.
    fn review(&self, state: &State) -> Result<Answer, Failure> {
        let plural = self.target.plural.as_str();
        let user = self.user["username"].as_str().unwrap_or_default();
        if self.verb != "create" {
            return Err(Failure::no_such_path());
        }
        if state.access.is_denied(user, "create", plural) {
            let kind = review_kind(&self.target.group, plural);
            return Err(Failure::forbidden(user, "create", &kind, None, None, None));
        }
        let answer = match plural {
            "tokenreviews" => state.access.review_token(&self.body),
            "subjectaccessreviews" | "localsubjectaccessreviews" => {
                state.access.review_access(&self.body, None)
            }
            "selfsubjectaccessreviews" => state.access.review_access(&self.body, Some(&self.user)),
            "selfsubjectreviews" => {
                let mut review = self.body.clone();
                review["status"] = json!({ "userInfo": self.user });
                review
            }
            _ => return Err(Failure::no_such_path()),
        };
        Ok(json_answer(201, &answer))
    }

    /// Another writer touches the object first.
    pub(super) fn overtake(&self, shared: &Shared) {
        let mut state = shared.state();
        let (Some(kind), Some(name)) = (state.store.kind_of(&self.target), &self.target.name) else { return };
        let Ok(object) = state.store.get(&kind, self.home(), name) else { return };
        let mut object = Value::clone(object);
        object["metadata"]["annotations"]["example.com/touched"] = state.store.revision.to_string().into();
        let _ = state.store.replace(&kind, self.home(), name, object, &How::plain(Part::Object));
    }

    pub(super) fn selectors(&self, kind: &Kind) -> Result<Selectors, Failure> {
        let selectors = Selectors::parse(self.parameter("labelSelector"), self.parameter("fieldSelector"))
            .map_err(Failure::bad_request)?;
        match selectors.unsupported(kind) {
            Some(field) => Err(Failure::bad_request(format!("field label not supported: {field}"))),
            None => Ok(selectors),
        }
    }

    pub(super) fn wants_metadata(&self) -> bool {
        let accepts = self.headers.get(header::ACCEPT).and_then(|accepts| accepts.to_str().ok());
        accepts.is_some_and(|accepts| accepts.contains("as=PartialObjectMetadata"))
    }
}

fn state_hooks(state: &State, subject: &Subject<'_>) -> Vec<Hook> {
    admission::hooks(&state.store, &state.services, subject)
}

pub(super) fn version_of(version: &str) -> Result<u64, Failure> {
    version.parse().map_err(|_| {
        Failure::bad_request(format!(
            "invalid resource version {version:?}: strconv.ParseUint: parsing {version:?}: invalid syntax"
        ))
    })
}
