//! `issue/{role}`: a key and its certificate, made here.

use std::sync::Arc;

use chancery_issuance::KeySpec;

use super::Pki;
use super::authorities::one_error;
use super::leaf::{Format, Keep, KeySource, Order};
use super::requests::{IssueRequest, IssuerIssueRequest, Leaf};
use super::role::{Role, key_bits};
use crate::engine::Call;
use crate::error::Error;
use crate::response::Response;

impl Pki {
    /// `issue/{role}`
    pub(super) async fn issue(
        self: Arc<Self>,
        call: Call,
        mut body: IssueRequest,
    ) -> Result<Response, Error> {
        let role = self.known_role(&body.role).await?;
        let wish = KeyWish { key_type: &body.key_type.clone(), key_bits: body.key_bits };
        let leaf = body.leaf();
        self.issue_under(&call, &role, &role.record.issuer_ref, leaf, wish).await
    }

    /// `issuer/{issuer_ref}/issue/{role}`
    pub(super) async fn issuer_issue(
        self: Arc<Self>,
        call: Call,
        mut body: IssuerIssueRequest,
    ) -> Result<Response, Error> {
        let role = self.known_role(&body.role).await?;
        let leaf = body.leaf();
        let wish = KeyWish { key_type: &body.key_type, key_bits: body.key_bits };
        self.issue_under(&call, &role, &body.issuer_ref, leaf, wish).await
    }

    async fn issue_under(
        &self,
        call: &Call,
        role: &Role,
        issuer_ref: &str,
        leaf: Leaf,
        wish: KeyWish<'_>,
    ) -> Result<Response, Error> {
        let (spec, warning) = wish.granted(role)?;
        let format = Format::parse(&leaf.format)?;
        let authority = Arc::clone(self.store.authorities().await?.find_signing(issuer_ref)?);
        let profile = role.profile_for(call.token())?;
        let keep = Keep::of(&role.record);
        let order = Order { leaf, format, key: KeySource::Fresh(spec), profile, authority, keep };
        let mut response = self.deliver(order, call.now).await?;
        response.warnings.extend(warning.map(str::to_owned));
        Ok(response)
    }
}

/// The key that the client asks for.
struct KeyWish<'a> {
    key_type: &'a str,
    key_bits: i64,
}

impl KeyWish<'_> {
    /// The role's kind of key, or the client's where the role leaves it open.
    fn granted(&self, role: &Role) -> Result<(KeySpec, Option<&'static str>), Error> {
        let Self { key_type, key_bits: bits } = *self;
        if let Some(spec) = role.profile()?.keys().spec() {
            let ignored = !key_type.is_empty() || bits != 0;
            return Ok((
                spec,
                ignored.then_some("parameters key_type and key_bits ignored as role had specific values"),
            ));
        }
        match key_type {
            "" => Err(Error::invalid(
                "role key type \"any\" not allowed for issuing certificates without providing key_type and/or \
                 key_bits request parameters",
            )),
            "any" => Err(Error::invalid("unknown key type: any")),
            key_type => {
                let wrong =
                    |sentence: String| one_error(&format_args!("failed to validate role: {sentence}"));
                let bits = key_bits(key_type, bits).map_err(|error| wrong(error.message()))?;
                let bits = u32::try_from(bits).unwrap_or(u32::MAX);
                let spec = KeySpec::new(key_type, bits).map_err(|error| wrong(error.to_string()))?;
                Ok((spec, None))
            }
        }
    }
}
