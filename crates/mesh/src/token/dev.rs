//! An issuer of service accounts' tokens, for trying things out without a Kubernetes API.
//!
//! Its tokens look like those that Kubernetes projects into pods; whoever can read its folder can be anybody.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;
use std::time::Duration;

use aws_lc_rs::{digest, rand};
use chancery_api::Secret;
use chancery_issuance::{Curve, KeyError, KeyForm, KeySpec, PrivateKey, Signer as _};
use jiff::Timestamp;
use jsonwebtoken::{Algorithm, EncodingKey, crypto};
use serde_json::json;
use zeroize::Zeroizing;

use super::base64url;
use crate::Workload;

/// What Kubernetes calls itself inside a cluster.
pub const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";

/// The private key's file in an issuer's folder.
pub const KEY_FILE: &str = "key.pem";
/// The public keys' file in an issuer's folder.
pub const JWKS_FILE: &str = "jwks.json";

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DevError {
    /// A file cannot be read or written.
    #[error("{0}: {1}")]
    File(String, io::Error),
    /// The key cannot be made or read.
    #[error("{0}")]
    Key(#[from] KeyError),
    /// The key is of another kind.
    #[error("the key is not an EC key on P-256")]
    OtherKey,
    /// The key does not sign.
    #[error("the key does not sign: {0}")]
    Sign(String),
}

/// What a token shall say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenRequest {
    /// Whose it is.
    pub workload: Workload,
    /// Whom it is for.
    pub audiences: Vec<String>,
    /// How long it is good.
    pub ttl: Duration,
    /// Name and UID of the pod that it is bound to.
    pub pod: Option<(String, String)>,
    /// The node that the pod runs on.
    pub node: Option<String>,
}

/// A key that signs tokens with ES256.
pub struct DevIssuer {
    issuer: String,
    key: EncodingKey,
    key_id: String,
    jwks: String,
}

impl DevIssuer {
    /// With a new key.
    ///
    /// # Errors
    /// There is no key.
    pub fn generate(issuer: impl Into<String>) -> Result<Self, DevError> {
        Self::new(issuer.into(), &PrivateKey::generate(KeySpec::Ec(Curve::P256))?)
    }

    /// With the key in a folder, which is made if it is not there. The public keys are put beside it.
    ///
    /// # Errors
    /// The folder, the key or the public keys cannot be made, or the key is of another kind.
    pub fn open(folder: &Path, issuer: impl Into<String>) -> Result<Self, DevError> {
        let at = |path: &Path| {
            let path = path.display().to_string();
            move |error| DevError::File(path, error)
        };
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(at(folder))?;
        let key_path = folder.join(KEY_FILE);
        let key = match read(&key_path) {
            Ok(text) => PrivateKey::from_pem(&text)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let key = PrivateKey::generate(KeySpec::Ec(Curve::P256))?;
                let text = key.to_pem(KeyForm::Pkcs8);
                write(&key_path, text.as_bytes(), false).map_err(at(&key_path))?;
                // Another process may have been faster: then its key is the folder's.
                PrivateKey::from_pem(&read(&key_path).map_err(at(&key_path))?)?
            }
            Err(error) => return Err(at(&key_path)(error)),
        };
        let this = Self::new(issuer.into(), &key)?;
        let jwks_path = folder.join(JWKS_FILE);
        if fs::read(&jwks_path).ok().as_deref() != Some(this.jwks.as_bytes()) {
            write(&jwks_path, this.jwks.as_bytes(), true).map_err(at(&jwks_path))?;
        }
        Ok(this)
    }

    fn new(issuer: String, key: &PrivateKey) -> Result<Self, DevError> {
        if key.spec() != KeySpec::Ec(Curve::P256) {
            return Err(DevError::OtherKey);
        }
        let spki = key.public_key().spki_der();
        // An uncompressed point stands at the end: x and y, 32 bytes each (SEC 1, 2.3.3).
        let (_, point) = spki.split_at_checked(spki.len().saturating_sub(64)).ok_or(DevError::OtherKey)?;
        let (x, y) = point.split_at_checked(32).ok_or(DevError::OtherKey)?;
        let key_id = base64url(digest::digest(&digest::SHA256, spki).as_ref());
        let jwk = json!({
            "kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": key_id,
            "x": base64url(x), "y": base64url(y),
        });
        let jwks = format!("{}\n", json!({ "keys": [jwk] }));
        let key = EncodingKey::from_ec_der(&key.to_der(KeyForm::Pkcs8));
        Ok(Self { issuer, key, key_id, jwks })
    }

    /// The public keys, as a JWK Set.
    pub fn jwks(&self) -> &str {
        &self.jwks
    }

    /// Whom the tokens come from.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// A token as Kubernetes projects it into pods.
    ///
    /// # Errors
    /// The key does not sign.
    pub fn token(&self, request: &TokenRequest, now: Timestamp) -> Result<Secret, DevError> {
        let Workload { namespace, service_account } = &request.workload;
        let mut kubernetes = json!({
            "namespace": namespace,
            "serviceaccount": { "name": service_account, "uid": uid(&["sa", namespace, service_account]) },
        });
        if let Some(claims) = kubernetes.as_object_mut() {
            if let Some((name, uid)) = &request.pod {
                claims.insert("pod".to_owned(), json!({ "name": name, "uid": uid }));
            }
            if let Some(node) = &request.node {
                claims.insert("node".to_owned(), json!({ "name": node, "uid": uid(&["node", node]) }));
            }
        }
        let begin = now.as_second();
        let ttl = i64::try_from(request.ttl.as_secs()).unwrap_or(i64::MAX);
        let claims = json!({
            "aud": request.audiences,
            "exp": begin.saturating_add(ttl),
            "iat": begin,
            "iss": self.issuer,
            "jti": random_id()?,
            "kubernetes.io": kubernetes,
            "nbf": begin,
            "sub": format!("system:serviceaccount:{namespace}:{service_account}"),
        });
        self.sign(claims.to_string().as_bytes())
    }

    /// A token with these claims, whatever they are.
    ///
    /// # Errors
    /// The key does not sign.
    pub fn sign(&self, claims: &[u8]) -> Result<Secret, DevError> {
        let head = json!({ "alg": "ES256", "kid": self.key_id });
        let message = format!("{}.{}", base64url(head.to_string().as_bytes()), base64url(claims));
        let signature = crypto::sign(message.as_bytes(), &self.key, Algorithm::ES256)
            .map_err(|error| DevError::Sign(error.to_string()))?;
        Ok(Secret::new(format!("{message}.{signature}")))
    }
}

/// A UID that is always the same for the same thing.
pub fn uid(names: &[&str]) -> String {
    let hash = digest::digest(&digest::SHA256, names.join("\n").as_bytes());
    let mut bytes = [0; 16];
    bytes.iter_mut().zip(hash.as_ref()).for_each(|(to, from)| *to = *from);
    uuid(bytes)
}

fn random_id() -> Result<String, DevError> {
    let mut bytes = [0; 16];
    rand::fill(&mut bytes).map_err(|error| DevError::Sign(error.to_string()))?;
    Ok(uuid(bytes))
}

/// RFC 9562, version 4 by its form.
fn uuid(mut bytes: [u8; 16]) -> String {
    let [_, _, _, _, _, _, version, _, variant, ..] = &mut bytes;
    *version = *version & 0x0f | 0x40;
    *variant = *variant & 0x3f | 0x80;
    let hex = data_encoding::HEXLOWER.encode(&bytes);
    let part = |from, to| hex.get(from..to).unwrap_or_default();
    format!("{}-{}-{}-{}-{}", part(0, 8), part(8, 12), part(12, 16), part(16, 20), part(20, 32))
}

fn read(path: &Path) -> io::Result<Zeroizing<String>> {
    let mut file = File::open(path)?;
    let mut text = Zeroizing::new(String::new());
    file.read_to_string(&mut text)?;
    Ok(text)
}

/// Puts a file there that only its owner can read, whole or not at all. One that is there is replaced if `replace`, else
/// left alone.
fn write(path: &Path, bytes: &[u8], replace: bool) -> io::Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let new = path.with_file_name(format!(".{name}.{}", std::process::id()));
    // Left by one that was killed.
    let _ = fs::remove_file(&new);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
    // Whatever the umask says.
    file.set_permissions(fs::Permissions::from_mode(0o600))?;
    file.write_all(bytes)?;
    file.sync_all()?;
    if replace {
        return fs::rename(&new, path);
    }
    let linked = fs::hard_link(&new, path);
    fs::remove_file(&new)?;
    match linked {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::keys::Jwks;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).expect("a file").permissions().mode() & 0o777
    }

    #[test]
    fn a_folder_keeps_its_key_and_only_its_owner_reads_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let inside = folder.path().join("deep/er");
        let first = DevIssuer::open(&inside, ISSUER).expect("made");
        let second = DevIssuer::open(&inside, "https://other.example").expect("reused");
        assert_eq!(first.jwks(), second.jwks());
        assert_eq!(second.issuer(), "https://other.example");
        assert_eq!(fs::read_to_string(inside.join(JWKS_FILE)).expect("a file"), first.jwks());
        assert_eq!((mode(&inside.join(KEY_FILE)), mode(&inside.join(JWKS_FILE))), (0o600, 0o600));
        assert_eq!(mode(&inside), 0o700);
        assert_eq!(fs::read_dir(&inside).expect("a folder").count(), 2);
        // Public keys that went missing or astray come back.
        fs::write(inside.join(JWKS_FILE), "{}").expect("written");
        DevIssuer::open(&inside, ISSUER).expect("reused");
        assert_eq!(fs::read_to_string(inside.join(JWKS_FILE)).expect("a file"), first.jwks());
        assert_eq!(Jwks::parse(first.jwks().as_bytes()).expect("keys").len(), 1);
    }

    #[test]
    fn a_key_that_cannot_be_used_is_not_replaced() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join(KEY_FILE);
        let other = PrivateKey::generate(KeySpec::Ed25519).expect("a key").to_pem(KeyForm::Pkcs8);
        for text in ["nonsense", other.as_str()] {
            fs::write(&path, text).expect("written");
            assert!(DevIssuer::open(folder.path(), ISSUER).is_err());
            assert_eq!(fs::read_to_string(&path).expect("a file"), text);
        }
        assert!(matches!(DevIssuer::open(folder.path(), ISSUER), Err(DevError::OtherKey)));
    }

    #[test]
    fn tokens_have_the_claims_of_projected_ones() {
        let issuer = DevIssuer::generate(ISSUER).expect("an issuer");
        let workload = Workload { namespace: "a".to_owned(), service_account: "b".to_owned() };
        let request = TokenRequest {
            workload,
            audiences: vec!["x".to_owned(), "y".to_owned()],
            ttl: Duration::from_secs(60),
            pod: Some(("p".to_owned(), "u".to_owned())),
            node: Some("n".to_owned()),
        };
        let now = Timestamp::from_second(1_795_000_000).expect("a time");
        let token = issuer.token(&request, now).expect("a token");
        let claims = token.expose().split('.').nth(1).expect("claims");
        let claims = data_encoding::BASE64URL_NOPAD.decode(claims.as_bytes()).expect("base64url");
        let mut claims: serde_json::Value = serde_json::from_slice(&claims).expect("JSON");
        let id = claims["jti"].take();
        assert_eq!(id.as_str().expect("an id").len(), 36);
        let expected = json!({
            "aud": ["x", "y"], "iss": ISSUER, "jti": null, "sub": "system:serviceaccount:a:b",
            "exp": 1_795_000_060, "iat": 1_795_000_000, "nbf": 1_795_000_000,
            "kubernetes.io": {
                "namespace": "a",
                "serviceaccount": { "name": "b", "uid": uid(&["sa", "a", "b"]) },
                "pod": { "name": "p", "uid": "u" },
                "node": { "name": "n", "uid": uid(&["node", "n"]) },
            },
        });
        assert_eq!(claims, expected);
        assert_ne!(issuer.token(&request, now).expect("a token").expose(), token.expose());
        assert_eq!(format!("{token:?}"), "[redacted]");
    }

    #[test]
    fn the_same_names_have_the_same_uid() {
        let one = uid(&["sa", "a", "b"]);
        assert_eq!(one, uid(&["sa", "a", "b"]));
        assert_ne!(one, uid(&["sa", "ab"]));
        let shape = one.bytes().map(|byte| if byte == b'-' { '-' } else { 'x' }).collect::<String>();
        assert_eq!(shape, "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx");
        assert_eq!(one.as_bytes()[14], b'4');
    }
}
