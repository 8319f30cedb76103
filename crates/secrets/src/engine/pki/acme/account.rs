//! Accounts (RFC 8555, 7.3): made, found, changed, given another key, ended.

use std::time::Duration;

use chancery_storage::{Position, StorageError, Writes};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::super::Pki;
use super::config::EabPolicy;
use super::directory::Directory;
use super::jws::{Envelope, Jwk, Jws, KeyReference};
use super::problem::{Outcome, Problem, ProblemKind};
use super::records::{
    ATTEMPTS, AccountRecord, AccountStatus, BindingRecord, KeyIndex, Stored, collection, fresh_id, key_name,
    name_of, named, order_at, put_changed, put_new, read, too_busy,
};
use super::{Request, json_answer};
use crate::engine::Call;
use crate::response::{Header, Response};

/// The most accounts that strangers make at a mount within [`PERIOD`].
const MOST_ACCOUNTS: usize = 1_000;
const PERIOD: Duration = Duration::from_secs(3600);

/// The most contacts that an account has, and the longest of them.
const MOST_CONTACTS: usize = 10;
const LONGEST_CONTACT: usize = 254;

/// `newAccount` (RFC 8555, 7.3).
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct NewAccount {
    #[serde(default)]
    contact: Vec<String>,
    #[serde(default)]
    terms_of_service_agreed: bool,
    #[serde(default)]
    only_return_existing: bool,
    external_account_binding: Option<Envelope>,
}

/// A change of an account (RFC 8555, 7.3.2 and 7.3.6).
#[derive(Deserialize)]
struct ChangeAccount {
    contact: Option<Vec<String>>,
    status: Option<String>,
}

/// What the inner signature of `keyChange` covers (RFC 8555, 7.3.5).
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct KeyChange {
    account: String,
    old_key: Value,
}

impl AccountRecord {
    /// Its URL.
    pub(super) fn url(&self, directory: &Directory) -> String {
        directory.url(&format!("account/{}", self.id))
    }

    fn shown(&self, directory: &Directory) -> Value {
        let mut shown = Map::new();
        if !self.contact.is_empty() {
            shown.insert("contact".to_owned(), json!(self.contact));
        }
        if let Some(binding) = &self.binding {
            shown.insert("externalAccountBinding".to_owned(), json!(binding.envelope));
        }
        shown.insert("orders".to_owned(), directory.url("orders").into());
        shown.insert("status".to_owned(), json!(self.status));
        Value::Object(shown)
    }

    fn answer(&self, directory: &Directory, status: u16) -> Response {
        json_answer(&self.shown(directory)).status(status).header(Header::Location, self.url(directory))
    }
}

impl Pki {
    /// The account that a key has in a directory.
    async fn account_of(
        &self,
        thumbprint: &str,
        directory: &Directory,
    ) -> Outcome<Option<Stored<AccountRecord>>> {
        let name = key_name(thumbprint, &directory.path);
        let Some(index) = read::<KeyIndex>(&self.mount.view, collection::ACCOUNT_KEYS, &name).await? else {
            return Ok(None);
        };
        Ok(self.account(&index.value.account).await?)
    }

    /// The account of this id.
    pub(super) async fn account(
        &self,
        id: &str,
    ) -> Result<Option<Stored<AccountRecord>>, crate::error::Error> {
        match named(id) {
            Some(name) => read(&self.mount.view, collection::ACCOUNTS, &name).await,
            None => Ok(None),
        }
    }

    /// An account as it is now, if it may still do anything.
    pub(super) async fn valid_account(&self, id: &str) -> Outcome<Stored<AccountRecord>> {
        let account = self.account(id).await?.ok_or_else(|| no_account("account not found"))?;
        match account.value.status {
            AccountStatus::Valid => Ok(account),
            status => Err(not_valid(status).into()),
        }
    }

    /// `new-account`
    pub(super) async fn new_account(
        &self,
        directory: &Directory,
        call: &Call,
        jws: &Jws,
        key: &Jwk,
    ) -> Outcome<Response> {
        let request: NewAccount = payload_or_default(&jws.payload)?;
        let thumbprint = key.thumbprint();
        for _ in 0..ATTEMPTS {
            let known = self.account_of(&thumbprint, directory).await?;
            let ended = match known {
                Some(known) if known.value.status == AccountStatus::Valid => {
                    return Ok(known.value.answer(directory, 200));
                }
                // RFC 8555, 7.3.6: for good.
                Some(known) if known.value.status == AccountStatus::Deactivated => {
                    return Err(not_valid(known.value.status).into());
                }
                other => other,
            };
            if request.only_return_existing {
                return Err(no_account("an account with this key does not exist").into());
            }
            let contact = checked_contacts(&request.contact)?;
            let mut writes = Writes::new();
            let binding = match &request.external_account_binding {
                Some(envelope) => {
                    let key_id = self.redeem_binding(directory, envelope, key, &mut writes).await?;
                    Some(BindingRecord { key_id, envelope: envelope.clone() })
                }
                None if directory.config.eab_policy != EabPolicy::Never => {
                    return Err(binding_required().into());
                }
                None => None,
            };
            let view = &self.mount.view;
            // Whom tidying ended begins anew as who they were, with the orders that they may have.
            let id = match &ended {
                Some(ended) => {
                    let name = name_of(&ended.value.id);
                    writes.expect_unchanged(view, collection::ACCOUNTS, &name, &ended.version)?;
                    ended.value.id.clone()
                }
                None => {
                    self.check_new_accounts(directory, call.now).await?;
                    fresh_id(call.now)?
                }
            };
            let account = AccountRecord {
                id,
                directory: directory.path.clone(),
                jwk: key.canonical(),
                status: AccountStatus::Valid,
                contact,
                terms_of_service_agreed: request.terms_of_service_agreed,
                binding,
                created: call.now,
            };
            if ended.is_some() {
                writes.put_json(view, collection::ACCOUNTS, &name_of(&account.id), &account)?;
            } else {
                put_new(&mut writes, view, collection::ACCOUNTS, &name_of(&account.id), &account)?;
                let index = KeyIndex { account: account.id.clone() };
                let name = key_name(&thumbprint, &directory.path);
                put_new(&mut writes, view, collection::ACCOUNT_KEYS, &name, &index)?;
            }
            match view.commit(writes).await {
                Ok(()) => return Ok(account.answer(directory, 201)),
                // Somebody made an account with this key, or used this binding.
                Err(StorageError::Conflict) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(too_busy())
    }

    /// Whether one more account may be made by somebody whom no operator knows.
    async fn check_new_accounts(&self, directory: &Directory, now: Timestamp) -> Outcome<()> {
        if directory.config.eab_policy != EabPolicy::Never {
            return Ok(());
        }
        let since = Position::Order(order_at(now - PERIOD));
        let recent = self.mount.view.list(collection::ACCOUNTS, since, MOST_ACCOUNTS).await?;
        if recent.len() < MOST_ACCOUNTS {
            return Ok(());
        }
        let detail = format!("at most {MOST_ACCOUNTS} accounts an hour are made here without a binding");
        Err(Problem::new(ProblemKind::RateLimited, detail).into())
    }

    /// `account/{kid}`: a client sees its own account, whichever it names.
    pub(super) async fn change_account(&self, request: Request<'_>) -> Outcome<Response> {
        let Request { directory, jws, mut account, .. } = request;
        if jws.payload.is_empty() {
            return Ok(account.value.answer(directory, 200));
        }
        let change: ChangeAccount = payload(&jws.payload)?;
        let contact = change.contact.as_deref().map(checked_contacts).transpose()?;
        let ends = change.status.as_deref() == Some("deactivated");
        let view = &self.mount.view;
        for _ in 0..ATTEMPTS {
            if let Some(contact) = &contact {
                account.value.contact.clone_from(contact);
            }
            if ends {
                account.value.status = AccountStatus::Deactivated;
                // RFC 8555, 7.3.6: nothing of it need be kept.
                account.value.contact.clear();
            }
            let name = name_of(&account.value.id);
            let mut writes = Writes::new();
            put_changed(&mut writes, view, collection::ACCOUNTS, &name, &account)?;
            match view.commit(writes).await {
                Ok(()) => return Ok(account.value.answer(directory, 200)),
                Err(StorageError::Conflict) => {}
                Err(error) => return Err(error.into()),
            }
            account = self.valid_account(&account.value.id).await?;
        }
        Err(too_busy())
    }

    /// `key-change` (RFC 8555, 7.3.5): the old key signs what the new one signed.
    pub(super) async fn change_key(&self, request: Request<'_>) -> Outcome<Response> {
        let Request { directory, jws, mut account, .. } = request;
        let envelope: Envelope = payload(&jws.payload)?;
        let inner = Jws::parse(&envelope)?;
        let KeyReference::Jwk(new) = &inner.key else {
            return Err(Problem::malformed("the inner request names its key by 'jwk'").into());
        };
        inner.verify(new)?;
        if inner.nonce.is_some() {
            return Err(Problem::malformed("the inner request has no nonce").into());
        }
        if inner.url != jws.url {
            return Err(Problem::malformed("inner and outer request are for the same URL").into());
        }
        let change: KeyChange = payload(&inner.payload)?;
        if change.account != account.value.url(directory) {
            return Err(Problem::malformed("'account' is not the URL of the account that asks").into());
        }
        let old = Jwk::parse(change.old_key.to_string().as_bytes())?;
        if old.canonical() != account.value.jwk {
            return Err(Problem::malformed("'oldKey' is not the account's key").into());
        }
        let view = &self.mount.view;
        let new_name = key_name(&new.thumbprint(), &directory.path);
        if let Some(other) = self.account_of(&new.thumbprint(), directory).await? {
            return Err(key_in_use(&other.value, directory).into());
        }
        account.value.jwk = new.canonical();
        let mut writes = Writes::new();
        put_changed(&mut writes, view, collection::ACCOUNTS, &name_of(&account.value.id), &account)?;
        writes.delete(view, collection::ACCOUNT_KEYS, &key_name(&old.thumbprint(), &directory.path))?;
        let index = KeyIndex { account: account.value.id.clone() };
        put_new(&mut writes, view, collection::ACCOUNT_KEYS, &new_name, &index)?;
        match view.commit(writes).await {
            Ok(()) => Ok(account.value.answer(directory, 200)),
            // The account changed under us, perhaps its key: what was signed may hold no more.
            Err(StorageError::Conflict) => Err(too_busy()),
            Err(error) => Err(error.into()),
        }
    }
}

/// Said to accounts that were ended.
pub(super) fn not_valid(status: AccountStatus) -> Problem {
    let status = status.name();
    Problem::unauthorized(format!("the client lacks sufficient authorization: account in status: {status}"))
}

/// Said where nobody is known by this key or URL.
pub(super) fn no_account(what: &str) -> Problem {
    Problem::new(
        ProblemKind::AccountDoesNotExist,
        format!("{what}: the request specified an account that does not exist"),
    )
}

/// Said to those who need a binding and have none.
pub(super) fn binding_required() -> Problem {
    Problem::new(
        ProblemKind::ExternalAccountRequired,
        "the request must include a value for the 'externalAccountBinding' field",
    )
}

fn key_in_use(other: &AccountRecord, directory: &Directory) -> Problem {
    // RFC 8555, 7.3.5: 409, and where.
    Problem {
        status: Some(409),
        location: Some(other.url(directory)),
        ..Problem::malformed("the new key has an account already")
    }
}

/// A payload as a `T`.
pub(super) fn payload<T: for<'de> Deserialize<'de>>(bytes: &[u8]) -> Result<T, Problem> {
    serde_json::from_slice(bytes)
        .map_err(|error| Problem::malformed(format!("failed to json unmarshal 'payload': {error}")))
}

/// As the peer has it, no payload at all means that nothing is said.
fn payload_or_default<T: for<'de> Deserialize<'de>>(bytes: &[u8]) -> Result<T, Problem> {
    payload(if bytes.is_empty() { b"{}" } else { bytes })
}

/// Contacts that somebody can be reached at (RFC 8555, 7.3): `mailto:` with one address and nothing behind it.
fn checked_contacts(contacts: &[String]) -> Result<Vec<String>, Problem> {
    if contacts.len() > MOST_CONTACTS {
        let detail = format!("an account has at most {MOST_CONTACTS} contacts, not {}", contacts.len());
        return Err(Problem::new(ProblemKind::InvalidContact, detail));
    }
    for contact in contacts {
        let Some(address) = contact.strip_prefix("mailto:") else {
            let detail = format!("contact {contact:?} is no mailto: URL");
            return Err(Problem::new(ProblemKind::UnsupportedContact, detail));
        };
        let parts = address.split_once('@').filter(|(user, host)| !user.is_empty() && !host.is_empty());
        let plain =
            address.bytes().all(|byte| (0x21..0x7f).contains(&byte) && !matches!(byte, b',' | b'?' | b'#'));
        if parts.is_none_or(|(_, host)| host.contains('@')) || !plain || contact.len() > LONGEST_CONTACT {
            let detail = format!("contact {contact:?} is not one address of at most {LONGEST_CONTACT} bytes");
            return Err(Problem::new(ProblemKind::InvalidContact, detail));
        }
    }
    Ok(contacts.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contacts_are_mail_addresses_and_nothing_else() {
        let kind = |contact: &str| checked_contacts(&[contact.to_owned()]).err().map(|problem| problem.kind);
        assert_eq!(kind("mailto:ops@example.com"), None);
        assert_eq!(kind("tel:+1"), Some(ProblemKind::UnsupportedContact));
        for wrong in [
            "mailto:",
            "mailto:ops",
            "mailto:@example.com",
            "mailto:a@",
            "mailto:a@b@c",
            "mailto:a@b,c@d",
            "mailto:a@b?subject=x",
            "mailto:a b@c",
            "mailto:\u{fc}@c",
            &format!("mailto:{}@b", "a".repeat(300)),
        ] {
            assert_eq!(kind(wrong), Some(ProblemKind::InvalidContact), "{wrong}");
        }
        let many = vec!["mailto:a@b".to_owned(); MOST_CONTACTS + 1];
        assert_eq!(checked_contacts(&many).unwrap_err().kind, ProblemKind::InvalidContact);
    }
}
