//! Policies: `sys/policies/acl` and the older `sys/policy`.

use std::collections::BTreeMap;
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
                .patch(Sys::patch_policy, "Change some fields of a policy.")
                .delete(Sys::delete_policy, "Remove a policy.")
        })
        .route("policies/detailed/acl", |r| {
            r.list(Sys::list_policies_in_detail, "The policies with their rules.")
        })
        .route("policy", |r| {
            r.read(Sys::list_policies_old, "The names of the policies.")
                .list(Sys::list_policies_old, "The names of the policies.")
        })
        .route("policy/{name:rest}", |r| {
            r.read(Sys::read_policy_old, "One policy.")
                .update(Sys::write_policy_old, "Write a policy.")
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
            policy: Option<String>,
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

fields! {
    /// A policy to write, by its older path.
    #[derive(Debug)]
    pub(super) struct WritePolicyOld {
        path {
            /// The policy's name; case does not matter.
            name: String,
        }
        body {
            /// The rules, in HCL or JSON, as they are or in base64.
            policy: String = String::new(),
            /// The rules, under their older name.
            rules: String = String::new(),
        }
    }
}

impl Sys {
    async fn list_policies(self: Arc<Self>, _: Call, _: NoFields) -> Result<Response, Error> {
        Response::list(&self.active()?.policies.list().await?)
    }

    async fn list_policies_in_detail(self: Arc<Self>, _: Call, _: NoFields) -> Result<Response, Error> {
        let policies = &self.active()?.policies;
        let (mut names, mut info) = (policies.list().await?, BTreeMap::new());
        for name in &names {
            if let Some(record) = policies.read(name).await? {
                info.insert(name.clone(), describe(&record, "policy"));
            }
        }
        names.retain(|name| info.contains_key(name));
        Response::list_with_info(&names, &info)
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
        let name = writable(&body.name)?;
        let text = rules(body.policy.as_deref().unwrap_or_default())?;
        loop {
            let (known, replaced) = self.active()?.policies.read_to_replace(&name).await?;
            let known = known.unwrap_or_default();
            let fresh =
                PolicyRecord { name: name.clone(), text: text.clone(), expiration: None, ..known.clone() };
            let record = policy_to_store(&call, &known, fresh, &body)?;
            if self.active()?.policies.replace(&replaced, &record).await? {
                return Ok(Response::empty());
            }
            // Somebody else was first: whether this one may still write depends on what they wrote.
        }
    }

    async fn write_policy_old(self: Arc<Self>, call: Call, body: WritePolicyOld) -> Result<Response, Error> {
        let WritePolicyOld { name, policy, rules } = body;
        let deprecated = policy.is_empty() && !rules.is_empty();
        let policy = Some(if deprecated { rules } else { policy });
        let body = WritePolicy {
            name,
            policy,
            expiration: None,
            ttl: None,
            cas: None,
            cas_required: None,
            allow_slashes_in_identity_templates: None,
            allow_wildcards_in_identity_templates: None,
        };
        let written = self.write_policy(call, body).await?;
        Ok(if deprecated {
            written.warn("'rules' is deprecated, please use 'policy' instead")
        } else {
            written
        })
    }

    async fn patch_policy(self: Arc<Self>, call: Call, body: WritePolicy) -> Result<Response, Error> {
        let name = writable(&body.name)?;
        loop {
            let (known, replaced) = self.active()?.policies.read_to_replace(&name).await?;
            let known = known.ok_or_else(|| Error::invalid("policy not found"))?;
            let text = match &body.policy {
                Some(given) => rules(given)?,
                None => known.text.clone(),
            };
            let fresh = PolicyRecord { text, ..known.clone() };
            let record = policy_to_store(&call, &known, fresh, &body)?;
            if self.active()?.policies.replace(&replaced, &record).await? {
                // The peer answers a whole envelope with nothing in it.
                return Response::data(&Value::Null);
            }
        }
    }

    async fn delete_policy(self: Arc<Self>, _: Call, body: PolicyName) -> Result<Response, Error> {
        let name = normal_name(&body.name);
        may_be_deleted(&name).map_err(Error::invalid)?;
        self.active()?.policies.delete(&name).await?;
        Ok(Response::empty())
    }
}

/// `fresh` as it takes the place of `known`, with the other fields of the request.
fn policy_to_store(
    call: &Call,
    known: &PolicyRecord,
    fresh: PolicyRecord,
    body: &WritePolicy,
) -> Result<PolicyRecord, Error> {
    let parsed = Policy::parse(&fresh.name, &fresh.text);
    parsed.map_err(|error| Error::invalid(error.to_string()))?;
    let cas_required = body.cas_required.unwrap_or(known.cas_required);
    match body.cas {
        None if cas_required => {
            return Err(Error::invalid("check-and-set parameter required for this call"));
        }
        Some(cas) if u64::try_from(cas) != Ok(known.version) => {
            return Err(Error::invalid(format!(
                "check-and-set parameter {cas} did not match the current version {}",
                known.version
            )));
        }
        _ => {}
    }
    let expiration = match (body.expiration, body.ttl) {
        (Some(_), Some(_)) => return Err(Error::invalid("cannot specify both expiration and ttl")),
        (Some(expiration), None) if expiration <= call.now => {
            return Err(Error::invalid("refusing to update policy as expiration time has already elapsed"));
        }
        (Some(expiration), None) => Some(expiration),
        (None, Some(ttl)) if !ttl.is_zero() => call.now.checked_add(ttl.0).ok(),
        (None, _) => fresh.expiration,
    };
    let slashes = body.allow_slashes_in_identity_templates;
    let wildcards = body.allow_wildcards_in_identity_templates;
    Ok(PolicyRecord {
        version: known.version + 1,
        cas_required,
        modified: Some(call.now),
        expiration,
        allow_slashes_in_identity_templates: slashes.unwrap_or(known.allow_slashes_in_identity_templates),
        allow_wildcards_in_identity_templates: wildcards
            .unwrap_or(known.allow_wildcards_in_identity_templates),
        ..fresh
    })
}

/// The name of a policy that may be written.
fn writable(name: &str) -> Result<String, Error> {
    let name = normal_name(name);
    if name.is_empty() {
        return Err(Error::invalid("policy name must be provided in the URL"));
    }
    may_be_written(&name).map_err(Error::invalid)?;
    Ok(name)
}

/// The rules as they were meant: some clients send them in base64.
fn rules(given: &str) -> Result<String, Error> {
    let decoded = BASE64_STANDARD.decode(given.trim()).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    let text = decoded.filter(|text| !text.is_empty()).unwrap_or_else(|| given.to_owned());
    if text.is_empty() {
        return Err(Error::invalid("'policy' parameter not supplied or empty"));
    }
    Ok(text)
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
