//! What issuers that sign here have in common: a CertificateRequest's words in those of X.509.

use aws_lc_rs::rand;
use chancery_issuance::{
    Certificate, ExtendedKeyUsage, KeyPolicy, KeyUsage, PlainRequest, PlainSigner, SerialNumber, VerifiedCsr,
    prepare_plain,
};
use chancery_kubernetes::cert_manager::KeyUsage as Usage;
use jiff::Timestamp;

use super::{DEFAULT_DURATION, Order};

/// The CSR of an order, and what is asked for it.
pub(super) struct Template {
    pub(super) csr: VerifiedCsr,
    request: PlainRequest,
}

impl Template {
    /// # Errors
    /// The CSR cannot be used.
    pub(super) fn of(order: &Order<'_>) -> Result<Self, String> {
        let csr =
            VerifiedCsr::from_pem(order.csr_pem, &KeyPolicy::any()).map_err(|error| error.to_string())?;
        let (key_usage, ext_key_usage) = usages(order.usages);
        let ttl = order.duration.unwrap_or(DEFAULT_DURATION);
        Ok(Self { csr, request: PlainRequest { key_usage, ext_key_usage, is_ca: order.is_ca, ttl } })
    }

    /// Signs. It may take milliseconds, so it goes where that harms nobody.
    ///
    /// # Errors
    /// What is asked for cannot be had from this signer.
    pub(super) fn sign(&self, signer: PlainSigner<'_>, now: Timestamp) -> Result<Certificate, String> {
        let mut random = [0; 14];
        rand::fill(&mut random).map_err(|_| "no randomness for a serial number".to_owned())?;
        let serial = SerialNumber::generate(now, random);
        let prepared = prepare_plain(&self.request, &self.csr, signer, serial, now);
        let issued =
            prepared.map_err(|error| error.to_string())?.sign().map_err(|error| error.to_string())?;
        issued.certificate().map_err(|error| error.to_string())
    }
}

/// Usages as they are written in `spec.usages`; none means the pair that servers with RSA keys need.
fn usages(asked: &[Usage]) -> (KeyUsage, Vec<ExtendedKeyUsage>) {
    let default = [Usage::DigitalSignature, Usage::KeyEncipherment];
    let asked = if asked.is_empty() { &default[..] } else { asked };
    let mut plain = Vec::new();
    let mut extended: Vec<ExtendedKeyUsage> = Vec::new();
    for usage in asked {
        match name(*usage) {
            Name::Plain(name) => plain.push(name),
            Name::Extended(name) => {
                let found = ExtendedKeyUsage::from_name(name).filter(|usage| !extended.contains(usage));
                extended.extend(found);
            }
        }
    }
    (KeyUsage::from_names(&plain), extended)
}

enum Name {
    Plain(&'static str),
    Extended(&'static str),
}

fn name(usage: Usage) -> Name {
    match usage {
        Usage::Signing | Usage::DigitalSignature => Name::Plain("DigitalSignature"),
        Usage::ContentCommitment => Name::Plain("ContentCommitment"),
        Usage::KeyEncipherment => Name::Plain("KeyEncipherment"),
        Usage::KeyAgreement => Name::Plain("KeyAgreement"),
        Usage::DataEncipherment => Name::Plain("DataEncipherment"),
        Usage::CertSign => Name::Plain("CertSign"),
        Usage::CrlSign => Name::Plain("CRLSign"),
        Usage::EncipherOnly => Name::Plain("EncipherOnly"),
        Usage::DecipherOnly => Name::Plain("DecipherOnly"),
        Usage::Any => Name::Extended("Any"),
        Usage::ServerAuth => Name::Extended("ServerAuth"),
        Usage::ClientAuth => Name::Extended("ClientAuth"),
        Usage::CodeSigning => Name::Extended("CodeSigning"),
        Usage::EmailProtection | Usage::SMime => Name::Extended("EmailProtection"),
        Usage::IpsecEndSystem => Name::Extended("IPSECEndSystem"),
        Usage::IpsecTunnel => Name::Extended("IPSECTunnel"),
        Usage::IpsecUser => Name::Extended("IPSECUser"),
        Usage::Timestamping => Name::Extended("TimeStamping"),
        Usage::OcspSigning => Name::Extended("OCSPSigning"),
        Usage::MicrosoftSgc => Name::Extended("MicrosoftServerGatedCrypto"),
        Usage::NetscapeSgc => Name::Extended("NetscapeServerGatedCrypto"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_usage_has_its_place_in_a_certificate() {
        for usage in Usage::ALL {
            let (plain, extended) = usages(&[*usage]);
            assert_eq!(plain.names().count() + extended.len(), 1, "{usage}");
        }
        let (plain, extended) = usages(&[]);
        assert_eq!(plain.names().collect::<Vec<_>>(), ["DigitalSignature", "KeyEncipherment"]);
        assert!(extended.is_empty());
        let (_, extended) = usages(&[Usage::EmailProtection, Usage::SMime]);
        assert_eq!(extended.len(), 1);
    }
}
