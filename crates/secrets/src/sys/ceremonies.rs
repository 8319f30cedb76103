//! What needs several key holders: new key shares, and a new root token.
//!
//! A ceremony collects key shares one request at a time. It exists in memory only, one of each kind at a
//! time, and is forgotten when the server is sealed. The shares prove that enough holders agree; the proof
//! ([`Quorum`](chancery_storage::Quorum)) is what the barrier asks for.

use std::sync::Arc;

use chancery_api::fields::NoFields;
use chancery_api::{Secret, Strings, fields};
use chancery_storage::{Rekeying, Share, ShareCollector, ShareScheme};
use data_encoding::BASE64_NOPAD;
use serde_json::{Value, json};
use tokio::sync::Mutex;

use super::Sys;
use super::seal::{decode_share, encode_shares};
use crate::core::Core;
use crate::engine::Call;
use crate::error::Error;
use crate::response::Response;
use crate::route::{Route, Routes};
use crate::token::NewToken;

/// No key has ever been given out in fewer bytes.
const SHORTEST_SHARE: usize = 16;

/// Ceremonies under way.
#[derive(Default)]
pub(super) struct Ceremonies {
    rotation: Mutex<Option<Rotation>>,
    root: Mutex<Option<RootGeneration>>,
}

impl Ceremonies {
    /// Forgets everything, shares included.
    pub(super) async fn forget(&self) {
        *self.rotation.lock().await = None;
        *self.root.lock().await = None;
    }
}

/// The making of new key shares.
struct Rotation {
    scheme: ShareScheme,
    verify: bool,
    holders: ShareCollector,
    /// New shares that were handed out and shall be shown back before they are in force.
    pending: Option<Pending>,
}

struct Pending {
    rekeying: Rekeying,
    shown: ShareCollector,
}

/// The making of a root token.
struct RootGeneration {
    /// What the token is combined with on its way to the one who asked for it.
    otp: Secret,
    holders: ShareCollector,
}

/// The paths of this family.
pub(super) fn routes(mut routes: Routes<Sys>) -> Routes<Sys> {
    for (init, update, verify, backup) in [
        ("rotate/root/init", "rotate/root/update", "rotate/root/verify", "rotate/root/backup"),
        (
            "rotate/recovery/init",
            "rotate/recovery/update",
            "rotate/recovery/verify",
            "rotate/recovery/backup",
        ),
        ("rekey/init", "rekey/update", "rekey/verify", "rekey/backup"),
        (
            "rekey-recovery-key/init",
            "rekey-recovery-key/update",
            "rekey-recovery-key/verify",
            "rekey/recovery-key-backup",
        ),
    ] {
        routes = routes
            .route(init, |r| {
                r.read(Sys::rotation_status, "How far the making of new key shares is.")
                    .update(Sys::begin_rotation, "Begin to make new key shares.")
                    .delete(Sys::cancel_rotation, "Give up the making of new key shares.")
            })
            .route(update, |r| r.update(Sys::update_rotation, "Give one of the present key shares."))
            .route(verify, |r| {
                r.read(Sys::verification_status, "How many new shares were shown back.")
                    .update(Sys::update_verification, "Show one of the new key shares back.")
                    .delete(Sys::restart_verification, "Begin again to show new key shares back.")
            })
            .route(backup, |r| {
                r.read(Sys::rotation_backup, "Backups of shares are not offered.")
                    .delete(Sys::delete_rotation_backup, "Backups of shares are not offered.")
            });
    }
    for attempt in ["generate-root-token/attempt", "generate-root/attempt", "generate-root"] {
        routes = routes.route(attempt, attempts);
    }
    for update in ["generate-root-token/update", "generate-root/update"] {
        routes = routes.route(update, |r| r.update(Sys::update_root, "Give one key share."));
    }
    routes.route("decode-token", |r| {
        r.public()
            .update(Sys::decode_token, "Take a generated root token out of its one-time password.")
            .help("The same can be done without the server: the token is the two combined bit by bit.")
    })
}

fn attempts(route: Route<Sys>) -> Route<Sys> {
    route
        .read(Sys::root_status, "How far the making of a root token is.")
        .update(Sys::begin_root, "Begin to make a root token.")
        .delete(Sys::cancel_root, "Give up the making of a root token.")
        .help("Enough key holders together can make a root token. It is shown combined with a one-time password.")
}

fields! {
    /// The beginning of new key shares.
    #[derive(Debug)]
    pub(super) struct BeginRotation {
        body {
            /// How many new shares.
            secret_shares: i64 = 0,
            /// How many of them shall be needed.
            secret_threshold: i64 = 0,
            /// Encrypting shares to PGP keys is not offered.
            pgp_keys: Strings = Strings::default(),
            /// Keeping encrypted shares on the server is not offered.
            backup: bool = false,
            /// The new shares are in force only when enough of them were shown back.
            require_verification: bool = false,
        }
    }
}

fields! {
    /// One share.
    #[derive(Debug)]
    pub(super) struct GiveShare {
        body {
            /// The share, in hex or base64.
            key: Secret = Secret::default(),
            /// The ceremony's name, so that no share goes to another one.
            nonce: String = String::new(),
        }
    }
}

fields! {
    /// The beginning of a root token.
    #[derive(Debug)]
    pub(super) struct BeginRoot {
        body {
            /// A one-time password of the token's length; made by the server if absent.
            otp: Secret = Secret::default(),
            /// Encrypting the token to a PGP key is not offered.
            pgp_key: String = String::new(),
        }
    }
}

fields! {
    /// A generated root token.
    #[derive(Debug)]
    pub(super) struct DecodeToken {
        body {
            /// The token as the ceremony answered it.
            encoded_token: Secret = Secret::default(),
            /// The one-time password.
            otp: Secret = Secret::default(),
        }
    }
}

/// The older paths answer their fields at the top level too.
fn shaped(call: &Call, data: &Value) -> Result<Response, Error> {
    let response = Response::data(data)?;
    let old = call.path.starts_with("rekey")
        || call.path.starts_with("generate-root/")
        || call.path == "generate-root";
    Ok(if old { response.flattened() } else { response })
}

impl Sys {
    /// What the holders hold, and the core; refuses the paths that are for the other family of seals.
    async fn holders(&self, call: &Call) -> Result<(Arc<Core>, ShareCollector), Error> {
        let core = self.core()?;
        core.active()?;
        let recovery = core.barrier.status().await?.recovery_seal;
        if call.path.contains("recovery") && !recovery {
            return Err(Error::invalid("recovery not supported"));
        }
        if !call.path.contains("recovery") && recovery && !call.path.starts_with("generate-root") {
            return Err(Error::invalid("this seal has recovery keys; use sys/rotate/recovery"));
        }
        let collector = core.barrier.collect_shares().await?;
        Ok((core, collector))
    }

    async fn rotation_status(self: Arc<Self>, call: Call, _: NoFields) -> Result<Response, Error> {
        let (_, holders) = self.holders(&call).await?;
        match &*self.ceremonies.rotation.lock().await {
            Some(rotation) => shaped(&call, &rotation.status()),
            None => shaped(
                &call,
                &json!({ "n": 0, "required": holders.scheme().threshold(), "started": false, "t": 0 }),
            ),
        }
    }

    async fn begin_rotation(self: Arc<Self>, call: Call, body: BeginRotation) -> Result<Response, Error> {
        let (_, holders) = self.holders(&call).await?;
        let mut rotation = self.ceremonies.rotation.lock().await;
        if rotation.is_some() {
            return Err(Error::invalid("rotation already in progress"));
        }
        if !body.pgp_keys.is_empty() || body.backup {
            return Err(Error::invalid("pgp_keys and backup are not supported; take the shares over TLS"));
        }
        let scheme = ShareScheme::new(body.secret_shares, body.secret_threshold)
            .map_err(|error| Error::invalid(format!("invalid rotate seal configuration: {error}")))?;
        let begun = Rotation { scheme, verify: body.require_verification, holders, pending: None };
        tracing::info!(
            shares = scheme.shares(),
            threshold = scheme.threshold(),
            "new key shares were asked for"
        );
        let answer = shaped(&call, &begun.status())?;
        *rotation = Some(begun);
        Ok(answer)
    }

    async fn cancel_rotation(self: Arc<Self>, _: Call, _: NoFields) -> Result<Response, Error> {
        *self.ceremonies.rotation.lock().await = None;
        Ok(Response::empty())
    }

    async fn update_rotation(self: Arc<Self>, call: Call, body: GiveShare) -> Result<Response, Error> {
        let (core, _) = self.holders(&call).await?;
        let mut slot = self.ceremonies.rotation.lock().await;
        let rotation = slot.as_mut().ok_or_else(|| Error::invalid("no rotation in progress"))?;
        let share = given(&body)?;
        if body.nonce != rotation.holders.nonce() {
            return Err(Error::invalid(format!(
                "incorrect nonce supplied; nonce for rotation is {:?}",
                rotation.holders.nonce()
            )));
        }
        if let Some(pending) = &rotation.pending {
            return Err(Error::invalid(format!(
                "rotation already finished; verification must be performed; nonce for the verification operation is {:?}",
                pending.shown.nonce()
            )));
        }
        if rotation.holders.knows(&share) {
            return Err(Error::invalid("given key has already been provided during this rotation"));
        }
        let combined =
            rotation.holders.add(&share).map_err(|error| Error::invalid(format!("invalid key: {error}")))?;
        let Some(combined) = combined else { return shaped(&call, &rotation.status()) };

        let quorum = core.quorum(&combined).await?;
        let rekeying = core.barrier.rekey(quorum, rotation.scheme).await?;
        let (keys, keys_base64) = encode_shares(rekeying.shares());
        let shown = ShareCollector::new(rotation.scheme);
        let nonce = rotation.holders.nonce().to_owned();
        let verification_nonce = if rotation.verify { shown.nonce().to_owned() } else { String::new() };
        let answer = json!({
            "backup": false, "complete": true, "keys": keys, "keys_base64": keys_base64, "nonce": nonce,
            "pgp_fingerprints": null, "verification_nonce": verification_nonce,
            "verification_required": rotation.verify,
        });
        if rotation.verify {
            rotation.pending = Some(Pending { rekeying, shown });
        } else {
            // If this fails the old shares stay in force, and the new ones are never shown.
            rekeying.commit(&core.barrier).await?;
            *slot = None;
            tracing::info!("new key shares are in force");
        }
        shaped(&call, &answer)
    }

    async fn verification_status(self: Arc<Self>, call: Call, _: NoFields) -> Result<Response, Error> {
        let slot = self.ceremonies.rotation.lock().await;
        let rotation = slot.as_ref().ok_or_else(|| Error::invalid("no rotation configuration found"))?;
        shaped(&call, &rotation.verification())
    }

    async fn update_verification(self: Arc<Self>, call: Call, body: GiveShare) -> Result<Response, Error> {
        let (core, _) = self.holders(&call).await?;
        let mut slot = self.ceremonies.rotation.lock().await;
        let rotation = slot.as_mut().ok_or_else(|| Error::invalid("no rotation configuration found"))?;
        let share = given(&body)?;
        let Some(pending) = &mut rotation.pending else {
            return Err(Error::invalid("no rotation verification in progress"));
        };
        let nonce = pending.shown.nonce().to_owned();
        if body.nonce != nonce {
            return Err(Error::invalid(format!(
                "incorrect nonce supplied; nonce for this verify operation is {nonce:?}"
            )));
        }
        if pending.shown.knows(&share) {
            return Err(Error::invalid("given key has already been provided during this verify operation"));
        }
        let combined =
            pending.shown.add(&share).map_err(|error| Error::invalid(format!("invalid key: {error}")))?;
        let Some(combined) = combined else { return shaped(&call, &rotation.verification()) };
        if !pending.rekeying.verifies(&combined) {
            return Err(Error::invalid("rotation verification failed; incorrect key shares supplied"));
        }
        if let Some(Rotation { pending: Some(Pending { rekeying, .. }), .. }) = slot.take() {
            rekeying.commit(&core.barrier).await?;
            tracing::info!("new key shares were shown back and are in force");
        }
        shaped(&call, &json!({ "complete": true, "nonce": nonce }))
    }

    async fn restart_verification(self: Arc<Self>, call: Call, _: NoFields) -> Result<Response, Error> {
        let mut slot = self.ceremonies.rotation.lock().await;
        let Some(rotation) = slot.as_mut() else { return Ok(Response::empty()) };
        if let Some(pending) = &mut rotation.pending {
            pending.shown.reset();
        }
        shaped(&call, &rotation.verification())
    }

    async fn rotation_backup(self: Arc<Self>, _: Call, _: NoFields) -> Result<Response, Error> {
        Err(Error::invalid("no backed-up keys found"))
    }

    async fn delete_rotation_backup(self: Arc<Self>, _: Call, _: NoFields) -> Result<Response, Error> {
        Ok(Response::empty())
    }

    async fn root_status(self: Arc<Self>, call: Call, _: NoFields) -> Result<Response, Error> {
        let (_, holders) = self.holders(&call).await?;
        match &*self.ceremonies.root.lock().await {
            Some(root) => shaped(&call, &root.status("")),
            None => shaped(
                &call,
                &json!({
                    "complete": false, "otp": "", "otp_length": NewToken::TEXT_LENGTH, "progress": 0,
                    "required": holders.scheme().threshold(), "started": false,
                }),
            ),
        }
    }

    async fn begin_root(self: Arc<Self>, call: Call, body: BeginRoot) -> Result<Response, Error> {
        let (_, holders) = self.holders(&call).await?;
        let mut slot = self.ceremonies.root.lock().await;
        if slot.is_some() {
            return Err(Error::invalid("root generation already in progress"));
        }
        if !body.pgp_key.is_empty() {
            return Err(Error::invalid("pgp_key is not supported; give an otp or take the server's"));
        }
        let (otp, shown) = if body.otp.is_empty() {
            let otp = one_time_password()?;
            (otp.clone(), otp.expose().to_owned())
        } else {
            (body.otp, String::new())
        };
        if otp.expose().len() != NewToken::TEXT_LENGTH {
            return Err(Error::invalid("OTP string has incorrect length"));
        }
        let root = RootGeneration { otp, holders };
        tracing::info!("a root token was asked for");
        let answer = shaped(&call, &root.status(&shown))?;
        *slot = Some(root);
        Ok(answer)
    }

    async fn cancel_root(self: Arc<Self>, _: Call, _: NoFields) -> Result<Response, Error> {
        *self.ceremonies.root.lock().await = None;
        Ok(Response::empty())
    }

    async fn update_root(self: Arc<Self>, call: Call, body: GiveShare) -> Result<Response, Error> {
        if body.nonce.is_empty() {
            return Err(Error::invalid("nonce is required"));
        }
        let (core, _) = self.holders(&call).await?;
        let mut slot = self.ceremonies.root.lock().await;
        let root = slot.as_mut().ok_or_else(|| Error::invalid("no root generation in progress"))?;
        let share = decode_share(body.key.expose())?;
        if share.len() < SHORTEST_SHARE {
            return Err(Error::invalid(format!(
                "1 error occurred:\n\t* invalid key: key is shorter than minimum {SHORTEST_SHARE} bytes\n\n"
            )));
        }
        if body.nonce != root.holders.nonce() {
            return Err(Error::invalid(format!(
                "incorrect nonce supplied; nonce for this root generation operation is {:?}",
                root.holders.nonce()
            )));
        }
        if root.holders.knows(&share) {
            return Err(Error::invalid(
                "given key has already been provided during this generation operation",
            ));
        }
        let required = root.holders.scheme().threshold();
        let combined =
            root.holders.add(&share).map_err(|error| Error::invalid(format!("invalid key: {error}")))?;
        let mut answer = json!({
            "complete": false, "encoded_token": "", "nonce": root.holders.nonce(), "pgp_fingerprint": "",
            "progress": root.holders.progress(), "required": required, "started": true,
        });
        let Some(combined) = combined else { return shaped(&call, &answer) };

        // The proof is all that is needed here: no operation of the barrier asks for it.
        let _agreed = core
            .quorum(&combined)
            .await
            .map_err(|error| Error::invalid(format!("root generation aborted: {}", error.message())))?;
        let created = core.active()?.tokens.create(NewToken::root(), call.now).await?;
        let encoded = BASE64_NOPAD.encode(&combine(created.text.expose(), root.otp.expose()));
        *slot = None;
        tracing::info!("a root token was made");
        if let Some(object) = answer.as_object_mut() {
            object.insert("complete".to_owned(), true.into());
            object.insert("progress".to_owned(), required.into());
            object.insert("encoded_token".to_owned(), encoded.clone().into());
            if call.path.starts_with("generate-root/") {
                object.insert("encoded_root_token".to_owned(), encoded.into());
            }
        }
        shaped(&call, &answer)
    }

    async fn decode_token(self: Arc<Self>, _: Call, body: DecodeToken) -> Result<Response, Error> {
        if body.encoded_token.is_empty() || body.otp.is_empty() {
            return Err(Error::invalid("provided 'encoded_token' or 'otp' is empty"));
        }
        let text = body.encoded_token.expose().trim_end_matches('=');
        let encoded = BASE64_NOPAD
            .decode(text.as_bytes())
            .map_err(|_| Error::invalid("'encoded_token' is not valid base64"))?;
        let otp = body.otp.expose().as_bytes();
        if encoded.len() != otp.len() {
            return Err(Error::invalid("'encoded_token' and 'otp' have different lengths"));
        }
        let token: Vec<u8> = encoded.iter().zip(otp).map(|(a, b)| a ^ b).collect();
        let token =
            String::from_utf8(token).map_err(|_| Error::invalid("'otp' does not fit 'encoded_token'"))?;
        Response::data(&json!({ "token": token }))
    }
}

impl Rotation {
    fn status(&self) -> Value {
        let Self { scheme, verify, holders, pending } = self;
        json!({
            "n": scheme.shares(), "t": scheme.threshold(), "nonce": holders.nonce(), "started": true,
            "progress": holders.progress(), "required": holders.scheme().threshold(),
            "verification_required": verify,
            "verification_nonce": pending.as_ref().map(|pending| pending.shown.nonce()).unwrap_or_default(),
        })
    }

    fn verification(&self) -> Value {
        let (nonce, progress) = self
            .pending
            .as_ref()
            .map(|pending| (pending.shown.nonce(), pending.shown.progress()))
            .unwrap_or_default();
        json!({
            "n": self.scheme.shares(), "t": self.scheme.threshold(), "nonce": nonce, "progress": progress,
            "started": self.pending.is_some(),
        })
    }
}

impl RootGeneration {
    fn status(&self, otp: &str) -> Value {
        json!({
            "complete": false, "nonce": self.holders.nonce(), "otp": otp, "otp_length": NewToken::TEXT_LENGTH,
            "pgp_fingerprint": "", "progress": self.holders.progress(),
            "required": self.holders.scheme().threshold(), "started": true,
        })
    }
}

/// The share of a request.
fn given(body: &GiveShare) -> Result<Share, Error> {
    if body.key.is_empty() {
        return Err(Error::invalid("missing required field 'key'"));
    }
    if body.nonce.is_empty() {
        return Err(Error::invalid("missing required field 'nonce'"));
    }
    decode_share(body.key.expose())
}

/// Two texts of the same length, bit by bit.
fn combine(token: &str, otp: &str) -> Vec<u8> {
    token.bytes().zip(otp.bytes()).map(|(a, b)| a ^ b).collect()
}

/// As many random letters and digits as a token has.
fn one_time_password() -> Result<Secret, Error> {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut random = [0; NewToken::TEXT_LENGTH];
    aws_lc_rs::rand::fill(&mut random).map_err(|_| Error::internal("internal error", "no randomness"))?;
    let letters = random.iter().filter_map(|byte| LETTERS.get(usize::from(byte % 64)));
    Ok(Secret::new(letters.map(|letter| char::from(*letter)).collect::<String>()))
}
