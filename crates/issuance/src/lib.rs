//! X.509: a CSR, a profile and an issuer become a certificate. No I/O.
//!
//! An operator writes a [`ProfileConfig`]; [`Profile::new`] checks it once. A client's CSR
//! becomes a [`VerifiedCsr`] only if it parses, its self-signature holds and its key satisfies
//! the profile's [`KeyPolicy`]. What the client asks for ([`RequestedNames`]) and what the CSR
//! says are joined, as the profile prescribes, into an [`IssuanceRequest`].
//!
//! [`prepare`] then decides everything and signs nothing: each name that will stand in the
//! certificate is held against the profile, the lifetime is fitted, and the exact bytes to be
//! signed are laid out and held against the standards (`lint.rs`). [`Prepared::sign`] can be called once; it signs, reads the result back
//! with an independent decoder and compares. The rarer certificates of authorities take the same
//! way through [`prepare_root`] and [`prepare_intermediate`], those of issuers without a profile through
//! [`prepare_plain`], and revocation lists one of their own:
//! [`UnsignedCrl`] becomes [`SignedCrl`].
//!
//! Keys live behind [`Signer`], a blocking trait. Time, serial numbers and randomness for serial
//! numbers are arguments: nothing here reads a clock, opens a file or logs.

mod algorithm;
mod ca;
mod certificate;
mod chain;
mod check;
mod crl;
mod csr;
mod describe;
mod emit;
mod error;
mod extension;
mod hostname;
mod issuer;
mod key;
mod key_policy;
mod lint;
mod names;
mod ocsp;
mod pem;
mod plain;
mod prepare;
mod profile;
mod public_key;
mod renewal;
mod serial;
mod spiffe;
mod subject;
mod tbs;
mod time;
mod uri;

pub use algorithm::{Curve, Hash, KeySpec, KeyType, MlDsa, SignatureAlgorithm};
pub use ca::{
    CaRequest, CsrError, CsrRequest, SignedCsr, create_csr, prepare_intermediate, prepare_root,
    prepare_self_issued,
};
pub use certificate::{Certificate, ExtendedKeyUsage, KeyUsage};
pub use chain::{BundleError, ImportedBundle, build_chains};
pub use crl::{
    CrlEntry, CrlExtension, CrlHead, CrlTimes, ImportedCrl, ImportedEntry, SignedCrl, UnsignedCrl, crl_pem,
    reserved_crl_extension,
};
pub use csr::VerifiedCsr;
pub use error::{CertificateError, KeyError, ProfileError, Refusal, SignError, Warning};
pub use issuer::{AiaUrls, Issuer, IssuerOptions, LeafNotAfter};
pub use key::{KeyForm, PrivateKey, Signer, SubjectKey};
pub use key_policy::KeyPolicy;
pub use lint::{Finding, Lint, LintGroup, LintMode, LintPolicy, LintSeverity};
pub use names::{OtherName, RequestedNames, SanSet};
pub use ocsp::{
    CertId, CertStatus, IssuerHash, OcspError, OcspRefusal, OcspRequest, OcspResponse, PreparedResponse,
    Responder,
};
pub use plain::{PlainRequest, PlainSigner, prepare_plain};
pub use prepare::{IssuanceRequest, IssuedCertificate, MountLimits, Prepared, prepare};
pub use profile::{NotAfterBound, NotBeforeBound, PolicyIdentifier, Profile, ProfileConfig};
pub use public_key::{PublicKey, VerifyingKey};
pub use renewal::renewal_time;
pub use serial::SerialNumber;
pub use spiffe::{SpiffeError, SpiffeId, TrustDomain};
pub use subject::Subject;
pub use time::Time;
