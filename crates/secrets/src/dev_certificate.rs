//! The certificates of a development server that speaks TLS.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use chancery_issuance::{
    AiaUrls, CaRequest, Curve, IssuanceRequest, Issuer, IssuerOptions, KeyForm, KeySpec, MountLimits,
    PrivateKey, Profile, ProfileConfig, RequestedNames, SerialNumber, Signer, SubjectKey, prepare,
    prepare_root,
};
use jiff::Timestamp;
use zeroize::Zeroizing;

use crate::error::Error;

/// A year: nobody develops longer without a restart.
const LIFETIME: Duration = Duration::from_secs(365 * 24 * 3600);

/// What a TLS listener needs, and what its clients need to believe it; all PEM.
pub struct DevCertificate {
    /// The authority, whose key is thrown away.
    pub authority: String,
    /// The server's certificate.
    pub certificate: String,
    /// Its key.
    pub private_key: Zeroizing<String>,
}

/// Makes an authority and a certificate under it for these host names and addresses.
///
/// # Errors
/// A name that cannot stand in a certificate; no random bytes.
pub fn dev_certificate(names: &[String], now: Timestamp) -> Result<DevCertificate, Error> {
    let failed =
        |error: &dyn std::fmt::Display| Error::invalid(format!("cannot make a certificate: {error}"));
    let limits = MountLimits { default_ttl: LIFETIME, max_ttl: LIFETIME };
    let spec = KeySpec::Ec(Curve::P256);

    let signer: Arc<dyn Signer> = Arc::new(PrivateKey::generate(spec).map_err(|error| failed(&error))?);
    let request = CaRequest::new("Chancery development authority", limits);
    let root = prepare_root(&request, &signer, &AiaUrls::default(), serial(now)?, now)
        .map_err(|error| failed(&error))?
        .sign()
        .map_err(|error| failed(&error))?;
    let certificate = root.certificate().map_err(|error| failed(&error))?;
    let issuer =
        Issuer::new(certificate, signer, IssuerOptions::default()).map_err(|error| failed(&error))?;

    let key = PrivateKey::generate(spec).map_err(|error| failed(&error))?;
    let profile = Profile::new(ProfileConfig {
        allow_any_name: true,
        enforce_hostnames: false,
        key_type: "ec".to_owned(),
        require_cn: false,
        ..ProfileConfig::default()
    })
    .map_err(|error| failed(&error))?;
    let (ip_sans, alt_names) =
        names.iter().cloned().partition(|name| name.parse::<std::net::IpAddr>().is_ok());
    let names = RequestedNames { alt_names, ip_sans, ..RequestedNames::default() };
    let mut request = IssuanceRequest::new(&names, None, &profile, limits).map_err(|error| failed(&error))?;
    // Not beyond the authority's own end, which is a moment earlier than ours would be.
    request.ttl = Some(LIFETIME - Duration::from_secs(3600));
    let leaf = prepare(&request, &SubjectKey::from(&key), &profile, &issuer, serial(now)?, now)
        .map_err(|error| failed(&error))?
        .sign()
        .map_err(|error| failed(&error))?;
    Ok(DevCertificate { authority: root.pem, certificate: leaf.pem, private_key: key.to_pem(KeyForm::Pkcs8) })
}

fn serial(now: Timestamp) -> Result<SerialNumber, Error> {
    let mut random = [0; 14];
    SystemRandom::new()
        .fill(&mut random)
        .map_err(|_| Error::internal("internal error", "the operating system gives no random bytes"))?;
    Ok(SerialNumber::generate(now, random))
}
