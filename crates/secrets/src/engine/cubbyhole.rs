//! Cubbyholes: each token's own storage, which nobody else can read and which goes with the token.
//!
//! The records lie in a collection of their own per token, below the core's own view, so that the
//! token store removes them with the token and writes a wrapped answer with its token in one commit.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, LazyLock};

use chancery_api::RawValue;
use chancery_api::fields::{Field, FieldError, Fields, Input, Kind as FieldKind, Source};
use chancery_storage::{Name, Position, View, Writes};

use crate::engine::{Call, Engine};
use crate::error::Error;
use crate::response::Response;
use crate::route::Routes;
use crate::token::{TokenKey, TokenKind, TokenStore};

/// Where a wrapped answer lies in the cubbyhole of its wrapping token.
pub(crate) const RESPONSE: &str = "response";

/// Records removed at a time.
const PAGE: usize = 256;

/// The engine of `cubbyhole/`.
pub struct Cubbyhole {
    tokens: Arc<TokenStore>,
}

impl Cubbyhole {
    /// The cubbyholes of `tokens`.
    pub fn new(tokens: Arc<TokenStore>) -> Self {
        Self { tokens }
    }
}

impl fmt::Debug for Cubbyhole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Cubbyhole")
    }
}

/// A path, and whatever fields the client sends.
#[derive(Debug)]
struct Entry {
    path: String,
    fields: BTreeMap<String, Box<RawValue>>,
}

impl Fields for Entry {
    fn schema() -> Vec<Field> {
        vec![Field {
            name: "path",
            kind: FieldKind::String,
            description: "Where to keep it.",
            in_path: true,
            default: None,
        }]
    }

    fn decode(input: &mut Input<'_>) -> Result<Self, FieldError> {
        let path = input.take("path")?.unwrap_or_default();
        let fields = input
            .rest()
            .into_iter()
            .filter_map(|(name, source)| match source {
                Source::Json(raw) => Some((Cow::into_owned(name), raw.to_owned())),
                Source::Text(text) => {
                    Some((Cow::into_owned(name), serde_json::value::to_raw_value(text).ok()?))
                }
            })
            .collect();
        Ok(Self { path, fields })
    }
}

impl Engine for Cubbyhole {
    fn routes() -> &'static Routes<Self> {
        static ROUTES: LazyLock<Routes<Cubbyhole>> = LazyLock::new(|| {
            Routes::new().route("{path:rest}", |r| {
                r.read(read, "Read what the caller's token keeps here")
                    .update(write, "Keep something with the caller's token")
                    .delete(delete, "Delete what the caller's token keeps here")
                    .list(list, "List what the caller's token keeps below")
                    .help("Each token has a cubbyhole that no other token can read. It is destroyed with the token.")
            })
        });
        &ROUTES
    }
}

async fn read(engine: Arc<Cubbyhole>, call: Call, body: Entry) -> Result<Response, Error> {
    let owner = owner(&call)?;
    if body.path.is_empty() {
        return Err(missing("path"));
    }
    let record = engine.tokens.root.get(&collection(owner), &Name::new(body.path.as_str())).await?;
    let record = record.ok_or_else(Error::nothing_there)?;
    let fields: Box<RawValue> = record.json()?;
    let response = Response { data: Some(fields), ..Response::default() };
    Ok(if body.path == RESPONSE {
        response.warn(
            "Reading from 'cubbyhole/response' is deprecated. Please use sys/wrapping/unwrap to unwrap responses, as it provides additional security checks and other benefits.",
        )
    } else {
        response
    })
}

async fn write(engine: Arc<Cubbyhole>, call: Call, body: Entry) -> Result<Response, Error> {
    let owner = owner(&call)?;
    if body.path.is_empty() {
        return Err(missing("path"));
    }
    if body.path.ends_with('/') {
        return Err(Error::invalid("cannot write to a path ending in '/'"));
    }
    if body.fields.is_empty() {
        return Err(missing("data fields"));
    }
    let value = serde_json::to_vec(&body.fields)?;
    let mut writes = Writes::new();
    put(&engine.tokens.root, owner, &body.path, &value, &mut writes)?;
    // Only while the token's record is there: a token on its way out must not leave anything behind.
    engine.tokens.commit_for(owner, writes).await?;
    Ok(Response::empty())
}

async fn delete(engine: Arc<Cubbyhole>, call: Call, body: Entry) -> Result<Response, Error> {
    let owner = owner(&call)?;
    engine.tokens.root.delete(&collection(owner), &Name::new(body.path)).await?;
    Ok(Response::empty())
}

async fn list(engine: Arc<Cubbyhole>, call: Call, body: Entry) -> Result<Response, Error> {
    let owner = owner(&call)?;
    let prefix = match body.path.trim_matches('/') {
        "" => String::new(),
        folder => format!("{folder}/"),
    };
    let names = engine.tokens.root.list(&collection(owner), Position::Start, usize::MAX).await?;
    let below: BTreeSet<String> = names
        .iter()
        .filter_map(|name| name.text().strip_prefix(&prefix))
        .map(|rest| match rest.split_once('/') {
            Some((folder, _)) => format!("{folder}/"),
            None => rest.to_owned(),
        })
        .collect();
    Response::list(&below.into_iter().collect::<Vec<_>>())
}

fn missing(what: &str) -> Error {
    Error::internal(format!("1 error occurred:\n\t* missing {what}\n\n"), "a cubbyhole request without it")
}

/// Whose cubbyhole it is: the caller's, if its token is one that is kept.
fn owner(call: &Call) -> Result<TokenKey, Error> {
    let token = call.token().ok_or_else(Error::denied)?;
    match token.kind {
        TokenKind::Service => Ok(token.key),
        TokenKind::Batch => {
            Err(Error::invalid("cubbyhole operations are only supported by 'service' type tokens"))
        }
    }
}

fn collection(owner: TokenKey) -> String {
    format!("cubbyhole/{}", owner.text())
}

/// Adds to `writes` that `owner` keeps `value`, a JSON object, at `path`.
pub(crate) fn put(
    root: &View,
    owner: TokenKey,
    path: &str,
    value: &[u8],
    writes: &mut Writes,
) -> Result<(), Error> {
    writes.put(root, &collection(owner), &Name::new(path), value)?;
    Ok(())
}

/// What `owner` keeps at `path`.
pub(crate) async fn get(
    root: &View,
    owner: TokenKey,
    path: &str,
) -> Result<Option<chancery_storage::Record>, Error> {
    Ok(root.get(&collection(owner), &Name::new(path)).await?)
}

/// Removes all that a token keeps.
pub(crate) async fn clear(root: &View, owner: TokenKey) -> Result<(), Error> {
    while root.delete_collection(&collection(owner), PAGE).await? == PAGE {}
    Ok(())
}
