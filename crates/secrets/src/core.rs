//! The request pipeline.

use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::time::Instant;

use chancery_api::Clock;
use chancery_storage::{Barrier, Name, Unsealed, View, Writes};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::audit::{Audit, AuditedHeaders, Outcome, Receipt, RequestRecord};
use crate::engine::cubbyhole::Cubbyhole;
use crate::engine::{AnyEngine, Call, Class, Mount, Mounted, SystemLimits};
use crate::error::Error;
use crate::lease::Leases;
use crate::measures::RequestMeasures;
use crate::mounts::{MountEntry, MountPoint, Mounts};
use crate::policy::{Acl, Denied, Grant, Parameters, Policies};
use crate::probe::{NoProber, Prober};
use crate::request::{Operation, Request};
use crate::response::{Answer, Response};
use crate::route::{Flags, Matched};
use crate::sys::{self, Sys};
use crate::token::{Authorized, Outside, Spend, TokenEngine, TokenEntry, TokenStore};
use crate::under_way::UnderWay;
use crate::wrapping;

/// Bytes of an answer beyond which it is not wrapped for those who need no token.
const LARGEST_WRAPPED_FOR_ANYONE: usize = 16 * 1024;

/// What the operator configured of the server itself.
#[derive(Debug, Clone)]
pub struct CoreConfig {
    /// Lease and token limits for mounts that set none.
    pub limits: SystemLimits,
    /// A name for people and health answers.
    pub cluster_name: String,
    /// The address that other programs shall use, as `sys/leader` tells it.
    pub api_address: String,
    /// The kind of storage, as `sys/seal-status` tells it.
    pub storage_type: String,
    /// Whether the UI is offered.
    pub ui: bool,
    /// Asks the outside world, for ACME.
    pub prober: Arc<dyn Prober>,
}

impl Default for CoreConfig {
    fn default() -> Self {
        Self {
            limits: SystemLimits::default(),
            cluster_name: "chancery".to_owned(),
            api_address: String::new(),
            storage_type: "inmem".to_owned(),
            ui: false,
            prober: Arc::new(NoProber),
        }
    }
}

/// The secrets server.
pub struct Core {
    /// Sealed or not, and how to get from one to the other.
    pub(crate) barrier: Barrier,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) config: CoreConfig,
    active: RwLock<Option<Arc<Active>>>,
    /// Held on every way from sealed to unsealed and back, so that these come one after another.
    pub(crate) sealing: tokio::sync::Mutex<()>,
    under_way: Arc<UnderWay>,
    sys: Arc<Sys>,
    measures: RequestMeasures,
    measured: OnceLock<Box<Measured>>,
}

/// Everything that was measured, in the format of that name, as an answer.
type Measured = dyn Fn(&str) -> Response + Send + Sync;

/// All that exists only while the server is unsealed.
pub struct Active {
    /// The open barrier.
    pub(crate) unsealed: Arc<Unsealed>,
    /// The core's own storage.
    pub(crate) root: View,
    pub(crate) mounts: Arc<Mounts>,
    pub(crate) tokens: Arc<TokenStore>,
    pub(crate) policies: Arc<Policies>,
    pub(crate) leases: Arc<Leases>,
    pub(crate) audit: Audit,
    pub(crate) cluster: Cluster,
}

/// What names this server and its storage to others.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Cluster {
    /// A UUID, made once.
    pub(crate) id: String,
}

impl Cluster {
    const NAME: &str = "cluster";

    /// Names a new store, together with its first records.
    pub(crate) fn found(root: &View, first: &mut Writes) -> Result<(), Error> {
        let cluster = Self { id: uuid::Uuid::new_v4().to_string() };
        first.put_json(root, "core", &Name::new(Self::NAME), &cluster)?;
        Ok(())
    }

    async fn load(root: &View) -> Result<Self, Error> {
        let stored = root.get_json("core", &Name::new(Self::NAME)).await?;
        stored.ok_or_else(|| Error::internal("internal error", "the store has no cluster record"))
    }
}

/// The scope of the core's own records.
pub(crate) const ROOT_SCOPE: &str = "core";

impl Core {
    /// A server over `barrier`'s storage; sealed.
    pub fn new(barrier: Barrier, config: CoreConfig, clock: Arc<dyn Clock>) -> Arc<Self> {
        Arc::new_cyclic(|core| Self {
            barrier,
            clock,
            config,
            active: RwLock::new(None),
            sealing: tokio::sync::Mutex::new(()),
            under_way: Arc::default(),
            sys: Arc::new(Sys::new(core.clone())),
            measures: RequestMeasures::new(),
            measured: OnceLock::new(),
        })
    }

    /// Says how `sys/metrics` answers. What was measured is for whoever installed a recorder to tell;
    /// only the first call counts.
    pub fn show_measurements(&self, measured: impl Fn(&str) -> Response + Send + Sync + 'static) {
        let _ = self.measured.set(Box::new(measured));
    }

    /// Everything that was measured, if anybody records it.
    pub(crate) fn measured(&self, format: &str) -> Option<Response> {
        self.measured.get().map(|measured| measured(format))
    }

    /// The only way in.
    ///
    /// What was begun is finished, also if the caller goes away and drops the future: a commit that is under
    /// way becomes durable in any case, and then what is kept in memory has to follow.
    ///
    /// # Errors
    /// What is refused, and what fails.
    pub async fn handle(self: &Arc<Self>, request: Request) -> Result<Answer, Error> {
        let (core, begun) = (Arc::clone(self), self.under_way.begin());
        // Boxed: a task moves what it holds when it is made and three times when it ends.
        let answering = Box::pin(async move {
            let answer = core.answer(request).await;
            drop(begun);
            answer
        });
        tokio::spawn(answering)
            .await
            .unwrap_or_else(|panicked| Err(Error::internal("internal error", panicked)))
    }

    /// Returns once no request is under way.
    pub async fn settled(&self) {
        self.under_way.settled().await;
    }

    /// One line a step, in the peer's order: a use of the token is spent even when its policies then
    /// refuse, refused requests are audited, and a path that nobody mounted says so only to those
    /// who may ask.
    async fn answer(&self, request: Request) -> Result<Answer, Error> {
        let now = self.clock.now();
        if let Some(answer) = self.answer_while_sealed(&request, now).await {
            return answer;
        }
        let active = self.active()?;
        refuse_folders(&request)?;
        let target = Target::find(&active.mounts, &request.path);
        let _timer = self.measures.request(target.matched().is_some_and(|matched| matched.flags.public));
        let caller = {
            let _timer = self.measures.check_token();
            active.admit(&request, &target, now).await
        };
        let (request, caller, receipt) = active.record_request(request, caller, &target, now).await?;
        let outcome = active.perform(&request, &target, &caller, now).await;
        let outcome = active.conclude(&request, &target, &caller, outcome, now).await;
        active.record_answer(receipt, &outcome, now).await?;
        outcome
    }

    /// The part that exists only while unsealed.
    pub(crate) fn active(&self) -> Result<Arc<Active>, Error> {
        self.active.read().unwrap_or_else(PoisonError::into_inner).clone().ok_or_else(Error::sealed)
    }

    /// The UUID of this server's storage.
    pub(crate) fn cluster_id(&self) -> Result<String, Error> {
        Ok(self.active()?.cluster.id.clone())
    }

    /// The request headers that audit records carry: those that a front end hands over. None while
    /// the server is sealed.
    pub fn audited_headers(&self) -> Arc<AuditedHeaders> {
        self.active().map(|active| active.audit.headers()).unwrap_or_default()
    }

    /// Whether the server is sealed.
    pub fn is_sealed(&self) -> bool {
        self.active().is_err()
    }

    /// The paths of `sys/` that need no barrier: initialisation, unsealing, health.
    async fn answer_while_sealed(&self, request: &Request, now: Timestamp) -> Option<Result<Answer, Error>> {
        let rest = request.path.strip_prefix("sys/")?;
        let matched = Sys::table().matching(rest).filter(|matched| {
            let Flags { sealed, measurements, .. } = matched.flags;
            let opened = measurements && request.connection.open_measurements && self.is_sealed();
            // Help is the pipeline's.
            request.operation != Operation::Help && (sealed || opened)
        })?;
        let call = call(request, "sys/", rest, &matched, None, now);
        let response = Sys::table().dispatch(Arc::clone(&self.sys), &matched, call).await;
        Some(response.map(|response| Answer {
            request_id: request.id.clone(),
            response,
            reads: request.operation == Operation::Read,
            ..Answer::default()
        }))
    }

    /// Opens everything that lives behind the barrier. Called once the barrier is open.
    pub(crate) async fn activate(&self, unsealed: Arc<Unsealed>) -> Result<Arc<Active>, Error> {
        let root = unsealed.view(ROOT_SCOPE)?;
        let limits = self.config.limits;
        let tokens = Arc::new(TokenStore::open(root.clone()).await?);
        let policies = Arc::new(Policies::open(root.clone()).await?);
        let leases = Arc::new(Leases::open(Arc::clone(&tokens)));
        let audit = Audit::open(root.clone()).await?;
        let mounts = Arc::new(
            Mounts::open(Arc::clone(&unsealed), root.clone(), limits, Arc::clone(&self.config.prober))
                .await?,
        );

        let cluster = Cluster::load(&root).await?;
        let provided = |class, path: &str, kind: &str| -> Result<(MountEntry, Arc<Mount>), Error> {
            let entry = MountEntry::provided(class, path, kind, &cluster.id);
            let view = unsealed.view(&format!("provided/{kind}"))?;
            let mount = Mount::new(
                entry.uuid.clone(),
                entry.accessor.clone(),
                class,
                view,
                limits,
                entry.tuning.clone(),
            );
            Ok((entry, Arc::new(mount)))
        };
        let (entry, mount) = provided(Class::Secret, "sys", "system")?;
        mounts.provide(entry, mount, Arc::new(Mounted(Arc::clone(&self.sys))));
        let (entry, mount) = provided(Class::Secret, "cubbyhole", "cubbyhole")?;
        let cubbyhole = Arc::new(Cubbyhole::new(Arc::clone(&tokens)));
        mounts.provide(entry, mount, Arc::new(Mounted(cubbyhole)));
        let (entry, mount) = provided(Class::Auth, "token", "token")?;
        let engine = TokenEngine::new(Arc::clone(&tokens), Arc::clone(&mount), outside(&mounts, &policies));
        mounts.provide(entry, mount, Arc::new(Mounted(Arc::new(engine))));

        sys::info::note_version(&root, self.clock.now()).await?;
        let active = Arc::new(Active { cluster, unsealed, root, mounts, tokens, policies, leases, audit });
        *self.active.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&active));
        Ok(active)
    }

    /// Forgets everything behind the barrier. Requests under way end with "sealed".
    pub(crate) fn deactivate(&self) {
        *self.active.write().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Opens the files of audit devices anew, after they were rotated away.
    pub fn reopen_audit(&self) {
        if let Ok(active) = self.active() {
            active.audit.reopen();
        }
    }

    /// One round of upkeep: what has expired is revoked, engines tidy up. The server calls this about
    /// once a second; errors are for its log.
    pub async fn upkeep(&self) -> Vec<Error> {
        let Ok(active) = self.active() else { return Vec::new() };
        active.upkeep(self.clock.now()).await
    }
}

/// Names end in no slash; what does is a folder, which can be listed but not written.
fn refuse_folders(request: &Request) -> Result<(), Error> {
    let writes = matches!(request.operation, Operation::Create | Operation::Update | Operation::Patch);
    if writes && request.path.ends_with('/') {
        return Err(Error::invalid("cannot write to a path ending in '/'"));
    }
    Ok(())
}

/// Where a request is going.
pub(crate) enum Target {
    /// No mount has this path.
    Nowhere,
    /// A mount has it, but no route of its engine.
    Unsupported(Arc<MountPoint>),
    /// A route of a mount.
    Route { point: Arc<MountPoint>, rest: String, matched: Matched },
}

impl Target {
    fn find(mounts: &Mounts, path: &str) -> Self {
        let Some((point, rest)) = mounts.find(path) else { return Self::Nowhere };
        match point.engine.matching(rest) {
            Some(matched) => Self::Route { rest: rest.to_owned(), matched, point },
            None => Self::Unsupported(point),
        }
    }

    fn matched(&self) -> Option<&Matched> {
        match self {
            Self::Route { matched, .. } => Some(matched),
            Self::Nowhere | Self::Unsupported(_) => None,
        }
    }

    pub(crate) fn point(&self) -> Option<&Arc<MountPoint>> {
        match self {
            Self::Nowhere => None,
            Self::Unsupported(point) | Self::Route { point, .. } => Some(point),
        }
    }
}

/// Who asks, once that is settled.
pub(crate) enum Caller {
    /// The path needs no token.
    Anyone,
    /// A token whose policies allow the request. `last_use` says that this was its last.
    Token { authorized: Authorized, last_use: bool, operation: Operation, filter: Option<ListFilter> },
}

/// What the policies hide of a listing.
pub(crate) struct ListFilter {
    acl: Arc<Acl>,
    grant: Grant,
}

impl ListFilter {
    fn of(grant: Grant, acl: Arc<Acl>) -> Option<Self> {
        (grant.keys_filter.is_some() || grant.list_limit.is_some()).then_some(Self { acl, grant })
    }

    /// Takes the names out of a listing that the caller may not see.
    fn apply(&self, path: &str, response: &mut Response) -> Result<(), Error> {
        let Some(data) = &response.data else { return Ok(()) };
        let mut listing: serde_json::Value = serde_json::from_str(data.get())?;
        let Some(serde_json::Value::Array(keys)) = listing.get_mut("keys") else { return Ok(()) };
        if let Some(filter) = &self.grant.keys_filter {
            keys.retain(|key| key.as_str().is_some_and(|key| self.acl.shows(filter, path, key)));
        }
        if let Some(limit) = self.grant.list_limit.and_then(|limit| usize::try_from(limit).ok()) {
            keys.truncate(limit);
        }
        let kept: Vec<String> = keys.iter().filter_map(|key| key.as_str().map(str::to_owned)).collect();
        if kept.is_empty() {
            return Err(Error::nothing_there());
        }
        if let Some(serde_json::Value::Object(info)) = listing.get_mut("key_info") {
            info.retain(|name, _| kept.contains(name));
        }
        response.data = Some(serde_json::value::to_raw_value(&listing)?);
        Ok(())
    }
}

/// A refusal at the door, with the token if it was at least a real one, for the audit record.
pub(crate) struct Refused {
    pub(crate) error: Error,
    pub(crate) token: Option<Arc<TokenEntry>>,
    pub(crate) last_use: bool,
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        Self { error, token: None, last_use: false }
    }
}

impl Active {
    /// Looks up the token, spends one use, and asks its policies.
    async fn admit(&self, request: &Request, target: &Target, now: Timestamp) -> Result<Caller, Refused> {
        let flags = target.matched().map(|matched| matched.flags).unwrap_or_default();
        if flags.public || (flags.measurements && request.connection.open_measurements) {
            return Ok(Caller::Anyone);
        }
        let Some(text) = request.token.as_ref().filter(|text| !text.is_empty()) else {
            return Err(Error::denied().into());
        };
        let token = match self.tokens.lookup(text, now).await? {
            Some(token) => token,
            // Whoever unwraps with a used token must learn that somebody else was there first.
            None if target.matched().is_some_and(|matched| matched.flags.wrapping) => {
                return Err(wrapping::invalid().into());
            }
            None => return Err(Error::denied().into()),
        };
        if !token.allows_address(request.connection.address) {
            return Err(Refused { error: Error::denied(), token: Some(token), last_use: false });
        }
        let last_use = match self.tokens.spend(&token, now).await? {
            Spend::Spent => false,
            Spend::Last => true,
            Spend::None => return Err(Error::denied().into()),
        };
        let refused = |error| Refused { error, token: Some(Arc::clone(&token)), last_use };

        let operation = self.create_or_update(request, target, now).await.map_err(&refused)?;
        let acl = self.policies.acl(&token, now).await.map_err(&refused)?;
        let parameters = Parameters { body: &request.body, query: &request.query };
        let wrap_ttl = request.wrap_ttl.map(|ttl| ttl.0);
        let grant = acl
            .check(operation, &request.path, parameters, wrap_ttl)
            .map_err(|denied| refused(denied.into()))?;
        if target.matched().is_some_and(|matched| matched.flags.sudo) && !grant.sudo {
            return Err(refused(Denied.into()));
        }
        let authorized = Authorized::new(Arc::clone(&token), text.clone(), grant.sudo);
        Ok(Caller::Token { authorized, last_use, operation, filter: ListFilter::of(grant, acl) })
    }

    /// Tells a write to something new from one to something that is there, where the route can.
    async fn create_or_update(
        &self,
        request: &Request,
        target: &Target,
        now: Timestamp,
    ) -> Result<Operation, Error> {
        match target {
            Target::Route { point, rest, matched }
                if request.operation == Operation::Update && matched.has_existence =>
            {
                let call = call(request, &point.entry.path, rest, matched, None, now);
                let exists = point.engine.exists(matched, call).await?;
                Ok(if exists { Operation::Update } else { Operation::Create })
            }
            _ => Ok(request.operation),
        }
    }

    /// Writes the audit record of the request; a refused one is answered here.
    async fn record_request(
        &self,
        request: Request,
        caller: Result<Caller, Refused>,
        target: &Target,
        now: Timestamp,
    ) -> Result<(Request, Caller, Receipt), Error> {
        let (token, error) = match &caller {
            Ok(Caller::Anyone) => (None, None),
            Ok(Caller::Token { authorized, .. }) => (Some(&**authorized.token()), None),
            Err(refused) => (refused.token.as_deref(), Some(&refused.error)),
        };
        let operation = match &caller {
            Ok(Caller::Token { operation, .. }) => *operation,
            _ => request.operation,
        };
        let record = RequestRecord {
            request: &request,
            operation,
            token,
            mount: target.point().map(|point| &**point),
            error,
        };
        let receipt = self.audit.request(record, &self.tokens, now).await;
        match caller {
            Ok(caller) => Ok((request, caller, receipt?)),
            Err(refused) => {
                if let (Some(token), true) = (&refused.token, refused.last_use) {
                    Box::pin(self.revoke_spent(token, now)).await;
                }
                // A refusal stays a refusal even if it could not be recorded: it gives nothing away.
                if let Ok(receipt) = receipt
                    && let Err(error) =
                        self.audit.response(receipt, Outcome::Refused(&refused.error), now).await
                {
                    tracing::error!(%error, "a refusal was given without its audit record");
                }
                Err(refused.error)
            }
        }
    }

    /// Calls the handler.
    async fn perform(
        &self,
        request: &Request,
        target: &Target,
        caller: &Caller,
        now: Timestamp,
    ) -> Result<Response, Error> {
        let (point, rest, matched) = match target {
            Target::Nowhere => {
                return Err(Error::not_found(format!(
                    "no handler for route {:?}. route entry not found.",
                    request.path
                )));
            }
            Target::Unsupported(point) => {
                let asks_for_all =
                    request.path.trim_end_matches('/') == point.entry.path.trim_end_matches('/');
                if request.operation == Operation::Help && asks_for_all {
                    return crate::help::of_engine(point);
                }
                return Err(Error::unsupported_path());
            }
            Target::Route { point, rest, matched } => (point, rest, matched),
        };
        if request.operation == Operation::Help {
            return crate::help::of_route(point, rest, matched);
        }
        if matched.flags.wrapped && request.wrap_ttl.is_none_or(|ttl| ttl.is_zero()) {
            return Err(Error::invalid("endpoint requires response wrapping to be used"));
        }
        let (authorized, operation) = match caller {
            Caller::Anyone => (None, request.operation),
            Caller::Token { authorized, operation, .. } => (Some(authorized.clone()), *operation),
        };
        let call = Call { operation, ..call(request, &point.entry.path, rest, matched, authorized, now) };
        let started = Instant::now();
        let response = point.engine.dispatch(matched, call).await;
        point.measures.dispatched(operation, matched.counted, response.is_ok(), started.elapsed());
        let mut response = if matched.flags.public { response.map_err(Error::unframed)? } else { response? };
        if let Caller::Token { filter: Some(filter), .. } = caller {
            filter.apply(&request.path, &mut response)?;
        }
        Ok(response)
    }

    /// Turns what the engine asked for into a token, a lease and a wrapping.
    async fn conclude(
        &self,
        request: &Request,
        target: &Target,
        caller: &Caller,
        outcome: Result<Response, Error>,
        now: Timestamp,
    ) -> Result<Answer, Error> {
        let outcome = match outcome {
            Ok(response) => self.grant(request, target, caller, response, now).await,
            Err(error) => Err(error),
        };
        if let Caller::Token { authorized, last_use: true, .. } = caller {
            Box::pin(self.revoke_spent(authorized.token(), now)).await;
        }
        outcome
    }

    async fn grant(
        &self,
        request: &Request,
        target: &Target,
        caller: &Caller,
        mut response: Response,
        now: Timestamp,
    ) -> Result<Answer, Error> {
        let (login, auth, lease) = (response.login.take(), response.auth.take(), response.lease.take());
        let wrap_info = response.wrap_info.take();
        let renewed = response.renewed.take();
        let mut answer = Answer {
            // As the peer does, a wrapped answer has no request id: the one of its content is inside.
            request_id: if wrap_info.is_some() { String::new() } else { request.id.clone() },
            reads: matches!(request.operation, Operation::Read | Operation::List | Operation::Scan),
            response,
            auth: auth.map(|auth| *auth),
            wrap_info: wrap_info.map(|info| *info),
            lease: renewed.map(|lease| *lease).unwrap_or_default(),
        };
        if let (Some(login), Some(point)) = (login, target.point()) {
            if point.entry.class != Class::Auth {
                return Err(Error::internal("internal error", "a secrets engine answered a login"));
            }
            // Boxed, here and below: what few requests do must not make the room that each one needs.
            let login = self.tokens.login(*login, &point.mount, &point.entry.path, &request.path, now);
            let created = Box::pin(login).await?;
            answer.auth = Some(created.auth());
            answer.response.warnings.extend(created.warnings);
            point.measures.token_made(created.entry.kind.name());
        } else if let (Some(Matched { counted: Some("token.create"), .. }), Some(point), Some(auth)) =
            (target.matched(), target.point(), &answer.auth)
        {
            point.measures.token_made(&auth.token_type);
        }
        if let (Some(terms), Some(point), Caller::Token { authorized, .. }) = (lease, target.point(), caller)
        {
            let token = authorized.token();
            let registered = self.leases.register(*terms, &point.mount, &request.path, token, now);
            answer.lease = Box::pin(registered).await?;
            if let Caller::Token { last_use: true, .. } = caller {
                // The lease ends with the token, before the caller could use what it was given.
                return Err(Error::invalid(
                    "Secret cannot be returned; token had one use left, so leased credentials were immediately revoked.",
                ));
            }
        }
        let wraps = target.matched().is_none_or(|matched| !matched.flags.wrapping);
        // Whoever needs no token is not given room in storage for what may be a list of megabytes.
        let large = answer.response.size() > LARGEST_WRAPPED_FOR_ANYONE;
        let wraps = wraps && !(large && matches!(caller, Caller::Anyone));
        if let Some(ttl) = request.wrap_ttl.filter(|ttl| wraps && !ttl.is_zero())
            && answer.has_body()
        {
            // What stands at the top level too is for those who ask directly.
            answer.response.flatten = false;
            let info = Box::pin(wrapping::wrap(&self.tokens, &answer, ttl, &request.path, now)).await?;
            answer = Answer { wrap_info: Some(info), ..Answer::default() };
        }
        if answer.wrap_info.is_some() {
            // As the peer does: the request's id stays with the content.
            answer.request_id.clear();
        }
        Ok(answer)
    }

    async fn record_answer(
        &self,
        receipt: Receipt,
        outcome: &Result<Answer, Error>,
        now: Timestamp,
    ) -> Result<(), Error> {
        let outcome = match outcome {
            Ok(answer) => Outcome::Answered(answer),
            Err(error) => Outcome::Refused(error),
        };
        self.audit.response(receipt, outcome, now).await
    }

    /// What has expired is revoked, engines tidy up.
    async fn upkeep(&self, now: Timestamp) -> Vec<Error> {
        let mut errors = Vec::new();
        match self.leases.expire_due(now, &self.finder()).await {
            Ok((_, failed)) => errors.extend(failed),
            Err(error) => errors.push(error),
        }
        errors.extend(self.leases.count_on(now).await.err());
        errors.extend(sys::keys::rotate_if_due(self, now).await.err());
        for point in self.mounts.all().values() {
            if let Err(error) = point.engine.tick(now).await {
                errors.push(error);
            }
        }
        errors
    }

    /// Takes back everything that a mount gave out.
    pub(crate) async fn revoke_mount(&self, point: &MountPoint, now: Timestamp) -> Result<(), Error> {
        self.leases.revoke_prefix(&point.entry.path, true, now, &self.finder()).await
    }

    /// Finds the mount of a path, for the lease manager.
    pub(crate) fn finder(&self) -> impl Fn(&str) -> Option<(Arc<Mount>, Arc<dyn AnyEngine>)> + Send + Sync {
        |path| {
            let (point, _) = self.mounts.find(path)?;
            Some((Arc::clone(&point.mount), Arc::clone(&point.engine)))
        }
    }

    /// A token whose last use is over. If this fails, the token still has no use left, and its expiry
    /// removes it.
    async fn revoke_spent(&self, token: &Arc<TokenEntry>, now: Timestamp) {
        if let Err(error) = self.tokens.revoke_tree(token.key, now).await {
            tracing::warn!(%error, "a token without uses left could not be revoked yet");
        }
    }
}

/// What the token mount may ask of mounts and policies. Weakly: the mount table holds the token mount.
fn outside(mounts: &Arc<Mounts>, policies: &Arc<Policies>) -> Outside {
    let mounts = Arc::downgrade(mounts);
    let policies = Arc::downgrade(policies);
    Outside {
        mount: Box::new(move |path| {
            let (point, _) = mounts.upgrade()?.find(path)?;
            Some((Arc::clone(&point.mount), Arc::clone(&point.engine)))
        }),
        has_policy: Box::new(move |name| {
            let policies = policies.upgrade();
            Box::pin(async move {
                match policies {
                    Some(policies) => Ok(policies.read(&name).await?.is_some()),
                    None => Err(Error::sealed()),
                }
            })
        }),
    }
}

fn call(
    request: &Request,
    mount_path: &str,
    rest: &str,
    matched: &Matched,
    authorized: Option<Authorized>,
    now: Timestamp,
) -> Call {
    Call {
        request_id: request.id.clone(),
        operation: request.operation,
        path: rest.to_owned(),
        captures: matched.captures.clone(),
        body: request.body.clone(),
        query: request.query.clone(),
        connection: request.connection.clone(),
        mount_path: mount_path.to_owned(),
        authorized,
        // Engines never see a token's text. The server's own paths may judge one themselves.
        presented: (mount_path == "sys/").then(|| request.token.clone()).flatten(),
        now,
    }
}
