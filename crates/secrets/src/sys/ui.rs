//! What a user interface, or a command line, may know of mounts and of its own rights.
//!
//! These paths decide for themselves who may see what: anyone may ask, but sees only mounts that are listed
//! for everybody, or those where the token that came along may do anything at all.

use std::collections::BTreeMap;
use std::sync::Arc;

use chancery_api::fields;
use chancery_api::fields::NoFields;
use serde_json::{Value, json};

use super::Sys;
use super::mounts::describe;
use crate::engine::{Call, Class};
use crate::error::{Error, Kind};
use crate::mounts::MountPoint;
use crate::policy::Acl;
use crate::response::Response;
use crate::route::Routes;

/// The paths of this family.
pub(super) fn routes(routes: Routes<Sys>) -> Routes<Sys> {
    routes
        .route("internal/ui/mounts", |r| {
            r.read(Sys::visible_mounts, "The mounts that the caller may know of.").public()
        })
        .route("internal/ui/mounts/{path:rest}", |r| {
            r.read(Sys::visible_mount, "The mount that a path belongs to.").public()
        })
        .route("internal/ui/resultant-acl", |r| {
            r.read(Sys::resultant_acl, "What the caller's policies say together.")
        })
        .route("internal/ui/namespaces", |r| r.read(Sys::ui_namespaces, "There are no namespaces."))
}

fields! {
    /// A path in a mount.
    #[derive(Debug)]
    pub(super) struct InMount {
        path {
            /// Any path, without `/v1/`.
            path: String,
        }
    }
}

impl Sys {
    /// What the caller's token may do, if one came along. A token that is no good is refused.
    pub(super) async fn presented_acl(&self, call: &Call) -> Result<Option<Arc<Acl>>, Error> {
        let Some(text) = call.presented.as_ref().filter(|text| !text.is_empty()) else { return Ok(None) };
        let active = self.active()?;
        let token = active.tokens.lookup(text, call.now).await?.ok_or_else(Error::denied)?;
        if !token.allows_address(call.connection.address) {
            return Err(Error::denied());
        }
        Ok(Some(active.policies.acl(&token, call.now).await?))
    }

    async fn visible_mounts(self: Arc<Self>, call: Call, _: NoFields) -> Result<Response, Error> {
        let acl = self.presented_acl(&call).await?;
        let (mut secret, mut auth) = (BTreeMap::new(), BTreeMap::new());
        for (path, point) in self.active()?.mounts.all() {
            let listed = point.mount.tuning().listing_visibility == "unauth";
            let shown = match &acl {
                Some(acl) if listed || acl.reaches(&path) => describe(&point),
                None if listed => for_everybody(&point),
                _ => continue,
            };
            match point.entry.class {
                Class::Secret => secret.insert(path, shown),
                Class::Auth => auth.insert(path.strip_prefix("auth/").unwrap_or(&path).to_owned(), shown),
            };
        }
        Response::data(&json!({ "auth": auth, "secret": secret }))
    }

    async fn visible_mount(self: Arc<Self>, call: Call, body: InMount) -> Result<Response, Error> {
        let acl = self.presented_acl(&call).await?.ok_or_else(Error::denied)?;
        let path = format!("{}/", body.path.trim_matches('/'));
        // The same answer whether there is no mount or none that the caller may know of.
        let refused = || {
            Error::of(
                Kind::PermissionDenied,
                format!(
                    "preflight capability check returned 403, please ensure client's policies grant access to path {path:?}"
                ),
            )
        };
        let active = self.active()?;
        let (point, _) = active.mounts.find(&path).ok_or_else(refused)?;
        let mount_path = &point.entry.path;
        if !acl.reaches(mount_path) && acl.capabilities(body.path.trim_matches('/')) == ["deny"] {
            return Err(refused());
        }
        let mut shown = describe(&point);
        if let Some(object) = shown.as_object_mut() {
            let path = mount_path.strip_prefix("auth/").unwrap_or(mount_path);
            object.insert("path".to_owned(), path.into());
        }
        Response::data(&shown)
    }

    async fn resultant_acl(self: Arc<Self>, call: Call, _: NoFields) -> Result<Response, Error> {
        let token = call.token().ok_or_else(Error::denied)?;
        let acl = self.active()?.policies.acl(token, call.now).await?;
        if acl.is_root() {
            return Response::data(&json!({ "root": true }));
        }
        let (exact, glob) = acl.rules();
        let shown = |rules: BTreeMap<String, Vec<&'static str>>| -> BTreeMap<String, Value> {
            rules.into_iter().map(|(path, names)| (path, json!({ "capabilities": names }))).collect()
        };
        Response::data(&json!({ "exact_paths": shown(exact), "glob_paths": shown(glob), "root": false }))
    }

    async fn ui_namespaces(self: Arc<Self>, _: Call, _: NoFields) -> Result<Response, Error> {
        Response::data(&json!({}))
    }
}

/// A mount as anybody sees it who is not logged in.
fn for_everybody(point: &MountPoint) -> Value {
    let tuning = point.mount.tuning();
    json!({ "description": tuning.description, "options": tuning.options, "type": point.entry.kind })
}
