//! Leases: looking up, listing, renewing, revoking.

use std::sync::Arc;

use chancery_api::fields::NoFields;
use chancery_api::{Ttl, fields};
use serde_json::{Value, json};

use super::Sys;
use crate::core::Active;
use crate::engine::Call;
use crate::error::Error;
use crate::response::Response;
use crate::route::Routes;

/// The paths of this family.
pub(super) fn routes(routes: Routes<Sys>) -> Routes<Sys> {
    routes
        .route("leases", |r| {
            r.read(Sys::irrevocable_leases, "Leases that could not be taken back yet.").sudo()
        })
        .route("leases/count", |r| r.read(Sys::count_leases, "How many leases could not be taken back yet."))
        .route("leases/lookup", |r| {
            r.update(Sys::lookup_lease, "One lease.")
                .list(Sys::list_all_leases, "What leases begin with; needs sudo.")
        })
        .route("leases/lookup/{prefix:rest}", |r| r.list(Sys::list_leases, "The leases below a path.").sudo())
        .route("leases/renew", |r| r.update(Sys::renew_lease, "Give a lease more time."))
        .route("leases/renew/{url_lease_id:rest}", |r| {
            r.update(Sys::renew_lease_at, "Give a lease more time.")
        })
        .route("leases/revoke", |r| r.update(Sys::revoke_lease, "End a lease."))
        .route("leases/revoke/{url_lease_id:rest}", |r| r.update(Sys::revoke_lease_at, "End a lease."))
        .route("leases/revoke-prefix/{prefix:rest}", |r| {
            r.update(Sys::revoke_prefix, "End every lease below a path.").sudo()
        })
        .route("leases/revoke-force/{prefix:rest}", |r| {
            r.update(
                Sys::revoke_force,
                "Forget every lease below a path, even if the engine fails to take it back.",
            )
            .sudo()
        })
        .route("leases/tidy", |r| {
            r.update(Sys::tidy_leases, "See to leases that have ended, in the background.")
        })
}

fields! {
    /// One lease.
    #[derive(Debug)]
    pub(super) struct LookupLease {
        body {
            /// The lease.
            lease_id: String = String::new(),
        }
    }
}

fields! {
    /// The leases at the top.
    #[derive(Debug)]
    pub(super) struct ListAllLeases {
        body {
            /// Begin after this name.
            after: String = String::new(),
            /// At most so many; all if absent or not positive.
            limit: i64 = 0,
        }
    }
}

fields! {
    /// The leases below a path.
    #[derive(Debug)]
    pub(super) struct ListLeases {
        path {
            /// The path.
            prefix: String,
        }
        body {
            /// Begin after this name.
            after: String = String::new(),
            /// At most so many; all if absent or not positive.
            limit: i64 = 0,
        }
    }
}

fields! {
    /// More time for a lease.
    #[derive(Debug)]
    pub(super) struct RenewLease {
        body {
            /// The lease.
            lease_id: String = String::new(),
            /// The lease, under its other name.
            url_lease_id: String = String::new(),
            /// How much time from now on; the lease's own if absent.
            increment: Ttl = Ttl::ZERO,
        }
    }
}

fields! {
    /// More time for a lease.
    #[derive(Debug)]
    pub(super) struct RenewLeaseAt {
        path {
            /// The lease.
            url_lease_id: String,
        }
        body {
            /// The lease, if the path names none.
            lease_id: String = String::new(),
            /// How much time from now on; the lease's own if absent.
            increment: Ttl = Ttl::ZERO,
        }
    }
}

fields! {
    /// The end of a lease.
    #[derive(Debug)]
    pub(super) struct RevokeLease {
        body {
            /// The lease.
            lease_id: String = String::new(),
            /// The lease, under its other name.
            url_lease_id: String = String::new(),
            /// Answer when it is done; without, 202 when it is certain that it will be.
            sync: bool = true,
        }
    }
}

fields! {
    /// The end of a lease.
    #[derive(Debug)]
    pub(super) struct RevokeLeaseAt {
        path {
            /// The lease.
            url_lease_id: String,
        }
        body {
            /// The lease, if the path names none.
            lease_id: String = String::new(),
            /// Answer when it is done; without, 202 when it is certain that it will be.
            sync: bool = true,
        }
    }
}

fields! {
    /// The end of many leases.
    #[derive(Debug)]
    pub(super) struct RevokePrefix {
        path {
            /// The path that the leases begin with.
            prefix: String,
        }
        body {
            /// Answer when it is done; without, 202 when it is certain that it will be.
            sync: bool = true,
        }
    }
}

fields! {
    /// Leases that could not be taken back yet.
    #[derive(Debug)]
    pub(super) struct WhichLeases {
        body {
            /// Must be `irrevocable`.
            kind as "type": String = String::new(),
            /// Accepted for compatibility; all are counted.
            include_child_namespaces: bool = false,
            /// At most so many; `none` or absent is all.
            limit: String = String::new(),
        }
    }
}

/// Without a prefix everything would end, the caller's own token first. That is never what was meant.
fn check_prefix(prefix: &str) -> Result<(), Error> {
    if prefix.trim_matches('/').is_empty() {
        return Err(Error::invalid(
            "a prefix is needed: without one, every lease and token would be revoked",
        ));
    }
    Ok(())
}

impl Sys {
    async fn lookup_lease(self: Arc<Self>, call: Call, body: LookupLease) -> Result<Response, Error> {
        if body.lease_id.is_empty() {
            return Err(Error::invalid("lease_id must be specified"));
        }
        let lease = self.active()?.leases.lookup(&body.lease_id, call.now).await?;
        Response::data(&lease.ok_or_else(|| Error::invalid("invalid lease"))?)
    }

    async fn list_all_leases(self: Arc<Self>, call: Call, body: ListAllLeases) -> Result<Response, Error> {
        // The same path serves a lookup, which needs no sudo.
        if !call.authorized.as_ref().is_some_and(|authorized| authorized.sudo()) {
            return Err(Error::denied());
        }
        self.listed("", &body.after, body.limit).await
    }

    async fn list_leases(self: Arc<Self>, _: Call, body: ListLeases) -> Result<Response, Error> {
        self.listed(&body.prefix, &body.after, body.limit).await
    }

    async fn listed(&self, prefix: &str, after: &str, limit: i64) -> Result<Response, Error> {
        let names = self.active()?.leases.list(prefix).await?;
        let limit = usize::try_from(limit).ok().filter(|limit| *limit > 0).unwrap_or(usize::MAX);
        let names: Vec<String> =
            names.into_iter().filter(|name| after.is_empty() || name.as_str() > after).take(limit).collect();
        Response::list(&names)
    }

    async fn renew_lease(self: Arc<Self>, call: Call, body: RenewLease) -> Result<Response, Error> {
        self.renew(&call, &named(body.lease_id, body.url_lease_id)?, body.increment).await
    }

    async fn renew_lease_at(self: Arc<Self>, call: Call, body: RenewLeaseAt) -> Result<Response, Error> {
        self.renew(&call, &named(body.url_lease_id, body.lease_id)?, body.increment).await
    }

    async fn renew(&self, call: &Call, id: &str, increment: Ttl) -> Result<Response, Error> {
        let active = self.active()?;
        let (lease, warnings) = active.leases.renew(id, increment, call.now, &active.finder()).await?;
        Ok(Response { renewed: Some(Box::new(lease)), warnings, ..Response::empty() })
    }

    async fn revoke_lease(self: Arc<Self>, call: Call, body: RevokeLease) -> Result<Response, Error> {
        self.revoke_one(&call, &named(body.lease_id, body.url_lease_id)?, body.sync).await
    }

    async fn revoke_lease_at(self: Arc<Self>, call: Call, body: RevokeLeaseAt) -> Result<Response, Error> {
        self.revoke_one(&call, &named(body.url_lease_id, body.lease_id)?, body.sync).await
    }

    async fn revoke_one(&self, call: &Call, id: &str, sync: bool) -> Result<Response, Error> {
        let active = self.active()?;
        active.leases.revoke(id, sync, call.now, &active.finder()).await?;
        Ok(revoked(sync))
    }

    async fn revoke_prefix(self: Arc<Self>, call: Call, body: RevokePrefix) -> Result<Response, Error> {
        let active = self.active()?;
        check_prefix(&body.prefix)?;
        active.leases.revoke_prefix(&body.prefix, body.sync, call.now, &active.finder()).await?;
        Ok(revoked(body.sync))
    }

    async fn revoke_force(self: Arc<Self>, call: Call, body: RevokePrefix) -> Result<Response, Error> {
        let active = self.active()?;
        check_prefix(&body.prefix)?;
        active.leases.revoke_force(&body.prefix, call.now, &active.finder()).await?;
        Ok(Response::empty())
    }

    async fn tidy_leases(self: Arc<Self>, call: Call, _: NoFields) -> Result<Response, Error> {
        let active = self.active()?;
        tokio::spawn(async move {
            match active.leases.expire_due(call.now, &active.finder()).await {
                Ok((_, failed)) => failed
                    .iter()
                    .for_each(|error| tracing::warn!(%error, "a lease could not be taken back yet")),
                Err(error) => tracing::warn!(%error, "leases could not be seen to"),
            }
        });
        Ok(Response::empty().status(202).warn(
            "Tidy operation successfully started. Any information from the operation will be printed to the server's logs.",
        ))
    }

    async fn irrevocable_leases(self: Arc<Self>, _: Call, body: WhichLeases) -> Result<Response, Error> {
        let found = irrevocable(&*self.active()?, &body).await?;
        let limit = body.limit.parse().unwrap_or(usize::MAX);
        let leases: Vec<Value> = found
            .leases
            .iter()
            .take(limit)
            .map(|(id, error)| json!({ "lease_id": id, "error": error }))
            .collect();
        Response::data(&json!({ "lease_count": found.lease_count, "leases": leases }))
    }

    async fn count_leases(self: Arc<Self>, _: Call, body: WhichLeases) -> Result<Response, Error> {
        let found = irrevocable(&*self.active()?, &body).await?;
        Response::data(&json!({ "lease_count": found.lease_count, "counts": found.counts }))
    }
}

async fn irrevocable(active: &Active, body: &WhichLeases) -> Result<crate::lease::Irrevocable, Error> {
    if body.kind != "irrevocable" {
        return Err(Error::nothing_there());
    }
    let mount_of =
        |id: &str| active.mounts.find(id).map(|(point, _)| point.entry.path.clone()).unwrap_or_default();
    active.leases.irrevocable(mount_of).await
}

/// The lease that a request names, one way or the other.
fn named(first: String, second: String) -> Result<String, Error> {
    Some(first)
        .filter(|id| !id.is_empty())
        .or(Some(second))
        .filter(|id| !id.is_empty())
        .ok_or_else(|| Error::invalid("lease_id must be specified"))
}

/// 204 when it is done, 202 when it is certain to be done.
fn revoked(sync: bool) -> Response {
    if sync { Response::empty() } else { Response::empty().status(202) }
}
