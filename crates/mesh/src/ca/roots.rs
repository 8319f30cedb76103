//! What the mesh trusts: from a file that is watched, or from the first answer of the signer.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use chancery_api::Clock;
use chancery_issuance::{Certificate, CertificateError, Time};
use jiff::Timestamp;
use tokio::sync::watch;

/// How often the file is looked at. A poll sees symlink swaps, renames, plain writes and network file systems alike.
const POLL: Duration = Duration::from_secs(1);

/// The largest bundle that is read.
const MAX_BUNDLE: u64 = 4 << 20;

/// The mesh's root certificates, checked. Empty while they are not known yet.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Roots {
    /// Each of them, none twice.
    pub certificates: Vec<Certificate>,
    /// All of them in PEM, as they are given out.
    pub pem: String,
}

/// The current roots; changes are seen at once.
pub type RootsWatch = watch::Receiver<Arc<Roots>>;

/// Why a bundle is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RootsError {
    /// The file cannot be read.
    #[error("{}: {reason}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// It holds something else.
    #[error("the root bundle cannot be read: {0}")]
    Malformed(#[from] CertificateError),
    /// Half-written: a block begins and does not end.
    #[error("the root bundle is cut off: {begun} certificates begin in it and {ended} end")]
    CutOff {
        /// Blocks that begin.
        begun: usize,
        /// Blocks that are whole.
        ended: usize,
    },
    /// Nothing in it.
    #[error("there is no certificate in the root bundle")]
    Empty,
    /// A certificate that may not sign others (RFC 5280, 4.2.1.9).
    #[error("the root {0:?} is not a CA certificate")]
    NotACa(String),
    /// A certificate that others have signed.
    #[error(
        "the root {0:?} is not self-signed: it is an intermediate, and verifiers in OpenSSL's manner do not take it \
         for a root; name the root itself, or permit this with -allow-intermediate-root"
    )]
    Intermediate(String),
    /// All of them.
    #[error("every root in the bundle has expired, the last at {0}")]
    Expired(Time),
}

/// What is worth a warning and no refusal.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RootsWarning {
    /// Permitted by a setting.
    #[error(
        "the root {0:?} is not self-signed: it is an intermediate. Workloads whose TLS library follows OpenSSL will \
         refuse every certificate of this mesh"
    )]
    Intermediate(String),
    /// Left out.
    #[error("the intermediate {0:?} is left out of the roots, since the bundle also has its issuer")]
    LeftOut(String),
    /// Left out.
    #[error("the root {0:?} is left out: it expired at {1}")]
    Expired(String, Time),
    /// Kept.
    #[error("the root {0:?} is not valid before {1}")]
    NotYetValid(String, Time),
}

impl Roots {
    /// The roots in a PEM text, in its order.
    ///
    /// Certificates that have expired are left out, and so are intermediates beside their own issuer.
    ///
    /// # Errors
    /// The text is cut off or malformed, one of them is no CA, none is left, or one is an intermediate and that is not
    /// permitted.
    pub fn parse(
        text: &str,
        allow_intermediate: bool,
        now: Timestamp,
    ) -> Result<(Self, Vec<RootsWarning>), RootsError> {
        // Readers skip what is no whole block; here that would silently drop a root.
        let count = |mark: &str| text.matches(mark).count();
        let (begun, ended) = (count("-----BEGIN "), count("-----END "));
        let all = Certificate::all_from_pem(text)?;
        if begun != ended || all.len() < count("-----BEGIN CERTIFICATE-----") {
            return Err(RootsError::CutOff { begun, ended: ended.min(all.len()) });
        }
        let now = Time::from_second(now.as_second());
        let mut warnings = Vec::new();
        let mut latest = None;
        let mut kept: Vec<Certificate> = Vec::new();
        for certificate in &all {
            if kept.iter().any(|other| other.der() == certificate.der()) {
                continue;
            }
            let name = || certificate.common_name().unwrap_or_default().to_owned();
            if !certificate.is_ca() {
                return Err(RootsError::NotACa(name()));
            }
            if certificate.not_after() < now {
                latest = latest.max(Some(certificate.not_after()));
                warnings.push(RootsWarning::Expired(name(), certificate.not_after()));
                continue;
            }
            if !certificate.is_self_signed() {
                let is_issuer =
                    |other: &Certificate| other.der() != certificate.der() && certificate.is_signed_by(other);
                if all.iter().any(|other| is_issuer(other) && other.not_after() >= now) {
                    warnings.push(RootsWarning::LeftOut(name()));
                    continue;
                }
                if !allow_intermediate {
                    return Err(RootsError::Intermediate(name()));
                }
                warnings.push(RootsWarning::Intermediate(name()));
            }
            if certificate.not_before() > now {
                warnings.push(RootsWarning::NotYetValid(name(), certificate.not_before()));
            }
            kept.push(certificate.clone());
        }
        if kept.is_empty() {
            return Err(latest.map_or(RootsError::Empty, RootsError::Expired));
        }
        let mut pem = String::with_capacity(text.len());
        for certificate in &kept {
            pem.push_str(certificate.pem().trim_end());
            pem.push('\n');
        }
        Ok((Self { certificates: kept, pem }, warnings))
    }

    /// Whether they are not known yet.
    pub fn is_empty(&self) -> bool {
        self.certificates.is_empty()
    }

    /// Whether a certificate is one of them, or signed by one of them that is valid now.
    pub fn vouch_for(&self, certificate: &Certificate, now: Timestamp) -> bool {
        let now = Time::from_second(now.as_second());
        let is_valid = |root: &&Certificate| root.not_after() >= now;
        let mut valid = self.certificates.iter().filter(is_valid);
        valid.any(|root| root.der() == certificate.der() || certificate.is_signed_by(root))
    }

    /// When the last of them expires.
    pub fn end(&self) -> Option<Time> {
        self.certificates.iter().map(Certificate::not_after).max()
    }
}

/// Publishes the roots.
#[derive(Debug)]
pub struct RootStore {
    current: watch::Sender<Arc<Roots>>,
    file: Option<PathBuf>,
    allow_intermediate: bool,
}

impl RootStore {
    /// With the roots of a file, or, without one, with those of the signer's first answer.
    ///
    /// # Errors
    /// The file cannot be used.
    pub fn open(file: Option<PathBuf>, allow_intermediate: bool, now: Timestamp) -> Result<Self, RootsError> {
        let roots = match &file {
            Some(path) => Some(load(path, allow_intermediate, now)?),
            None => {
                tracing::warn!(
                    "no root file: the mesh's roots will be whatever the signer names first; give -root-ca-file"
                );
                None
            }
        };
        let current = watch::Sender::new(Arc::new(roots.unwrap_or_default()));
        let store = Self { current, file, allow_intermediate };
        store.measure();
        Ok(store)
    }

    /// For whoever needs them.
    pub fn subscribe(&self) -> RootsWatch {
        self.current.subscribe()
    }

    /// The roots of now.
    pub fn current(&self) -> Arc<Roots> {
        Arc::clone(&self.current.borrow())
    }

    /// What [`Self::trust_first`] would take. Until then nobody trusts it.
    ///
    /// # Errors
    /// As there.
    pub fn candidate(&self, pem: &str, now: Timestamp) -> Result<Option<Roots>, RootsError> {
        Ok(self.named_first(pem, now)?.map(|(roots, _)| roots))
    }

    fn named_first(
        &self,
        pem: &str,
        now: Timestamp,
    ) -> Result<Option<(Roots, Vec<RootsWarning>)>, RootsError> {
        if self.file.is_some() || !self.current().is_empty() {
            return Ok(None);
        }
        Roots::parse(pem, self.allow_intermediate, now).map(Some)
    }

    /// Takes the signer's root, if there is no file and none has been taken yet; says whether it did.
    ///
    /// # Errors
    /// The root cannot be used: mostly because the signer knows no more than an intermediate.
    pub fn trust_first(&self, pem: &str, now: Timestamp) -> Result<bool, RootsError> {
        let Some((roots, warnings)) = self.named_first(pem, now)? else { return Ok(false) };
        warn(&warnings);
        for root in &roots.certificates {
            let (name, serial) = (root.common_name().unwrap_or_default(), root.serial_number());
            tracing::warn!(name, %serial, "trusting the root that the signer named");
        }
        self.current.send_replace(Arc::new(roots));
        self.measure();
        Ok(true)
    }

    /// Looks at the file for ever. A change is taken once the file has stayed the same for a second: who writes in
    /// several steps is not read in the middle. What cannot be used is logged, and what was there before stays.
    pub async fn follow(&self, clock: &dyn Clock) {
        let Some(path) = &self.file else { return std::future::pending().await };
        let mut taken = fingerprint(path).await;
        let mut before = taken;
        // The file may have changed between its first reading and here.
        let mut due = true;
        let mut ended = None;
        loop {
            tokio::time::sleep(POLL).await;
            let found = fingerprint(path).await;
            let settled = found == before;
            before = found;
            let now = clock.now();
            // One that has expired since is no root any more; verifiers do not look at that (RFC 5280, 6.1.1 (d)).
            let soonest = self.soonest_end().filter(|end| end.as_second() < now.as_second());
            due |= soonest.is_some() && soonest != ended;
            if (found == taken && !due) || !settled {
                continue;
            }
            (taken, due, ended) = (found, false, soonest);
            self.reload(path, now);
        }
    }

    /// Reads the file again.
    fn reload(&self, path: &Path, now: Timestamp) {
        match load(path, self.allow_intermediate, now) {
            Ok(roots) => {
                let changed = self.current.send_if_modified(|current| {
                    let changed = current.pem != roots.pem;
                    if changed {
                        *current = Arc::new(roots);
                    }
                    changed
                });
                if changed {
                    let count = self.current().certificates.len();
                    tracing::info!(path = %path.display(), count, "the mesh's roots have changed");
                    self.measure();
                }
            }
            Err(error) => {
                tracing::error!(%error, path = %path.display(), "the root bundle is not taken; the previous one stays");
                metrics::counter!("cert_manager_istio_csr_root_reload_failures_total").increment(1);
            }
        }
    }

    fn soonest_end(&self) -> Option<Time> {
        self.current().certificates.iter().map(Certificate::not_after).min()
    }

    fn measure(&self) {
        let roots = self.current();
        metrics::gauge!("cert_manager_istio_csr_roots")
            .set(u32::try_from(roots.certificates.len()).unwrap_or(u32::MAX));
        // The soonest end: the one to act upon.
        if let Some(end) = self.soonest_end() {
            metrics::gauge!("cert_manager_istio_csr_root_expiry_timestamp_seconds")
                .set(super::measure::seconds(end.as_second()));
        }
    }
}

fn load(path: &Path, allow_intermediate: bool, now: Timestamp) -> Result<Roots, RootsError> {
    let wrong = |reason: String| RootsError::File { path: path.to_owned(), reason };
    let size = std::fs::metadata(path).map_err(|error| wrong(error.to_string()))?.len();
    if size > MAX_BUNDLE {
        return Err(wrong(format!(
            "{size} bytes are more than the {MAX_BUNDLE} that a root bundle may have"
        )));
    }
    let text = std::fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
    let (roots, warnings) = Roots::parse(&text, allow_intermediate, now)?;
    warn(&warnings);
    Ok(roots)
}

fn warn(warnings: &[RootsWarning]) {
    for warning in warnings {
        tracing::warn!("{warning}");
    }
}

/// What tells one state of the file from another; `None` if it is not there.
async fn fingerprint(path: &Path) -> Option<(u64, u64, i64, i64, u64)> {
    let of = |found: Metadata| (found.dev(), found.ino(), found.mtime(), found.mtime_nsec(), found.size());
    tokio::fs::metadata(path).await.ok().map(of)
}
