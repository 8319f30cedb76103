//! The mount's issuers and keys as of one moment, parsed and ready to sign.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Arc, OnceLock};

use chancery_issuance::{
    AiaUrls, Certificate, Issuer, IssuerHash, IssuerOptions, KeySpec, LintPolicy, PrivateKey, PublicKey,
    SignatureAlgorithm,
};
use chancery_storage::{Name, Version, View};
use serde::de::DeserializeOwned;
use serde_json::value::{RawValue, to_raw_value};

use super::records::{
    ClusterConfig, CrlConfig, IssuerId, IssuerRecord, IssuerUsage, IssuersConfig, KeyId, KeyRecord,
    KeysConfig, LintConfig, Urls,
};
use super::revocations::Scope;
use super::store::{collection, config, load_all};
use super::urls::UrlError;
use crate::error::{Error, Kind};

/// Issuers, keys and the settings they depend on. Immutable: a change makes another.
#[derive(Default)]
pub(super) struct Authorities {
    issuers: BTreeMap<IssuerId, Arc<Authority>>,
    issuer_names: HashMap<String, IssuerId>,
    /// Issuers with keys, as OCSP requests name them. Those with one name and key share their certificates.
    ocsp_names: HashMap<IssuerHash, Vec<IssuerId>>,
    keys: BTreeMap<KeyId, Arc<HeldKey>>,
    key_names: HashMap<String, KeyId>,
    /// `config/issuers`
    pub(super) issuers_config: Setting<IssuersConfig>,
    /// `config/keys`
    pub(super) keys_config: Setting<KeysConfig>,
    /// `config/urls`
    pub(super) urls: Setting<Urls>,
    /// `config/cluster`
    pub(super) cluster: Setting<ClusterConfig>,
    /// `config/crl`
    pub(super) crl: Setting<CrlConfig>,
    /// `config/lint`
    pub(super) lint: Setting<LintConfig>,
    /// Who signs the CRL of each scope that has a key here.
    signers: BTreeMap<Scope, CrlSigner>,
}

/// Who signs the CRL of a scope.
enum CrlSigner {
    /// This issuer: the default one, or the first that may.
    One(IssuerId),
    /// Nobody may: these have the key, and are not for it.
    Nobody(Vec<IssuerId>),
}

/// A setting and the version it was read with; `None` if it was never written.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Setting<T> {
    /// The setting, or its default.
    pub(super) value: T,
    /// Which write made it.
    pub(super) version: Option<Version>,
}

impl<T: DeserializeOwned + Default> Setting<T> {
    async fn load(view: &View, name: &str) -> Result<Self, Error> {
        match view.get(collection::CONFIG, &Name::new(name)).await? {
            Some(record) => Ok(Self { value: record.json()?, version: Some(record.version) }),
            None => Ok(Self::default()),
        }
    }
}

/// Why a reference leads nowhere.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unresolved {
    /// No issuer has this id or name.
    #[error("unable to find PKI issuer for reference: {0}")]
    Issuer(String),
    /// No key has this id or name.
    #[error("unable to find PKI key for reference: {0}")]
    Key(String),
    /// `default`, and no issuer is.
    #[error("no default issuer currently configured")]
    NoDefaultIssuer,
    /// `default`, and no key is.
    #[error("no default key currently configured")]
    NoDefaultKey,
}

impl From<Unresolved> for Error {
    /// As the peer has it, a reference that leads nowhere is an error of the server.
    fn from(unresolved: Unresolved) -> Self {
        one_error(&unresolved)
    }
}

/// A 500 in the frame that the peer puts around internal errors; clients look for the sentence in it.
pub(super) fn one_error(sentence: &dyn fmt::Display) -> Error {
    Error::of(Kind::Internal, format!("1 error occurred:\n\t* {sentence}\n\n"))
}

/// The word that stands for the default issuer or key.
pub(super) const DEFAULT: &str = "default";

impl Authorities {
    /// Reads everything, taking over from `previous` what is still the same record, so that a key
    /// that was parsed once stays parsed.
    pub(super) async fn load(view: &View, previous: Option<&Self>) -> Result<Self, Error> {
        let issuers_config: Setting<IssuersConfig> = Setting::load(view, config::ISSUERS).await?;
        let keys_config = Setting::load(view, config::KEYS).await?;
        let urls: Setting<Urls> = Setting::load(view, config::URLS).await?;
        let cluster: Setting<ClusterConfig> = Setting::load(view, config::CLUSTER).await?;

        let crl: Setting<CrlConfig> = Setting::load(view, config::CRL).await?;
        let lint: Setting<LintConfig> = Setting::load(view, config::LINT).await?;
        let settings = Settings { urls: &urls.value, cluster: &cluster.value, lint: lint.value.policy() };

        let mut keys = BTreeMap::new();
        for (record, version) in load_all::<KeyRecord>(view, collection::KEYS).await? {
            let known =
                previous.and_then(|previous| previous.key(&record.id)).filter(|key| key.version == version);
            let key = match known {
                Some(key) => Arc::clone(key),
                None => Arc::new(HeldKey { record, version, private_key: OnceLock::new() }),
            };
            keys.insert(key.record.id, key);
        }

        let records = load_all::<IssuerRecord>(view, collection::ISSUERS).await?;
        let mut certificates = HashMap::new();
        for (record, _) in &records {
            let certificate = Certificate::from_pem(&record.certificate)
                .map_err(|error| Error::internal("a stored issuer's certificate does not parse", error))?;
            certificates.insert(record.id, Arc::new(certificate));
        }
        let mut issuers = BTreeMap::new();
        for (record, version) in records {
            let key = record.key.and_then(|id| keys.get(&id)).map(Arc::clone);
            let authority = Authority::new(record, version, key, &certificates, settings)?;
            issuers.insert(authority.record.id, Arc::new(authority));
        }
        let mut ocsp_names: HashMap<IssuerHash, Vec<IssuerId>> = HashMap::new();
        // As the peer has it, one without a key is not known here: it could not answer.
        for (id, authority) in issuers.iter().filter(|(_, authority)| authority.key.is_some()) {
            for name in IssuerHash::of(&authority.certificate) {
                ocsp_names.entry(name).or_default().push(*id);
            }
        }

        Ok(Self {
            ocsp_names,
            signers: crl_signers(&issuers, issuers_config.value.default),
            issuer_names: named(issuers.values().map(|issuer| (&issuer.record.name, issuer.record.id))),
            key_names: named(keys.values().map(|key| (&key.record.name, key.record.id))),
            issuers,
            keys,
            issuers_config,
            keys_config,
            urls,
            cluster,
            crl,
            lint,
        })
    }

    /// The issuer of this id.
    pub(super) fn issuer(&self, id: &IssuerId) -> Option<&Arc<Authority>> {
        self.issuers.get(id)
    }

    /// Every issuer, by id.
    pub(super) fn issuers(&self) -> impl Iterator<Item = &Arc<Authority>> {
        self.issuers.values()
    }

    /// The issuer whose name and key a certificate's are, if it is here.
    pub(super) fn issuer_of(&self, certificate: &Certificate) -> Option<&Arc<Authority>> {
        let of_that_name =
            self.issuers().filter(|issuer| issuer.certificate.subject_der() == certificate.issuer_der());
        // Those that share the key too give the same answer: the signature is checked once for each key.
        let mut tried = Vec::new();
        for issuer in of_that_name {
            if tried.contains(&issuer.scope) {
                continue;
            }
            if certificate.is_signed_by(&issuer.certificate) {
                return Some(issuer);
            }
            tried.push(issuer.scope);
        }
        None
    }

    /// The issuer that `reference` (`default`, an id or a name) stands for.
    pub(super) fn find_issuer(&self, reference: &str) -> Result<&Arc<Authority>, Unresolved> {
        if reference == DEFAULT {
            let default = self.issuers_config.value.default.and_then(|id| self.issuers.get(&id));
            return default.ok_or(Unresolved::NoDefaultIssuer);
        }
        let by_name = self.issuer_names.get(reference).copied();
        let id = by_name.or_else(|| reference.parse().ok());
        id.and_then(|id| self.issuers.get(&id)).ok_or_else(|| Unresolved::Issuer(reference.to_owned()))
    }

    /// Every scope whose CRL could be made here, in order.
    pub(super) fn scopes(&self) -> impl Iterator<Item = Scope> {
        self.signers.keys().copied()
    }

    /// The issuer that signs the CRL of this scope, if one may.
    pub(super) fn crl_signer(&self, scope: Scope) -> Option<&Arc<Authority>> {
        match self.signers.get(&scope)? {
            CrlSigner::One(id) => self.issuer(id),
            CrlSigner::Nobody(_) => None,
        }
    }

    /// What to say of scopes whose CRL nobody may sign, whenever CRLs are (or would be) built.
    pub(super) fn crl_warnings(&self) -> Vec<String> {
        let nobody = self.signers.values().filter_map(|signer| match signer {
            CrlSigner::One(_) => None,
            CrlSigner::Nobody(ids) => Some(ids),
        });
        nobody
            .enumerate()
            .map(|(index, ids)| {
                let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
                format!(
                    "Warning {} during CRL rebuild: warning from local CRL rebuild: Issuer equivalency set with associated keys lacked an issuer with CRL Signing KeyUsage; refusing to rebuild CRL for this group of issuers: {}",
                    index.saturating_add(1),
                    ids.join(",")
                )
            })
            .collect()
    }

    /// The issuer that `reference` stands for, if it may sign CRLs.
    pub(super) fn find_crl_signing(&self, reference: &str) -> Result<&Arc<Authority>, Error> {
        let authority = self.find_issuer(reference).map_err(|unresolved| {
            Error::invalid(format!("failed to resolve issuer issuer_ref: {unresolved}"))
        })?;
        let Authority { record: IssuerRecord { id, usage, .. }, .. } = &**authority;
        if !usage.crl_signing {
            return Err(Error::invalid(format!(
                "error while attempting to use issuer {id}: requested usage crl-signing for issuer {} but only had \
                 usage {usage}",
                authority.label(),
            )));
        }
        Ok(authority)
    }

    /// The issuer that `reference` stands for, if it has a key and may issue certificates.
    pub(super) fn find_signing(&self, reference: &str) -> Result<&Arc<Authority>, Error> {
        let authority = self.find_issuer(reference).map_err(|unresolved| {
            one_error(&format_args!("could not fetch the CA certificate (was one set?): {unresolved}"))
        })?;
        let Authority { record: IssuerRecord { id, usage, .. }, .. } = &**authority;
        if !usage.issuing_certificates {
            return Err(one_error(&format_args!(
                "error fetching CA certificate: error while attempting to use issuer {id}: requested usage \
                 issuing-certificates for issuer {} but only had usage {usage}",
                authority.label(),
            )));
        }
        Ok(authority)
    }

    /// The key of this id.
    pub(super) fn key(&self, id: &KeyId) -> Option<&Arc<HeldKey>> {
        self.keys.get(id)
    }

    /// Every key, by id.
    pub(super) fn keys(&self) -> impl Iterator<Item = &Arc<HeldKey>> {
        self.keys.values()
    }

    /// The key that `reference` (`default`, an id or a name) stands for.
    pub(super) fn find_key(&self, reference: &str) -> Result<&Arc<HeldKey>, Unresolved> {
        if reference == DEFAULT {
            let default = self.keys_config.value.default.and_then(|id| self.keys.get(&id));
            return default.ok_or(Unresolved::NoDefaultKey);
        }
        let by_name = self.key_names.get(reference).copied();
        let id = by_name.or_else(|| reference.parse().ok());
        id.and_then(|id| self.keys.get(&id)).ok_or_else(|| Unresolved::Key(reference.to_owned()))
    }

    /// The issuers with keys that an OCSP request means: all have the same name and key.
    pub(super) fn named_by_ocsp(&self, name: &IssuerHash) -> &[IssuerId] {
        self.ocsp_names.get(name).map_or(&[], Vec::as_slice)
    }

    /// The default issuer, if there is one.
    pub(super) fn default_issuer(&self) -> Option<&Arc<Authority>> {
        self.find_issuer(DEFAULT).ok()
    }
}

/// Who signs which CRL. As the peer has it, issuers with the same name and key share one, and the default
/// issuer comes first.
fn crl_signers(
    issuers: &BTreeMap<IssuerId, Arc<Authority>>,
    default: Option<IssuerId>,
) -> BTreeMap<Scope, CrlSigner> {
    let mut signers: BTreeMap<Scope, CrlSigner> = BTreeMap::new();
    for issuer in issuers.values().filter(|issuer| issuer.key.is_some()) {
        let id = issuer.record.id;
        let signer = signers.entry(issuer.scope).or_insert_with(|| CrlSigner::Nobody(Vec::new()));
        match signer {
            _ if issuer.record.usage.crl_signing && default == Some(id) => *signer = CrlSigner::One(id),
            CrlSigner::One(_) => {}
            _ if issuer.record.usage.crl_signing => *signer = CrlSigner::One(id),
            CrlSigner::Nobody(ids) => ids.push(id),
        }
    }
    signers
}

fn named<'a, Id>(entries: impl Iterator<Item = (&'a String, Id)>) -> HashMap<String, Id> {
    entries.filter(|(name, _)| !name.is_empty()).map(|(name, id)| (name.clone(), id)).collect()
}

/// A key and its record.
pub(super) struct HeldKey {
    /// As it is stored.
    pub(super) record: KeyRecord,
    /// Which write made it.
    pub(super) version: Version,
    private_key: OnceLock<Arc<PrivateKey>>,
}

impl HeldKey {
    /// The key itself, parsed when first asked for.
    pub(super) fn private_key(&self) -> Result<&Arc<PrivateKey>, Error> {
        if let Some(key) = self.private_key.get() {
            return Ok(key);
        }
        let key = PrivateKey::from_pem(&self.record.private_key)
            .map_err(|error| Error::internal("a stored private key does not parse", error))?;
        Ok(self.private_key.get_or_init(|| Arc::new(key)))
    }
}

/// An issuer, its chain in the forms that answers carry, and its key.
pub(super) struct Authority {
    /// As it is stored.
    pub(super) record: IssuerRecord,
    /// Which write made it.
    pub(super) version: Version,
    /// Its certificate.
    pub(super) certificate: Arc<Certificate>,
    /// Its key, if we hold it.
    pub(super) key: Option<Arc<HeldKey>>,
    /// The chain in force: itself first.
    pub(super) chain: Vec<Arc<Certificate>>,
    /// The chain as answers carry it.
    pub(super) wire: WireChain,
    /// What its CRL speaks of.
    pub(super) scope: Scope,
    urls: Urls,
    cluster: ClusterConfig,
    lint: LintPolicy,
    issuer: OnceLock<Arc<Issuer>>,
}

/// Settings of the mount that each of its issuers repeats.
#[derive(Clone, Copy)]
struct Settings<'a> {
    urls: &'a Urls,
    cluster: &'a ClusterConfig,
    lint: LintPolicy,
}

impl Authority {
    fn new(
        record: IssuerRecord,
        version: Version,
        key: Option<Arc<HeldKey>>,
        certificates: &HashMap<IssuerId, Arc<Certificate>>,
        settings: Settings<'_>,
    ) -> Result<Self, Error> {
        let Settings { urls, cluster, lint } = settings;
        let lost = || Error::internal("internal error", "an issuer is not among the issuers");
        let certificate = certificates.get(&record.id).cloned().ok_or_else(lost)?;
        let chain = if record.manual_chain.is_empty() { &record.chain } else { &record.manual_chain };
        let chain: Vec<Arc<Certificate>> =
            chain.iter().filter_map(|id| certificates.get(id).cloned()).collect();
        let wire = WireChain::new(&certificate, &chain)?;
        let scope = Scope::of(&certificate);
        // As the peer has it, an issuer has URLs of its own or the mount's, never some of each.
        let urls = record.urls.as_ref().filter(|own| !own.say_nothing()).unwrap_or(urls).clone();
        Ok(Self {
            record,
            version,
            certificate,
            key,
            chain,
            wire,
            scope,
            urls,
            cluster: cluster.clone(),
            lint,
            issuer: OnceLock::new(),
        })
    }

    /// Ready to sign: key parsed, URLs filled in.
    pub(super) fn issuer(&self) -> Result<&Arc<Issuer>, Error> {
        if let Some(issuer) = self.issuer.get() {
            return Ok(issuer);
        }
        let id = self.record.id;
        let key = self.key.as_ref().ok_or_else(|| {
            one_error(&format_args!(
                "could not fetch the CA certificate (was one set?): unable to fetch corresponding key for issuer \
                 {id}; unable to use this issuer for signing"
            ))
        })?;
        let options = IssuerOptions {
            urls: self.aia_urls().map_err(|error| {
                one_error(&format_args!(
                    "error fetching CA certificate: unable to fetch AIA URL information: {error}"
                ))
            })?,
            leaf_not_after: self.record.leaf_not_after_behavior.into(),
            lint: self.lint,
        };
        let signer = Arc::clone(key.private_key()?);
        let issuer = Issuer::new(Certificate::clone(&self.certificate), signer, options)
            .map_err(|error| Error::internal("a stored issuer cannot be used", error))?;
        Ok(self.issuer.get_or_init(|| Arc::new(issuer)))
    }

    /// How it signs revocation lists.
    pub(super) fn crl_algorithm(&self) -> Result<SignatureAlgorithm, Error> {
        let key = self.certificate.public_key().map(PublicKey::spec);
        let chosen = SignatureAlgorithm::from_name(&self.record.revocation_signature_algorithm);
        match (key, chosen) {
            // An EC key is bound to the hash of its curve, as for certificates.
            (Some(KeySpec::Rsa(_)), Some(chosen)) => Ok(chosen),
            (Some(key), _) => SignatureAlgorithm::choose(key, 0, false)
                .map_err(|error| Error::internal("the CRL could not be made", error)),
            (None, _) => Err(Error::internal("internal error", "an issuer with an unknown kind of key")),
        }
    }

    /// The URLs that its leaves carry, with the templates filled in.
    pub(super) fn aia_urls(&self) -> Result<AiaUrls, UrlError> {
        self.urls.filled_in(&self.cluster, Some(self.record.id))
    }

    /// How messages name it: `[id:… / name:…]`.
    fn label(&self) -> String {
        let IssuerRecord { id, name, .. } = &self.record;
        if name.is_empty() { format!("[id:{id}]") } else { format!("[id:{id} / name:{name}]") }
    }
}

/// An issuer's certificate and chain as JSON, made once instead of per request.
pub(super) struct WireChain {
    /// The certificate as a string: PEM without the final newline.
    pub(super) issuing_ca: Box<RawValue>,
    /// The chain as an array of such strings; `None` if it is empty.
    pub(super) ca_chain: Option<Box<RawValue>>,
    /// The chain without self-signed certificates.
    pub(super) ca_chain_without_roots: Option<Box<RawValue>>,
}

impl WireChain {
    fn new(certificate: &Certificate, chain: &[Arc<Certificate>]) -> Result<Self, Error> {
        let list = |pems: Vec<&str>| -> Result<Option<Box<RawValue>>, Error> {
            if pems.is_empty() { Ok(None) } else { Ok(Some(to_raw_value(&pems)?)) }
        };
        let without_roots = chain.iter().filter(|certificate| !certificate.is_self_signed());
        Ok(Self {
            issuing_ca: to_raw_value(trimmed(certificate))?,
            ca_chain: list(chain.iter().map(|one| trimmed(one)).collect())?,
            ca_chain_without_roots: list(without_roots.map(|one| trimmed(one)).collect())?,
        })
    }
}

/// PEM as answers carry it: without the final newline.
pub(super) fn trimmed(certificate: &Certificate) -> &str {
    certificate.pem().trim_ascii_end()
}

impl fmt::Display for IssuerUsage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { issuing_certificates, crl_signing, ocsp_signing } = *self;
        for (granted, name) in [
            (crl_signing, "crl-signing,"),
            (issuing_certificates, "issuing-certificates,"),
            (ocsp_signing, "ocsp-signing,"),
        ] {
            if granted {
                f.write_str(name)?;
            }
        }
        f.write_str("read-only")
    }
}
