//! Orders (RFC 8555, 7.4): what a client wants certified, and how far it has come.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use chancery_storage::{Name, Position, StorageError, Version, Writes};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::super::Pki;
use super::account::payload;
use super::authorization::new_authorization;
use super::directory::Directory;
use super::eab::seconds;
use super::problem::{Failure, Outcome, Problem, ProblemKind};
use super::records::{
    ATTEMPTS, AccountRecord, AuthorizationRecord, AuthorizationStatus, Identifier, OrderRecord, Stored,
    collection, fresh_id, name_of, named, order_at, put_new, read, too_busy,
};
use super::{Request, json_answer};
use crate::engine::Call;
use crate::response::{Header, Response};

/// How long an order can be worked on.
pub(super) const LIFETIME: Duration = Duration::from_secs(24 * 3600);

/// The most names in one order.
pub(super) const MOST_IDENTIFIERS: usize = 100;

/// The most orders that an account makes within [`PERIOD`].
const MOST_ORDERS: usize = 1_000;
const PERIOD: Duration = Duration::from_secs(3600);

/// How many orders a page of `orders` has.
const PAGE: usize = 200;

/// How far an order has come (RFC 8555, 7.1.6).
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum OrderStatus {
    /// Some identifier is not proved yet.
    Pending,
    /// All are.
    Ready,
    /// There is a certificate.
    Valid,
    /// A proof failed, or time is over.
    Invalid,
}

impl OrderStatus {
    /// The word.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Ready => "ready",
            Self::Valid => "valid",
            Self::Invalid => "invalid",
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct NewOrder {
    #[serde(default)]
    identifiers: Vec<WantedIdentifier>,
    #[serde(default)]
    not_before: Option<Value>,
    #[serde(default)]
    not_after: Option<Value>,
    /// RFC 9773, 5
    #[serde(default)]
    replaces: Option<String>,
}

#[derive(Deserialize)]
struct WantedIdentifier {
    #[serde(rename = "type", default)]
    kind: String,
    #[serde(default)]
    value: String,
}

impl Pki {
    /// `new-order`
    pub(super) async fn new_order(&self, request: Request<'_>) -> Outcome<Response> {
        let Request { directory, call, jws, mut account } = request;
        let order: NewOrder = payload(&jws.payload)?;
        if order.not_before.is_some() || order.not_after.is_some() {
            let detail = "the request message was malformed: NotBefore and NotAfter are not supported";
            return Err(Problem::malformed(detail).into());
        }
        let identifiers = checked_identifiers(order.identifiers)?;
        permitted(directory, &identifiers)?;
        if let Some(id) = &order.replaces {
            self.check_replaced(id, &account.value, &identifiers).await?;
        }
        self.check_rate(&account.value, call.now).await?;

        let expires = call.now + LIFETIME;
        let mut authorizations = Vec::new();
        for identifier in &identifiers {
            authorizations.push(new_authorization(&account.value, identifier, expires, call.now)?);
        }
        let order = OrderRecord {
            id: fresh_id(call.now)?,
            account: account.value.id.clone(),
            authorizations: authorizations.iter().map(|one| one.id.clone()).collect(),
            identifiers,
            expires,
            serial: None,
            replaces: order.replaces,
        };
        let view = &self.mount.view;
        for _ in 0..ATTEMPTS {
            let mut writes = Writes::new();
            for authorization in &authorizations {
                let name = name_of(&authorization.id);
                put_new(&mut writes, view, collection::AUTHORIZATIONS, &name, authorization)?;
            }
            let name = name_of(&order.id);
            put_new(&mut writes, view, collection::ORDERS, &name, &order)?;
            writes.put(view, &collection::orders_of(&order.account), &name, &[])?;
            // An account that was ended meanwhile makes no more orders.
            let owner = name_of(&order.account);
            writes.expect_unchanged(view, collection::ACCOUNTS, &owner, &account.version)?;
            match view.commit(writes).await {
                Ok(()) => return Ok(answer(directory, &order, OrderStatus::Pending).status(201)),
                Err(StorageError::Conflict) => account = self.valid_account(&order.account).await?,
                Err(error) => return Err(error.into()),
            }
        }
        Err(too_busy())
    }

    /// `order/{order_id}`
    pub(super) async fn read_order(&self, request: Request<'_>) -> Outcome<Response> {
        let Request { directory, call, account, .. } = request;
        let order = self.own_order(call, &account.value).await?;
        let status = self.status_of(&order.value, call.now).await?;
        Ok(answer(directory, &order.value, status))
    }

    /// `orders` and `orders/{after}` (RFC 8555, 7.1.2.1): a page, and where the next one is.
    pub(super) async fn orders(&self, request: Request<'_>) -> Outcome<Response> {
        let Request { directory, call, account, .. } = request;
        let after: Option<Name> = match call.captures.iter().find(|(name, _)| *name == "after") {
            Some((_, id)) => Some(named(id).ok_or_else(no_order)?),
            None => None,
        };
        let collection = collection::orders_of(&account.value.id);
        let names = self.mount.view.list(&collection, after.as_ref(), PAGE).await?;
        let urls: Vec<String> =
            names.iter().map(|name| directory.url(&format!("order/{}", name.text()))).collect();
        let response = json_answer(&json!({ "orders": urls }));
        Ok(match names.last() {
            Some(last) if names.len() == PAGE => {
                let next = directory.url(&format!("orders/{}", last.text()));
                response.header(Header::Link, format!("<{next}>;rel=\"next\""))
            }
            _ => response,
        })
    }

    /// The order in the path, if it is the account's.
    pub(super) async fn own_order(
        &self,
        call: &Call,
        account: &AccountRecord,
    ) -> Outcome<Stored<OrderRecord>> {
        let capture = call.captures.iter().find(|(name, _)| *name == "order_id");
        let name = capture.and_then(|(_, id)| named(id)).ok_or_else(no_order)?;
        let order: Option<Stored<OrderRecord>> = read(&self.mount.view, collection::ORDERS, &name).await?;
        // Somebody else's looks like none.
        order.filter(|order| order.value.account == account.id).ok_or_else(no_order)
    }

    /// How far an order has come. Reads its authorizations, of which there are few.
    pub(super) async fn status_of(&self, order: &OrderRecord, now: Timestamp) -> Outcome<OrderStatus> {
        Ok(self.status_and_proofs(order, now).await?.0)
    }

    /// The same, and of a ready order the authorizations that make it so.
    pub(super) async fn status_and_proofs(
        &self,
        order: &OrderRecord,
        now: Timestamp,
    ) -> Outcome<(OrderStatus, Vec<(Name, Version)>)> {
        let mut proofs = Vec::new();
        if order.serial.is_some() {
            return Ok((OrderStatus::Valid, proofs));
        }
        if order.expires <= now {
            return Ok((OrderStatus::Invalid, proofs));
        }
        let mut status = OrderStatus::Ready;
        for id in &order.authorizations {
            let name = name_of(id);
            let authorization: Option<Stored<AuthorizationRecord>> =
                read(&self.mount.view, collection::AUTHORIZATIONS, &name).await?;
            let Some(authorization) = authorization else { return Ok((OrderStatus::Invalid, proofs)) };
            match authorization.value.status_at(now) {
                AuthorizationStatus::Valid => proofs.push((name, authorization.version)),
                AuthorizationStatus::Pending => status = OrderStatus::Pending,
                _ => return Ok((OrderStatus::Invalid, proofs)),
            }
        }
        Ok((status, proofs))
    }

    /// Whether the account may make one more order.
    async fn check_rate(&self, account: &AccountRecord, now: Timestamp) -> Outcome<()> {
        let since = order_at(now - PERIOD);
        let collection = collection::orders_of(&account.id);
        let recent = self.mount.view.list(&collection, Position::Order(since), MOST_ORDERS).await?;
        if recent.len() < MOST_ORDERS {
            return Ok(());
        }
        let detail = format!("an account makes at most {MOST_ORDERS} orders an hour");
        Err(Problem::new(ProblemKind::RateLimited, detail).into())
    }
}

/// Somebody else's order, or none: nobody learns which.
pub(super) fn no_order() -> Failure {
    Problem::malformed("order does not exist: the request message was malformed").into()
}

/// An order as it is answered.
pub(super) fn answer(directory: &Directory, order: &OrderRecord, status: OrderStatus) -> Response {
    let url = directory.url(&format!("order/{}", order.id));
    let authorizations: Vec<String> =
        order.authorizations.iter().map(|id| directory.url(&format!("authorization/{id}"))).collect();
    let mut shown = Map::new();
    shown.insert("authorizations".to_owned(), json!(authorizations));
    if order.serial.is_some() {
        shown.insert("certificate".to_owned(), format!("{url}/cert").into());
    }
    shown.insert("expires".to_owned(), seconds(order.expires).into());
    shown.insert("finalize".to_owned(), format!("{url}/finalize").into());
    shown.insert("identifiers".to_owned(), json!(order.identifiers));
    if let Some(replaces) = &order.replaces {
        shown.insert("replaces".to_owned(), json!(replaces));
    }
    shown.insert("status".to_owned(), json!(status));
    json_answer(&Value::Object(shown)).header(Header::Location, url)
}

/// Whether the directory's role lets such names be certified at all.
fn permitted(directory: &Directory, identifiers: &[Identifier]) -> Outcome<()> {
    let Some(named) = &directory.role else { return Ok(()) };
    let profile = named.role.profile()?;
    let rejected = |detail: String| {
        let detail = format!("the server will not issue certificates for the identifier: {detail}");
        Err(Problem::new(ProblemKind::RejectedIdentifier, detail).into())
    };
    for identifier in identifiers {
        match identifier {
            Identifier::Dns(name) if !profile.permits_dns_name(name) => {
                return rejected(format!("role ({}) will not issue certificate for name {name}", named.name));
            }
            Identifier::Ip(address) if !profile.config().allow_ip_sans => {
                return rejected(format!(
                    "role ({}) does not allow IP sans, so cannot issue certificate for {address}",
                    named.name
                ));
            }
            Identifier::Ip(address) if !profile.permits_ip_address(address) => {
                return rejected(format!("role ({}) will not issue certificate for {address}", named.name));
            }
            Identifier::Dns(_) | Identifier::Ip(_) => {}
        }
    }
    Ok(())
}

/// The identifiers in order, each once.
fn checked_identifiers(wanted: Vec<WantedIdentifier>) -> Result<Vec<Identifier>, Problem> {
    if wanted.is_empty() {
        return Err(Problem::malformed("an order has at least one identifier"));
    }
    if wanted.len() > MOST_IDENTIFIERS {
        let detail = format!("an order has at most {MOST_IDENTIFIERS} identifiers, not {}", wanted.len());
        return Err(Problem::malformed(detail));
    }
    let mut seen = BTreeSet::new();
    let mut identifiers = Vec::new();
    for WantedIdentifier { kind, value } in wanted {
        let identifier = match kind.as_str() {
            "" => return Err(Problem::malformed("an identifier has a 'type'")),
            _ if value.is_empty() => {
                return Err(Problem::malformed("value argument for value in 'identifiers' can not be blank"));
            }
            "dns" => Identifier::Dns(checked_name(&value)?),
            "ip" => {
                let failed = || {
                    Problem::malformed(format!(
                        "value argument ({value}) failed validation: failed parsing as IP"
                    ))
                };
                let address: IpAddr = value.parse().map_err(|_| failed())?;
                // RFC 8738, 3: in the one form that there is.
                if address.to_string() != value {
                    return Err(failed());
                }
                Identifier::Ip(address)
            }
            other => {
                return Err(Problem::new(
                    ProblemKind::UnsupportedIdentifier,
                    format!("unsupported identifier type {other}: an identifier is of an unsupported type"),
                ));
            }
        };
        if seen.insert(identifier.clone()) {
            identifiers.push(identifier);
        }
    }
    Ok(identifiers)
}

/// A DNS name as RFC 8555, 7.1.4 wants it: in lower case and ASCII, internationalised labels encoded; perhaps a wildcard
/// in place of the whole first label.
fn checked_name(value: &str) -> Result<String, Problem> {
    let failed = |why: &str| Problem::malformed(format!("value argument ({value}) failed validation: {why}"));
    if value.len() > 253 {
        return Err(Problem::malformed(format!("a name has at most 253 bytes, not {}", value.len())));
    }
    if value.parse::<IpAddr>().is_ok() {
        return Err(Problem::malformed(format!(
            "refusing to accept argument ({value}) as DNS type identifier: parsed OK as IP address"
        )));
    }
    if !value.is_ascii() {
        return Err(Problem::malformed(format!(
            "value argument ({value}) failed IDNA round-tripping to ASCII"
        )));
    }
    let name = match value.matches('*').count() {
        0 => value,
        1 if value == "*" => {
            return Err(failed(
                "invalid wildcard: wildcard must not be entire domain name; need at least two domain labels",
            ));
        }
        1 => value
            .strip_prefix("*.")
            .ok_or_else(|| failed("invalid wildcard: wildcard must be entire left-most label"))?,
        _ => {
            return Err(failed(
                "invalid wildcard: expected only one wildcard identifier in the given domain name",
            ));
        }
    };
    let is_label = |label: &str| {
        let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        (1..=63).contains(&label.len())
            && label.bytes().all(inner)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if let Some(label) = name.split('.').find(|label| !is_label(label)) {
        return Err(failed(&format!(
            "the label {label:?} is not of lower-case letters, digits and inner hyphens"
        )));
    }
    // RFC 5891, 4.2.3.1: two hyphens there mean an encoding, and this is the only one.
    let encoded = name.split('.').any(|label| label.get(2..4) == Some("--") && !label.starts_with("xn--"));
    if encoded || name.split('.').any(|label| label == "xn--") {
        return Err(failed("a label of reserved form"));
    }
    // RFC 3696, 2: a name that ends in a number is an address of some kind.
    // So do parsers of URLs, for whom hexadecimal ones are numbers too.
    let last = name.rsplit('.').next().unwrap_or_default();
    let hexadecimal =
        last.strip_prefix("0x").is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
    if hexadecimal || last.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(failed("the last label is a number"));
    }
    Ok(value.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(kind: &str, value: &str) -> Result<Vec<Identifier>, ProblemKind> {
        let one = WantedIdentifier { kind: kind.to_owned(), value: value.to_owned() };
        checked_identifiers(vec![one]).map_err(|problem| problem.kind)
    }

    #[test]
    fn names_are_taken_in_one_form_only() {
        for name in
            ["example.com", "*.example.com", "localhost", "xn--mnchen-3ya.example", "1.example", "a-b.c"]
        {
            assert_eq!(wanted("dns", name), Ok(vec![Identifier::Dns(name.to_owned())]), "{name}");
        }
        let long = format!("{}.example", "a".repeat(64));
        let longer = format!("{}example", "a.".repeat(130));
        for name in [
            "",
            "Example.com",
            "a..b",
            ".a",
            "a.",
            "-a.b",
            "a-.b",
            "a_b.c",
            "a b",
            "m\u{fc}nchen.de",
            "*",
            "*.",
            "*.*.a",
            "a.*.b",
            "b*.a",
            "127.0.0.1",
            "::1",
            "1.2.3.4.5",
            "a.b.7",
            "0x7f000001",
            "127.0.0.0x1",
            "a.0x",
            "ab--c.d",
            "xn--",
            "a\0b",
            &long,
            &longer,
        ] {
            assert_eq!(wanted("dns", name), Err(ProblemKind::Malformed), "{name:?}");
        }
    }

    #[test]
    fn addresses_are_taken_in_one_form_only() {
        for address in ["192.0.2.1", "2001:db8::1"] {
            assert!(wanted("ip", address).is_ok(), "{address}");
        }
        for address in ["192.0.2.01", "2001:DB8::1", "2001:db8:0::1", "192.0.2.1/24", "a.example"] {
            assert_eq!(wanted("ip", address), Err(ProblemKind::Malformed), "{address}");
        }
        assert_eq!(wanted("email", "a@b"), Err(ProblemKind::UnsupportedIdentifier));
        assert_eq!(wanted("", "a"), Err(ProblemKind::Malformed));
    }

    #[test]
    fn an_order_has_some_identifiers_each_once_and_not_too_many() {
        let some = |count: usize| {
            let one = |index: usize| WantedIdentifier {
                kind: "dns".to_owned(),
                value: format!("n{index}.example"),
            };
            checked_identifiers((0..count).map(one).collect())
        };
        assert!(some(0).is_err());
        assert_eq!(some(MOST_IDENTIFIERS).unwrap().len(), MOST_IDENTIFIERS);
        assert!(some(MOST_IDENTIFIERS + 1).is_err());
        let twice = || WantedIdentifier { kind: "dns".to_owned(), value: "a.example".to_owned() };
        assert_eq!(checked_identifiers(vec![twice(), twice()]).unwrap().len(), 1);
    }
}
