//! Keys and CSRs for intermediates that another authority signs.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use chancery_issuance::{CsrError, create_csr};
use serde_json::json;

use super::Pki;
use super::authority::{
    CrossSignRequest, IntermediateRequest, KeyHome, NO_AIA, NO_AIA_INTERMEDIATE, Wanted, WantedKey,
};
use super::heavy;
use super::keys::{key_text, settle_key};
use super::leaf::{Format, refused};
use crate::engine::Call;
use crate::error::Error;
use crate::response::Response;

impl Pki {
    /// POST `intermediate/generate/{exported}`
    pub(super) async fn generate_intermediate(
        self: Arc<Self>,
        _: Call,
        mut body: IntermediateRequest,
    ) -> Result<Response, Error> {
        let home = KeyHome::parse(&body.exported)?;
        let (wanted, key) = (body.wanted(), body.key()?);
        self.make_csr(home, &wanted, &key, body.add_basic_constraints).await
    }

    /// POST `intermediate/cross-sign`: a CSR with a key that is here.
    pub(super) async fn cross_sign(
        self: Arc<Self>,
        _: Call,
        mut body: CrossSignRequest,
    ) -> Result<Response, Error> {
        let (wanted, key) = (body.wanted(), body.key()?);
        self.make_csr(KeyHome::Existing, &wanted, &key, body.add_basic_constraints).await
    }

    async fn make_csr(
        &self,
        home: KeyHome,
        wanted: &Wanted,
        key: &WantedKey,
        add_basic_constraints: bool,
    ) -> Result<Response, Error> {
        let format = wanted.format()?;
        let request = wanted.csr(add_basic_constraints).map_err(refused)?;
        let key = self.authority_key(home, key).await?;
        let signer = Arc::clone(&key.key);
        let csr =
            heavy::sign(signer.spec(), move || create_csr(&request, &*signer)).await?.map_err(|error| {
                match error {
                    CsrError::Refused(refusal) => refused(refusal),
                    other => Error::internal("the CSR could not be made", other),
                }
            })?;
        {
            let mut change = self.store.change().await?;
            settle_key(&mut change, &key)?;
            if !key.known {
                change.commit().await?;
            }
        }
        let text = match format {
            Format::Der => BASE64.encode(&csr.der),
            Format::Pem | Format::PemBundle => csr.pem.trim_ascii_end().to_owned(),
        };
        let mut shown = json!({ "csr": text, "key_id": key.record.id.to_string() });
        if let (KeyHome::Exported, Some(object)) = (home, shown.as_object_mut()) {
            let private_key = key_text(&key.key, format, &wanted.private_key_format);
            if format == Format::PemBundle {
                object.insert("csr".to_owned(), format!("{}\n{text}", private_key.as_str()).into());
            }
            object.insert("private_key".to_owned(), private_key.as_str().into());
            object.insert("private_key_type".to_owned(), key.record.key_type.clone().into());
        }
        let response = Response::data(&shown)?;
        let no_urls = self.store.authorities().await?.urls.value.say_nothing();
        Ok(if no_urls { response.warn(format!("{NO_AIA}{NO_AIA_INTERMEDIATE}")) } else { response })
    }
}
