//! Who asks, and what he may: bearer tokens, denials, and the reviews that others ask for.

use std::collections::HashMap;

use http::{HeaderMap, header};
use serde_json::{Value, json};

use super::kind::Kind;
use super::status::Failure;

/// What somebody may do, for `SubjectAccessReview`. `*` fits everything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// A user name, or `group:NAME`.
    pub subject: String,
    /// Such as `approve`.
    pub verb: String,
    /// Such as `cert-manager.io`; empty for the core group.
    pub group: String,
    /// The plural; with a subresource, if one is meant: `certificaterequests/status`.
    pub resource: String,
    /// The name of the object.
    pub name: String,
    /// The namespace.
    pub namespace: String,
}

impl Grant {
    /// To do something with all objects of a resource, everywhere.
    pub fn new(subject: &str, verb: &str, group: &str, resource: &str) -> Self {
        let any = || "*".to_owned();
        let [subject, verb, group, resource] = [subject, verb, group, resource].map(str::to_owned);
        Self { subject, verb, group, resource, name: any(), namespace: any() }
    }

    fn allows(&self, user: &str, groups: &[&str], asked: &Value) -> bool {
        let is_his = match self.subject.strip_prefix("group:") {
            Some(group) => groups.contains(&group),
            None => self.subject == "*" || self.subject == user,
        };
        let word = |field: &str| asked[field].as_str().unwrap_or_default();
        let resource = match word("subresource") {
            "" => word("resource").to_owned(),
            subresource => format!("{}/{subresource}", word("resource")),
        };
        is_his
            && fits(&self.verb, word("verb"))
            && fits(&self.group, word("group"))
            && fits(&self.resource, &resource)
            && fits(&self.name, word("name"))
            && fits(&self.namespace, word("namespace"))
    }
}

/// A token that was made by `serviceaccounts/token`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IssuedToken {
    /// The service account's namespace.
    pub namespace: String,
    /// The service account's name.
    pub account: String,
    /// For whom it is, as asked.
    pub audiences: Vec<String>,
    /// For how long it was asked for.
    pub seconds: u64,
    /// The token itself: in the form of a JWT, with a signature that nobody can verify.
    pub token: String,
}

/// Whom the double knows, and what it was told of them.
#[derive(Debug)]
pub(super) struct Access {
    /// What every request must bear.
    pub(super) bearer: Option<String>,
    /// The user of requests with tokens that are not known.
    pub(super) user: Value,
    pub(super) users: HashMap<String, Value>,
    /// What TokenReview says: user, audiences.
    pub(super) reviews: HashMap<String, (Value, Vec<String>)>,
    /// User, verb, resource.
    pub(super) denied: Vec<(String, String, String)>,
    pub(super) grants: Vec<Grant>,
    pub(super) issued: Vec<IssuedToken>,
}

impl Access {
    pub(super) fn new() -> Self {
        Self {
            bearer: None,
            user: user_info("system:serviceaccount:istio-system:chancery", &[]),
            users: HashMap::new(),
            reviews: HashMap::new(),
            denied: Vec::new(),
            grants: Vec::new(),
            issued: Vec::new(),
        }
    }

    /// Who sends a request.
    pub(super) fn authenticate(&self, headers: &HeaderMap) -> Result<Value, Failure> {
        let word = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let token = word(header::AUTHORIZATION.as_str()).and_then(|value| value.strip_prefix("Bearer "));
        let known = token.and_then(|token| self.users.get(token));
        if let Some(needed) = &self.bearer
            && known.is_none()
            && token != Some(needed)
        {
            return Err(Failure::unauthorized());
        }
        if let Some(user) = word("impersonate-user") {
            let groups = headers.get_all("impersonate-group").iter().filter_map(|group| group.to_str().ok());
            return Ok(user_info(user, &groups.collect::<Vec<_>>()));
        }
        Ok(known.unwrap_or(&self.user).clone())
    }

    pub(super) fn is_denied(&self, user: &str, verb: &str, resource: &str) -> bool {
        let is_it = |(users, verbs, resources): &(String, String, String)| {
            fits(users, user) && fits(verbs, verb) && fits(resources, resource)
        };
        self.denied.iter().any(is_it)
    }

    /// `authorization.k8s.io/v1` SubjectAccessReview, SelfSubjectAccessReview, LocalSubjectAccessReview.
    pub(super) fn review_access(&self, body: &Value, own: Option<&Value>) -> Value {
        let spec = &body["spec"];
        let (user, groups) = match own {
            Some(own) => (&own["username"], &own["groups"]),
            None => (&spec["user"], &spec["groups"]),
        };
        let user = user.as_str().unwrap_or_default();
        let groups: Vec<&str> = groups.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let asked = &spec["resourceAttributes"];
        let word = |field: &str| asked[field].as_str().unwrap_or_default();
        let is_denied = self.is_denied(user, word("verb"), word("resource"));
        // Whoever asks for himself may what requests of his may: all that is not denied.
        let is_granted = own.is_some() || self.grants.iter().any(|grant| grant.allows(user, &groups, asked));
        let mut review = body.clone();
        review["metadata"] = json!({ "creationTimestamp": null });
        review["status"] = if is_granted && !is_denied {
            json!({ "allowed": true, "reason": "RBAC: allowed" })
        } else {
            json!({ "allowed": false })
        };
        review
    }

    /// `authentication.k8s.io/v1` TokenReview.
    pub(super) fn review_token(&self, body: &Value) -> Value {
        let asked = &body["spec"]["audiences"];
        let asked: Vec<&str> = asked.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let found = body["spec"]["token"].as_str().and_then(|token| self.reviews.get(token));
        let status = match found {
            None => {
                json!({ "user": {}, "error": "[invalid bearer token, square/go-jose: error in cryptographic primitive]" })
            }
            Some((user, audiences)) => {
                let shared: Vec<_> = audiences.iter().filter(|one| asked.contains(&one.as_str())).collect();
                if shared.is_empty() && !asked.is_empty() {
                    let error = format!(
                        "[invalid bearer token, token audiences {audiences:?} is invalid for the target audiences {asked:?}]"
                    );
                    json!({ "user": {}, "error": error })
                } else {
                    json!({ "authenticated": true, "user": user, "audiences": shared })
                }
            }
        };
        let mut review = body.clone();
        review["kind"] = "TokenReview".into();
        review["apiVersion"] = "authentication.k8s.io/v1".into();
        review["metadata"] = json!({ "creationTimestamp": null });
        review["status"] = status;
        review
    }

    /// `authentication.k8s.io/v1` TokenRequest, of a service account that is there.
    #[expect(clippy::disallowed_methods, reason = "the double is an edge: nobody hands it a clock")]
    pub(super) fn issue(&mut self, namespace: &str, account: &Value, body: &Value) -> Result<Value, Failure> {
        const OWN: &str = "https://kubernetes.default.svc.cluster.local";
        let spec = &body["spec"];
        let asked = spec["audiences"].as_array().into_iter().flatten().filter_map(Value::as_str);
        let mut audiences: Vec<String> = asked.map(str::to_owned).collect();
        if audiences.is_empty() {
            audiences.push(OWN.into());
        }
        let seconds = spec["expirationSeconds"].as_u64().unwrap_or(3600);
        if seconds < 600 {
            let what = "spec.expirationSeconds: Invalid value: ";
            let why = "may not specify a duration less than 10 minutes";
            let message =
                format!("TokenRequest.authentication.k8s.io \"\" is invalid: {what}{seconds}: {why}");
            return Err(Failure::new(
                422,
                "Invalid",
                message,
                Some(json!({
                    "group": "authentication.k8s.io", "kind": "TokenRequest",
                    "causes": [{ "reason": "FieldValueInvalid", "field": "spec.expirationSeconds",
                        "message": format!("Invalid value: {seconds}: {why}") }],
                })),
            ));
        }
        let name = account["metadata"]["name"].as_str().unwrap_or_default();
        let now = jiff::Timestamp::now();
        let ends = now.as_second() + i64::try_from(seconds).unwrap_or(i64::MAX / 2);
        let subject = format!("system:serviceaccount:{namespace}:{name}");
        let claims = json!({
            "iss": OWN, "sub": subject, "aud": audiences, "iat": now.as_second(), "nbf": now.as_second(),
            "exp": ends, "jti": uuid::Uuid::new_v4().to_string(),
            "kubernetes.io": {
                "namespace": namespace,
                "serviceaccount": { "name": name, "uid": account["metadata"]["uid"] },
            },
        });
        let part = |value: &[u8]| data_encoding::BASE64URL_NOPAD.encode(value);
        let header = part(br#"{"alg":"RS256","kid":"double"}"#);
        let token = format!("{header}.{}.{}", part(claims.to_string().as_bytes()), part(&[7; 64]));
        let groups = ["system:serviceaccounts".to_owned(), format!("system:serviceaccounts:{namespace}")];
        let user = user_info(&subject, &groups.each_ref().map(String::as_str));
        if audiences.iter().any(|audience| audience == OWN) {
            self.users.insert(token.clone(), user.clone());
        }
        self.reviews.insert(token.clone(), (user, audiences.clone()));
        self.issued.push(IssuedToken {
            namespace: namespace.to_owned(),
            account: name.to_owned(),
            audiences: audiences.clone(),
            seconds,
            token: token.clone(),
        });
        let ends = jiff::Timestamp::from_second(ends).unwrap_or(jiff::Timestamp::MAX);
        Ok(json!({
            "kind": "TokenRequest", "apiVersion": "authentication.k8s.io/v1",
            "metadata": { "name": name, "namespace": namespace, "creationTimestamp": null },
            "spec": { "audiences": audiences, "expirationSeconds": seconds, "boundObjectRef": spec["boundObjectRef"] },
            "status": { "token": token, "expirationTimestamp": ends.strftime("%Y-%m-%dT%H:%M:%SZ").to_string() },
        }))
    }
}

/// A user, as `userInfo` names him. Everybody who was authenticated is in the group of those.
pub(super) fn user_info(name: &str, groups: &[&str]) -> Value {
    let mut groups = groups.to_vec();
    if !groups.contains(&"system:authenticated") {
        groups.push("system:authenticated");
    }
    json!({ "username": name, "uid": format!("uid-of-{name}"), "groups": groups })
}

/// A kind of reviews, for refusals.
pub(super) fn review_kind(group: &str, plural: &str) -> Kind {
    Kind { status: false, ..Kind::custom(group, "v1", plural, "") }
}

pub(super) fn fits(pattern: &str, value: &str) -> bool {
    pattern == "*" || pattern == value
}
