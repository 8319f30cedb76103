//! Is this a service account's token, made for us, by an issuer we know, and good now?

use std::str::FromStr as _;
use std::time::Duration;

use data_encoding::BASE64URL_NOPAD;
use jiff::Timestamp;
use jsonwebtoken::{Algorithm, crypto};
use serde::Deserialize;

use super::keys::{Jwks, Key};
use crate::Workload;

/// What a token must say.
#[derive(Debug, Clone)]
pub struct TokenRules {
    /// Its issuer is one of these.
    pub issuers: Vec<String>,
    /// Its audiences have one of these among them.
    pub audiences: Vec<String>,
    /// How far clocks may be apart.
    pub leeway: Duration,
}

/// Why a token is not good.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// Not a signed JWT, or one without a claim that it needs.
    #[error("token is malformed: {0}")]
    Malformed(&'static str),
    /// Not signed, or with a shared secret, or in a way that is not known here.
    #[error("token's algorithm {0:?} is not accepted")]
    Algorithm(String),
    /// The header demands what is not known here (RFC 7515, 4.1.11).
    #[error("token has critical header parameters")]
    Critical,
    /// No key has the identifier that it names.
    #[error("no key has the id {0:?}")]
    UnknownKey(String),
    /// Of the keys that may have signed it none can be used with its algorithm.
    #[error("the key that token names is not for algorithm {0:?}")]
    KeyAlgorithm(String),
    /// None of the keys signed it.
    #[error("token's signature does not hold")]
    Signature,
    /// From somebody else.
    #[error("token's issuer {0:?} is not accepted")]
    Issuer(String),
    /// For somebody else.
    #[error("token's audiences {0:?} have none that is accepted")]
    Audience(Vec<String>),
    /// Not good any more.
    #[error("token expired at {0}")]
    Expired(Timestamp),
    /// Not good yet.
    #[error("token is not valid before {0}")]
    NotYet(Timestamp),
    /// Names no service account.
    #[error("token's subject {0:?} is no service account")]
    Subject(String),
    /// The subject and Kubernetes' claims speak of different service accounts.
    #[error("token's subject is {subject}, but its claims say {claims}")]
    Disagree {
        /// By `sub`.
        subject: Workload,
        /// By `kubernetes.io`.
        claims: Workload,
    },
}

impl TokenError {
    /// A word for metrics.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Malformed(_) => "token_malformed",
            Self::Algorithm(_) | Self::Critical | Self::KeyAlgorithm(_) => "token_algorithm",
            Self::UnknownKey(_) => "token_key",
            Self::Signature => "token_signature",
            Self::Issuer(_) => "issuer",
            Self::Audience(_) => "audience",
            Self::Expired(_) => "token_expired",
            Self::NotYet(_) => "token_not_yet_valid",
            Self::Subject(_) | Self::Disagree { .. } => "token_subject",
        }
    }
}

/// What a good token says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceAccountToken {
    /// Whose it is.
    pub workload: Workload,
    /// Name and UID of the pod that it is bound to.
    pub pod: Option<(String, String)>,
    /// When it ends.
    pub expires: Timestamp,
}

#[derive(Deserialize)]
struct Head {
    alg: String,
    kid: Option<String>,
    crit: Option<serde_json::Value>,
}

#[derive(Deserialize)]
struct Claims {
    iss: Option<String>,
    sub: Option<String>,
    aud: Option<Audiences>,
    /// NumericDates may have fractions (RFC 7519, 2).
    exp: Option<f64>,
    nbf: Option<f64>,
    iat: Option<f64>,
    #[serde(rename = "kubernetes.io")]
    kubernetes: Option<Kubernetes>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audiences {
    One(String),
    Several(Vec<String>),
}

#[derive(Deserialize)]
struct Kubernetes {
    namespace: Option<String>,
    serviceaccount: Option<Object>,
    pod: Option<Object>,
}

#[derive(Deserialize)]
struct Object {
    name: String,
    uid: Option<String>,
}

impl ServiceAccountToken {
    /// Reads a token: signature first, then what it says.
    ///
    /// # Errors
    /// The first rule that it breaks.
    pub fn verify(token: &str, keys: &Jwks, rules: &TokenRules, now: Timestamp) -> Result<Self, TokenError> {
        let (message, signature) = token.rsplit_once('.').ok_or(TokenError::Malformed("it has no parts"))?;
        let (head, claims) = message.split_once('.').ok_or(TokenError::Malformed("it has two parts"))?;
        if claims.contains('.') {
            return Err(TokenError::Malformed("it has more than three parts"));
        }
        check_signature(head, message, signature, keys)?;
        // Only what was signed is read.
        let claims = decode(claims).ok_or(TokenError::Malformed("its claims are not base64url"))?;
        let claims: Claims = serde_json::from_slice(&claims)
            .map_err(|_| TokenError::Malformed("its claims are not what they must be"))?;
        claims.check(rules, now)
    }
}

fn decode(part: &str) -> Option<Vec<u8>> {
    BASE64URL_NOPAD.decode(part.as_bytes()).ok()
}

fn check_signature(head: &str, message: &str, signature: &str, keys: &Jwks) -> Result<(), TokenError> {
    let head = decode(head).ok_or(TokenError::Malformed("its header is not base64url"))?;
    let head: Head = serde_json::from_slice(&head)
        .map_err(|_| TokenError::Malformed("its header is not what it must be"))?;
    if head.crit.is_some() {
        return Err(TokenError::Critical);
    }
    let algorithm = match Algorithm::from_str(&head.alg) {
        Ok(Algorithm::HS256 | Algorithm::HS384 | Algorithm::HS512) | Err(_) => {
            return Err(TokenError::Algorithm(head.alg));
        }
        Ok(algorithm) => algorithm,
    };
    let named = |key: &&Key| head.kid.is_none() || key.id.is_none() || key.id == head.kid;
    let mut candidates = keys.0.iter().filter(named).peekable();
    if candidates.peek().is_none() {
        return Err(TokenError::UnknownKey(head.kid.unwrap_or_default()));
    }
    let mut fitting = candidates.filter(|key| key.algorithms.contains(&algorithm)).peekable();
    if fitting.peek().is_none() {
        return Err(TokenError::KeyAlgorithm(head.alg));
    }
    let holds =
        |key: &Key| crypto::verify(signature, message.as_bytes(), &key.key, algorithm).unwrap_or(false);
    if fitting.any(holds) { Ok(()) } else { Err(TokenError::Signature) }
}

impl Claims {
    fn check(self, rules: &TokenRules, now: Timestamp) -> Result<ServiceAccountToken, TokenError> {
        let issuer = self.iss.ok_or(TokenError::Malformed("it has no issuer"))?;
        if !rules.issuers.contains(&issuer) {
            return Err(TokenError::Issuer(issuer));
        }
        let audiences = match self.aud {
            None => Vec::new(),
            Some(Audiences::One(audience)) => vec![audience],
            Some(Audiences::Several(audiences)) => audiences,
        };
        if !audiences.iter().any(|audience| rules.audiences.contains(audience)) {
            return Err(TokenError::Audience(audiences));
        }
        let expires = date(self.exp.ok_or(TokenError::Malformed("it has no end"))?)?;
        if now >= later(expires, rules.leeway) {
            return Err(TokenError::Expired(expires));
        }
        for begin in [self.nbf, self.iat].into_iter().flatten() {
            let begin = date(begin)?;
            if later(now, rules.leeway) < begin {
                return Err(TokenError::NotYet(begin));
            }
        }
        let pod = self.kubernetes.as_ref().and_then(|claims| claims.pod.as_ref());
        let pod = pod.and_then(|pod| Some((pod.name.clone(), pod.uid.clone()?)));
        let workload = workload(self.sub, self.kubernetes)?;
        Ok(ServiceAccountToken { workload, pod, expires })
    }
}

/// By the subject, by Kubernetes' claims, or by both; then they must agree.
fn workload(subject: Option<String>, claims: Option<Kubernetes>) -> Result<Workload, TokenError> {
    let by_claims = claims.and_then(|claims| {
        let service_account = claims.serviceaccount?.name;
        let namespace = claims.namespace?;
        (!namespace.is_empty() && !service_account.is_empty())
            .then_some(Workload { namespace, service_account })
    });
    let by_subject = subject.as_deref().map(crate::token::service_account);
    match (by_subject, by_claims) {
        (Some(Some(subject)), Some(claims)) if subject != claims => {
            Err(TokenError::Disagree { subject, claims })
        }
        (Some(Some(workload)), _) | (None, Some(workload)) => Ok(workload),
        // A subject that is somebody else's is not made good by other claims.
        (Some(None), _) | (None, None) => Err(TokenError::Subject(subject.unwrap_or_default())),
    }
}

fn date(seconds: f64) -> Result<Timestamp, TokenError> {
    let wrong = TokenError::Malformed("it has a date that is none");
    if !seconds.is_finite() || seconds < 0.0 {
        return Err(wrong);
    }
    // Far dates become the last one there is.
    Ok(Timestamp::from_second(seconds as i64).unwrap_or(Timestamp::MAX))
}

fn later(time: Timestamp, by: Duration) -> Timestamp {
    time.checked_add(by).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::hmac;
    use jsonwebtoken::EncodingKey;
    use jsonwebtoken::jwk::Jwk;
    use serde_json::{Value, json};

    use super::*;
    use crate::token::base64url;
    use crate::token::dev::{DevIssuer, TokenRequest};

    const NOW: i64 = 1_795_000_000;
    const ISSUER: &str = "https://issuer.example";

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("a time")
    }

    fn rules() -> TokenRules {
        TokenRules {
            issuers: vec!["https://other.example".to_owned(), ISSUER.to_owned()],
            audiences: vec!["istio-ca".to_owned(), "mesh".to_owned()],
            leeway: Duration::from_secs(10),
        }
    }

    fn issuer() -> (DevIssuer, Jwks) {
        let issuer = DevIssuer::generate(ISSUER).expect("an issuer");
        let keys = Jwks::parse(issuer.jwks().as_bytes()).expect("keys");
        (issuer, keys)
    }

    fn request() -> TokenRequest {
        TokenRequest {
            workload: Workload { namespace: "sandbox".to_owned(), service_account: "httpbin".to_owned() },
            audiences: vec!["istio-ca".to_owned()],
            ttl: Duration::from_secs(600),
            pod: Some(("pod-1".to_owned(), "uid-1".to_owned())),
            node: Some("node-1".to_owned()),
        }
    }

    fn claims() -> Value {
        json!({
            "iss": ISSUER, "sub": "system:serviceaccount:sandbox:httpbin", "aud": ["istio-ca"],
            "exp": NOW + 600, "nbf": NOW, "iat": NOW,
            "kubernetes.io": { "namespace": "sandbox", "serviceaccount": { "name": "httpbin", "uid": "x" } },
        })
    }

    /// The outcome of the claims after a change.
    fn with(
        change: impl FnOnce(&mut serde_json::Map<String, Value>),
    ) -> Result<ServiceAccountToken, TokenError> {
        let (issuer, keys) = issuer();
        let mut claims = claims();
        change(claims.as_object_mut().expect("an object"));
        let token = issuer.sign(claims.to_string().as_bytes()).expect("a token");
        ServiceAccountToken::verify(token.expose(), &keys, &rules(), at(NOW))
    }

    fn reason(change: impl FnOnce(&mut serde_json::Map<String, Value>)) -> &'static str {
        with(change).expect_err("refused").reason()
    }

    #[test]
    fn a_token_as_kubernetes_makes_it_names_service_account_and_pod() {
        let (issuer, keys) = issuer();
        let token = issuer.token(&request(), at(NOW)).expect("a token");
        let read =
            ServiceAccountToken::verify(token.expose(), &keys, &rules(), at(NOW)).expect("a good token");
        assert_eq!(read.workload, request().workload);
        assert_eq!(read.pod, request().pod);
        assert_eq!(read.expires, at(NOW + 600));
    }

    #[test]
    fn subject_or_claims_are_enough_but_must_agree() {
        assert!(with(|_| ()).is_ok());
        assert!(with(|claims| drop(claims.remove("sub"))).is_ok());
        assert!(with(|claims| drop(claims.remove("kubernetes.io"))).is_ok());
        assert_eq!(
            reason(|claims| claims.retain(|key, _| !["sub", "kubernetes.io"].contains(&key.as_str()))),
            "token_subject"
        );
        for subject in
            ["jane", "system:serviceaccount:sandbox:other", "system:serviceaccount:sandbox:httpbin:x", ""]
        {
            assert_eq!(reason(|claims| claims["sub"] = json!(subject)), "token_subject", "{subject}");
        }
        assert_eq!(reason(|claims| claims["kubernetes.io"]["namespace"] = json!("other")), "token_subject");
    }

    #[test]
    fn issuer_and_audience_are_ours() {
        assert_eq!(reason(|claims| claims["iss"] = json!("https://issuer.example/")), "issuer");
        assert_eq!(reason(|claims| drop(claims.remove("iss"))), "token_malformed");
        assert!(with(|claims| claims["aud"] = json!("mesh")).is_ok());
        assert!(with(|claims| claims["aud"] = json!(["x", "istio-ca"])).is_ok());
        for audience in [json!("x"), json!([]), json!(["x"]), json!(["istio-ca "])] {
            assert_eq!(reason(|claims| claims["aud"] = audience.clone()), "audience", "{audience}");
        }
        assert_eq!(reason(|claims| drop(claims.remove("aud"))), "audience");
    }

    #[test]
    fn a_token_is_good_between_its_dates_give_or_take_the_leeway() {
        for (end, reason_of) in
            [(NOW - 9, None), (NOW - 10, Some("token_expired")), (0, Some("token_expired"))]
        {
            let outcome = with(|claims| claims["exp"] = json!(end)).err();
            assert_eq!(outcome.map(|error| error.reason()), reason_of, "{end}");
        }
        for name in ["nbf", "iat"] {
            assert!(with(|claims| claims[name] = json!(NOW + 10)).is_ok());
            assert_eq!(reason(|claims| claims[name] = json!(NOW + 11)), "token_not_yet_valid");
            assert!(with(|claims| drop(claims.remove(name))).is_ok());
        }
        assert_eq!(reason(|claims| drop(claims.remove("exp"))), "token_malformed");
        assert!(with(|claims| claims["exp"] = json!(1.0e300)).is_ok());
        assert!(with(|claims| claims["exp"] = json!(NOW as f64 + 0.5)).is_ok());
        for exp in [json!(-1), json!("1795000600"), json!(null), json!([1])] {
            assert_eq!(reason(|claims| claims["exp"] = exp.clone()), "token_malformed", "{exp}");
        }
    }

    /// The token's parts.
    fn parts(token: &str) -> [String; 3] {
        let parts: Vec<_> = token.split('.').map(str::to_owned).collect();
        parts.try_into().expect("three parts")
    }

    #[test]
    fn tokens_choose_no_algorithm() {
        let (issuer, keys) = issuer();
        let token = issuer.sign(claims().to_string().as_bytes()).expect("a token");
        let [head, claims, signature] = parts(token.expose());
        let verify = |head: &Value, signature: &str| {
            let token = format!("{}.{claims}.{signature}", base64url(head.to_string().as_bytes()));
            ServiceAccountToken::verify(&token, &keys, &rules(), at(NOW)).expect_err("refused").reason()
        };
        for algorithm in ["none", "None", "", "HS256", "HS384", "HS512", "ES512", "es256"] {
            assert_eq!(verify(&json!({ "alg": algorithm }), ""), "token_algorithm", "{algorithm}");
            assert_eq!(verify(&json!({ "alg": algorithm }), &signature), "token_algorithm", "{algorithm}");
        }
        for algorithm in ["RS256", "PS256", "ES384", "EdDSA"] {
            assert_eq!(verify(&json!({ "alg": algorithm }), &signature), "token_algorithm", "{algorithm}");
        }
        // The public key as a shared secret.
        let message = format!("{}.{claims}", base64url(br#"{"alg":"HS256"}"#));
        let key = hmac::Key::new(hmac::HMAC_SHA256, issuer.jwks().as_bytes());
        let tag = base64url(hmac::sign(&key, message.as_bytes()).as_ref());
        let forged = format!("{message}.{tag}");
        let error = ServiceAccountToken::verify(&forged, &keys, &rules(), at(NOW)).expect_err("refused");
        assert_eq!(error, TokenError::Algorithm("HS256".to_owned()));
        // What is critical must be understood; keys named in the header are not.
        let kid = |more: Value| {
            let mut head: Value = serde_json::from_slice(&decode(&head).expect("base64")).expect("JSON");
            head.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
            head
        };
        assert_eq!(verify(&kid(json!({ "crit": ["b64"], "b64": false })), &signature), "token_algorithm");
        assert_eq!(
            verify(&kid(json!({ "jwk": { "kty": "oct", "k": "AA" } })), &signature),
            "token_signature"
        );
        assert_eq!(verify(&kid(json!({ "kid": "other" })), &signature), "token_key");
    }

    #[test]
    fn what_is_changed_or_cut_is_refused() {
        let (issuer, keys) = issuer();
        let token = issuer.token(&request(), at(NOW)).expect("a token");
        let [head, claims, signature] = parts(token.expose());
        let verify = |token: &str| {
            ServiceAccountToken::verify(token, &keys, &rules(), at(NOW)).map_err(|error| error.reason())
        };
        assert!(verify(&format!("{head}.{claims}.{signature}")).is_ok());
        let other = base64url(br#"{"iss":"x"}"#);
        assert_eq!(verify(&format!("{head}.{other}.{signature}")), Err("token_signature"));
        assert_eq!(verify(&format!("{head}.{claims}.")), Err("token_signature"));
        assert_eq!(verify(&format!("{head}.{claims}.{signature}A")), Err("token_signature"));
        assert_eq!(verify(&format!("{head}.{claims}=.{signature}")), Err("token_signature"));
        for text in [
            String::new(),
            "..".to_owned(),
            format!("{head}.{claims}"),
            format!("{head}.{claims}.{signature}.{signature}"),
            format!(".{claims}.{signature}"),
            format!("{claims}.{claims}.{signature}"),
        ] {
            assert_eq!(verify(&text), Err("token_malformed"), "{text:?}");
        }
        let stranger =
            DevIssuer::generate(ISSUER).expect("an issuer").token(&request(), at(NOW)).expect("a token");
        assert_eq!(verify(stranger.expose()), Err("token_key"));
    }

    #[test]
    fn claims_that_stand_twice_are_refused() {
        let (issuer, keys) = issuer();
        let text = claims().to_string().replacen('{', r#"{"sub":"system:serviceaccount:a:b","#, 1);
        let token = issuer.sign(text.as_bytes()).expect("a token");
        let error =
            ServiceAccountToken::verify(token.expose(), &keys, &rules(), at(NOW)).expect_err("refused");
        assert_eq!(error.reason(), "token_malformed");
    }

    #[test]
    fn keys_of_every_kind_verify_their_own_algorithm() {
        // RFC 8037, appendix A.
        let ed25519 = json!({ "keys": [{ "kty": "OKP", "crv": "Ed25519",
            "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo" }] });
        let keys = Jwks::parse(ed25519.to_string().as_bytes()).expect("keys");
        let token = "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc.hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg";
        // The signature holds; what it signs is not claims.
        let error = ServiceAccountToken::verify(token, &keys, &rules(), at(NOW)).expect_err("not claims");
        assert_eq!(error, TokenError::Malformed("its claims are not what they must be"));
        let broken = token.replace("hgyY0il", "hgyY0im");
        let error = ServiceAccountToken::verify(&broken, &keys, &rules(), at(NOW)).expect_err("refused");
        assert_eq!(error, TokenError::Signature);
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../testkit/testdata/keys/rsa2048.pem");
        let pem = std::fs::read_to_string(path).expect("a test key");
        let key = chancery_issuance::PrivateKey::from_pem(&pem).expect("a key");
        let key = EncodingKey::from_rsa_der(&key.to_der(chancery_issuance::KeyForm::Traditional));
        for algorithm in [Algorithm::RS256, Algorithm::PS384] {
            let jwk = Jwk::from_encoding_key(&key, algorithm).expect("a JWK");
            let keys = Jwks::parse(json!({ "keys": [jwk] }).to_string().as_bytes()).expect("keys");
            let with = |signed_with: Algorithm| {
                let head = json!({ "alg": signed_with }).to_string();
                let message =
                    format!("{}.{}", base64url(head.as_bytes()), base64url(claims().to_string().as_bytes()));
                let signature = crypto::sign(message.as_bytes(), &key, signed_with).expect("a signature");
                let token = format!("{message}.{signature}");
                ServiceAccountToken::verify(&token, &keys, &rules(), at(NOW)).map_err(|error| error.reason())
            };
            assert!(with(algorithm).is_ok(), "{algorithm:?}");
            // A key that is for one algorithm is for no other of its family.
            assert_eq!(with(Algorithm::RS512), Err("token_algorithm"));
        }
    }
}
