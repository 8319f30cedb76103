//! The messages that programs build: `ValidationOutput`, with a `CertTemplate` within, and its parts.
//!
//! Every field that the peer's messages have is declared, so that a program which sets one that cannot be
//! honoured here is told so when it runs, and not that there is no such field.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use cel::common::types::{CelStruct, Kind, Type};
use cel::common::value::{CowVal, Val};
use cel::{DeclarationError, Env, ExecutionError, StructType, Value};
use chancery_issuance::KeyUsage;

/// The types of fields.
#[derive(Debug, Clone, Copy)]
enum Of {
    Text,
    Bool,
    Int,
    UInt,
    Bytes,
    Time,
    List,
    Message(&'static str),
}

use Of::{Bool, Bytes, Int, List, Message, Text, Time, UInt};

/// Every message: its name, and its fields.
const MESSAGES: &[(&str, &[(&str, Of)])] = &[
    (
        "openbao.pki.ValidationOutput",
        &[
            ("template", Message("openbao.pki.CertTemplate")),
            ("issuer_ref", Text),
            ("use_pss", Bool),
            ("signature_bits", UInt),
            ("generate_lease", Bool),
            ("no_store", Bool),
            ("warnings", List),
            ("subject_key_id", Bytes),
            ("key_type", Text),
            ("key_bits", UInt),
        ],
    ),
    (
        "openbao.pki.CertTemplate",
        &[
            ("Version", Int),
            ("Subject", Message("openbao.pki.PKIX.Name")),
            ("NotBefore", Time),
            ("NotAfter", Time),
            ("KeyUsage", Int),
            ("ExtraExtensions", List),
            ("ExtKeyUsage", List),
            ("UnknownExtKeyUsage", List),
            ("BasicConstraintsValid", Bool),
            ("IsCA", Bool),
            ("MaxPathLen", Int),
            ("MaxPathLenZero", Bool),
            ("SubjectKeyId", Bytes),
            ("DNSNames", List),
            ("EmailAddresses", List),
            ("IPAddresses", List),
            ("URIs", List),
            ("PermittedDNSDomainsCritical", Bool),
            ("PermittedDNSDomains", List),
            ("ExcludedDNSDomains", List),
            ("PermittedIPRanges", List),
            ("ExcludedIPRanges", List),
            ("PermittedEmailAddresses", List),
            ("ExcludedEmailAddresses", List),
            ("PermittedURIDomains", List),
            ("ExcludedURIDomains", List),
            ("PolicyIdentifiers", List),
            ("Policies", List),
            ("InhibitAnyPolicy", Int),
            ("InhibitAnyPolicyZero", Bool),
            ("InhibitPolicyMapping", Int),
            ("InhibitPolicyMappingZero", Bool),
            ("RequireExplicitPolicy", Int),
            ("RequireExplicitPolicyZero", Bool),
            ("PolicyMappings", List),
        ],
    ),
    (
        "openbao.pki.PKIX.Name",
        &[
            ("Country", List),
            ("Organization", List),
            ("OrganizationUnit", List),
            ("Locality", List),
            ("Province", List),
            ("StreetAddress", List),
            ("PostalCode", List),
            ("SerialNumber", Text),
            ("CommonName", Text),
        ],
    ),
    ("openbao.pki.PKIX.Extension", &[("Id", List), ("Critical", Bool), ("Value", Bytes)]),
    ("openbao.pki.ObjectIdentifier", &[("arc", List)]),
    ("openbao.pki.OID", &[("arc", List)]),
    ("openbao.pki.net.IP", &[("IP", Bytes)]),
    (
        "openbao.pki.url.URL",
        &[
            ("Scheme", Text),
            ("Opaque", Text),
            ("User", Message("openbao.pki.Userinfo")),
            ("Host", Text),
            ("Path", Text),
            ("RawPath", Text),
            ("OmitHost", Bool),
            ("ForceQuery", Bool),
            ("RawQuery", Text),
            ("Fragment", Text),
            ("RawFragment", Text),
        ],
    ),
    ("openbao.pki.Userinfo", &[("username", Text), ("password", Text), ("password_set", Bool)]),
];

/// Extended key usages by name, in the order of their numbers.
const EXT_KEY_USAGES: &[&str] = &[
    "Any",
    "ServerAuth",
    "ClientAuth",
    "CodeSigning",
    "EmailProtection",
    "IPSECEndSystem",
    "IPSECTunnel",
    "IPSECUser",
    "TimeStamping",
    "OCSPSigning",
    "MicrosoftServerGatedCrypto",
    "NetscapeServerGatedCrypto",
    "MicrosoftCommercialCodeSigning",
    "MicrosoftKernelCodeSigning",
];

/// The names of the usages whose bits are set; `None` if there are others.
pub(super) fn key_usages(bits: i64) -> Option<Vec<String>> {
    let known = (0..).zip(KeyUsage::NAMES).filter(|(bit, _)| bits & (1 << bit) != 0);
    let names: Vec<String> = known.map(|(_, name)| (*name).to_owned()).collect();
    (bits >= 0 && bits < 1 << KeyUsage::NAMES.len()).then_some(names)
}

/// The name of an extended key usage.
pub(super) fn ext_key_usage(number: i64) -> Option<&'static str> {
    usize::try_from(number).ok().and_then(|number| EXT_KEY_USAGES.get(number)).copied()
}

/// The constants by their whole names.
pub(super) fn constants() -> [(&'static str, Value); 2] {
    let named = |prefix: &str, names: &[&str], value: fn(i64) -> i64| {
        let numbers = (0..).zip(names).map(|(index, name)| (format!("{prefix}{name}"), value(index)));
        Value::from(numbers.collect::<HashMap<String, i64>>())
    };
    let mut usages = named("KeyUsage", &KeyUsage::NAMES, |bit| 1 << bit);
    if let Value::Map(map) = &mut usages
        && let Some(map) = Arc::get_mut(&mut map.map)
    {
        map.insert("KeyUsageUnspecified".into(), Value::Int(0));
    }
    [
        ("openbao.pki.KeyUsage", usages),
        ("openbao.pki.ExtKeyUsage", named("ExtKeyUsage", EXT_KEY_USAGES, |number| number)),
    ]
}

/// Whether an expression may begin with this name because it is that of a type, a constant, or a space of
/// functions.
pub(super) fn is_a_name(name: &str) -> bool {
    const SPACES: &[&str] = &[
        "openbao",
        "PKIX",
        "net",
        "url",
        "KeyUsage",
        "ExtKeyUsage",
        "math",
        "base64",
        "strings",
        "optional",
    ];
    SPACES.contains(&name) || MESSAGES.iter().any(|(known, _)| known.rsplit('.').next() == Some(name))
}

/// Makes the messages known.
pub(super) fn add_types(env: &mut Env) -> Result<(), DeclarationError> {
    for (name, fields) in MESSAGES {
        env.add_type(MessageType { made: Type::new_struct_type(name), fields })?;
    }
    Ok(())
}

struct MessageType {
    made: Type,
    fields: &'static [(&'static str, Of)],
}

impl StructType for MessageType {
    fn get_type(&self) -> &Type {
        &self.made
    }

    fn new_value<'b, 'v>(
        &self,
        fields: BTreeMap<String, CowVal<'b, 'v>>,
    ) -> Result<Box<dyn Val + 'v>, ExecutionError> {
        let mut message = CelStruct::new(self.made.name().to_owned());
        for (field, value) in fields {
            let Some((_, of)) = self.fields.iter().find(|(known, _)| *known == field) else {
                return Err(ExecutionError::NoSuchKey(Arc::new(format!("undefined field '{field}'"))));
            };
            let given = value.get_type();
            if !of.takes(given) {
                return Err(ExecutionError::UnexpectedType {
                    got: given.name().to_owned(),
                    want: format!("{} for field '{field}'", of.name()),
                });
            }
            message.add_field_value(field, value);
        }
        Ok(Box::new(message))
    }
}

impl Of {
    fn takes(self, given: &Type) -> bool {
        match (self, given.kind()) {
            (Text, Kind::String)
            | (Bool, Kind::Boolean)
            | (Int, Kind::Int)
            | (UInt, Kind::UInt)
            | (Bytes, Kind::Bytes)
            | (Time, Kind::Timestamp)
            | (List, Kind::List) => true,
            (Message(name), Kind::Struct) => given.name() == name,
            _ => false,
        }
    }

    fn name(self) -> Cow<'static, str> {
        match self {
            Text => "string".into(),
            Bool => "bool".into(),
            Int => "int".into(),
            UInt => "uint".into(),
            Bytes => "bytes".into(),
            Time => "timestamp".into(),
            List => "list".into(),
            Message(name) => name.into(),
        }
    }
}
