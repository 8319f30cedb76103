//! Paths to typed handlers: one table per engine.
//!
//! An entry names the path, the operations it has, a handler each, and what they are for. The same
//! table answers a request, a `path-help`, the OpenAPI document, and the questions that the pipeline
//! asks before it lets a request in: does this path need a token, does it need `sudo`, is a write
//! here a `create` or an `update`.
//!
//! A pattern is a path with captures: `{name}` takes one segment that is a name (letters, digits,
//! `_`, with `.` and `-` inside), `{name:any}` one segment of any text, `{name:rest}` all that
//! is left, which may be nothing only where the pattern has nothing before it. Literal segments win
//! over captures. A slash at the end belongs to paths that can be listed, and to no other.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use chancery_api::{Field, Fields, Input};

use crate::engine::Call;
use crate::error::Error;
use crate::request::Operation;
use crate::response::Response;

/// A boxed future that may move between threads.
pub type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Reads the request and begins to answer it. The last argument names the fields that the path has for any of its
/// operations.
///
/// What all handlers share is done by who calls this: the program has a copy of this code for each of them.
type Handler<E> = Box<dyn Fn(Arc<E>, Call, &[&'static str]) -> Result<Begun, Error> + Send + Sync>;

/// An answer on its way, and what to warn about.
struct Begun {
    answering: BoxFuture<Result<Response, Error>>,
    warnings: Vec<String>,
}

type Existence<E> = Box<dyn Fn(Arc<E>, Call) -> BoxFuture<Result<bool, Error>> + Send + Sync>;

/// What one operation of a route looks like from outside.
#[derive(Debug, Clone)]
pub struct OperationSchema {
    /// Its fields, captures included.
    pub fields: Vec<Field>,
    /// One line: what it does.
    pub summary: &'static str,
}

struct Verb<E> {
    handler: Handler<E>,
    schema: fn() -> Vec<Field>,
    summary: &'static str,
}

/// One path of an engine.
pub struct Route<E> {
    pattern: &'static str,
    segments: Vec<Segment>,
    verbs: Vec<(Operation, Verb<E>)>,
    existence: Option<Existence<E>>,
    flags: Flags,
    counted: Option<&'static str>,
    help: &'static str,
    /// The names of the fields of all its operations.
    fields: Arc<[&'static str]>,
}

/// What the pipeline must know of a route before it calls it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Flags {
    /// Needs no token.
    pub public: bool,
    /// Needs the `sudo` capability.
    pub sudo: bool,
    /// Answers while the server is sealed. Implies `public`.
    pub sealed: bool,
    /// Its answer may not be wrapped, and its token's use is spent by the handler.
    pub wrapping: bool,
    /// Its answer exists only wrapped.
    pub wrapped: bool,
    /// Needs no token, nor an unsealed server, where the listener shows measurements to everybody.
    pub measurements: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Segment {
    Literal(&'static str),
    Name(&'static str),
    Any(&'static str),
    Rest(&'static str),
}

impl<E: Send + Sync + 'static> Route<E> {
    fn new(pattern: &'static str) -> Self {
        let segments = pattern
            .split('/')
            .map(|segment| {
                let Some(capture) = segment.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) else {
                    return Segment::Literal(segment);
                };
                match capture.split_once(':') {
                    None => Segment::Name(capture),
                    Some((name, "rest")) => Segment::Rest(name),
                    Some((name, _)) => Segment::Any(name),
                }
            })
            .collect();
        Self {
            pattern,
            segments,
            verbs: Vec::new(),
            existence: None,
            flags: Flags::default(),
            counted: None,
            help: "",
            fields: Arc::default(),
        }
    }

    fn on<B, H, F>(mut self, operation: Operation, handler: H, summary: &'static str) -> Self
    where
        B: Fields,
        H: Fn(Arc<E>, Call, B) -> F + Send + Sync + Copy + 'static,
        F: Future<Output = Result<Response, Error>> + Send + 'static,
    {
        let handler: Handler<E> = Box::new(move |engine, call, known| {
            let (body, warnings) = decode::<B>(&call, known)?;
            Ok(Begun { answering: Box::pin(handler(engine, call, body)), warnings })
        });
        self.verbs.push((operation, Verb { handler, schema: B::schema, summary }));
        self
    }

    /// GET.
    #[must_use]
    pub fn read<B, H, F>(self, handler: H, summary: &'static str) -> Self
    where
        B: Fields,
        H: Fn(Arc<E>, Call, B) -> F + Send + Sync + Copy + 'static,
        F: Future<Output = Result<Response, Error>> + Send + 'static,
    {
        self.on(Operation::Read, handler, summary)
    }

    /// PUT or POST. With [`Route::existence`], `create` and `update` are told apart before.
    #[must_use]
    pub fn update<B, H, F>(self, handler: H, summary: &'static str) -> Self
    where
        B: Fields,
        H: Fn(Arc<E>, Call, B) -> F + Send + Sync + Copy + 'static,
        F: Future<Output = Result<Response, Error>> + Send + 'static,
    {
        self.on(Operation::Update, handler, summary)
    }

    /// PUT or POST of a body that need not be JSON: the handler finds it in [`Call::body`] as it came.
    #[must_use]
    pub fn raw_update<H, F>(mut self, handler: H, summary: &'static str) -> Self
    where
        H: Fn(Arc<E>, Call) -> F + Send + Sync + Copy + 'static,
        F: Future<Output = Result<Response, Error>> + Send + 'static,
    {
        let handler: Handler<E> = Box::new(move |engine, call, _| {
            Ok(Begun { answering: Box::pin(handler(engine, call)), warnings: Vec::new() })
        });
        self.verbs.push((Operation::Update, Verb { handler, schema: Vec::new, summary }));
        self
    }

    /// PATCH.
    #[must_use]
    pub fn patch<B, H, F>(self, handler: H, summary: &'static str) -> Self
    where
        B: Fields,
        H: Fn(Arc<E>, Call, B) -> F + Send + Sync + Copy + 'static,
        F: Future<Output = Result<Response, Error>> + Send + 'static,
    {
        self.on(Operation::Patch, handler, summary)
    }

    /// DELETE.
    #[must_use]
    pub fn delete<B, H, F>(self, handler: H, summary: &'static str) -> Self
    where
        B: Fields,
        H: Fn(Arc<E>, Call, B) -> F + Send + Sync + Copy + 'static,
        F: Future<Output = Result<Response, Error>> + Send + 'static,
    {
        self.on(Operation::Delete, handler, summary)
    }

    /// LIST.
    #[must_use]
    pub fn list<B, H, F>(self, handler: H, summary: &'static str) -> Self
    where
        B: Fields,
        H: Fn(Arc<E>, Call, B) -> F + Send + Sync + Copy + 'static,
        F: Future<Output = Result<Response, Error>> + Send + 'static,
    {
        self.on(Operation::List, handler, summary)
    }

    /// SCAN.
    #[must_use]
    pub fn scan<B, H, F>(self, handler: H, summary: &'static str) -> Self
    where
        B: Fields,
        H: Fn(Arc<E>, Call, B) -> F + Send + Sync + Copy + 'static,
        F: Future<Output = Result<Response, Error>> + Send + 'static,
    {
        self.on(Operation::Scan, handler, summary)
    }

    /// Tells whether something is there, so that a write is a `create` or an `update`.
    #[must_use]
    pub fn existence<H, F>(mut self, exists: H) -> Self
    where
        H: Fn(Arc<E>, Call) -> F + Send + Sync + 'static,
        F: Future<Output = Result<bool, Error>> + Send + 'static,
    {
        self.existence = Some(Box::new(move |engine, call| Box::pin(exists(engine, call))));
        self
    }

    /// Needs no token.
    #[must_use]
    pub fn public(mut self) -> Self {
        self.flags.public = true;
        self
    }

    /// Needs `sudo`.
    #[must_use]
    pub fn sudo(mut self) -> Self {
        self.flags.sudo = true;
        self
    }

    /// Answers while sealed, without a token.
    #[must_use]
    pub fn sealed(mut self) -> Self {
        self.flags.sealed = true;
        self.flags.public = true;
        self
    }

    /// Answers only those who ask for a wrapped answer.
    #[must_use]
    pub fn wrapped(mut self) -> Self {
        self.flags.wrapped = true;
        self
    }

    /// Handles wrapping tokens itself.
    #[must_use]
    pub fn wrapping(mut self) -> Self {
        self.flags.wrapping = true;
        self
    }

    /// Needs no token where the listener says so; see [`Flags::measurements`].
    #[must_use]
    pub fn measurements(mut self) -> Self {
        self.flags.measurements = true;
        self
    }

    /// Its successes are timed and its failures counted for each mount, under this name.
    #[must_use]
    pub fn counted(mut self, name: &'static str) -> Self {
        self.counted = Some(name);
        self
    }

    /// What the path is for, in a paragraph.
    #[must_use]
    pub fn help(mut self, help: &'static str) -> Self {
        self.help = help;
        self
    }

    /// The captures, if `path` (split at slashes) is one of ours.
    fn captures(&self, path: &str) -> Option<Captures> {
        let mut captures = Captures::new();
        let mut rest = Some(path);
        for segment in &self.segments {
            if let Segment::Rest(name) = segment {
                let rest = rest.unwrap_or_default();
                captures.push((name, rest.to_owned()));
                return (!rest.is_empty() || self.segments.len() == 1).then_some(captures);
            }
            let current = rest?;
            let (head, tail) = match current.split_once('/') {
                Some((head, tail)) => (head, Some(tail)),
                None => (current, None),
            };
            match segment {
                Segment::Literal(literal) if *literal == head => {}
                Segment::Name(name) if is_name(head) => captures.push((name, head.to_owned())),
                Segment::Any(name) if !head.is_empty() => captures.push((name, head.to_owned())),
                _ => return None,
            }
            rest = tail;
        }
        match rest {
            None => Some(captures),
            // The names below a path are asked for with a slash.
            Some("") if self.lists() => Some(captures),
            Some(_) => None,
        }
    }

    /// Whether something lies below it that can be listed.
    fn lists(&self) -> bool {
        self.verbs.iter().any(|(operation, _)| matches!(operation, Operation::List | Operation::Scan))
    }

    /// Sorts literals before names before anything.
    fn rank(&self) -> Vec<u8> {
        self.segments
            .iter()
            .map(|segment| match segment {
                Segment::Literal(_) => 0,
                Segment::Name(_) => 1,
                Segment::Any(_) => 2,
                Segment::Rest(_) => 3,
            })
            .collect()
    }
}

/// The captures of a matched path, in order.
pub type Captures = Vec<(&'static str, String)>;

/// Letters, digits and `_`, with `.` and `-` between them.
fn is_name(text: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let bytes = text.as_bytes();
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else { return false };
    word(*first) && word(*last) && bytes.iter().all(|byte| word(*byte) || matches!(byte, b'.' | b'-'))
}

/// Awaits the answer and adds the warnings.
async fn warned(begun: Result<Begun, Error>) -> Result<Response, Error> {
    let Begun { answering, warnings } = begun?;
    let mut response = answering.await?;
    // As the peer has it: an answer that says nothing is not made to say something.
    if response.takes_warnings() {
        response.warnings.extend(warnings);
    }
    Ok(response)
}

/// The body, the query and the captures of `call` as a `B`, and what to warn about.
fn decode<B: Fields>(call: &Call, known: &[&'static str]) -> Result<(B, Vec<String>), Error> {
    let mut input = input(call)?;
    let body = B::decode(&mut input)?;
    Ok((body, unread(&input, known)))
}

fn input(call: &Call) -> Result<Input<'_>, Error> {
    let mut input = Input::from_body(&call.body)?;
    for (name, value) in &call.query {
        input.query(name, value);
    }
    for (name, value) in &call.captures {
        input.capture(name, value);
    }
    Ok(input)
}

/// What to say of fields that were not read.
///
/// As on the peer, a path has one set of fields: one that only another operation reads is passed over
/// without a word.
fn unread(input: &Input<'_>, known: &[&'static str]) -> Vec<String> {
    let mut warnings = Vec::new();
    let mut unknown = input.unknown();
    unknown.retain(|name| !known.contains(&name.as_str()));
    if !unknown.is_empty() {
        warnings.push(format!("Endpoint ignored these unrecognized parameters: [{}]", unknown.join(" ")));
    }
    if !input.replaced().is_empty() {
        warnings.push(format!(
            "Endpoint replaced the value of these parameters with the values captured from the endpoint's path: [{}]",
            input.replaced().join(" ")
        ));
    }
    warnings
}

/// All paths of an engine.
pub struct Routes<E> {
    routes: Vec<Route<E>>,
    /// First segment to the candidates, best first; routes that begin with a capture stand under "".
    by_head: BTreeMap<&'static str, Vec<usize>>,
}

impl<E: Send + Sync + 'static> Default for Routes<E> {
    fn default() -> Self {
        Self::new()
    }
}

impl<E: Send + Sync + 'static> Routes<E> {
    /// A table without entries.
    pub fn new() -> Self {
        Self { routes: Vec::new(), by_head: BTreeMap::new() }
    }

    /// Adds a path; `with` gives it its operations.
    #[must_use]
    pub fn route(mut self, pattern: &'static str, with: impl FnOnce(Route<E>) -> Route<E>) -> Self {
        let mut route = with(Route::new(pattern));
        let fields = route.verbs.iter().flat_map(|(_, verb)| (verb.schema)());
        route.fields = fields.map(|field| field.name).collect();
        let head = match route.segments.first() {
            Some(Segment::Literal(literal)) => literal,
            _ => "",
        };
        let position = self.routes.len();
        self.routes.push(route);
        let candidates = self.by_head.entry(head).or_default();
        candidates.push(position);
        let routes = &self.routes;
        candidates.sort_by_key(|candidate| routes.get(*candidate).map(Route::rank));
        self
    }

    fn find(&self, path: &str) -> Option<(usize, &Route<E>, Captures)> {
        let head = path.split('/').next().unwrap_or_default();
        let heads = [head, ""];
        let heads = if head.is_empty() { heads.get(1..) } else { heads.get(..) };
        heads
            .into_iter()
            .flatten()
            .filter_map(|head| self.by_head.get(head))
            .flatten()
            .filter_map(|position| self.routes.get(*position).map(|route| (*position, route)))
            .find_map(|(position, route)| route.captures(path).map(|captures| (position, route, captures)))
    }

    /// Which route `path` belongs to.
    pub fn matching(&self, path: &str) -> Option<Matched> {
        self.find(path).map(|(index, route, captures)| Matched {
            index,
            captures,
            flags: route.flags,
            has_existence: route.existence.is_some(),
            counted: route.counted,
            pattern: route.pattern,
        })
    }

    /// Every name that a route is counted under, once.
    pub fn counted(&self) -> Vec<&'static str> {
        let mut names: Vec<_> = self.routes.iter().filter_map(|route| route.counted).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// Whether something is there already.
    pub fn exists(&self, engine: Arc<E>, matched: &Matched, call: Call) -> BoxFuture<Result<bool, Error>> {
        match self.routes.get(matched.index).and_then(|route| route.existence.as_ref()) {
            Some(exists) => exists(engine, call),
            None => Box::pin(async { Ok(true) }),
        }
    }

    /// Calls the handler of `matched` for the operation of `call`.
    pub fn dispatch(
        &self,
        engine: Arc<E>,
        matched: &Matched,
        call: Call,
    ) -> BoxFuture<Result<Response, Error>> {
        let operation = match call.operation {
            // One handler serves both; the pipeline told them apart for the policies.
            Operation::Create => Operation::Update,
            other => other,
        };
        let verb = self.routes.get(matched.index).and_then(|route| {
            let verb = route.verbs.iter().find(|(known, _)| *known == operation);
            verb.map(|(_, verb)| (Arc::clone(&route.fields), verb))
        });
        let Some((fields, verb)) = verb else {
            return Box::pin(async { Err(Error::unsupported_operation()) });
        };
        let decoded_early = matched.has_existence && operation == Operation::Update;
        let begun = (verb.handler)(engine, call, &fields);
        match begun {
            Ok(Begun { answering, warnings }) if warnings.is_empty() && !decoded_early => answering,
            begun => Box::pin(async move {
                let answer = warned(begun).await;
                // The peer decodes such a body earlier, to tell `create` from `update`, and says less there.
                if decoded_early {
                    return answer.map_err(|error| error.without_prefix("Field validation failed: "));
                }
                answer
            }),
        }
    }

    /// Every route for help and OpenAPI.
    pub fn describe(&self) -> Vec<RouteSchema> {
        self.routes
            .iter()
            .map(|route| RouteSchema {
                pattern: route.pattern,
                help: route.help,
                flags: route.flags,
                existence: route.existence.is_some(),
                operations: route
                    .verbs
                    .iter()
                    .map(|(operation, verb)| {
                        let schema = OperationSchema { fields: (verb.schema)(), summary: verb.summary };
                        (*operation, schema)
                    })
                    .collect(),
            })
            .collect()
    }
}

/// A path that one of the routes answers.
#[derive(Debug, Clone)]
pub struct Matched {
    index: usize,
    /// The captures, in order.
    pub captures: Captures,
    /// What to know before calling.
    pub flags: Flags,
    /// Whether `create` and `update` differ here.
    pub has_existence: bool,
    /// The name under which it is counted for each mount.
    pub counted: Option<&'static str>,
    /// The route's pattern: its name in the help.
    pub pattern: &'static str,
}

/// A route as help and OpenAPI show it.
#[derive(Debug, Clone)]
pub struct RouteSchema {
    /// The path with its captures.
    pub pattern: &'static str,
    /// What the path is for.
    pub help: &'static str,
    /// Who may ask.
    pub flags: Flags,
    /// Whether `create` and `update` differ.
    pub existence: bool,
    /// What can be done there.
    pub operations: Vec<(Operation, OperationSchema)>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use chancery_api::fields::NoFields;

    struct Sample;

    async fn nothing(_: Arc<Sample>, _: Call, _: NoFields) -> Result<Response, Error> {
        Ok(Response::empty())
    }

    fn call(path: &str) -> Call {
        Call {
            request_id: String::new(),
            operation: Operation::Read,
            path: path.to_owned(),
            captures: Captures::new(),
            body: bytes::Bytes::new(),
            query: Vec::new(),
            connection: crate::request::Connection::default(),
            mount_path: "sample/".to_owned(),
            authorized: None,
            presented: None,
            now: jiff::Timestamp::UNIX_EPOCH,
        }
    }

    fn table() -> Routes<Sample> {
        Routes::new()
            .route("roles", |r| r.list(nothing, "list"))
            .route("roles/{name}", |r| r.read(nothing, "read"))
            .route("issuer/{ref}/sign/{role}", |r| r.update(nothing, "sign"))
            .route("issuer/{ref}/{rest:rest}", |r| r.read(nothing, "rest"))
            .route("cert/ca", |r| r.read(nothing, "ca").public())
            .route("cert/{serial:any}", |r| r.read(nothing, "cert"))
            .route("{path:rest}", |r| r.read(nothing, "all"))
    }

    #[test]
    fn a_slash_at_the_end_belongs_to_what_can_be_listed() {
        let table = Routes::new()
            .route("roles", |r| r.list(nothing, "list"))
            .route("roles/{name}", |r| r.read(nothing, "read"))
            .route("config", |r| r.read(nothing, "read"))
            .route("mounts/{path:rest}", |r| r.read(nothing, "read"));
        for (path, matches) in [
            ("roles/", true),
            ("roles/web", true),
            ("roles/web/", false),
            ("config/", false),
            ("mounts", false),
            ("mounts/", false),
            ("mounts/a/", true),
        ] {
            assert_eq!(table.matching(path).is_some(), matches, "{path}");
        }
    }

    #[test]
    fn names_to_count_under_are_listed_once() {
        let table = Routes::new()
            .route("sign", |r| r.update(nothing, "sign").counted("sample.sign"))
            .route("sign/{role}", |r| r.update(nothing, "sign").counted("sample.sign"))
            .route("roles", |r| r.list(nothing, "list"));
        assert_eq!(table.counted(), ["sample.sign"]);
        assert_eq!(table.matching("sign/web").and_then(|matched| matched.counted), Some("sample.sign"));
        assert_eq!(table.matching("roles").and_then(|matched| matched.counted), None);
    }

    #[test]
    fn literals_win_over_names_over_anything() {
        let table = table();
        for (path, pattern) in [
            ("roles", "roles"),
            ("roles/", "roles"),
            ("roles/web", "roles/{name}"),
            ("roles/-web", "{path:rest}"),
            ("roles/web@home", "{path:rest}"),
            // Nothing lies below a role, so that nobody has reason to ask with a slash.
            ("roles/web/", "{path:rest}"),
            ("issuer/default/sign/web", "issuer/{ref}/sign/{role}"),
            ("issuer/default/sign", "issuer/{ref}/{rest:rest}"),
            ("cert/ca", "cert/ca"),
            ("cert/17:2a", "cert/{serial:any}"),
            ("elsewhere/far/away", "{path:rest}"),
            ("", "{path:rest}"),
        ] {
            assert_eq!(table.matching(path).map(|matched| matched.pattern), Some(pattern), "{path}");
        }
    }

    #[test]
    fn a_field_of_another_operation_of_the_path_is_no_unknown_one() {
        let call = |query: &[(&str, &str)]| Call {
            query: query.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
            ..call("roles/web")
        };
        let known = ["ttl"];
        let warnings = |query| decode::<NoFields>(&call(query), &known).unwrap().1;
        assert!(warnings(&[("ttl", "5")]).is_empty());
        assert_eq!(
            warnings(&[("ttl", "5"), ("x", "1")]),
            ["Endpoint ignored these unrecognized parameters: [x]"]
        );
    }

    #[tokio::test]
    async fn a_raw_body_reaches_its_handler_as_it_came() {
        async fn length(_: Arc<Sample>, call: Call) -> Result<Response, Error> {
            Ok(Response::raw("text/plain", call.body.len().to_string()))
        }
        let table = Routes::new()
            .route("raw", |r| r.raw_update(length, "raw"))
            .route("json", |r| r.update(nothing, "json"));
        let ask = |path: &str| {
            let call = Call {
                operation: Operation::Update,
                body: bytes::Bytes::from_static(&[0x30, 0xff, 0]),
                ..call(path)
            };
            table.dispatch(Arc::new(Sample), &table.matching(path).unwrap(), call)
        };
        assert_eq!(ask("raw").await.unwrap().raw.unwrap().body, "3");
        assert!(ask("json").await.is_err());
    }

    #[test]
    fn captures_carry_the_text_of_their_segment() {
        let matched = table().matching("issuer/default/sign/web").unwrap();
        assert_eq!(matched.captures, [("ref", "default".to_owned()), ("role", "web".to_owned())]);
    }
}
