//! Response wrapping: an answer kept for one who has the wrapping token, once.

use std::sync::Arc;

use chancery_api::{RawValue, Secret, fields};

use super::Sys;
use crate::engine::Call;
use crate::error::Error;
use crate::response::Response;
use crate::route::Routes;
use crate::wrapping;

/// The paths of this family.
pub(super) fn routes(routes: Routes<Sys>) -> Routes<Sys> {
    routes
        .route("wrapping/wrap", |r| {
            r.update(Sys::wrap, "Keep any JSON object under a wrapping token.").wrapped()
        })
        .route("wrapping/lookup", |r| {
            r.read(Sys::lookup_wrapping, "Where and when a wrapping token was made; it stays good.")
                .update(Sys::lookup_wrapping, "Where and when a wrapping token was made; it stays good.")
                .public()
                .wrapping()
        })
        .route("wrapping/unwrap", |r| {
            r.update(Sys::unwrap, "The answer that is kept under a wrapping token; it is used up.").wrapping()
        })
        .route("wrapping/rewrap", |r| {
            r.update(Sys::rewrap, "Keep the same answer under a fresh wrapping token.").wrapping()
        })
}

fields! {
    /// A wrapping token; without one the request's own token is meant.
    #[derive(Debug)]
    pub(super) struct WrappingToken {
        body {
            /// The wrapping token.
            token: Secret = Secret::default(),
        }
    }
}

/// What shall be kept: the body as it is.
#[derive(Debug)]
pub(super) struct AnyBody;

impl chancery_api::Fields for AnyBody {
    fn schema() -> Vec<chancery_api::Field> {
        Vec::new()
    }

    fn decode(input: &mut chancery_api::Input<'_>) -> Result<Self, chancery_api::FieldError> {
        // Every field is wanted.
        *input = chancery_api::Input::default();
        Ok(Self)
    }
}

impl Sys {
    async fn wrap(self: Arc<Self>, call: Call, _: AnyBody) -> Result<Response, Error> {
        let body = if call.body.trim_ascii().is_empty() { b"{}".as_slice() } else { &call.body };
        let kept: Box<RawValue> = serde_json::from_slice(body)?;
        Ok(Response { data: Some(kept), ..Response::empty() })
    }

    async fn lookup_wrapping(self: Arc<Self>, call: Call, body: WrappingToken) -> Result<Response, Error> {
        let presented = call.presented.unwrap_or_default();
        let text = if body.token.is_empty() { presented } else { body.token };
        wrapping::lookup(&self.active()?.tokens, &text, call.now).await
    }

    async fn unwrap(self: Arc<Self>, call: Call, body: WrappingToken) -> Result<Response, Error> {
        let caller = call.authorized.as_ref().ok_or_else(Error::denied)?;
        let given = Some(&body.token).filter(|token| !token.is_empty());
        wrapping::unwrap(&self.active()?.tokens, given, caller, call.now).await
    }

    async fn rewrap(self: Arc<Self>, call: Call, body: WrappingToken) -> Result<Response, Error> {
        let caller = call.authorized.as_ref().ok_or_else(Error::denied)?;
        let given = Some(&body.token).filter(|token| !token.is_empty());
        wrapping::rewrap(&self.active()?.tokens, given, caller, call.now).await
    }
}
