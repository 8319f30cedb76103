//! CEL roles: programs of operators decide what a certificate says.
//!
//! `program.rs` reads and runs programs within bounds, `messages.rs` has the types that they build, and
//! `template.rs` turns what one decided into an order. From there on a certificate goes the way of every leaf
//! (`leaf.rs`): the program decides instead of a role's rules, but nothing is signed without the checks.

mod messages;
mod program;
mod template;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use cel::Value;
use chancery_api::fields::Input;
use chancery_api::{Field, FieldError, Fields, Object, Ttl, fields};
use chancery_issuance::{KeyPolicy, KeySpec, KeyType, VerifiedCsr};
use chancery_storage::{Name, StorageError, Version, Writes};
use quick_cache::sync::Cache;
use serde_json::json;

use self::program::{Program, ProgramText, Variable};
use self::template::Decision;
use super::Pki;
use super::heavy;
use super::issuers::nothing;
use super::leaf::{Format, KeySource, Order};
use super::requests::Leaf;
use super::role::key_bits;
use super::roles::{ListRequest, RoleName};
use super::store::collection;
use crate::engine::Call;
use crate::error::{Error, Kind};
use crate::response::Response;

/// Programs kept ready at a time.
const PROGRAMS_IN_MEMORY: usize = 256;

/// How often a patch is tried anew where others change the same role.
const PATCH_ATTEMPTS: usize = 16;

/// The programs that are ready to run, by role. The rules are those of roles (`store.rs`): an entry goes before
/// its record is written and after it.
pub(super) struct CelRoles(Cache<String, Arc<Program>>);

impl Default for CelRoles {
    fn default() -> Self {
        Self(Cache::new(PROGRAMS_IN_MEMORY))
    }
}

fields! {
    /// Writes a CEL role.
    #[derive(Debug)]
    pub(super) struct WriteCelRole {
        path {
            /// The role's name.
            name: String,
        }
        body {
            /// `variables`, each with a `name` and an `expression`, and the `expression` that decides.
            cel_program: Option<Object>,
        }
    }
}

fields! {
    /// What a request for a certificate under a CEL role may say besides what the program asks for.
    #[derive(Debug)]
    pub(super) struct CelIssueFields {
        path {
            /// The role.
            role: String,
        }
        body {
            /// For the program.
            key_type: String = String::new(),
            /// For the program.
            key_bits: i64 = 0,
            /// For the program; not together with `not_after`.
            ttl: Option<Ttl>,
            /// For the program.
            not_before: Option<String>,
            /// For the program; not together with `ttl`.
            not_after: Option<String>,
            /// How many seconds ago the certificate begins, where the program does not say when.
            not_before_duration: i64 = 30,
            /// For the program.
            signature_bits: i64 = 0,
            /// For the program.
            use_pss: bool = false,
            /// Leaves self-signed certificates out of `ca_chain`.
            remove_roots_from_chain: bool = false,
        }
    }
}

fields! {
    /// What a request to sign a CSR under a CEL role may say besides what the program asks for.
    #[derive(Debug)]
    pub(super) struct CelSignFields {
        path {
            /// The role.
            role: String,
        }
        body {
            /// The CSR in PEM.
            csr: String = String::new(),
            /// For the program; not together with `not_after`.
            ttl: Option<Ttl>,
            /// For the program.
            not_before: Option<String>,
            /// For the program; not together with `ttl`.
            not_after: Option<String>,
            /// How many seconds ago the certificate begins, where the program does not say when.
            not_before_duration: i64 = 30,
            /// For the program.
            signature_bits: i64 = 0,
            /// For the program.
            use_pss: bool = false,
            /// Leaves self-signed certificates out of `ca_chain`.
            remove_roots_from_chain: bool = false,
        }
    }
}

/// Fields, and whatever else the program may look for.
#[derive(Debug)]
pub(super) struct WithOthers<F>(F);

impl<F: Fields> Fields for WithOthers<F> {
    fn schema() -> Vec<Field> {
        F::schema()
    }

    fn decode(input: &mut Input<'_>) -> Result<Self, FieldError> {
        let known = F::decode(input)?;
        input.rest();
        Ok(Self(known))
    }
}

/// What both kinds of requests say.
struct Asked {
    role: String,
    csr: Option<String>,
    both_ends: bool,
    not_before_duration: i64,
    remove_roots_from_chain: bool,
}

impl Pki {
    /// LIST `cel/roles`
    pub(super) async fn list_cel_roles(
        self: Arc<Self>,
        _: Call,
        body: ListRequest,
    ) -> Result<Response, Error> {
        let after = (!body.after.is_empty()).then(|| Name::new(body.after.as_str()));
        let names = self.store.view().list(collection::CEL_ROLES, after.as_ref(), body.limit()).await?;
        Response::list(&names.into_iter().map(Name::into_text).collect::<Vec<_>>())
    }

    /// GET `cel/roles/{name}`
    pub(super) async fn read_cel_role(self: Arc<Self>, _: Call, body: RoleName) -> Result<Response, Error> {
        match self.stored_cel_role(&body.name).await? {
            Some((text, _)) => shown(&body.name, &text),
            None => Err(Error::nothing_there()),
        }
    }

    /// POST `cel/roles/{name}`
    pub(super) async fn write_cel_role(
        self: Arc<Self>,
        _: Call,
        body: WriteCelRole,
    ) -> Result<Response, Error> {
        let given = body.cel_program.ok_or_else(|| Error::invalid("missing required field 'cel_program'"))?;
        let text = over(ProgramText::default(), &given)?;
        read(text.clone()).await?;
        self.put_cel_role(&body.name, &text, None).await?;
        shown(&body.name, &text)
    }

    /// PATCH `cel/roles/{name}`
    pub(super) async fn patch_cel_role(
        self: Arc<Self>,
        _: Call,
        body: WriteCelRole,
    ) -> Result<Response, Error> {
        for _ in 0..PATCH_ATTEMPTS {
            let Some((text, version)) = self.stored_cel_role(&body.name).await? else {
                return Err(Error::invalid("Unable to fetch cel role entry to patch"));
            };
            let text = match &body.cel_program {
                Some(given) => over(text, given)?,
                None => text,
            };
            read(text.clone()).await?;
            match self.put_cel_role(&body.name, &text, Some(&version)).await {
                Ok(()) => return shown(&body.name, &text),
                Err(StorageError::Conflict) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(Error::of(Kind::Busy, "the role was changed by others while it was patched; try again shortly"))
    }

    /// DELETE `cel/roles/{name}`
    pub(super) async fn delete_cel_role(self: Arc<Self>, _: Call, body: RoleName) -> Result<Response, Error> {
        self.cel_roles.0.remove(&body.name);
        let outcome = self.store.view().delete(collection::CEL_ROLES, &Name::new(body.name.as_str())).await;
        self.cel_roles.0.remove(&body.name);
        outcome?;
        nothing()
    }

    /// POST `cel/issue/{role}`
    pub(super) async fn cel_issue(
        self: Arc<Self>,
        call: Call,
        WithOthers(body): WithOthers<CelIssueFields>,
    ) -> Result<Response, Error> {
        let asked = Asked {
            role: body.role,
            csr: None,
            both_ends: both_ends(body.ttl, body.not_after.as_deref()),
            not_before_duration: body.not_before_duration,
            remove_roots_from_chain: body.remove_roots_from_chain,
        };
        self.make_by_program(call, asked).await
    }

    /// POST `cel/sign/{role}`
    pub(super) async fn cel_sign(
        self: Arc<Self>,
        call: Call,
        WithOthers(body): WithOthers<CelSignFields>,
    ) -> Result<Response, Error> {
        let asked = Asked {
            role: body.role,
            both_ends: both_ends(body.ttl, body.not_after.as_deref()),
            csr: Some(body.csr),
            not_before_duration: body.not_before_duration,
            remove_roots_from_chain: body.remove_roots_from_chain,
        };
        self.make_by_program(call, asked).await
    }

    async fn make_by_program(&self, call: Call, asked: Asked) -> Result<Response, Error> {
        let program = self.cel_program(&asked.role).await?;
        let mut given =
            vec![("request", request(&call, &asked.role)?), ("use_csr", Value::Bool(asked.csr.is_some()))];
        match asked.csr.as_deref() {
            Some(pem) if !pem.is_empty() => {
                let csr = VerifiedCsr::from_pem(pem, &KeyPolicy::any())
                    .map_err(|refusal| Error::invalid(format!("failed to parse CSR: {refusal}")))?;
                given.push(("parsed_csr", parsed_csr(&csr)));
            }
            Some(_) => given.push(("parsed_csr", Value::from(HashMap::<String, Value>::new()))),
            None => {}
        }
        let now = call.now.to_string();
        let outcome = heavy::run(move || program.run(given, &now)).await??;
        let decision = Decision::read(outcome)?;

        let issuer_ref = if decision.issuer_ref.is_empty() { "default" } else { &decision.issuer_ref };
        let authority = Arc::clone(self.store.authorities().await?.find_signing(issuer_ref)?);
        if asked.both_ends {
            return Err(Error::invalid(
                "Either ttl or not_after should be provided. Both should not be provided in the same request.",
            ));
        }
        let backdated = Duration::from_secs(u64::try_from(asked.not_before_duration).unwrap_or(0));
        let (key, key_type, bits) = match asked.csr {
            Some(csr) => (KeySource::Csr(csr), "any".to_owned(), 0),
            None => {
                let spec = wanted_key(&decision)?;
                (KeySource::Fresh(spec), spec.key_type().name().to_owned(), spec.bits())
            }
        };
        let profile = decision.profile(&key_type, bits, backdated, self.limits())?;
        let Decision { names, not_before, not_after, keep, warnings, .. } = decision;
        let leaf = Leaf {
            names,
            not_before,
            not_after,
            format: "pem".to_owned(),
            private_key_format: "der".to_owned(),
            remove_roots_from_chain: asked.remove_roots_from_chain,
            ttl: None,
        };
        let order = Order { leaf, format: Format::Pem, key, profile, authority, keep };
        let mut response = self.deliver(order, call.now).await?;
        response.warnings.extend(warnings);
        Ok(response)
    }

    /// The program of a role, ready to run.
    async fn cel_program(&self, role: &str) -> Result<Arc<Program>, Error> {
        match self.cel_roles.0.get_value_or_guard_async(role).await {
            Ok(program) => Ok(program),
            // The guard is void once somebody removes the entry.
            Err(guard) => {
                let Some((text, _)) = self.stored_cel_role(role).await? else {
                    return Err(Error::invalid("CEL role not found"));
                };
                let program = Arc::new(read(text).await?);
                let _ = guard.insert(Arc::clone(&program));
                Ok(program)
            }
        }
    }

    async fn stored_cel_role(&self, name: &str) -> Result<Option<(ProgramText, Version)>, Error> {
        match self.store.view().get(collection::CEL_ROLES, &Name::new(name)).await? {
            Some(record) => Ok(Some((record.json()?, record.version))),
            None => Ok(None),
        }
    }

    /// Writes a role; with a version, only over that.
    async fn put_cel_role(
        &self,
        name: &str,
        text: &ProgramText,
        over: Option<&Version>,
    ) -> Result<(), StorageError> {
        let (view, place) = (self.store.view(), Name::new(name));
        let mut writes = Writes::new();
        if let Some(version) = over {
            writes.expect_unchanged(view, collection::CEL_ROLES, &place, version)?;
        }
        writes.put_json(view, collection::CEL_ROLES, &place, text)?;
        self.cel_roles.0.remove(name);
        let outcome = view.commit(writes).await;
        self.cel_roles.0.remove(name);
        outcome
    }
}

/// Reads a program, which may take a while.
async fn read(text: ProgramText) -> Result<Program, Error> {
    heavy::run(move || Program::new(&text)).await?
}

/// Reads a program and runs it on a request that says nothing; for those who look for inputs that no
/// program should be able to do harm with.
///
/// # Errors
/// The sentence that a client would see.
pub fn try_program(expression: &str) -> Result<(), String> {
    let text = ProgramText { variables: Vec::new(), expression: expression.to_owned() };
    let given =
        vec![("request", Value::from(HashMap::<String, Value>::new())), ("use_csr", Value::Bool(false))];
    let ran = Program::new(&text).and_then(|program| program.run(given, "2027-01-15T08:00:00Z"));
    ran.and_then(Decision::read).map(drop).map_err(|error| error.message())
}

fn both_ends(ttl: Option<Ttl>, not_after: Option<&str>) -> bool {
    ttl.is_some_and(|ttl| !ttl.is_zero()) && not_after.is_some_and(|end| !end.is_empty())
}

fn wanted_key(decision: &Decision) -> Result<KeySpec, Error> {
    let wrong = |reason: String| {
        Error::invalid(format!("invalid cel response for key type, key bits, or signature bits: {reason}"))
    };
    let bits = match decision.key_type.as_str() {
        "any" => return Err(wrong("unknown key type any".to_owned())),
        kind => key_bits(kind, decision.key_bits).map_err(|error| wrong(error.message()))?,
    };
    KeySpec::new(&decision.key_type, u32::try_from(bits).unwrap_or(u32::MAX))
        .map_err(|error| wrong(error.to_string()))
}

fn shown(name: &str, text: &ProgramText) -> Result<Response, Error> {
    Response::data(&json!({ "name": name, "cel_program": text }))
}

/// A program with what a request gives of it. As the peer has it, names are taken in any case, and numbers as texts.
fn over(before: ProgramText, given: &Object) -> Result<ProgramText, Error> {
    let wrong = || Error::invalid("failed to decode 'cel_program'");
    let text = |value: &serde_json::Value| match value {
        serde_json::Value::String(text) => Ok(text.clone()),
        serde_json::Value::Number(number) => Ok(number.to_string()),
        serde_json::Value::Null => Ok(String::new()),
        _ => Err(wrong()),
    };
    let mut program = before;
    for (name, value) in &given.0 {
        if name.eq_ignore_ascii_case("expression") {
            program.expression = text(value)?;
        } else if name.eq_ignore_ascii_case("variables") {
            let list = match value {
                serde_json::Value::Null => &Vec::new(),
                serde_json::Value::Array(list) => list,
                _ => return Err(wrong()),
            };
            program.variables = list
                .iter()
                .map(|one| {
                    let one = one.as_object().ok_or_else(wrong)?;
                    let mut variable = Variable { name: String::new(), expression: String::new() };
                    for (field, value) in one {
                        if field.eq_ignore_ascii_case("name") {
                            variable.name = text(value)?;
                        } else if field.eq_ignore_ascii_case("expression") {
                            variable.expression = text(value)?;
                        }
                    }
                    Ok(variable)
                })
                .collect::<Result<_, Error>>()?;
        }
    }
    Ok(program)
}

/// The body as the program sees it, with what the path says.
fn request(call: &Call, role: &str) -> Result<Value, Error> {
    let body: serde_json::Map<String, serde_json::Value> = match call.body.trim_ascii() {
        b"" | b"null" => serde_json::Map::new(),
        body => serde_json::from_slice(body)
            .map_err(|error| Error::invalid(format!("failed to decode JSON input: {error}")))?,
    };
    let mut fields: HashMap<String, Value> =
        body.into_iter().map(|(name, value)| (name, from_json(value))).collect();
    fields.insert("role".to_owned(), role.into());
    Ok(fields.into())
}

fn from_json(value: serde_json::Value) -> Value {
    match value {
        serde_json::Value::Null => Value::Null,
        serde_json::Value::Bool(flag) => Value::Bool(flag),
        serde_json::Value::Number(number) => match (number.as_i64(), number.as_u64(), number.as_f64()) {
            (Some(number), _, _) => Value::Int(number),
            (None, Some(number), _) => Value::UInt(number),
            (None, None, number) => Value::Float(number.unwrap_or(f64::NAN)),
        },
        serde_json::Value::String(text) => text.into(),
        serde_json::Value::Array(list) => Value::List(Arc::new(list.into_iter().map(from_json).collect())),
        serde_json::Value::Object(fields) => {
            let fields = fields.into_iter().map(|(name, value)| (name, from_json(value)));
            fields.collect::<HashMap<String, Value>>().into()
        }
    }
}

/// A CSR as the program sees it.
fn parsed_csr(csr: &VerifiedCsr) -> Value {
    let texts = |list: &[String]| -> Value { list.to_vec().into() };
    let map = |fields: Vec<(&str, Value)>| -> Value {
        fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect::<HashMap<_, _>>().into()
    };
    let (subject, sans) = (csr.subject(), csr.sans());
    let algorithm = match csr.public_key().spec().key_type() {
        KeyType::Rsa => "RSA",
        KeyType::Ec => "ECDSA",
        KeyType::Ed25519 => "Ed25519",
        KeyType::MlDsa => "ML-DSA",
    };
    map(vec![
        ("Version", Value::Int(0)),
        ("PublicKeyAlgorithm", algorithm.into()),
        (
            "Subject",
            map(vec![
                ("CommonName", subject.common_name.as_str().into()),
                ("SerialNumber", subject.serial_number.as_str().into()),
                ("Country", texts(&subject.country)),
                ("Organization", texts(&subject.organization)),
                ("OrganizationalUnit", texts(&subject.ou)),
                ("Locality", texts(&subject.locality)),
                ("Province", texts(&subject.province)),
                ("StreetAddress", texts(&subject.street_address)),
                ("PostalCode", texts(&subject.postal_code)),
            ]),
        ),
        ("DNSNames", texts(&sans.dns)),
        ("EmailAddresses", texts(&sans.email)),
        ("IPAddresses", texts(&sans.ip.iter().map(ToString::to_string).collect::<Vec<_>>())),
        ("URIs", texts(&sans.uri)),
    ])
}
