//! `roles` and `roles/{name}`: what operators write about leaves.

use std::sync::Arc;

use chancery_api::fields;
use serde::Serialize;

use super::Pki;
use super::role::{PatchRole, RoleRecord, WriteRole};
use crate::engine::Call;
use crate::error::{Error, Kind};
use crate::response::Response;

/// How often a patch is tried anew where others change the same role.
const PATCH_ATTEMPTS: usize = 16;

fields! {
    /// Asks for names, page by page.
    #[derive(Debug)]
    pub(super) struct ListRequest {
        body {
            /// Names after this one.
            after: String = String::new(),
            /// At most so many; zero or less is all.
            limit: i64 = 0,
        }
    }
}

impl ListRequest {
    /// How many names at most.
    pub(super) fn limit(&self) -> usize {
        usize::try_from(self.limit).ok().filter(|limit| *limit > 0).unwrap_or(usize::MAX)
    }
}

fields! {
    /// Names a role.
    #[derive(Debug)]
    pub(super) struct RoleName {
        path {
            /// The role's name.
            name: String,
        }
    }
}

/// A role as it is answered.
#[derive(Serialize)]
struct RoleAnswer<'a> {
    #[serde(flatten)]
    record: &'a RoleRecord,
    /// Shown by the peer, and settable nowhere.
    allow_token_displayname: bool,
}

fn shown(record: &RoleRecord) -> Result<Response, Error> {
    Response::data(&RoleAnswer { record, allow_token_displayname: false })
}

/// The answer to a write.
fn written(record: &RoleRecord, warnings: Vec<String>) -> Result<Response, Error> {
    let mut response = shown(record)?;
    response.warnings = warnings;
    Ok(response)
}

impl Pki {
    /// LIST `roles`
    pub(super) async fn list_roles(self: Arc<Self>, _: Call, body: ListRequest) -> Result<Response, Error> {
        let after = (!body.after.is_empty()).then_some(body.after.as_str());
        Response::list(&self.store.role_names(after, body.limit()).await?)
    }

    /// GET `roles/{name}`
    pub(super) async fn read_role(self: Arc<Self>, _: Call, body: RoleName) -> Result<Response, Error> {
        match self.store.role(&body.name).await? {
            Some(role) => shown(&role.record),
            None => Err(Error::nothing_there()),
        }
    }

    /// POST `roles/{name}`
    pub(super) async fn write_role(self: Arc<Self>, _: Call, body: WriteRole) -> Result<Response, Error> {
        let name = body.name.clone();
        let (record, warnings) = body.into_record().checked(&*self.store.authorities().await?)?;
        self.store.put_role(&name, &record).await?;
        written(&record, warnings)
    }

    /// PATCH `roles/{name}`
    pub(super) async fn patch_role(self: Arc<Self>, _: Call, body: PatchRole) -> Result<Response, Error> {
        for _ in 0..PATCH_ATTEMPTS {
            let Some((record, version)) = self.store.stored_role(&body.name).await? else {
                return Err(Error::invalid("Unable to fetch role entry to patch"));
            };
            let (record, warnings) = body.clone().apply(record).checked(&*self.store.authorities().await?)?;
            if self.store.replace_role(&body.name, &record, &version).await? {
                return written(&record, warnings);
            }
        }
        Err(Error::of(Kind::Busy, "the role was changed by others while it was patched; try again shortly"))
    }

    /// DELETE `roles/{name}`
    pub(super) async fn delete_role(self: Arc<Self>, _: Call, body: RoleName) -> Result<Response, Error> {
        self.store.delete_role(&body.name).await?;
        Ok(Response::empty())
    }
}
