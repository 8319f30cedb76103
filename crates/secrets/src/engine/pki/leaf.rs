//! The way of a leaf: decide and sign, store, answer. Everything that makes one comes through here.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use chancery_api::{RawValue, Ttl};
use chancery_issuance::{
    Certificate, IssuanceRequest, IssuedCertificate, Issuer, KeyForm, KeySpec, MountLimits, PrivateKey,
    Profile, ProfileConfig, Refusal, SerialNumber, SignError, SubjectKey, VerifiedCsr, prepare,
};
use chancery_storage::StorageError;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::value::to_raw_value;
use zeroize::Zeroizing;

use super::authorities::{Authority, trimmed};
use super::heavy;
use super::requests::Leaf;
use super::{Pki, role::RoleRecord};
use crate::error::Error;
use crate::response::{LeaseTerms, Response};

/// Whose key is certified.
pub(super) enum KeySource {
    /// The one in this CSR (PEM).
    Csr(String),
    /// A new one, handed out with the certificate.
    Fresh(KeySpec),
}

/// What becomes of the certificate beside the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keep {
    /// Nothing: it cannot be listed or revoked.
    Nowhere,
    /// It is stored.
    Stored,
    /// It is stored, and revoked when its lease ends.
    Leased,
}

impl Keep {
    /// As the role has it.
    pub(super) fn of(role: &RoleRecord) -> Self {
        match (role.no_store, role.generate_lease) {
            (true, _) => Self::Nowhere,
            (false, true) => Self::Leased,
            (false, false) => Self::Stored,
        }
    }
}

/// The form of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    /// Each part in PEM.
    Pem,
    /// Each part in DER, in base64.
    Der,
    /// As `Pem`, with key, certificate and chain in one text.
    PemBundle,
}

impl Format {
    /// From the API's word.
    pub(super) fn parse(word: &str) -> Result<Self, Error> {
        match word {
            "pem" => Ok(Self::Pem),
            "der" => Ok(Self::Der),
            "pem_bundle" => Ok(Self::PemBundle),
            _ => Err(Error::invalid(r#"the "format" path parameter must be "pem", "der", or "pem_bundle""#)),
        }
    }
}

/// A leaf to be made.
pub(super) struct Order {
    /// What the client asked for.
    pub(super) leaf: Leaf,
    /// The form of the answer.
    pub(super) format: Format,
    /// Whose key.
    pub(super) key: KeySource,
    /// What is permitted.
    pub(super) profile: Arc<Profile>,
    /// Who signs.
    pub(super) authority: Arc<Authority>,
    /// What becomes of it.
    pub(super) keep: Keep,
}

/// A leaf to be made, whatever becomes of it.
pub(super) struct Making {
    /// What the client asked for.
    pub(super) leaf: Leaf,
    /// Whose key.
    pub(super) key: KeySource,
    /// What is permitted.
    pub(super) profile: Arc<Profile>,
    /// Who signs.
    pub(super) authority: Arc<Authority>,
}

impl Pki {
    /// Decides and signs. What is made must be stored before anybody sees it, unless it is not kept at all.
    pub(super) async fn make(&self, making: Making, now: Timestamp) -> Result<Made, Error> {
        let Making { leaf, key, profile, authority } = making;
        let work = Work {
            leaf,
            key,
            profile,
            issuer: Arc::clone(authority.issuer()?),
            limits: self.limits(),
            serial: fresh_serial(now)?,
            now,
        };
        work.judge_before_a_slow_key()?;
        if work.is_quick() { work.run() } else { heavy::run(move || work.run()).await? }
    }

    /// Makes a leaf. The answer leaves only when the certificate is durable (unless it is not kept).
    pub(super) async fn deliver(&self, order: Order, now: Timestamp) -> Result<Response, Error> {
        let Order { leaf, format, key, profile, authority, keep } = order;
        let form = if leaf.private_key_format == "pkcs8" { KeyForm::Pkcs8 } else { KeyForm::Traditional };
        let remove_roots = leaf.remove_roots_from_chain;
        let making = Making { leaf, key, profile, authority: Arc::clone(&authority) };
        let made = self.make(making, now).await?;

        if keep != Keep::Nowhere {
            // If we die before this is durable, nobody has seen the certificate. If the outcome is
            // unknown it may be stored, but it is not handed out: a certificate that nobody holds harms
            // nobody, one that is not stored could not be revoked.
            let IssuedCertificate { serial_number: serial, der, .. } = &made.certificate;
            self.store
                .put_certificate(serial, Some(authority.record.id), der)
                .await
                .map_err(|error| not_stored(serial, error))?;
        }

        let mut response = answer(&made, &authority, format, form, remove_roots)?;
        response.warnings.extend(made.certificate.warnings.iter().map(ToString::to_string));
        if keep == Keep::Leased {
            let seconds = made.certificate.not_after.as_second().saturating_sub(now.as_second());
            let ttl = Ttl::seconds(u64::try_from(seconds).unwrap_or(0));
            let serial = made.certificate.serial_number.to_string();
            response.lease = Some(Box::new(LeaseTerms {
                ttl,
                max_ttl: ttl,
                renewable: false,
                internal: BTreeMap::from([("serial_number".to_owned(), serial)]),
            }));
        }
        Ok(response)
    }
}

/// Everything that the computing part needs, so that it can move to another thread.
struct Work {
    leaf: Leaf,
    key: KeySource,
    profile: Arc<Profile>,
    issuer: Arc<Issuer>,
    limits: MountLimits,
    serial: SerialNumber,
    now: Timestamp,
}

/// A signed leaf, with its key if we made it.
pub(super) struct Made {
    pub(super) certificate: IssuedCertificate,
    private_key: Option<PrivateKey>,
}

impl Work {
    /// Whether it may run on the worker thread.
    fn is_quick(&self) -> bool {
        let generates = match self.key {
            KeySource::Csr(_) => true,
            KeySource::Fresh(spec) => heavy::generates_inline(spec),
        };
        generates && heavy::signs_inline(self.issuer.signer().public_key().spec())
    }

    /// Where the key takes long to make: judges names and lifetime first, as they will be judged again
    /// with the key. A quick key stands in for it, under the same profile but for the kind of key.
    fn judge_before_a_slow_key(&self) -> Result<(), Error> {
        match self.key {
            KeySource::Fresh(spec) if !heavy::generates_inline(spec) => {}
            KeySource::Fresh(_) | KeySource::Csr(_) => return Ok(()),
        }
        let config = ProfileConfig { key_type: "any".to_owned(), ..self.profile.config().clone() };
        let profile = Profile::new(config).map_err(failed)?;
        let stand_in = PrivateKey::generate(KeySpec::Ed25519).map_err(failed)?;
        let request = self.request(None)?;
        let key = SubjectKey::from(&stand_in);
        prepare(&request, &key, &profile, &self.issuer, self.serial, self.now).map(drop).map_err(refused)
    }

    fn request(&self, csr: Option<&VerifiedCsr>) -> Result<IssuanceRequest, Error> {
        let Leaf { names, ttl, not_before, not_after, .. } = &self.leaf;
        let mut request = IssuanceRequest::new(names, csr, &self.profile, self.limits).map_err(refused)?;
        request.ttl = ttl.map(|ttl| ttl.0);
        request.not_before.clone_from(not_before);
        request.not_after.clone_from(not_after);
        Ok(request)
    }

    fn run(self) -> Result<Made, Error> {
        let csr = match &self.key {
            KeySource::Csr(pem) => Some(VerifiedCsr::from_pem(pem, self.profile.keys()).map_err(refused)?),
            KeySource::Fresh(_) => None,
        };
        let request = self.request(csr.as_ref())?;
        let Self { key, profile, issuer, serial, now, .. } = self;
        let private_key = match key {
            KeySource::Csr(_) => None,
            KeySource::Fresh(spec) => Some(PrivateKey::generate(spec).map_err(failed)?),
        };
        let subject_key = match (&csr, &private_key) {
            (Some(csr), _) => csr.key(),
            (None, Some(key)) => SubjectKey::from(key),
            (None, None) => return Err(Error::internal("internal error", "a leaf without a key")),
        };
        let prepared = prepare(&request, &subject_key, &profile, &issuer, serial, now).map_err(refused)?;
        let certificate = prepared.sign().map_err(|error: SignError| failed(error))?;
        Ok(Made { certificate, private_key })
    }
}

/// A refusal's sentence is the client's.
pub(super) fn refused(refusal: Refusal) -> Error {
    Error::invalid(refusal.to_string()).caused_by(refusal)
}

fn failed(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::internal("the certificate could not be made", error)
}

/// What the client learns when its certificate exists but is not at rest.
fn not_stored(serial: &SerialNumber, error: StorageError) -> Error {
    match error {
        StorageError::Sealed => Error::sealed(),
        StorageError::UnknownOutcome { .. } => Error::internal(
            format!(
                "it is unknown whether the certificate {serial} was stored; it is not handed out, and the request can \
                 be repeated"
            ),
            error,
        ),
        other => Error::internal(
            format!("the certificate {serial} could not be stored and is not handed out"),
            other,
        ),
    }
}

/// A serial number that nobody has.
pub(super) fn fresh_serial(now: Timestamp) -> Result<SerialNumber, Error> {
    let mut random = [0; 14];
    SystemRandom::new()
        .fill(&mut random)
        .map_err(|_| Error::internal("internal error", "the operating system gives no random bytes"))?;
    Ok(SerialNumber::generate(now, random))
}

/// What `sign` and `issue` answer.
#[derive(Serialize)]
struct LeafAnswer<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    ca_chain: Option<Cow<'a, RawValue>>,
    certificate: &'a str,
    expiration: i64,
    issuing_ca: Cow<'a, RawValue>,
    not_before: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    private_key: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    private_key_type: Option<&'a str>,
    serial_number: String,
}

fn answer(
    made: &Made,
    authority: &Authority,
    format: Format,
    form: KeyForm,
    remove_roots: bool,
) -> Result<Response, Error> {
    let Made { certificate, private_key } = made;
    let wire = &authority.wire;
    let (issuing_ca, ca_chain) = match format {
        Format::Pem | Format::PemBundle => {
            let chain = if remove_roots { &wire.ca_chain_without_roots } else { &wire.ca_chain };
            (Cow::Borrowed(&*wire.issuing_ca), chain.as_deref().map(Cow::Borrowed))
        }
        Format::Der => {
            let chain =
                authority.chain.iter().filter(|certificate| !(remove_roots && certificate.is_self_signed()));
            let chain: Vec<String> = chain.map(|one| base64_der(one)).collect();
            let chain = if chain.is_empty() { None } else { Some(to_raw_value(&chain)?) };
            (Cow::Owned(to_raw_value(&base64_der(&authority.certificate))?), chain.map(Cow::Owned))
        }
    };
    let text: Cow<'_, str> = match format {
        Format::Pem => Cow::Borrowed(certificate.pem.trim_ascii_end()),
        Format::Der => Cow::Owned(BASE64.encode(&certificate.der)),
        Format::PemBundle => {
            // The whole chain is in the bundle, roots or not, and the key in its traditional form: so
            // the peer has it, and programs split the bundle by that.
            let key = private_key.as_ref().map(|key| key.to_pem(KeyForm::Traditional));
            let mut parts: Vec<&str> = Vec::new();
            parts.extend(key.as_ref().map(|key| key.trim_ascii_end()));
            parts.push(certificate.pem.trim_ascii_end());
            parts.extend(authority.chain.iter().map(|one| trimmed(one)));
            Cow::Owned(parts.join("\n"))
        }
    };
    let key_text = private_key.as_ref().map(|key| match format {
        Format::Der => Zeroizing::new(BASE64.encode(&*key.to_der(form))),
        Format::Pem | Format::PemBundle => Zeroizing::new(key.to_pem(form).trim_ascii_end().to_owned()),
    });
    Response::data(&LeafAnswer {
        ca_chain,
        certificate: &text,
        expiration: certificate.not_after.as_second(),
        issuing_ca,
        not_before: certificate.not_before.as_second(),
        private_key: key_text.as_deref().map(String::as_str),
        private_key_type: private_key.as_ref().map(|key| key.spec().key_type().name()),
        serial_number: certificate.serial_number.to_string(),
    })
}

fn base64_der(certificate: &Certificate) -> String {
    BASE64.encode(certificate.der())
}
