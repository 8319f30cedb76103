//! Policies: `sys/policies/acl` and the older `sys/policy`.

use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use chancery_api::fields::NoFields;
use chancery_api::{Ttl, fields};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::engine::Call;
use crate::error::Error;
use crate::policy::{Policy, PolicyRecord, may_be_deleted, may_be_written, normal_name};
use crate::response::Response;
use crate::route::Routes;
use crate::sys::Sys;

/// The paths of this family.
pub(super) fn routes(routes: Routes<Sys>) -> Routes<Sys> {
    routes
        .route("policies/acl", |r| r.list(Sys::list_policies, "The names of the policies."))
        .route("policies/acl/{name:rest}", |r| {
            r.read(Sys::read_policy, "One policy.")
                .update(Sys::write_policy, "Write a policy.")
                .delete(Sys::delete_policy, "Remove a policy.")
        })
        .route("policy", |r| {
            r.read(Sys::list_policies_old, "The names of the policies.")
                .list(Sys::list_policies_old, "The names of the policies.")
        })
        .route("policy/{name:rest}", |r| {
            r.read(Sys::read_policy_old, "One policy.")
                .update(Sys::write_policy, "Write a policy.")
                .delete(Sys::delete_policy, "Remove a policy.")
        })
}

fields! {
    /// A policy's name.
    #[derive(Debug)]
    pub(super) struct PolicyName {
        path {
            /// The policy's name; case does not matter.
            name: String,
        }
    }
}

fields! {
    /// A policy to write.
    #[derive(Debug)]
    pub(super) struct WritePolicy {
        path {
            /// The policy's name; case does not matter.
            name: String,
        }
        body {
            /// The rules, in HCL or JSON, as they are or in base64.
            policy: String = String::new(),
            /// The rules, under their older name.
            rules: String = String::new(),
            /// The policy grants nothing from this instant on.
            expiration: Option<Timestamp>,
            /// The policy grants nothing after this time.
            ttl: Option<Ttl>,
            /// Write only if this is the version that stands; 0 is "none".
            cas: Option<i64>,
            /// Every write must give `cas`.
            cas_required: Option<bool>,
            /// Values with `/` may take the place of templates.
            allow_slashes_in_identity_templates: Option<bool>,
            /// Values with `*` or `+` may take the place of templates.
            allow_wildcards_in_identity_templates: Option<bool>,
        }
    }
}

impl Sys {
    async fn list_policies(self: Arc<Self>, _: Call, _: NoFields) -> Result<Response, Error> {
        Response::list(&self.active()?.policies.list().await?)
    }

    async fn list_policies_old(self: Arc<Self>, _: Call, _: NoFields) -> Result<Response, Error> {
        let names = self.active()?.policies.list().await?;
        Ok(Response::data(&json!({ "keys": names, "policies": names }))?.flattened())
    }

    async fn read_policy(self: Arc<Self>, _: Call, body: PolicyName) -> Result<Response, Error> {
        let record = self.active()?.policies.read(&body.name).await?.ok_or_else(Error::nothing_there)?;
        Response::data(&describe(&record, "policy"))
    }

    async fn read_policy_old(self: Arc<Self>, _: Call, body: PolicyName) -> Result<Response, Error> {
        let record = self.active()?.policies.read(&body.name).await?.ok_or_else(Error::nothing_there)?;
        Ok(Response::data(&describe(&record, "rules"))?.flattened())
    }

    async fn write_policy(self: Arc<Self>, call: Call, body: WritePolicy) -> Result<Response, Error> {
        let name = normal_name(&body.name);
        if name.is_empty() {
            return Err(Error::invalid("policy name must be provided in the URL"));
        }
        may_be_written(&name).map_err(Error::invalid)?;
        let given = if body.policy.is_empty() { body.rules } else { body.policy };
        let text = BASE64_STANDARD
            .decode(given.trim())
            .ok()
            .and_then(|bytes| String::from_utf8(bytes).ok())
            .filter(|text| !text.is_empty())
            .unwrap_or(given);
        if text.is_empty() {
            return Err(Error::invalid("'policy' parameter not supplied or empty"));
        }
        Policy::parse(&name, &text).map_err(|error| Error::invalid(error.to_string()))?;

        let policies = &self.active()?.policies;
        let known = policies.read(&name).await?.unwrap_or_default();
        if known.cas_required && body.cas.is_none() {
            return Err(Error::invalid("check-and-set parameter required for this call"));
        }
        if body.cas.is_some_and(|cas| u64::try_from(cas) != Ok(known.version)) {
            return Err(Error::invalid("check-and-set parameter did not match the current version"));
        }
        let expiration = match (body.expiration, body.ttl) {
            (Some(_), Some(_)) => return Err(Error::invalid("cannot specify both expiration and ttl")),
            (Some(expiration), None) => Some(expiration),
            (None, Some(ttl)) if !ttl.is_zero() => call.now.checked_add(ttl.0).ok(),
            (None, _) => None,
        };
        let record = PolicyRecord {
            name,
            text,
            version: known.version + 1,
            cas_required: body.cas_required.unwrap_or(known.cas_required),
            modified: Some(call.now),
            expiration,
            allow_slashes_in_identity_templates: body
                .allow_slashes_in_identity_templates
                .unwrap_or(known.allow_slashes_in_identity_templates),
            allow_wildcards_in_identity_templates: body
                .allow_wildcards_in_identity_templates
                .unwrap_or(known.allow_wildcards_in_identity_templates),
        };
        policies.write(&record).await?;
        Ok(Response::empty())
    }

    async fn delete_policy(self: Arc<Self>, _: Call, body: PolicyName) -> Result<Response, Error> {
        let name = normal_name(&body.name);
        may_be_deleted(&name).map_err(Error::invalid)?;
        self.active()?.policies.delete(&name).await?;
        Ok(Response::empty())
    }
}

/// A policy as the API shows it; the text stands under `text_field`.
fn describe(record: &PolicyRecord, text_field: &str) -> Value {
    let mut shown = json!({
        "name": record.name,
        "version": record.version,
        "cas_required": record.cas_required,
        "allow_slashes_in_identity_templates": record.allow_slashes_in_identity_templates,
        "allow_wildcards_in_identity_templates": record.allow_wildcards_in_identity_templates,
    });
    if let Some(object) = shown.as_object_mut() {
        object.insert(text_field.to_owned(), record.text.clone().into());
        for (name, instant) in [("modified", record.modified), ("expiration", record.expiration)] {
            if let Some(instant) = instant {
                object.insert(name.to_owned(), instant.to_string().into());
            }
        }
    }
    shown
}
