//! Revoking: by number, by certificate, by key, with a lease, as an issuer; and what is left when a write fails.

use std::collections::BTreeMap;

use chancery_issuance::SerialNumber;
use chancery_storage::StorageError;

use super::*;
use crate::engine::pki::revocations::{Recorded, Scope, StoredRevocation};
use crate::engine::pki::revoke::Revoked;
use crate::engine::pki::store::certificate_name;

/// A leaf of a role that allows everything, with its key.
pub(super) struct Leaf {
    pub(super) serial: String,
    pub(super) certificate: String,
    key: String,
}

impl Leaf {
    pub(super) fn number(&self) -> SerialNumber {
        self.serial.parse().unwrap()
    }
}

impl Bed {
    pub(super) async fn leaf(&self, role: Value) -> Leaf {
        let mut body = json!({"allow_any_name": true, "key_type": "ec", "ttl": "1h"});
        for (name, value) in role.as_object().unwrap() {
            body[name] = value.clone();
        }
        self.role("any", body).await;
        let made = data(&self.write("issue/any", json!({"common_name": "a.com"})).await.unwrap());
        let part = |name| text(&made, name).to_owned();
        Leaf { serial: part("serial_number"), certificate: part("certificate"), key: part("private_key") }
    }

    pub(super) async fn revoke(&self, leaf: &Leaf) -> Value {
        data(&self.write("revoke", json!({"serial_number": leaf.serial})).await.unwrap())
    }

    async fn refused(&self, path: &str, body: Value) -> String {
        let error = self.write(path, body).await.unwrap_err();
        assert_eq!(error.kind, Kind::InvalidRequest, "{error:?}");
        error.message()
    }

    async fn revoked(&self, serial: &str) -> bool {
        self.engine.store.revocation(&serial.parse().unwrap()).await.unwrap().is_some()
    }

    pub(super) async fn scope(&self, issuer: &str) -> Scope {
        self.engine.store.authorities().await.unwrap().find_issuer(issuer).unwrap().scope
    }

    /// How many entries a scope's journal has; of the unassigned ones without a scope.
    async fn journaled(&self, scope: Option<Scope>) -> usize {
        let journal = self.engine.store.journals.of(scope);
        self.engine.store.view().list(journal.collection(), Position::Start, 100).await.unwrap().len()
    }
}

#[tokio::test]
async fn a_revocation_says_when_and_the_second_one_says_the_same() {
    let bed = Bed::new().await;
    let leaf = bed.leaf(json!({})).await;
    let first = bed.revoke(&leaf).await;
    assert_eq!(
        first,
        json!({"revocation_time": 1_800_000_000, "revocation_time_rfc3339": "2027-01-15T08:00:00.123456789Z",
            "state": "revoked"})
    );
    bed.later(60);
    let by_another_spelling = json!({"serial_number": leaf.serial.replace(':', "-").to_uppercase()});
    assert_eq!(data(&bed.write("revoke", by_another_spelling).await.unwrap()), first);
    assert_eq!(data(&bed.write("revoke", json!({"certificate": leaf.certificate})).await.unwrap()), first);

    let shown = bed.read(&format!("cert/{}", leaf.serial)).await.unwrap();
    assert_eq!(shown["revocation_time"], first["revocation_time"]);
    assert_eq!(shown["revocation_time_rfc3339"], first["revocation_time_rfc3339"]);
    let issuer = bed.read("issuer/root").await.unwrap();
    assert_eq!(shown["issuer_id"], issuer["issuer_id"]);
    assert_eq!(bed.keys("certs/revoked", json!({})).await, std::slice::from_ref(&leaf.serial));
    assert_eq!(bed.journaled(Some(bed.scope("root").await)).await, 1);
}

#[tokio::test]
async fn revoked_certificates_are_listed_page_by_page() {
    let bed = Bed::new().await;
    let mut serials = Vec::new();
    for _ in 0..5 {
        bed.later(1);
        let leaf = bed.leaf(json!({})).await;
        bed.revoke(&leaf).await;
        serials.push(leaf.serial);
    }
    assert_eq!(bed.keys("certs/revoked", json!({"limit": 2})).await, serials[..2]);
    assert_eq!(bed.keys("certs/revoked", json!({"after": serials[1], "limit": 2})).await, serials[2..4]);
    assert!(bed.keys("certs/revoked", json!({"after": serials[4]})).await.is_empty());
}

#[tokio::test]
async fn wishes_that_name_no_certificate_are_refused_in_the_peers_words() {
    let bed = Bed::new().await;
    let leaf = bed.leaf(json!({})).await;
    let root = bed.read("issuer/root").await.unwrap();
    let root_id = text(&root, "issuer_id");
    let nonsense = "-----BEGIN CERTIFICATE-----\nMAAwADAAMAAwADAAMAAwADAAMAAwADAAMAAwADAAMAAwADAAMAAwADAAMAAwADAA\n-----END CERTIFICATE-----\n";
    for (body, sentence) in [
        (json!({}), "The serial number or certificate to revoke must be provided.".to_owned()),
        (
            json!({"serial_number": leaf.serial, "certificate": leaf.certificate}),
            "Must provide either the certificate or the serial to revoke; not both.".to_owned(),
        ),
        (json!({"serial_number": ""}), "The serial number must be provided".to_owned()),
        (json!({"serial_number": "zz"}), "certificate with serial zz not found.".to_owned()),
        (json!({"serial_number": "00:11"}), "certificate with serial 00:11 not found.".to_owned()),
        (json!({"certificate": ""}), "provided certificate data was too short; perhaps a path was passed to the API rather than the contents of a PEM file".to_owned()),
        (json!({"certificate": "x".repeat(80)}), "certificate contains no PEM data".to_owned()),
        (
            json!({"certificate": text(&root, "certificate")}),
            format!("adding issuer (id: {root_id}) to its own CRL is not allowed"),
        ),
    ] {
        assert_eq!(bed.refused("revoke", body).await, sentence);
    }
    let unparsable = bed.refused("revoke", json!({"certificate": nonsense})).await;
    assert!(unparsable.starts_with("certificate could not be parsed: "), "{unparsable}");
    assert!(bed.keys("certs/revoked", json!({})).await.is_empty());
}

#[tokio::test]
async fn a_certificate_that_was_not_stored_is_revoked_by_itself_and_stored_then() {
    let bed = Bed::new().await;
    let leaf = bed.leaf(json!({"no_store": true})).await;
    assert_eq!(
        bed.refused("revoke", json!({"serial_number": leaf.serial})).await,
        format!("certificate with serial {} not found.", leaf.serial)
    );
    bed.write("revoke", json!({"certificate": leaf.certificate})).await.unwrap();
    assert_eq!(
        text(&bed.read(&format!("cert/{}", leaf.serial)).await.unwrap(), "certificate"),
        leaf.certificate
    );
    let foreign = Bed::new().await.leaf(json!({})).await;
    let sentence = bed.refused("revoke", json!({"certificate": foreign.certificate})).await;
    assert!(sentence.starts_with("unable to verify signature on presented cert"), "{sentence}");
    assert!(!bed.revoked(&foreign.serial).await);
}

#[tokio::test]
async fn only_whoever_holds_the_key_revokes_with_it() {
    let bed = Bed::new().await;
    let (leaf, other) = (bed.leaf(json!({})).await, bed.leaf(json!({})).await);
    let rsa = bed.leaf(json!({"key_type": "rsa"})).await;
    let path = "revoke-with-key";
    for (key, sentence) in [
        (Value::Null, "Must have private key to revoke via the /revoke-with-key path."),
        (
            json!("x"),
            "Provided data for private_key was too short; perhaps a path was passed to the API rather than the contents of a PEM file?",
        ),
        (json!("x".repeat(70)), "provided key PEM block contained no data or failed to parse"),
        (json!(other.key), "provided private key does not match certificate's public key"),
        (json!(rsa.key), "provided private key type does not match certificate's public key type"),
    ] {
        let mut body = json!({"serial_number": leaf.serial});
        if !key.is_null() {
            body["private_key"] = key;
        }
        assert_eq!(bed.refused(path, body).await, sentence);
    }
    assert!(!bed.revoked(&leaf.serial).await);
    bed.write(path, json!({"serial_number": leaf.serial, "private_key": leaf.key})).await.unwrap();
    bed.write(path, json!({"certificate": rsa.certificate, "private_key": rsa.key})).await.unwrap();
    assert!(bed.revoked(&leaf.serial).await && bed.revoked(&rsa.serial).await);
}

#[tokio::test]
async fn a_certificate_that_has_expired_is_revoked_only_if_the_mount_wants_that() {
    let bed = Bed::new().await;
    let leaf = bed.leaf(json!({})).await;
    bed.later(3600);
    let response = bed.write("revoke", json!({"serial_number": leaf.serial})).await.unwrap();
    assert!(response.data.is_none());
    assert_eq!(
        response.warnings,
        [format!(
            "certificate with serial {} already expired; refusing to add to CRL. Enable 'AllowExpiredCertRevocation' to allow revoking expired certificates.",
            leaf.serial
        )]
    );
    assert!(!bed.revoked(&leaf.serial).await);
    bed.write("config/crl", json!({"allow_expired_cert_revocation": true})).await.unwrap();
    assert_eq!(bed.revoke(&leaf).await["state"], "revoked");
}

#[tokio::test]
async fn a_lease_that_ends_revokes_its_certificate() {
    let bed = Bed::new().await;
    bed.role("leased", json!({"allow_any_name": true, "key_type": "ec", "generate_lease": true})).await;
    let response = bed.write("issue/leased", json!({"common_name": "a.com"})).await.unwrap();
    let serial = text(&data(&response), "serial_number").to_owned();
    let internal = response.lease.unwrap().internal;
    bed.next_commit(Fault::Fails);
    Arc::clone(&bed.engine).revoke_lease(&internal, NOW).await.unwrap_err();
    assert!(!bed.revoked(&serial).await);
    for _ in 0..2 {
        Arc::clone(&bed.engine).revoke_lease(&internal, NOW).await.unwrap();
        assert!(bed.revoked(&serial).await);
    }
    let gone = BTreeMap::from([("serial_number".to_owned(), "00:11".to_owned())]);
    Arc::clone(&bed.engine).revoke_lease(&gone, NOW).await.unwrap();
    Arc::clone(&bed.engine).revoke_lease(&BTreeMap::new(), NOW).await.unwrap();
}

impl Pki {
    async fn revoke_lease(
        self: Arc<Self>,
        internal: &BTreeMap<String, String>,
        now: Timestamp,
    ) -> Result<(), Error> {
        <Self as Engine>::revoke(self, internal.clone(), now).await
    }
}

#[tokio::test]
async fn a_revoked_issuer_issues_nothing_any_more() {
    let bed = Bed::new().await;
    let leaf = bed.leaf(json!({})).await;
    let revoked = data(&bed.write("issuer/root/revoke", json!({})).await.unwrap());
    assert_eq!(revoked["revoked"], true);
    assert_eq!(revoked["revocation_time"], 1_800_000_000);
    assert_eq!(revoked["usage"], "crl-signing,ocsp-signing,read-only");
    bed.later(5);
    assert_eq!(data(&bed.write("issuer/root/revoke", json!({})).await.unwrap()), revoked);
    let error = bed.write("issue/any", json!({"common_name": "a.com"})).await.unwrap_err();
    assert!(error.message().contains("requested usage issuing-certificates"), "{error:?}");
    // A root does not stand on its own CRL, and what it signed can still be revoked.
    let scope = bed.scope("root").await;
    assert_eq!(bed.journaled(Some(scope)).await, 0);
    bed.revoke(&leaf).await;
    assert_eq!(bed.journaled(Some(scope)).await, 1);
    let serial = Certificate::from_pem(text(&revoked, "certificate")).unwrap().serial_number();
    let revocation = bed.engine.store.revocation(&serial).await.unwrap().unwrap();
    assert_eq!((revocation.scope, revocation.place), (Some(scope), 0));
}

#[tokio::test]
async fn an_intermediate_that_is_revoked_stands_in_the_journal_of_who_signed_it() {
    let bed = Bed::new().await;
    let csr = data(
        &bed.write("intermediate/generate/internal", json!({"common_name": "sub", "key_type": "ec"}))
            .await
            .unwrap(),
    );
    let signed = data(
        &bed.write("root/sign-intermediate", json!({"csr": text(&csr, "csr"), "common_name": "sub"}))
            .await
            .unwrap(),
    );
    let set = data(
        &bed.write("intermediate/set-signed", json!({"certificate": text(&signed, "certificate")}))
            .await
            .unwrap(),
    );
    let sub = set["imported_issuers"][0].as_str().unwrap();
    bed.write(&format!("issuer/{sub}/revoke"), json!({})).await.unwrap();
    assert_eq!(bed.journaled(Some(bed.scope("root").await)).await, 1);
    assert_eq!(bed.journaled(Some(bed.scope(sub).await)).await, 0);
}

#[tokio::test]
async fn an_intermediate_that_was_revoked_here_is_adopted_by_its_issuer_though_it_was_made_elsewhere() {
    let (bed, elsewhere) = (Bed::empty().await, Bed::new().await);
    let body = json!({"common_name": "sub", "key_type": "ec"});
    let csr = data(&bed.write("intermediate/generate/internal", body).await.unwrap());
    let body = json!({"csr": text(&csr, "csr"), "common_name": "sub"});
    let signed = data(&elsewhere.write("root/sign-intermediate", body).await.unwrap());
    let body = json!({"certificate": text(&signed, "certificate")});
    let set = data(&bed.write("intermediate/set-signed", body).await.unwrap());
    let sub = set["imported_issuers"][0].as_str().unwrap();
    bed.write(&format!("issuer/{sub}/revoke"), json!({})).await.unwrap();
    assert_eq!(bed.journaled(None).await, 1);
    assert!(bed.keys("certs", json!({})).await.is_empty());

    let root = text(&elsewhere.read("issuer/root").await.unwrap(), "certificate").to_owned();
    bed.write("issuers/import/cert", json!({"pem_bundle": root})).await.unwrap();
    Arc::clone(&bed.engine).tick(NOW).await.unwrap();
    let scope = elsewhere.scope("root").await;
    assert_eq!((bed.journaled(None).await, bed.journaled(Some(scope)).await), (0, 1));
}

#[tokio::test]
async fn the_mark_of_an_issuer_stays_until_it_is_known_to_be_gone() {
    let (bed, leaf, pem, scope) = orphaned().await;
    bed.write("issuers/import/cert", json!({"pem_bundle": pem})).await.unwrap();
    // The first commit moves the revocation, the second one takes the mark away.
    bed.next_commits([Fault::None, Fault::Fails]);
    bed.engine.store.adopt_pending().await.unwrap_err();
    bed.next_commit(Fault::None);
    bed.engine.store.adopt_pending().await.unwrap();
    assert!(bed.revoked(&leaf.serial).await);
    assert_eq!((bed.journaled(None).await, bed.journaled(Some(scope)).await), (0, 1));
    let marks = bed.engine.store.view().list(collection::ADOPTIONS, Position::Start, 10).await.unwrap();
    assert!(marks.is_empty());
}

#[tokio::test]
async fn nothing_is_revoked_by_a_write_that_fails_and_all_of_it_by_one_that_only_seems_to() {
    let bed = Bed::new().await;
    let (leaf, other) = (bed.leaf(json!({})).await, bed.leaf(json!({"no_store": true})).await);
    let scope = bed.scope("root").await;
    let journal = bed.engine.store.journals.of(Some(scope));
    bed.next_commit(Fault::Fails);
    bed.write("revoke", json!({"serial_number": leaf.serial})).await.unwrap_err();
    assert!(!bed.revoked(&leaf.serial).await && !journal.is_doubtful());
    assert_eq!(bed.journaled(Some(scope)).await, 0);

    bed.next_commit(Fault::FailsAfterPersisting);
    let error = bed.write("revoke", json!({"certificate": other.certificate})).await.unwrap_err();
    assert_eq!(
        error.message(),
        format!(
            "it is unknown whether the certificate {} was revoked; the request can be repeated",
            other.serial
        )
    );
    // All of the commit is there, and whoever builds a CRL looks again.
    assert!(bed.revoked(&other.serial).await && journal.is_doubtful());
    bed.read(&format!("cert/{}", other.serial)).await.unwrap();
    assert_eq!(bed.journaled(Some(scope)).await, 1);
    assert_eq!(bed.revoke(&other).await["revocation_time"], 1_800_000_000);

    bed.next_commit(Fault::Fails);
    bed.write("issuer/root/revoke", json!({})).await.unwrap_err();
    assert_eq!(bed.read("issuer/root").await.unwrap()["revoked"], false);
    bed.next_commit(Fault::FailsAfterPersisting);
    bed.write("issuer/root/revoke", json!({})).await.unwrap_err();
    assert_eq!(bed.read("issuer/root").await.unwrap()["revoked"], true);
}

#[tokio::test]
async fn of_two_who_revoke_at_once_one_is_first() {
    let bed = Bed::new().await;
    let leaf = bed.leaf(json!({})).await;
    let serial = leaf.number();
    let (one, two) =
        tokio::join!(bed.engine.revoke_serial(&serial, 0, NOW), bed.engine.revoke_serial(&serial, 1, NOW));
    let mut outcomes = [one.unwrap(), two.unwrap()];
    outcomes.sort_by_key(|outcome| !matches!(outcome, Revoked::Yes(Recorded::Now(_))));
    let [Revoked::Yes(Recorded::Now(first)), Revoked::Yes(Recorded::Before(second))] = outcomes else {
        panic!("{outcomes:?}")
    };
    assert_eq!(first, second);
    assert_eq!(bed.journaled(Some(bed.scope("root").await)).await, 1);
}

/// The bed, and a leaf whose issuer was deleted before the leaf was revoked; the issuer's PEM.
async fn orphaned() -> (Bed, Leaf, String, Scope) {
    let bed = Bed::new().await;
    let leaf = bed.leaf(json!({})).await;
    let scope = bed.scope("root").await;
    let pem = text(&bed.read("issuer/root").await.unwrap(), "certificate").to_owned();
    bed.ask(Operation::Delete, "issuer/root", json!({})).await.unwrap();
    bed.revoke(&leaf).await;
    assert_eq!((bed.journaled(None).await, bed.journaled(Some(scope)).await), (1, 0));
    (bed, leaf, pem, scope)
}

#[tokio::test]
async fn an_issuer_that_comes_finds_the_revocations_that_waited_for_it() {
    let (bed, leaf, pem, scope) = orphaned().await;
    // Another issuer, though of the same name, takes nothing.
    bed.add_root("root", KeySpec::new("ec", 256).unwrap()).await;
    Arc::clone(&bed.engine).tick(NOW).await.unwrap();
    assert_eq!(bed.journaled(None).await, 1);

    bed.write("issuers/import/cert", json!({"pem_bundle": pem})).await.unwrap();
    for fault in [Fault::Fails, Fault::FailsAfterPersisting] {
        bed.next_commit(fault);
        Arc::clone(&bed.engine).tick(NOW).await.unwrap_err();
    }
    Arc::clone(&bed.engine).tick(NOW).await.unwrap();
    assert_eq!((bed.journaled(None).await, bed.journaled(Some(scope)).await), (0, 1));
    let revocation = bed.engine.store.revocation(&leaf.number()).await.unwrap().unwrap();
    assert_eq!((revocation.scope, revocation.at), (Some(scope), NOW));
    assert!(revocation.issuer.is_some());
}

#[tokio::test]
async fn what_waits_for_an_issuer_is_found_after_a_restart_too() {
    let (bed, _, pem, scope) = orphaned().await;
    bed.write("issuers/import/cert", json!({"pem_bundle": pem})).await.unwrap();
    let bed = bed.restarted().await;
    Arc::clone(&bed.engine).tick(NOW).await.unwrap();
    assert_eq!((bed.journaled(None).await, bed.journaled(Some(scope)).await), (0, 1));
}

#[tokio::test]
async fn an_issuer_that_is_deleted_and_imported_again_changes_nothing() {
    let bed = Bed::new().await;
    let (leaf, other) = (bed.leaf(json!({})).await, bed.leaf(json!({})).await);
    bed.revoke(&leaf).await;
    let scope = bed.scope("root").await;
    let pem = text(&bed.read("issuer/root").await.unwrap(), "certificate").to_owned();
    bed.ask(Operation::Delete, "issuer/root", json!({})).await.unwrap();
    bed.write("issuers/import/cert", json!({"pem_bundle": pem})).await.unwrap();
    bed.write("revoke", json!({"certificate": other.certificate})).await.unwrap();
    assert_eq!((bed.journaled(None).await, bed.journaled(Some(scope)).await), (0, 2));
}

#[tokio::test]
async fn what_is_forgotten_leaves_no_record() {
    let bed = Bed::new().await;
    let (leaf, other) = (bed.leaf(json!({})).await, bed.leaf(json!({})).await);
    bed.revoke(&leaf).await;
    bed.revoke(&other).await;
    let scope = bed.scope("root").await;
    let stored = async |leaf: &Leaf| {
        let name = certificate_name(&leaf.number());
        let record = bed.engine.store.view().get(collection::REVOKED, &name).await.unwrap();
        StoredRevocation::read(name, &record.unwrap()).unwrap()
    };
    let forget = async |one: &StoredRevocation| {
        bed.engine.store.forget_revocations(std::slice::from_ref(one), Writes::new()).await
    };
    let (first, second) = (stored(&leaf).await, stored(&other).await);
    bed.next_commit(Fault::Fails);
    forget(&first).await.unwrap_err();
    assert_eq!(bed.journaled(Some(scope)).await, 2);
    forget(&first).await.unwrap();
    assert_eq!(bed.journaled(Some(scope)).await, 1);
    assert!(!bed.revoked(&leaf.serial).await && bed.revoked(&other.serial).await);
    bed.next_commit(Fault::FailsAfterPersisting);
    forget(&second).await.unwrap_err();
    assert_eq!(bed.journaled(Some(scope)).await, 0);
    assert!(matches!(forget(&second).await, Err(StorageError::Conflict)), "it is not there any more");
}
