//! What a token may do at a path.

use std::sync::Arc;

use chancery_api::{Secret, Strings, fields};
use serde_json::{Map, Value, json};

use super::Sys;
use crate::engine::Call;
use crate::error::Error;
use crate::response::Response;
use crate::route::Routes;
use crate::token::TokenEntry;

/// The paths of this family.
pub(super) fn routes(routes: Routes<Sys>) -> Routes<Sys> {
    routes
        .route("capabilities", |r| r.update(Sys::capabilities, "What a token may do at a path."))
        .route("capabilities-accessor", |r| {
            r.update(Sys::capabilities_accessor, "What the token of an accessor may do at a path.")
        })
        .route("capabilities-self", |r| {
            r.update(Sys::capabilities_self, "What the token of this request may do at a path.")
        })
}

fields! {
    /// Paths, and whose capabilities.
    #[derive(Debug)]
    pub(super) struct CapabilitiesRequest {
        body {
            /// The paths, without `/v1/`.
            paths: Strings = Strings::default(),
            /// The older name of `paths`.
            path: Strings = Strings::default(),
            /// The token.
            token: Secret = Secret::default(),
        }
    }
}

fields! {
    /// Paths, and whose capabilities.
    #[derive(Debug)]
    pub(super) struct CapabilitiesByAccessor {
        body {
            /// The paths, without `/v1/`.
            paths: Strings = Strings::default(),
            /// The older name of `paths`.
            path: Strings = Strings::default(),
            /// The token's accessor.
            accessor: String = String::new(),
        }
    }
}

impl Sys {
    async fn capabilities(self: Arc<Self>, call: Call, body: CapabilitiesRequest) -> Result<Response, Error> {
        if body.token.is_empty() {
            return Err(framed("no token found"));
        }
        let paths = paths(body.paths, body.path)?;
        let token = self.active()?.tokens.lookup(&body.token, call.now).await?;
        let token = token.ok_or_else(|| framed("invalid token"))?;
        self.answer_capabilities(&call, &token, &paths).await
    }

    async fn capabilities_self(
        self: Arc<Self>,
        call: Call,
        body: CapabilitiesRequest,
    ) -> Result<Response, Error> {
        let token = Arc::clone(call.token().ok_or_else(Error::denied)?);
        self.answer_capabilities(&call, &token, &paths(body.paths, body.path)?).await
    }

    async fn capabilities_accessor(
        self: Arc<Self>,
        call: Call,
        body: CapabilitiesByAccessor,
    ) -> Result<Response, Error> {
        if body.accessor.is_empty() {
            return Err(Error::invalid("missing accessor"));
        }
        let token = self.active()?.tokens.by_accessor(&body.accessor, call.now).await?;
        let token = token.ok_or_else(|| framed("invalid accessor"))?;
        self.answer_capabilities(&call, &token, &paths(body.paths, body.path)?).await
    }

    async fn answer_capabilities(
        &self,
        call: &Call,
        token: &TokenEntry,
        paths: &[String],
    ) -> Result<Response, Error> {
        let acl = self.active()?.policies.acl(token, call.now).await?;
        let mut answer = Map::new();
        for path in paths {
            answer.insert(path.clone(), json!(acl.capabilities(path)));
        }
        if let [path] = paths {
            answer.insert("capabilities".to_owned(), json!(acl.capabilities(path)));
        }
        Ok(Response::data(&Value::Object(answer))?.flattened())
    }
}

/// The paths that are asked about, under either name.
fn paths(paths: Strings, path: Strings) -> Result<Vec<String>, Error> {
    let paths: Vec<String> = paths.0.into_iter().chain(path.0).collect();
    if paths.is_empty() {
        return Err(Error::invalid("paths must be supplied"));
    }
    if paths.iter().any(String::is_empty) {
        return Err(framed("missing path"));
    }
    Ok(paths)
}

/// 400 in the frame that the peer puts around these sentences.
fn framed(message: &str) -> Error {
    Error::invalid(format!("1 error occurred:\n\t* {message}\n\n"))
}
