//! `sign/{role}` and `sign-verbatim`: a CSR becomes a certificate.

use std::sync::Arc;

use chancery_api::Strings;
use chancery_issuance::{Profile, ProfileConfig};

use super::Pki;
use super::leaf::{Format, Keep, KeySource, Order};
use super::requests::{
    IssuerRoleSignVerbatimRequest, IssuerSignRequest, IssuerSignVerbatimRequest, Leaf,
    RoleSignVerbatimRequest, SignRequest, SignVerbatimRequest, Verbatim,
};
use super::role::{Role, is_oid};
use crate::engine::Call;
use crate::error::Error;
use crate::response::Response;

impl Pki {
    /// `sign/{role}`
    pub(super) async fn sign(self: Arc<Self>, call: Call, mut body: SignRequest) -> Result<Response, Error> {
        let role = self.known_role(&body.role).await?;
        let leaf = body.leaf();
        self.sign_under(&call, &role, &role.record.issuer_ref, leaf, body.csr).await
    }

    /// `issuer/{issuer_ref}/sign/{role}`
    pub(super) async fn issuer_sign(
        self: Arc<Self>,
        call: Call,
        mut body: IssuerSignRequest,
    ) -> Result<Response, Error> {
        let role = self.known_role(&body.role).await?;
        let leaf = body.leaf();
        self.sign_under(&call, &role, &body.issuer_ref, leaf, body.csr).await
    }

    async fn sign_under(
        &self,
        call: &Call,
        role: &Role,
        issuer_ref: &str,
        leaf: Leaf,
        csr: String,
    ) -> Result<Response, Error> {
        let format = Format::parse(&leaf.format)?;
        let authority = Arc::clone(self.store.authorities().await?.find_signing(issuer_ref)?);
        let profile = role.profile_for(call.token())?;
        let keep = Keep::of(&role.record);
        self.deliver(Order { leaf, format, key: KeySource::Csr(csr), profile, authority, keep }, call.now)
            .await
    }

    /// `sign-verbatim`
    pub(super) async fn sign_verbatim(
        self: Arc<Self>,
        call: Call,
        mut body: SignVerbatimRequest,
    ) -> Result<Response, Error> {
        let (leaf, verbatim) = (body.leaf(), body.verbatim());
        let response = self.sign_as_is(&call, None, &body.issuer_ref, leaf, verbatim, body.csr).await?;
        Ok(warn_of_role(response, &body.role))
    }

    /// `sign-verbatim/{role}`
    pub(super) async fn role_sign_verbatim(
        self: Arc<Self>,
        call: Call,
        mut body: RoleSignVerbatimRequest,
    ) -> Result<Response, Error> {
        let role = self.known_role(&body.role).await?;
        let (leaf, verbatim) = (body.leaf(), body.verbatim());
        self.sign_as_is(&call, Some(&role), &role.record.issuer_ref, leaf, verbatim, body.csr).await
    }

    /// `issuer/{issuer_ref}/sign-verbatim`
    pub(super) async fn issuer_sign_verbatim(
        self: Arc<Self>,
        call: Call,
        mut body: IssuerSignVerbatimRequest,
    ) -> Result<Response, Error> {
        let (leaf, verbatim) = (body.leaf(), body.verbatim());
        let response = self.sign_as_is(&call, None, &body.issuer_ref, leaf, verbatim, body.csr).await?;
        Ok(warn_of_role(response, &body.role))
    }

    /// `issuer/{issuer_ref}/sign-verbatim/{role}`
    pub(super) async fn issuer_role_sign_verbatim(
        self: Arc<Self>,
        call: Call,
        mut body: IssuerRoleSignVerbatimRequest,
    ) -> Result<Response, Error> {
        let role = self.known_role(&body.role).await?;
        let (leaf, verbatim) = (body.leaf(), body.verbatim());
        self.sign_as_is(&call, Some(&role), &body.issuer_ref, leaf, verbatim, body.csr).await
    }

    async fn sign_as_is(
        &self,
        call: &Call,
        role: Option<&Role>,
        issuer_ref: &str,
        leaf: Leaf,
        verbatim: Verbatim,
        csr: String,
    ) -> Result<Response, Error> {
        let format = Format::parse(&leaf.format)?;
        let authority = Arc::clone(self.store.authorities().await?.find_signing(issuer_ref)?);
        let profile = Profile::new(verbatim_profile(verbatim, role))
            .map_err(|error| Error::invalid(error.to_string()).caused_by(error))?;
        let keep = role.map_or(Keep::Stored, |role| Keep::of(&role.record));
        let order =
            Order { leaf, format, key: KeySource::Csr(csr), profile: Arc::new(profile), authority, keep };
        self.deliver(order, call.now).await
    }

    /// The role of this name; there must be one.
    pub(super) async fn known_role(&self, name: &str) -> Result<Arc<Role>, Error> {
        self.store.role(name).await?.ok_or_else(|| Error::invalid(format!("unknown role: {name}")))
    }
}

/// A role is named in the path, so one in the body is not looked at.
fn warn_of_role(response: Response, role: &str) -> Response {
    if role.is_empty() {
        return response;
    }
    response.warn(
        "Endpoint replaced the value of these parameters with the values captured from the endpoint's path: [role]",
    )
}

/// Everything goes; only lifetimes are the role's, if one is named, and basic constraints unless the
/// request says what they shall be.
fn verbatim_profile(verbatim: Verbatim, role: Option<&Role>) -> ProfileConfig {
    let Verbatim {
        key_usage,
        ext_key_usage,
        ext_key_usage_oids: Strings(mut ext_key_usage_oids),
        signature_bits,
        use_pss,
        basic_constraints_valid_for_non_ca,
    } = verbatim;
    // As the peer does, identifiers that are none are passed over here.
    ext_key_usage_oids.retain(|oid| is_oid(oid));
    let mut config = ProfileConfig {
        key_usage: key_usage.0,
        ext_key_usage: ext_key_usage.0,
        ext_key_usage_oids,
        signature_bits: u32::try_from(signature_bits).unwrap_or(0),
        use_pss,
        basic_constraints_valid_for_non_ca: basic_constraints_valid_for_non_ca.unwrap_or_default(),
        ..ProfileConfig::verbatim()
    };
    if let Some(Role { record, .. }) = role {
        config.ttl = record.ttl.0;
        config.max_ttl = record.max_ttl.0;
        if !record.not_before_duration.is_zero() {
            config.not_before_duration = record.not_before_duration.0;
        }
        if basic_constraints_valid_for_non_ca.is_none() {
            config.basic_constraints_valid_for_non_ca = record.basic_constraints_valid_for_non_ca;
        }
    }
    config
}
