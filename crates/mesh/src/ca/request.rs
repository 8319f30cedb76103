//! The CSR: it asks for the caller's names, and for nothing more.

use chancery_issuance::{
    Curve, KeyPolicy, KeySpec, KeyUsage, PublicKey, Refusal, SpiffeError, SpiffeId, VerifiedCsr,
};

use super::der::{self, oid};

/// The longest CSR that is looked at, in bytes of PEM. One with the largest post-quantum key needs a third of it.
pub const MAX_CSR_BYTES: usize = 32 * 1024;

/// The keys that certificates are made for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRules {
    /// The smallest RSA key, in bits. None below 2048 is ever taken.
    pub min_rsa_bits: u32,
    /// Whether EC keys are taken, on P-256, P-384 and P-521.
    pub ec: bool,
    /// Whether Ed25519 keys are taken.
    pub ed25519: bool,
    /// Whether ML-DSA keys are taken. Envoy cannot use them.
    pub ml_dsa: bool,
}

impl Default for KeyRules {
    fn default() -> Self {
        Self { min_rsa_bits: 2048, ec: true, ed25519: true, ml_dsa: false }
    }
}

impl KeyRules {
    fn allow(&self, key: &PublicKey) -> bool {
        match key.spec() {
            KeySpec::Rsa(bits) => bits >= self.min_rsa_bits.max(2048),
            KeySpec::Ec(Curve::P224) => false,
            KeySpec::Ec(_) => self.ec,
            KeySpec::Ed25519 => self.ed25519,
            KeySpec::MlDsa(_) => self.ml_dsa,
        }
    }
}

/// Why a CSR is refused. The caller itself learns nothing of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// Too long.
    #[error("CSR has {0} bytes, more than the {MAX_CSR_BYTES} that are looked at")]
    Size(usize),
    /// Not a CSR, or its own signature does not hold.
    #[error("{0}")]
    Csr(Refusal),
    /// Signed in a way that proves nothing any more.
    #[error("CSR is signed with an algorithm that is not accepted, such as SHA-1")]
    SignatureAlgorithm,
    /// A key that is never certified: RSA below 2048 bits, or of an unknown kind.
    #[error("{0}")]
    UnfitKey(Refusal),
    /// A key of a kind or size that is not certified here.
    #[error("CSR's key, {0:?}, is not accepted")]
    Key(KeySpec),
    /// A common name.
    #[error("CSR has a common name")]
    CommonName,
    /// An extension that is none of ours to give.
    #[error("CSR asks for the forbidden extension with the identifier (DER, hexadecimal) {0}")]
    ForbiddenExtension(String),
    /// A name that is no URI.
    #[error("CSR asks for a name that is no URI")]
    NotAUri,
    /// Key usages other than digitalSignature and keyEncipherment.
    #[error("CSR asks for key usages other than digitalSignature and keyEncipherment")]
    KeyUsage,
    /// Extended key usages other than serverAuth and clientAuth.
    #[error("CSR asks for extended key usages other than serverAuth and clientAuth")]
    ExtendedKeyUsage,
    /// Not a SPIFFE ID as it is written canonically.
    #[error("CSR asks for {uri:?}: {error}")]
    NotCanonical {
        /// What it asks for.
        uri: String,
        /// What is wrong with it.
        error: SpiffeError,
    },
    /// Other names than the caller's.
    #[error("CSR asks for {asked:?}, but the caller is {identities:?}")]
    Names {
        /// What it asks for.
        asked: Vec<String>,
        /// Whose certificate it may be.
        identities: Vec<String>,
    },
}

impl RequestError {
    /// A word for metrics.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Size(_) => "csr_size",
            Self::Csr(_) => "csr_malformed",
            Self::SignatureAlgorithm => "csr_signature_algorithm",
            Self::UnfitKey(_) | Self::Key(_) => "csr_key",
            Self::CommonName => "csr_common_name",
            Self::ForbiddenExtension(_) => "csr_extension",
            Self::NotAUri | Self::NotCanonical { .. } => "csr_name",
            Self::KeyUsage | Self::ExtendedKeyUsage => "csr_usage",
            Self::Names { .. } => "csr_identity",
        }
    }
}

/// A CSR that may be signed: only [`CheckedCsr::check`] makes one.
#[derive(Debug, Clone)]
pub struct CheckedCsr {
    csr: VerifiedCsr,
    identities: Vec<String>,
}

impl CheckedCsr {
    /// Holds the first PEM block of a text against what the caller may ask for.
    ///
    /// # Errors
    /// The first rule that it breaks.
    pub fn check(pem: &str, identities: &[String], keys: &KeyRules) -> Result<Self, RequestError> {
        if pem.len() > MAX_CSR_BYTES {
            return Err(RequestError::Size(pem.len()));
        }
        let csr = VerifiedCsr::from_pem(pem, &KeyPolicy::any()).map_err(|refusal| match refusal {
            Refusal::WeakRsaKey | Refusal::UnknownPublicKey => RequestError::UnfitKey(refusal),
            other => RequestError::Csr(other),
        })?;
        if csr.signature_algorithm().is_none() {
            return Err(RequestError::SignatureAlgorithm);
        }
        if !keys.allow(csr.public_key()) {
            return Err(RequestError::Key(csr.public_key().spec()));
        }
        // Of several common names each counts, not only the last.
        let common_names = der::attribute_values(csr.subject_der(), oid::COMMON_NAME);
        if common_names.is_none_or(|values| values.iter().any(|value| !value.is_empty())) {
            return Err(RequestError::CommonName);
        }
        let asked = names(&csr)?;
        let sorted = |names: &[String]| {
            let mut names = names.to_vec();
            names.sort_unstable();
            names
        };
        // A certificate without any of these names would be nobody's.
        if asked.is_empty() || sorted(&asked) != sorted(identities) {
            return Err(RequestError::Names { asked, identities: identities.to_vec() });
        }
        Ok(Self { csr, identities: asked })
    }

    /// What is to be signed: one PEM block and nothing around it, whatever stood around it in the request.
    pub fn pem(&self) -> String {
        self.csr.pem()
    }

    /// The key.
    pub fn public_key(&self) -> &PublicKey {
        self.csr.public_key()
    }

    /// The names, in the CSR's order.
    pub fn identities(&self) -> &[String] {
        &self.identities
    }
}

/// Looks at every extension; the URIs as they stand, not in a normal form that the signer might not share.
fn names(csr: &VerifiedCsr) -> Result<Vec<String>, RequestError> {
    let mut uris = Vec::new();
    for (identifier, value) in csr.requested_extensions() {
        match identifier {
            oid::SUBJECT_ALT_NAME => {
                for (tag, content) in der::sequence(value).ok_or(RequestError::NotAUri)? {
                    if tag != der::URI {
                        return Err(RequestError::NotAUri);
                    }
                    let uri = String::from_utf8_lossy(content).into_owned();
                    match SpiffeId::parse(&uri) {
                        Ok(_) => uris.push(uri),
                        Err(error) => return Err(RequestError::NotCanonical { uri, error }),
                    }
                }
            }
            oid::KEY_USAGE => {
                let allowed = KeyUsage::from_names(&["DigitalSignature", "KeyEncipherment"]);
                // Two bytes: how many bits are unused, and the bits themselves.
                let content = der::only(value, der::BIT_STRING).filter(|content| content.len() == 2);
                let usage = csr.key_usage().filter(|usage| allowed.contains(*usage));
                content.and(usage).ok_or(RequestError::KeyUsage)?;
            }
            oid::EXTENDED_KEY_USAGE => {
                let usages = der::sequence(value).ok_or(RequestError::ExtendedKeyUsage)?;
                let allowed =
                    |usage: &(u8, &[u8])| matches!(usage, (der::OID, oid::SERVER_AUTH | oid::CLIENT_AUTH));
                if !usages.iter().all(allowed) {
                    return Err(RequestError::ExtendedKeyUsage);
                }
            }
            other => {
                let identifier = data_encoding::HEXLOWER.encode(other);
                return Err(RequestError::ForbiddenExtension(identifier));
            }
        }
    }
    Ok(uris)
}

#[cfg(test)]
mod tests {
    use chancery_issuance::PrivateKey;

    use super::*;
    use crate::testing::{
        ME, attributes, basic_constraints, csr, csr_with, extended_key_usage, extension, key_usage, name,
        names, new_key, pem, sequence, tlv, uris,
    };

    fn check(csr: &str) -> Result<CheckedCsr, RequestError> {
        CheckedCsr::check(csr, &[ME.to_owned()], &KeyRules::default())
    }

    fn refused(csr: &str) -> &'static str {
        check(csr).expect_err("refused").reason()
    }

    fn file(name: &str) -> String {
        let path = format!("{}/../issuance/testdata/csr/{name}.pem", env!("CARGO_MANIFEST_DIR"));
        std::fs::read_to_string(path).expect("a test file")
    }

    #[test]
    fn the_callers_own_name_and_usual_usages_may_be_asked_for() {
        let key = new_key();
        for csr in [
            csr(&key, &[ME]),
            csr_with(&key, name(&[]), &[uris(&[ME])]),
            csr_with(&key, name(&[""]), &[uris(&[ME])]),
            csr_with(&key, attributes(&[(10, "Org"), (11, "Unit")]), &[uris(&[ME])]),
            csr_with(&key, name(&[]), &[uris(&[ME]), key_usage(5, &[0xa0]), extended_key_usage(&[2, 1])]),
            csr_with(&key, name(&[]), &[key_usage(7, &[0x80]), extended_key_usage(&[1]), uris(&[ME])]),
            csr(&key, &[ME]).replace("CERTIFICATE REQUEST", "NEW CERTIFICATE REQUEST"),
        ] {
            let checked = check(&csr).expect("accepted");
            assert_eq!(checked.identities(), [ME]);
            assert_eq!(checked.public_key(), chancery_issuance::Signer::public_key(&key));
        }
    }

    #[test]
    fn the_same_names_in_another_order_are_the_same() {
        let other = "spiffe://cluster.local/ns/a/sa/b";
        let identities = [ME.to_owned(), other.to_owned()];
        let csr = csr(&new_key(), &[other, ME]);
        let checked = CheckedCsr::check(&csr, &identities, &KeyRules::default()).expect("accepted");
        assert_eq!(checked.identities(), [other, ME]);
    }

    #[test]
    fn other_fewer_more_or_repeated_names_are_refused() {
        let key = new_key();
        let other = "spiffe://cluster.local/ns/a/sa/b";
        let both = [ME.to_owned(), other.to_owned()];
        let with = |asked: &[&str], identities: &[String]| {
            CheckedCsr::check(&csr(&key, asked), identities, &KeyRules::default())
                .expect_err("refused")
                .reason()
        };
        assert_eq!(with(&[other], &both[..1]), "csr_identity");
        assert_eq!(with(&[ME], &both), "csr_identity");
        assert_eq!(with(&[ME, other], &both[..1]), "csr_identity");
        assert_eq!(with(&[ME, ME], &both[..1]), "csr_identity");
        assert_eq!(with(&[ME, ME], &both), "csr_identity");
        assert_eq!(with(&[], &both[..1]), "csr_identity");
        assert_eq!(with(&[], &[]), "csr_identity");
        assert_eq!(refused(&csr_with(&key, name(&[]), &[])), "csr_identity");
    }

    #[test]
    fn names_that_are_no_uris_are_refused() {
        let key = new_key();
        for list in [
            &[(2, &b"example.com"[..]), (6, ME.as_bytes())][..],
            &[(6, ME.as_bytes()), (1, b"a@example.com")],
            &[(6, ME.as_bytes()), (7, &[10, 0, 0, 1])],
            &[(2, b"example.com")],
        ] {
            assert_eq!(refused(&csr_with(&key, name(&[]), &[names(list)])), "csr_name", "{list:?}");
        }
    }

    #[test]
    fn uris_are_compared_as_they_stand() {
        let key = new_key();
        for uri in [
            "SPIFFE://cluster.local/ns/sandbox/sa/httpbin",
            "spiffe://Cluster.local/ns/sandbox/sa/httpbin",
            "spiffe://cluster.local/ns/sandbox/sa/%68ttpbin",
            "spiffe://cluster.local/ns/sandbox/sa/httpbin?",
            "spiffe://cluster.local/ns/sandbox/sa/httpbin#",
            "spiffe://cluster.local:443/ns/sandbox/sa/httpbin",
            "https://example.com/",
        ] {
            assert_eq!(refused(&csr(&key, &[uri])), "csr_name", "{uri}");
        }
    }

    #[test]
    fn a_common_name_is_refused_also_if_an_empty_one_hides_it() {
        let key = new_key();
        for subject in [name(&["x"]), name(&["x", ""]), name(&["", "x"])] {
            assert_eq!(refused(&csr_with(&key, subject, &[uris(&[ME])])), "csr_common_name");
        }
    }

    #[test]
    fn other_extensions_and_usages_are_refused() {
        let key = new_key();
        let with = |further: Vec<u8>| refused(&csr_with(&key, name(&[]), &[uris(&[ME]), further]));
        assert_eq!(with(basic_constraints(false, None)), "csr_extension");
        assert_eq!(with(basic_constraints(true, None)), "csr_extension");
        assert_eq!(with(extension(&[0x55, 0x1d, 30], true, &sequence(&[]))), "csr_extension");
        assert_eq!(with(extension(&[0x2a, 3], false, &[5, 0])), "csr_extension");
        for (unused, bits) in [(2, &[0x04][..]), (1, &[0x02]), (3, &[0x88]), (6, &[0x40]), (7, &[0x80, 0x80])]
        {
            assert_eq!(with(key_usage(unused, bits)), "csr_usage", "{bits:?}");
        }
        assert_eq!(with(key_usage(0, &[])), "csr_usage");
        assert_eq!(with(extended_key_usage(&[1, 3])), "csr_usage");
        assert_eq!(
            with(extension(&[0x55, 0x1d, 37], false, &sequence(&[tlv(6, &[0x55, 0x1d, 37, 0])]))),
            "csr_usage"
        );
        assert_eq!(with(extension(&[0x55, 0x1d, 37], false, &[0x30, 0, 0])), "csr_usage");
        // Two of a kind.
        assert_eq!(with(uris(&[ME])), "csr_malformed");
    }

    #[test]
    fn what_is_no_csr_or_not_signed_by_its_key_is_refused() {
        for text in
            ["", "CSR", "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n"]
        {
            assert_eq!(refused(text), "csr_malformed", "{text:?}");
        }
        for name in
            ["signature_broken", "signed_by_another_key", "cut_short", "extension_twice", "trailing_bytes"]
        {
            assert_eq!(refused(&file(name)), "csr_malformed", "{name}");
        }
        let long = format!("{}{}", "\n".repeat(MAX_CSR_BYTES), csr(&new_key(), &[ME]));
        assert_eq!(refused(&long), "csr_size");
    }

    #[test]
    fn weak_signatures_and_keys_are_refused() {
        assert_eq!(refused(&file("signed_rsa_sha1")), "csr_signature_algorithm");
        assert_eq!(refused(&file("signed_p256_sha1")), "csr_signature_algorithm");
        assert_eq!(refused(&file("signed_rsa_md5")), "csr_malformed");
        assert_eq!(refused(&file("key_rsa1024")), "csr_key");
        for name in ["key_p224", "key_ed448"] {
            assert_eq!(refused(&file(name)), "csr_key", "{name}");
        }
        // These get past the rules for keys and signatures.
        for name in ["key_p256", "key_p384", "key_p521", "key_ed25519", "key_rsa2048", "signed_pss_salt_32"] {
            let reason = refused(&file(name));
            assert!(
                !["csr_key", "csr_signature_algorithm", "csr_malformed"].contains(&reason),
                "{name}: {reason}"
            );
        }
        let strict = KeyRules { min_rsa_bits: 3072, ec: false, ed25519: false, ml_dsa: false };
        for name in ["key_p256", "key_ed25519", "key_rsa2048"] {
            let error = CheckedCsr::check(&file(name), &[], &strict).expect_err("refused");
            assert_eq!(error.reason(), "csr_key", "{name}");
        }
    }

    #[test]
    fn only_the_block_that_was_checked_is_passed_on() {
        let (key, other): (PrivateKey, PrivateKey) = (new_key(), new_key());
        let first = csr(&key, &[ME]);
        let text = format!(
            "before\n-----BEGIN X-----\n!!\n-----END X-----\n{first}{}",
            csr(&other, &["spiffe://d/x"])
        );
        let checked = check(&text).expect("the first block that decodes");
        assert_eq!(checked.pem(), first);
        assert_eq!(pem("X", &[0]).lines().count(), 3);
    }
}
