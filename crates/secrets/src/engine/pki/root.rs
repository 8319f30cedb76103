//! Roots, and intermediates signed by this mount's issuers.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use chancery_api::fields;
use chancery_api::fields::NoFields;
use chancery_issuance::{
    AiaUrls, CaRequest, Certificate, CertificateError, IssuedCertificate, KeyForm, KeyPolicy, Prepared,
    SignatureAlgorithm, Signer, VerifiedCsr, Warning, prepare_intermediate, prepare_root,
    prepare_self_issued,
};
use chancery_storage::Name;
use serde_json::json;

use super::Pki;
use super::authorities::{DEFAULT, one_error, trimmed};
use super::authority::{
    Constraints, IssuerSignIntermediateRequest, KeyHome, NO_AIA, RootRequest, SignIntermediateRequest, Wanted,
};
use super::heavy;
use super::import::{Fates, adopt_issuer, check_issuer_name, new_issuer, rechain};
use super::issuers::family;
use super::keys::{key_text, settle_key};
use super::leaf::{Format, fresh_serial, refused};
use super::records::{IssuersConfig, KeysConfig};
use super::urls::UrlError;
use crate::engine::Call;
use crate::error::Error;
use crate::response::Response;

/// Said of an authority that nothing can name.
const NO_SUBJECT: &str = "This issuer certificate was generated without a Subject; this makes it likely that issuing \
    leaf certs with this certificate will cause TLS validation libraries to reject this certificate.";

/// Said where the mount's URLs cannot stand in a root.
const ISSUER_ID_IN_ROOT: &str = "When generating root CA, found global AIA configuration with issuer_id template \
    unsuitable for root generation. This AIA configuration has been ignored. To include AIA on this root CA, set the \
    global AIA configuration to not include issuer_id and instead to refer to a static issuer name.";

/// A distinguished name without attributes, in DER.
const EMPTY_NAME: [u8; 2] = [0x30, 0];

fields! {
    /// Signs another authority's self-issued certificate anew.
    #[derive(Debug)]
    pub(super) struct SignSelfIssued {
        body {
            /// The certificate in PEM.
            certificate: String = String::new(),
            /// Who signs.
            issuer_ref: String = DEFAULT.to_owned(),
            /// Both keys must be of one kind.
            require_matching_certificate_algorithms: bool = false,
        }
    }
}

fields! {
    /// Signs another authority's self-issued certificate anew with a given issuer.
    #[derive(Debug)]
    pub(super) struct IssuerSignSelfIssued {
        path {
            /// Who signs.
            issuer_ref: String,
        }
        body {
            /// The certificate in PEM.
            certificate: String = String::new(),
            /// Both keys must be of one kind.
            require_matching_certificate_algorithms: bool = false,
        }
    }
}

impl Pki {
    /// POST `root/generate/{exported}`
    pub(super) async fn generate_root(
        self: Arc<Self>,
        call: Call,
        body: RootRequest,
    ) -> Result<Response, Error> {
        let name = body.issuer_name.clone();
        self.make_root(call, body, name).await
    }

    /// POST `root/rotate/{exported}`: as `generate`, for an issuer that is called `next` unless it
    /// has another name.
    pub(super) async fn rotate_root(
        self: Arc<Self>,
        call: Call,
        body: RootRequest,
    ) -> Result<Response, Error> {
        let name = if body.issuer_name.is_empty() { "next".to_owned() } else { body.issuer_name.clone() };
        self.make_root(call, body, name).await
    }

    async fn make_root(&self, call: Call, mut body: RootRequest, name: String) -> Result<Response, Error> {
        let home = KeyHome::parse(&body.exported)?;
        let wanted = body.wanted();
        let format = wanted.format()?;
        check_issuer_name(&name, &*self.store.authorities().await?, None)?;
        let constraints = Constraints {
            max_path_length: body.max_path_length,
            permitted_dns_domains: std::mem::take(&mut body.permitted_dns_domains),
            key_usage: std::mem::take(&mut body.key_usage),
            ext_key_usage: std::mem::take(&mut body.ext_key_usage),
            use_csr_values: false,
            skid: String::new(),
        };
        if constraints.max_path_length.is_some_and(|length| length < -1) {
            return Err(one_error(
                &"unable to create certificate: x509: invalid MaxPathLen, must be greater or equal to -1",
            ));
        }
        let key = self.authority_key(home, &body.key()?).await?;
        let lint = self.store.authorities().await?.lint.value.policy();
        let request = CaRequest { lint, ..wanted.certificate(&constraints, self.limits()) };
        let (urls, left_out) = self.mount_urls().await?;
        let serial = fresh_serial(call.now)?;
        let signer: Arc<dyn Signer> = key.key.clone();
        let prepared = prepare_root(&request, &signer, &urls, serial, call.now).map_err(refused)?;
        let (issued, intent) = self.sign_authority(prepared, call.now).await?;

        let certificate = issued.certificate().map_err(|error| Error::internal("internal error", error))?;
        let mut change = self.store.change().await?;
        check_issuer_name(&name, &change.before, None)?;
        settle_key(&mut change, &key)?;
        let algorithm = SignatureAlgorithm::choose(key.key.spec(), request.signature_bits, request.use_pss)
            .map_err(|error| Error::internal("internal error", error))?;
        let mut issuer = new_issuer(&certificate, &name, Some(key.record.id), call.now);
        // As on the peer: the lists of a root are signed as the root itself is.
        algorithm.name().clone_into(&mut issuer.revocation_signature_algorithm);
        let id = issuer.id;
        rechain(&mut change, &Fates::default(), vec![(issuer, certificate.clone())])?;
        adopt_issuer(&mut change, id)?;
        change.put_intended_certificate(&issued.serial_number, Some(id), &issued.der, &intent)?;
        change.commit().await?;

        let exported = (home == KeyHome::Exported).then_some(&*key.key);
        let text = certificate_text(&certificate, format);
        let mut shown = json!({
            "certificate": text,
            "expiration": issued.not_after.as_second(),
            "issuer_id": id.to_string(),
            "issuer_name": name,
            "issuing_ca": text,
            "key_id": key.record.id.to_string(),
            "key_name": key.record.name,
            "serial_number": issued.serial_number.to_string(),
        });
        if let (Some(key), Some(object)) = (exported, shown.as_object_mut()) {
            let private_key = key_text(key, format, &wanted.private_key_format);
            if format == Format::PemBundle {
                let traditional = key.to_pem(KeyForm::Traditional);
                let bundle = format!("{}\n{}", traditional.trim_ascii_end(), trimmed(&certificate));
                object.insert("certificate".to_owned(), bundle.into());
            }
            object.insert("private_key".to_owned(), private_key.as_str().into());
            object.insert("private_key_type".to_owned(), key.spec().key_type().name().into());
        }
        let mut response = Response::data(&shown)?;
        // In the peer's order, here and below.
        response.warnings.extend(warnings(&issued, of_anything_else));
        if left_out {
            response.warnings.push(ISSUER_ID_IN_ROOT.to_owned());
        }
        if certificate.subject_der() == EMPTY_NAME {
            response.warnings.push(NO_SUBJECT.to_owned());
        }
        if urls == AiaUrls::default() {
            response.warnings.push(NO_AIA.to_owned());
        }
        response.warnings.extend(self.store.authorities().await?.crl_warnings());
        response.warnings.extend(warnings(&issued, of_length));
        Ok(response)
    }

    /// POST `root/sign-intermediate`
    pub(super) async fn sign_intermediate(
        self: Arc<Self>,
        call: Call,
        mut body: SignIntermediateRequest,
    ) -> Result<Response, Error> {
        let (wanted, constraints) = (body.wanted(), body.constraints());
        self.make_intermediate(&call, &body.issuer_ref, &body.csr, &wanted, &constraints).await
    }

    /// POST `issuer/{issuer_ref}/sign-intermediate`
    pub(super) async fn issuer_sign_intermediate(
        self: Arc<Self>,
        call: Call,
        mut body: IssuerSignIntermediateRequest,
    ) -> Result<Response, Error> {
        let (wanted, constraints) = (body.wanted(), body.constraints());
        self.make_intermediate(&call, &body.issuer_ref, &body.csr, &wanted, &constraints).await
    }

    async fn make_intermediate(
        &self,
        call: &Call,
        issuer_ref: &str,
        csr: &str,
        wanted: &Wanted,
        constraints: &Constraints,
    ) -> Result<Response, Error> {
        let format = wanted
            .format()
            .map_err(|_| Error::invalid(r#"The "format" path parameter must be "pem" or "der""#))?;
        let authorities = self.store.authorities().await?;
        let authority = authorities.find_signing(issuer_ref)?;
        if csr.is_empty() {
            return Err(Error::invalid("\"csr\" is empty"));
        }
        let csr = VerifiedCsr::from_pem(csr, &KeyPolicy::any()).map_err(refused)?;
        let request = wanted.certificate(constraints, self.limits());
        let issuer = authority.issuer()?;
        let serial = fresh_serial(call.now)?;
        if constraints.max_path_length.is_some_and(|length| length < -1) {
            return Err(one_error(
                &"error signing cert: unable to create certificate: x509: invalid MaxPathLen, must be greater or \
                  equal to -1",
            ));
        }
        let prepared = prepare_intermediate(&request, &csr, issuer, serial, call.now).map_err(refused)?;
        let (issued, intent) = self.sign_authority(prepared, call.now).await?;
        let certificate = issued.certificate().map_err(|error| Error::internal("internal error", error))?;
        self.store
            .put_intended_certificate(&issued.serial_number, Some(authority.record.id), &issued.der, &intent)
            .await?;

        let mut chain = vec![certificate_text(&certificate, format)];
        chain.extend(authority.chain.iter().map(|one| certificate_text(one, format)));
        let text = match format {
            Format::PemBundle => {
                let parts: Vec<&str> = std::iter::once(trimmed(&certificate))
                    .chain(authority.chain.iter().map(|one| trimmed(one)))
                    .collect();
                parts.join("\n")
            }
            Format::Pem | Format::Der => certificate_text(&certificate, format),
        };
        let mut response = Response::data(&json!({
            "ca_chain": chain,
            "certificate": text,
            "expiration": issued.not_after.as_second(),
            "issuing_ca": certificate_text(&authority.certificate, format),
            "serial_number": issued.serial_number.to_string(),
        }))?;
        if certificate.subject_der() == EMPTY_NAME {
            response.warnings.push(NO_SUBJECT.to_owned());
        }
        response.warnings.extend(warnings(&issued, of_the_issuers_end));
        if issuer.options().urls == AiaUrls::default() {
            response.warnings.push(NO_AIA.to_owned());
        }
        response.warnings.extend(warnings(&issued, of_length));
        response.warnings.extend(warnings(&issued, of_anything_else));
        Ok(response)
    }

    /// POST `root/sign-self-issued`
    pub(super) async fn sign_self_issued(
        self: Arc<Self>,
        call: Call,
        body: SignSelfIssued,
    ) -> Result<Response, Error> {
        let SignSelfIssued { certificate, issuer_ref, require_matching_certificate_algorithms } = body;
        self.make_self_issued(&call, &issuer_ref, &certificate, require_matching_certificate_algorithms).await
    }

    /// POST `issuer/{issuer_ref}/sign-self-issued`
    pub(super) async fn issuer_sign_self_issued(
        self: Arc<Self>,
        call: Call,
        body: IssuerSignSelfIssued,
    ) -> Result<Response, Error> {
        let IssuerSignSelfIssued { issuer_ref, certificate, require_matching_certificate_algorithms } = body;
        self.make_self_issued(&call, &issuer_ref, &certificate, require_matching_certificate_algorithms).await
    }

    async fn make_self_issued(
        &self,
        call: &Call,
        issuer_ref: &str,
        pem: &str,
        same_kind: bool,
    ) -> Result<Response, Error> {
        let certificate = Certificate::from_pem(pem).map_err(|error| match error {
            CertificateError::Missing => Error::invalid("certificate could not be PEM-decoded"),
            error => Error::invalid(format!("error parsing certificate: {error}")),
        })?;
        for (fine, error) in [
            (certificate.is_ca(), CertificateError::NotACa),
            (certificate.is_self_issued(), CertificateError::NotSelfIssued),
        ] {
            if !fine {
                return Err(Error::invalid(error.to_string()));
            }
        }
        let authorities = self.store.authorities().await?;
        let authority = authorities.find_signing(issuer_ref)?;
        let issuer = authority.issuer()?;
        let theirs = certificate.public_key().map(|key| key.spec().key_type());
        let ours = issuer.signer().public_key().spec().key_type();
        if same_kind && theirs != Some(ours) {
            return Err(Error::invalid(format!(
                "signing certificate's public key algorithm ({}) does not match submitted certificate's ({}), and \
                 require_matching_certificate_algorithms is true",
                family(Some(ours)),
                family(theirs),
            )));
        }
        let prepared = prepare_self_issued(&certificate, issuer).map_err(refused)?;
        // As on the peer, it is not stored: its serial number is its maker's, and may be one of ours. What
        // tells of it is its intent, which stays.
        let (issued, _) = self.sign_authority(prepared, call.now).await?;
        let mut response = Response::data(&json!({
            "certificate": issued.pem.trim_ascii_end(),
            "issuing_ca": trimmed(&authority.certificate),
        }))?;
        response.warnings = warnings(&issued, |_| true).collect();
        Ok(response)
    }

    /// Writes down what is about to be signed, then signs it. Answers where the intent lies, which goes
    /// when the certificate is stored.
    async fn sign_authority(
        &self,
        prepared: Prepared<'_>,
        now: jiff::Timestamp,
    ) -> Result<(IssuedCertificate, Name), Error> {
        let intent = self.store.put_intent(&prepared, now).await?;
        let key = prepared.signer().public_key().spec();
        let prepared = prepared.detached();
        let issued = heavy::sign(key, move || prepared.sign())
            .await?
            .map_err(|error| Error::internal("the certificate could not be signed", error))?;
        Ok((issued, intent))
    }

    /// DELETE `root`: every issuer and key.
    pub(super) async fn delete_root(self: Arc<Self>, _: Call, _: NoFields) -> Result<Response, Error> {
        let mut change = self.store.change().await?;
        let before = Arc::clone(&change.before);
        for issuer in before.issuers() {
            change.delete_issuer(&issuer.record.id)?;
        }
        for key in before.keys() {
            change.delete_key(&key.record.id)?;
        }
        let config = IssuersConfig { default: None, ..before.issuers_config.value.clone() };
        change.put_issuers_config(&config)?;
        change.put_keys_config(&KeysConfig { default: None })?;
        change.commit().await?;
        Ok(Response::empty().warn(
            "DELETE /root deletes all keys and issuers; prefer the new DELETE /key/:key_ref and DELETE \
             /issuer/:issuer_ref for finer granularity, unless removal of all keys and issuers is desired.",
        ))
    }

    /// The mount's URLs, for a root that has no issuer's yet; and whether they were left out because
    /// they need the id that the root does not have before it exists.
    async fn mount_urls(&self) -> Result<(AiaUrls, bool), Error> {
        let authorities = self.store.authorities().await?;
        match authorities.urls.value.filled_in(&authorities.cluster.value, None) {
            Ok(urls) => Ok((urls, false)),
            Err(UrlError::NoIssuer) => Ok((AiaUrls::default(), true)),
            Err(error) => Err(one_error(&format_args!(
                "unable to parse AIA URL information: {error}\nUsing templated AIA URL's {{{{issuer_id}}}} field when \
                 generating root certificates is not supported."
            ))),
        }
    }
}

/// A certificate in the form that was asked for.
pub(super) fn certificate_text(certificate: &Certificate, format: Format) -> String {
    match format {
        Format::Der => BASE64.encode(certificate.der()),
        Format::Pem | Format::PemBundle => trimmed(certificate).to_owned(),
    }
}

/// What `issued` warns of, of this kind.
fn warnings(issued: &IssuedCertificate, kind: fn(&Warning) -> bool) -> impl Iterator<Item = String> {
    issued.warnings.iter().filter(move |warning| kind(warning)).map(ToString::to_string)
}

fn of_length(warning: &Warning) -> bool {
    matches!(warning, Warning::PathLengthZero { .. })
}

fn of_the_issuers_end(warning: &Warning) -> bool {
    matches!(warning, Warning::OutlivesIssuer)
}

fn of_anything_else(warning: &Warning) -> bool {
    !of_length(warning) && !of_the_issuers_end(warning)
}
