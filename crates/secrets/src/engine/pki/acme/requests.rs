//! The shapes of requests: what is captured from the path, and for signed ones the three parts of a JWS.
//!
//! The same requests exist below four kinds of directory, so that the captures are types of their own.

use std::marker::PhantomData;

use chancery_api::fields::{FieldError, Kind};
use chancery_api::{Field, Fields, Input};

use super::jws::Envelope;

/// A part of a path: its name and what it means.
type Capture = (&'static str, &'static str);

/// A kind of directory, by what its path names.
pub(in super::super) trait Scope: Send + 'static {
    /// In the order of the path.
    const CAPTURES: &'static [Capture];
}

const ISSUER: Capture = ("issuer_ref", "The issuer: `default`, a name or an id.");
const ROLE: Capture = ("role", "The role.");

/// `acme/`
pub(in super::super) struct OfMount;
/// `roles/{role}/acme/`
pub(in super::super) struct OfRole;
/// `issuer/{issuer_ref}/acme/`
pub(in super::super) struct OfIssuer;
/// `issuer/{issuer_ref}/roles/{role}/acme/`
pub(in super::super) struct OfIssuerAndRole;

impl Scope for OfMount {
    const CAPTURES: &'static [Capture] = &[];
}

impl Scope for OfRole {
    const CAPTURES: &'static [Capture] = &[ROLE];
}

impl Scope for OfIssuer {
    const CAPTURES: &'static [Capture] = &[ISSUER];
}

impl Scope for OfIssuerAndRole {
    const CAPTURES: &'static [Capture] = &[ISSUER, ROLE];
}

/// What a path names within its directory.
pub(in super::super) trait Named: Send + 'static {
    /// In the order of the path.
    const CAPTURES: &'static [Capture];
}

macro_rules! named {
    ($($(#[$meta:meta])* $name:ident: $captures:expr;)*) => {
        $(
            $(#[$meta])*
            pub(in super::super) struct $name;

            impl Named for $name {
                const CAPTURES: &'static [Capture] = $captures;
            }
        )*
    };
}

named! {
    /// Nothing.
    Nothing: &[];
    /// `account/{kid}`
    Account: &[("kid", "The account's id.")];
    /// `order/{order_id}`
    Order: &[("order_id", "The order's id.")];
    /// `orders/{after}`
    Orders: &[("after", "The last order of the page before.")];
    /// `authorization/{auth_id}`
    Authorization: &[("auth_id", "The authorization's id.")];
    /// `challenge/{auth_id}/{challenge_type}`
    Challenge: &[("auth_id", "The authorization's id."), ("challenge_type", "Which of its challenges.")];
    /// `renewal-info/{certificate_id}`
    CertificateId: &[("certificate_id", "The certificate: key identifier of its issuer and serial number.")];
}

/// A request without a signature.
pub(in super::super) struct Asked<S, N>(PhantomData<fn() -> (S, N)>);

/// A request that is signed.
pub(in super::super) struct Signed<S, N> {
    pub(super) content: SignedContent,
    paths: PhantomData<fn() -> (S, N)>,
}

/// What is signed, wherever it was sent.
pub(in super::super) struct SignedContent {
    /// The three parts.
    pub(super) envelope: Envelope,
    /// Whether there were parts that nobody signed.
    pub(super) unsigned_parts: bool,
}

fn captures<S: Scope, N: Named>() -> impl Iterator<Item = &'static Capture> {
    S::CAPTURES.iter().chain(N::CAPTURES)
}

fn path_fields<S: Scope, N: Named>() -> Vec<Field> {
    captures::<S, N>()
        .map(|(name, description)| Field {
            name,
            kind: Kind::String,
            description,
            in_path: true,
            default: None,
        })
        .collect()
}

/// The handler finds the captures in its call; here they are only taken out of the way.
fn take_captures<S: Scope, N: Named>(input: &mut Input<'_>) -> Result<(), FieldError> {
    captures::<S, N>().try_for_each(|(name, _)| input.take::<String>(name).map(drop))
}

impl<S: Scope, N: Named> Fields for Asked<S, N> {
    fn schema() -> Vec<Field> {
        path_fields::<S, N>()
    }

    fn decode(input: &mut Input<'_>) -> Result<Self, FieldError> {
        take_captures::<S, N>(input)?;
        Ok(Self(PhantomData))
    }
}

const PARTS: [Capture; 3] = [
    ("protected", "The protected header in base64url."),
    ("payload", "What is asked for, in base64url."),
    ("signature", "The signature over both, in base64url."),
];

impl<S: Scope, N: Named> Fields for Signed<S, N> {
    fn schema() -> Vec<Field> {
        let mut fields = path_fields::<S, N>();
        fields.extend(PARTS.map(|(name, description)| Field {
            name,
            kind: Kind::String,
            description,
            in_path: false,
            default: Some("".into()),
        }));
        fields
    }

    fn decode(input: &mut Input<'_>) -> Result<Self, FieldError> {
        take_captures::<S, N>(input)?;
        let mut part = |name| input.take::<String>(name).map(Option::unwrap_or_default);
        let envelope = Envelope {
            protected: part("protected")?,
            payload: part("payload")?,
            signature: part("signature")?,
        };
        // RFC 8555, 6.2: nothing unprotected, and one signature.
        let unsigned_parts = input.has("header") || input.has("signatures");
        Ok(Self { content: SignedContent { envelope, unsigned_parts }, paths: PhantomData })
    }
}
