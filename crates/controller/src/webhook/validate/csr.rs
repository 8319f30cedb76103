//! What a CSR asks for, held against the spec that it comes with.

use std::collections::BTreeSet;

use chancery_issuance::{KeyPolicy, KeyUsage as UsageBits, Refusal, VerifiedCsr};
use chancery_kubernetes::cert_manager::{CertificateRequestSpec, KeyUsage};

/// The content of id-ce-extKeyUsage's identifier (RFC 5280, 4.2.1.12).
const EXTENDED_KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x25];

/// The usages that are meant when none are given.
const DEFAULT_USAGES: &[KeyUsage] = &[KeyUsage::DigitalSignature, KeyUsage::KeyEncipherment];

/// Why the CSR and the spec do not go together.
///
/// A CSR without the extensions passes: Istio's agents send such, and the issuer decides.
pub(super) fn check(spec: &CertificateRequestSpec) -> Result<(), String> {
    let text = spec.request.as_str().ok_or("failed to decode csr: it is no PEM text")?;
    let csr = match VerifiedCsr::from_pem(text, &KeyPolicy::any()) {
        Ok(csr) => csr,
        // Other controllers may know keys that are unknown here; ours says so when it is to sign.
        Err(
            Refusal::UnknownPublicKey | Refusal::WeakRsaKey | Refusal::KeyTooShort { .. } | Refusal::Key(_),
        ) if !spec.issuer_ref.is_ours() => return Ok(()),
        Err(refusal) => return Err(format!("failed to decode csr: {refusal}")),
    };
    let is_ca = spec.is_ca.unwrap_or_default();
    if let Some(asked) = csr.asks_for_ca()
        && asked != is_ca
    {
        return Err(format!("encoded CSR error: its basic constraints say CA {asked}, isCA is {is_ca}"));
    }
    let usages = if spec.usages.is_empty() { DEFAULT_USAGES } else { &spec.usages };
    let (bits, purposes) = split(usages, is_ca);
    if let Some(asked) = csr.key_usage()
        && asked != bits
    {
        return Err(format!(
            "encoded CSR error: its key usages are [{}], those of usages are [{}]",
            names(asked),
            names(bits)
        ));
    }
    let extended = csr.requested_extensions().find(|(oid, _)| *oid == EXTENDED_KEY_USAGE);
    if let Some((_, value)) = extended {
        let asked =
            identifiers(value).ok_or("failed to decode csr: its extended key usages are malformed")?;
        if asked != purposes {
            return Err(format!(
                "encoded CSR error: its extended key usages are [{}], those of usages are [{}]",
                dotted(&asked),
                dotted(&purposes)
            ));
        }
    }
    Ok(())
}

fn names(bits: UsageBits) -> String {
    bits.names().collect::<Vec<_>>().join(", ")
}

/// Usages as they stand in the two extensions: bits, and the contents of identifiers.
fn split(usages: &[KeyUsage], is_ca: bool) -> (UsageBits, BTreeSet<Vec<u8>>) {
    let mut bits: Vec<&str> = if is_ca { vec!["CertSign"] } else { Vec::new() };
    let mut purposes = BTreeSet::new();
    for usage in usages {
        match usage {
            KeyUsage::Signing | KeyUsage::DigitalSignature => bits.push("DigitalSignature"),
            KeyUsage::ContentCommitment => bits.push("ContentCommitment"),
            KeyUsage::KeyEncipherment => bits.push("KeyEncipherment"),
            KeyUsage::KeyAgreement => bits.push("KeyAgreement"),
            KeyUsage::DataEncipherment => bits.push("DataEncipherment"),
            KeyUsage::CertSign => bits.push("CertSign"),
            KeyUsage::CrlSign => bits.push("CRLSign"),
            KeyUsage::EncipherOnly => bits.push("EncipherOnly"),
            KeyUsage::DecipherOnly => bits.push("DecipherOnly"),
            extended => {
                purposes.insert(purpose(*extended).to_vec());
            }
        }
    }
    (UsageBits::from_names(&bits), purposes)
}

/// The content of an extended usage's identifier; empty for a usage that is a bit.
fn purpose(usage: KeyUsage) -> &'static [u8] {
    match usage {
        KeyUsage::Any => &[0x55, 0x1d, 0x25, 0x00],
        KeyUsage::ServerAuth => &[0x2b, 6, 1, 5, 5, 7, 3, 1],
        KeyUsage::ClientAuth => &[0x2b, 6, 1, 5, 5, 7, 3, 2],
        KeyUsage::CodeSigning => &[0x2b, 6, 1, 5, 5, 7, 3, 3],
        KeyUsage::EmailProtection | KeyUsage::SMime => &[0x2b, 6, 1, 5, 5, 7, 3, 4],
        KeyUsage::IpsecEndSystem => &[0x2b, 6, 1, 5, 5, 7, 3, 5],
        KeyUsage::IpsecTunnel => &[0x2b, 6, 1, 5, 5, 7, 3, 6],
        KeyUsage::IpsecUser => &[0x2b, 6, 1, 5, 5, 7, 3, 7],
        KeyUsage::Timestamping => &[0x2b, 6, 1, 5, 5, 7, 3, 8],
        KeyUsage::OcspSigning => &[0x2b, 6, 1, 5, 5, 7, 3, 9],
        // 1.3.6.1.4.1.311.10.3.3
        KeyUsage::MicrosoftSgc => &[0x2b, 6, 1, 4, 1, 0x82, 0x37, 10, 3, 3],
        // 2.16.840.1.113730.4.1
        KeyUsage::NetscapeSgc => &[0x60, 0x86, 0x48, 1, 0x86, 0xf8, 0x42, 4, 1],
        _ => &[],
    }
}

/// The extended key usages of a certificate, in the words of `usages`.
pub(crate) fn extended_usages(certificate: &chancery_issuance::Certificate) -> Vec<String> {
    let value = certificate.extension(EXTENDED_KEY_USAGE).map(|(value, _)| value);
    let found = value.and_then(identifiers).unwrap_or_default();
    found.iter().map(|oid| word(oid)).collect()
}

/// The identifiers in a SEQUENCE OF OBJECT IDENTIFIER; `None` if it is none. All of these are short.
fn identifiers(value: &[u8]) -> Option<BTreeSet<Vec<u8>>> {
    let mut rest = element(value, 0x30).filter(|(_, behind)| behind.is_empty())?.0;
    let mut found = BTreeSet::new();
    while !rest.is_empty() {
        let (oid, behind) = element(rest, 0x06)?;
        found.insert(oid.to_vec());
        rest = behind;
    }
    Some(found)
}

/// An element of this tag: its content, and what stands behind it.
fn element(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (&[found, length], rest) = bytes.split_first_chunk::<2>()?;
    let (length, rest) = match length {
        0..=0x7f => (usize::from(length), rest),
        0x81 => {
            let (&length, rest) = rest.split_first()?;
            (usize::from(length), rest)
        }
        0x82 => {
            let (length, rest) = rest.split_first_chunk::<2>()?;
            (usize::from(u16::from_be_bytes(*length)), rest)
        }
        _ => return None,
    };
    (found == tag).then_some(())?;
    rest.split_at_checked(length)
}

fn dotted(identifiers: &BTreeSet<Vec<u8>>) -> String {
    identifiers.iter().map(|oid| word(oid)).collect::<Vec<_>>().join(", ")
}

fn word(oid: &[u8]) -> String {
    let known = KeyUsage::ALL.iter().find(|usage| purpose(**usage) == oid);
    known.map_or_else(|| "another".to_owned(), |usage| usage.as_str().to_owned())
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use chancery_issuance::{CsrRequest, Curve, KeySpec, PrivateKey, RequestedNames, create_csr};
    use chancery_kubernetes::cert_manager::IssuerReference;

    use super::*;

    fn plain(is_ca: bool) -> String {
        let key = PrivateKey::generate(KeySpec::Ec(Curve::P256)).expect("a key");
        let names = RequestedNames { common_name: "a.example.com".into(), ..RequestedNames::default() };
        create_csr(&CsrRequest { names, add_basic_constraints: is_ca, ..CsrRequest::default() }, &key)
            .expect("a CSR")
            .pem
    }

    fn spec(pem: &str, usages: &[KeyUsage], is_ca: bool) -> CertificateRequestSpec {
        CertificateRequestSpec {
            request: pem.into(),
            usages: usages.to_vec(),
            is_ca: Some(is_ca),
            issuer_ref: IssuerReference { name: "i".into(), ..IssuerReference::default() },
            ..CertificateRequestSpec::default()
        }
    }

    /// A CSR with extensions, by openssl.
    fn with_extensions(extensions: &[&str]) -> Option<String> {
        let folder = tempfile::tempdir().expect("a folder");
        let key = folder.path().join("key.pem");
        let mut command = Command::new("openssl");
        command.args(["req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]);
        command.args(["-subj", "/CN=a", "-keyout"]).arg(&key);
        for extension in extensions {
            command.args(["-addext", extension]);
        }
        let output = command.output().ok()?;
        output.status.success().then(|| String::from_utf8(output.stdout).expect("PEM"))
    }

    #[test]
    fn a_csr_without_extensions_goes_with_any_usages() {
        let csr = plain(false);
        for usages in [&[][..], &[KeyUsage::ServerAuth], &[KeyUsage::CertSign]] {
            assert_eq!(check(&spec(&csr, usages, false)), Ok(()));
        }
        assert_eq!(check(&spec(&csr, &[], true)), Ok(()));
    }

    #[test]
    fn basic_constraints_are_those_of_the_spec() {
        let csr = plain(true);
        assert_eq!(check(&spec(&csr, &[KeyUsage::CertSign], true)), Ok(()));
        assert_eq!(
            check(&spec(&csr, &[], false)),
            Err("encoded CSR error: its basic constraints say CA true, isCA is false".into())
        );
    }

    #[test]
    fn usages_in_the_csr_are_those_of_the_spec() {
        let Some(csr) = with_extensions(&[
            "keyUsage=critical,digitalSignature,keyEncipherment",
            "extendedKeyUsage=serverAuth,clientAuth",
        ]) else {
            eprintln!("SKIPPED: there is no openssl");
            return;
        };
        use KeyUsage::{ClientAuth, DigitalSignature, KeyEncipherment, ServerAuth, Signing};
        let all = [ClientAuth, Signing, ServerAuth, KeyEncipherment];
        assert_eq!(check(&spec(&csr, &all, false)), Ok(()));
        for (usages, refusal) in [
            (
                &[][..],
                "encoded CSR error: its extended key usages are [server auth, client auth], those of usages are []",
            ),
            (
                &[DigitalSignature, ServerAuth, ClientAuth],
                "encoded CSR error: its key usages are [DigitalSignature, KeyEncipherment], those of usages are \
                 [DigitalSignature]",
            ),
            (
                &[DigitalSignature, KeyEncipherment, ServerAuth],
                "encoded CSR error: its extended key usages are [server auth, client auth], those of usages are [server auth]",
            ),
        ] {
            assert_eq!(check(&spec(&csr, usages, false)), Err(refusal.into()));
        }
        let pair = with_extensions(&["keyUsage=digitalSignature,keyEncipherment"]).expect("a CSR");
        assert_eq!(check(&spec(&pair, &[], false)), Ok(()), "none in the spec means the pair");
    }

    #[test]
    fn what_is_no_csr_is_refused() {
        for text in
            ["", "text", "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n"]
        {
            let refusal = check(&spec(text, &[], false)).expect_err(text);
            assert!(refusal.starts_with("failed to decode csr: "), "{refusal}");
        }
        let binary = CertificateRequestSpec { request: vec![0xff].into(), ..spec("", &[], false) };
        assert!(check(&binary).is_err());
    }

    #[test]
    fn lists_of_identifiers_are_read_with_all_their_lengths() {
        assert_eq!(identifiers(&[0x30, 0]), Some(BTreeSet::new()));
        assert_eq!(identifiers(&[0x30, 4, 6, 2, 0x2a, 3]), Some(BTreeSet::from([vec![0x2a, 3]])));
        for malformed in
            [&[][..], &[0x30], &[0x31, 0], &[0x30, 1], &[0x30, 0, 0], &[0x30, 2, 6, 1], &[0x30, 0x84, 0]]
        {
            assert_eq!(identifiers(malformed), None, "{malformed:?}");
        }
    }
}
