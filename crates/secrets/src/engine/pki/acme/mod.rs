//! ACME (RFC 8555): certificates for whoever proves that a name is theirs, without a token.
//!
//! A directory is served for the mount, for each role, each issuer, and each role with each issuer. `requests.rs` and the table
//! below are its paths. A signed request is taken apart by `jws.rs`, its nonce is spent (`nonce.rs`), its signer is found
//! (`account.rs`), and then one of the files does what it asks for: `order.rs`, `authorization.rs`, `finalize.rs`, `revoke.rs`.
//! What proves a name is in `proof.rs`; `validation.rs` looks at proofs in the background, through the mount's
//! [`Prober`](crate::probe::Prober). `records.rs` says what is stored, `config.rs` what operators decide, `eab.rs` how they say
//! who may come, `renewal.rs` when to come again (RFC 9773), `problem.rs` how refusals look.
//!
//! Whatever becomes of a request, its answer carries a fresh nonce and says where the directory is.

mod account;
mod authorization;
mod config;
mod directory;
mod eab;
mod finalize;
mod jws;
mod nonce;
mod order;
mod problem;
mod proof;
mod records;
mod renewal;
mod requests;
mod revoke;
pub(super) mod tidy;
mod validation;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use serde_json::{Value, json};

use self::account::{binding_required, no_account, not_valid};
use self::config::{ConfigCache, EabPolicy};
use self::directory::Directory;
pub use self::jws::{Algorithm, Envelope, Jwk, Jws, KeyReference};
use self::nonce::Nonces;
use self::problem::{Outcome, Problem as Refusal, ProblemKind as Kind};
pub use self::problem::{Problem, ProblemKind};
use self::records::{AccountRecord, AccountStatus, Stored};
use self::requests::{
    Account, Asked, Authorization, Challenge, Nothing, OfIssuer, OfIssuerAndRole, OfMount, OfRole, Order,
    Orders, Scope, Signed, SignedContent,
};
use self::revoke::Revoker;
use self::validation::Validations;
use super::Pki;
use crate::engine::Call;
use crate::error::Error;
use crate::response::{Header, Response};
use crate::route::Routes;

/// What ACME keeps in memory for a mount.
pub(super) struct Acme {
    config: ConfigCache,
    nonces: Nonces,
    validations: Validations,
}

impl Acme {
    /// Reads nothing: what storage holds is read when it is asked for.
    pub(super) fn new() -> Result<Self, Error> {
        Ok(Self { config: ConfigCache::new(), nonces: Nonces::new()?, validations: Validations::new() })
    }
}

/// What a signed request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    NewAccount,
    ChangeAccount,
    ChangeKey,
    NewOrder,
    Orders,
    ReadOrder,
    Finalize,
    Certificate,
    Authorization,
    Challenge,
    Revoke,
}

/// A request by an account: signed with its key, for this place, and not seen before.
struct Request<'a> {
    directory: &'a Directory,
    call: &'a Call,
    jws: &'a Jws,
    account: Stored<AccountRecord>,
}

/// The paths of every directory, and those of operators.
pub(super) fn routes(routes: Routes<Pki>) -> Routes<Pki> {
    let routes = routes
        .route("config/acme", |r| {
            r.read(Pki::read_acme_config, "Reads whether and how ACME is served")
                .update(Pki::write_acme_config, "Writes whether and how ACME is served")
        })
        .route("eab", |r| r.list(Pki::list_eab, "Lists the keys for bindings that were not used yet"))
        .route("eab/{key_id}", |r| r.delete(Pki::delete_eab, "Takes back a key for a binding"));
    let routes = directory_routes!(routes, "", OfMount);
    let routes = directory_routes!(routes, "roles/{role}/", OfRole);
    let routes = directory_routes!(routes, "issuer/{issuer_ref}/", OfIssuer);
    directory_routes!(routes, "issuer/{issuer_ref}/roles/{role}/", OfIssuerAndRole)
}

/// The paths of one kind of directory.
macro_rules! directory_routes {
    ($routes:expr, $prefix:literal, $scope:ty) => {
        $routes
            .route(concat!($prefix, "acme/directory"), |r| {
                r.read(Pki::acme_directory::<$scope>, "Says where everything is")
                    .public()
                    .help("RFC 8555: where a client of ACME begins.")
            })
            .route(concat!($prefix, "acme/new-nonce"), |r| {
                r.read(Pki::new_nonce::<$scope>, "Gives a nonce").public()
            })
            .route(concat!($prefix, "acme/new-eab"), |r| {
                r.update(Pki::new_eab::<$scope>, "Makes a key with which somebody can make an account")
            })
            .route(concat!($prefix, "acme/renewal-info/{certificate_id:any}"), |r| {
                r.read(Pki::renewal_info::<$scope>, "Says when to renew a certificate (RFC 9773)").public()
            })
            .route(concat!($prefix, "acme/new-account"), |r| {
                r.update(signed::new_account::<$scope>, "Makes an account, or finds it").public()
            })
            .route(concat!($prefix, "acme/account/{kid}"), |r| {
                r.update(signed::account::<$scope>, "Reads, changes or ends an account").public()
            })
            .route(concat!($prefix, "acme/key-change"), |r| {
                r.update(signed::key_change::<$scope>, "Gives an account another key").public()
            })
            .route(concat!($prefix, "acme/new-order"), |r| {
                r.update(signed::new_order::<$scope>, "Orders a certificate").public()
            })
            .route(concat!($prefix, "acme/orders"), |r| {
                r.update(signed::orders::<$scope>, "Lists an account's orders").public()
            })
            .route(concat!($prefix, "acme/orders/{after}"), |r| {
                r.update(signed::orders_after::<$scope>, "Lists an account's later orders").public()
            })
            .route(concat!($prefix, "acme/order/{order_id}"), |r| {
                r.update(signed::order::<$scope>, "Reads an order").public()
            })
            .route(concat!($prefix, "acme/order/{order_id}/finalize"), |r| {
                r.update(signed::finalize::<$scope>, "Makes the certificate of an order")
                    .public()
                    .counted("pki.acme-finalize")
            })
            .route(concat!($prefix, "acme/order/{order_id}/cert"), |r| {
                r.update(signed::certificate::<$scope>, "Reads the certificate of an order").public()
            })
            .route(concat!($prefix, "acme/authorization/{auth_id}"), |r| {
                r.update(signed::authorization::<$scope>, "Reads an authorization, or gives it up").public()
            })
            .route(concat!($prefix, "acme/challenge/{auth_id}/{challenge_type}"), |r| {
                r.update(signed::challenge::<$scope>, "Says that a proof is there").public()
            })
            .route(concat!($prefix, "acme/revoke-cert"), |r| {
                r.update(signed::revoke_cert::<$scope>, "Revokes a certificate").public()
            })
    };
}
use directory_routes;

/// A handler for each signed request.
mod signed {
    use super::*;

    macro_rules! handlers {
        ($($name:ident: $named:ty => $action:ident;)*) => {
            $(
                pub(super) async fn $name<S: Scope>(
                    pki: Arc<Pki>,
                    call: Call,
                    body: Signed<S, $named>,
                ) -> Result<Response, Error> {
                    // Boxed, so that the program has it once and not for every path.
                    Box::pin(pki.acme_signed(call, body.content, Action::$action)).await
                }
            )*
        };
    }

    handlers! {
        new_account: Nothing => NewAccount;
        account: Account => ChangeAccount;
        key_change: Nothing => ChangeKey;
        new_order: Nothing => NewOrder;
        orders: Nothing => Orders;
        orders_after: Orders => Orders;
        order: Order => ReadOrder;
        finalize: Order => Finalize;
        certificate: Order => Certificate;
        authorization: Authorization => Authorization;
        challenge: Challenge => Challenge;
        revoke_cert: Nothing => Revoke;
    }
}

impl Pki {
    /// GET `directory` (RFC 8555, 7.1.1)
    async fn acme_directory<S: Scope>(
        self: Arc<Self>,
        call: Call,
        _: Asked<S, Nothing>,
    ) -> Result<Response, Error> {
        let Some(directory) = self.directory(&call).await? else { return Ok(not_served()) };
        let directory = match directory {
            Ok(directory) => directory,
            Err(failure) => return failure.response(),
        };
        let url = |name: &str| directory.url(name);
        Ok(json_answer(&json!({
            "keyChange": url("key-change"),
            "meta": { "externalAccountRequired": directory.config.eab_policy != EabPolicy::Never },
            "newAccount": url("new-account"),
            "newNonce": url("new-nonce"),
            "newOrder": url("new-order"),
            "renewalInfo": url("renewal-info"),
            "revokeCert": url("revoke-cert"),
        })))
    }

    /// GET and HEAD `new-nonce` (RFC 8555, 7.2)
    async fn new_nonce<S: Scope>(
        self: Arc<Self>,
        call: Call,
        _: Asked<S, Nothing>,
    ) -> Result<Response, Error> {
        let Some(directory) = self.directory(&call).await? else { return Ok(not_served()) };
        dressed(&self, directory, |_| Ok(Response::raw("", Vec::new()).status(204)))
    }

    /// Whatever is signed.
    async fn acme_signed(
        self: Arc<Self>,
        call: Call,
        body: SignedContent,
        action: Action,
    ) -> Result<Response, Error> {
        let Some(directory) = self.directory(&call).await? else { return Ok(not_served()) };
        let answer = match &directory {
            Ok(directory) => self.acme_act(directory, &call, body, action).await,
            Err(_) => Ok(Response::empty()),
        };
        dressed(&self, directory, |_| answer)
    }

    /// The checks that all signed requests share (RFC 8555, 6.2 to 6.5), then what this one asks for.
    async fn acme_act(
        self: &Arc<Self>,
        directory: &Directory,
        call: &Call,
        body: SignedContent,
        action: Action,
    ) -> Outcome<Response> {
        if body.unsigned_parts {
            return Err(Refusal::malformed("a request has one signature and no unprotected header").into());
        }
        let jws = Jws::parse(&body.envelope)?;
        let expected = directory.url_of(call);
        if jws.url != expected {
            return Err(Refusal::unauthorized(format!(
                "invalid value for 'url' in 'protected': got '{}' expected '{expected}'",
                jws.url
            ))
            .into());
        }
        if !jws.nonce.as_deref().is_some_and(|nonce| self.acme.nonces.redeem(nonce)) {
            let detail = "invalid or reused nonce: the client sent an unacceptable anti-replay nonce";
            return Err(Refusal::new(Kind::BadNonce, detail).into());
        }
        match (&jws.key, action) {
            (KeyReference::Jwk(key), Action::NewAccount) => {
                jws.verify(key)?;
                self.new_account(directory, call, &jws, key).await
            }
            (KeyReference::Jwk(key), Action::Revoke) => {
                jws.verify(key)?;
                self.revoke_certificate(call, &jws, Revoker::Key(key)).await
            }
            (KeyReference::Jwk(_), _) => {
                Err(Refusal::malformed("cannot process request without a 'kid'").into())
            }
            (KeyReference::Kid(_), Action::NewAccount) => {
                Err(Refusal::malformed("cannot submit to newAccount with 'kid'").into())
            }
            (KeyReference::Kid(kid), _) => {
                let account = self.signer(directory, kid, &jws).await?;
                self.acme_act_as(Request { directory, call, jws: &jws, account }, action).await
            }
        }
    }

    /// The account that signed a request, if it may do anything.
    async fn signer(&self, directory: &Directory, kid: &str, jws: &Jws) -> Outcome<Stored<AccountRecord>> {
        // As the peer has it, the last part counts: a mount may come to have another URL.
        let id = kid.rsplit('/').next().unwrap_or_default();
        let account = self
            .account(id)
            .await?
            .ok_or_else(|| no_account("failed to json unmarshal 'protected': account not found"))?;
        if account.value.directory != directory.path {
            let detail = "failed to json unmarshal 'protected': the request message was malformed: account part of different ACME directory path";
            return Err(Refusal::malformed(detail).into());
        }
        let key = Jwk::parse(account.value.jwk.as_bytes())
            .map_err(|problem| Error::internal("a stored account key does not parse", problem.detail))?;
        jws.verify(&key)?;
        if account.value.status != AccountStatus::Valid {
            return Err(not_valid(account.value.status).into());
        }
        if directory.config.eab_policy == EabPolicy::Always && account.value.binding.is_none() {
            return Err(binding_required().into());
        }
        Ok(account)
    }

    async fn acme_act_as(self: &Arc<Self>, request: Request<'_>, action: Action) -> Outcome<Response> {
        match action {
            Action::ChangeAccount => self.change_account(request).await,
            Action::ChangeKey => self.change_key(request).await,
            Action::NewOrder => self.new_order(request).await,
            Action::Orders => self.orders(request).await,
            Action::ReadOrder => self.read_order(request).await,
            Action::Finalize => self.finalize(request).await,
            Action::Certificate => self.order_certificate(request).await,
            Action::Authorization => self.authorization(request).await,
            Action::Challenge => self.challenge(request).await,
            Action::Revoke => {
                let Request { call, jws, account, .. } = request;
                self.revoke_certificate(call, jws, Revoker::Account(&account.value)).await
            }
            // Those are not asked with an account.
            Action::NewAccount => Err(Refusal::malformed("cannot submit to newAccount with 'kid'").into()),
        }
    }
}

/// 200 with JSON that stands alone.
fn json_answer(body: &Value) -> Response {
    Response::raw("application/json", body.to_string())
}

/// As the peer has it: where ACME is not enabled, nothing is.
fn not_served() -> Response {
    Response::raw("application/json", Vec::new()).status(404)
}

/// An answer with what every answer of a directory carries: a fresh nonce, and where the directory is.
fn dressed(
    pki: &Pki,
    directory: Outcome<Directory>,
    answer: impl FnOnce(&Directory) -> Outcome<Response>,
) -> Result<Response, Error> {
    let (index, answer) = match directory {
        Ok(directory) => (Some(directory.url("directory")), answer(&directory)),
        Err(failure) => (None, Err(failure)),
    };
    let mut response = match answer {
        Ok(response) => response,
        Err(failure) => failure.response()?,
    };
    response.headers.push((Header::ReplayNonce, pki.acme.nonces.issue()));
    if let Some(index) = index {
        response.headers.push((Header::Link, format!("<{index}>;rel=\"index\"")));
    }
    Ok(response)
}
