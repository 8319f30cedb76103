//! CRLs: what they name and when, that they come back after a restart, and that no number is used twice.

use std::collections::HashMap;

use chancery_issuance::{ImportedCrl, SerialNumber};

use super::revocation::Leaf;
use super::*;
use crate::engine::pki::crl::{Crl, Which};
use crate::engine::pki::crl_records::{AtRest, PAGE_SIZE};
use crate::engine::pki::revocations::{Scope, StoredRevocation};
use crate::engine::pki::store::certificate_name;

impl Bed {
    async fn try_crl(&self, issuer: &str, which: Which) -> Result<Option<Arc<Crl>>, Error> {
        let authorities = self.engine.store.authorities().await.unwrap();
        self.engine.crl(authorities.find_issuer(issuer).unwrap(), which, self.now()).await
    }

    async fn crl(&self, issuer: &str, which: Which) -> Arc<Crl> {
        self.try_crl(issuer, which).await.unwrap().unwrap()
    }

    async fn complete(&self) -> Arc<Crl> {
        self.crl("root", Which::Complete).await
    }

    async fn delta(&self) -> Arc<Crl> {
        self.crl("root", Which::Delta).await
    }

    async fn tend(&self) {
        self.engine.tend_crls(self.now()).await.unwrap();
    }

    async fn config(&self, body: Value) {
        self.write("config/crl", body).await.unwrap();
    }

    async fn raw(&self, path: &str) -> crate::response::Raw {
        *self.ask(Operation::Read, path, json!({})).await.unwrap().raw.unwrap()
    }

    async fn at_rest(&self, scope: Scope) -> AtRest {
        AtRest::load(self.engine.store.view(), scope).await.unwrap()
    }
}

/// The serial numbers that a CRL names, in order, once it was found to be the issuer's.
async fn named(bed: &Bed, crl: &Arc<Crl>) -> Vec<String> {
    let authorities = bed.engine.store.authorities().await.unwrap();
    let read = ImportedCrl::from_der(&crl.der).unwrap();
    let issuer = authorities.issuer(&crl.made.issuer).unwrap();
    assert!(read.is_signed_by(&issuer.certificate));
    let serial = |serial: &[u8]| SerialNumber::from_bytes(serial).unwrap().to_string();
    read.entries().iter().map(|entry| serial(&entry.serial)).collect()
}

fn serials(leaves: &[&Leaf]) -> Vec<String> {
    leaves.iter().map(|leaf| leaf.serial.clone()).collect()
}

#[tokio::test]
async fn whoever_reads_after_a_revocation_finds_it_and_nobody_signs_without_need() {
    let bed = Bed::new().await;
    let (one, two) = (bed.leaf(json!({})).await, bed.leaf(json!({})).await);
    let empty = bed.complete().await;
    assert!(named(&bed, &empty).await.is_empty());
    bed.revoke(&one).await;
    let first = bed.complete().await;
    assert_eq!(named(&bed, &first).await, serials(&[&one]));
    assert_eq!(bed.complete().await.der, first.der);
    bed.revoke(&two).await;
    let second = bed.complete().await;
    assert_eq!(named(&bed, &second).await, serials(&[&one, &two]));
    assert!(empty.made.number < first.made.number && first.made.number < second.made.number);
    // Revoking again is no news.
    bed.revoke(&two).await;
    assert_eq!(bed.complete().await.der, second.der);
}

#[tokio::test]
async fn a_crl_that_has_expired_is_not_served() {
    let bed = Bed::new().await;
    let first = bed.complete().await;
    assert_eq!(first.made.next_update - first.made.this_update, 72 * 3600);
    bed.later(72 * 3600);
    let second = bed.complete().await;
    assert!(second.made.number > first.made.number);
    assert_eq!(second.made.this_update, bed.now().as_second());
}

#[tokio::test]
async fn a_restarted_server_serves_the_very_same_crls_and_goes_on_from_there() {
    let bed = Bed::new().await;
    bed.config(json!({"auto_rebuild": true, "enable_delta": true})).await;
    let (one, two) = (bed.leaf(json!({})).await, bed.leaf(json!({})).await);
    bed.revoke(&one).await;
    let complete = bed.complete().await;
    bed.revoke(&two).await;
    let delta = bed.delta().await;
    let bed = bed.restarted().await;
    bed.next_commit(Fault::Fails);
    assert_eq!(bed.complete().await.der, complete.der);
    assert_eq!(bed.delta().await.der, delta.der);
    bed.next_commit(Fault::None);
    bed.read("crl/rotate").await.unwrap();
    let next = bed.complete().await;
    assert!(next.made.number > delta.made.number);
    assert_eq!(named(&bed, &next).await, serials(&[&one, &two]));
}

#[tokio::test]
async fn deltas_tell_what_came_since_the_complete_list_when_it_is_time() {
    let bed = Bed::new().await;
    bed.config(json!({"auto_rebuild": true, "enable_delta": true, "expiry": "72h",
        "auto_rebuild_grace_period": "12h", "delta_rebuild_interval": "15m"}))
        .await;
    let (one, two) = (bed.leaf(json!({"ttl": "1000h"})).await, bed.leaf(json!({"ttl": "1000h"})).await);
    let complete = bed.complete().await;
    let empty = bed.delta().await;
    assert_eq!((empty.made.base, empty.made.count), (Some(complete.made.number), 0));
    bed.revoke(&one).await;
    bed.later(60);
    bed.tend().await;
    assert_eq!(bed.delta().await.der, empty.der);
    assert_eq!(bed.complete().await.der, complete.der);
    bed.later(15 * 60);
    bed.tend().await;
    let delta = bed.delta().await;
    assert_eq!(named(&bed, &delta).await, serials(&[&one]));
    assert_eq!(delta.made.base, Some(complete.made.number));
    bed.revoke(&two).await;
    bed.read("crl/rotate-delta").await.unwrap();
    assert_eq!(named(&bed, &bed.delta().await).await, serials(&[&one, &two]));
    assert_eq!(bed.complete().await.der, complete.der);
    // Twelve hours before the end it is time for a complete one, and the delta begins anew.
    bed.later(60 * 3600);
    bed.tend().await;
    let next = bed.complete().await;
    assert_eq!(named(&bed, &next).await, serials(&[&one, &two]));
    let delta = bed.delta().await;
    assert_eq!((delta.made.base, delta.made.count), (Some(next.made.number), 0));
}

#[tokio::test]
async fn the_background_builds_what_a_revocation_made_old() {
    let bed = Bed::new().await;
    let leaf = bed.leaf(json!({})).await;
    let before = bed.complete().await;
    bed.revoke(&leaf).await;
    let scope = bed.scope("root").await;
    // After a build the scope rests for a multiple of what it took.
    for _ in 0..200 {
        bed.tend().await;
        let head = bed.at_rest(scope).await.head;
        if head.complete.unwrap().number > before.made.number {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("nothing was built");
}

#[tokio::test]
async fn a_list_that_cannot_be_built_keeps_the_background_from_no_other() {
    let bed = Bed::empty().await;
    let names: Vec<String> = (0..3).map(|number| format!("root{number}")).collect();
    for name in &names {
        bed.add_root(name, KeySpec::new("ec", 256).unwrap()).await;
        bed.crl(name, Which::Complete).await;
    }
    bed.config(json!({"auto_rebuild": true})).await;
    bed.later(61 * 3600);
    // They rest a multiple of what their builds took.
    tokio::time::sleep(Duration::from_secs(2)).await;
    // The first commit of the round, whosever it is.
    bed.next_commit(Fault::Fails);
    bed.engine.tend_crls(bed.now()).await.unwrap_err();
    let mut rebuilt = 0;
    for name in &names {
        let head = bed.at_rest(bed.scope(name).await).await.head;
        rebuilt += usize::from(head.complete.unwrap().this_update == bed.now().as_second());
    }
    assert_eq!(rebuilt, 2);
    // It is left alone for a while, but not by those who ask for it.
    bed.tend().await;
    for name in &names {
        assert_eq!(bed.crl(name, Which::Complete).await.made.this_update, bed.now().as_second());
    }
}

#[tokio::test]
async fn disabled_lists_are_empty_until_they_are_enabled() {
    let bed = Bed::new().await;
    let (one, two) = (bed.leaf(json!({})).await, bed.leaf(json!({})).await);
    bed.revoke(&one).await;
    assert_eq!(bed.complete().await.made.count, 1);
    bed.config(json!({"disable": true})).await;
    let empty = bed.complete().await;
    assert!(named(&bed, &empty).await.is_empty());
    bed.revoke(&two).await;
    bed.read("crl/rotate").await.unwrap();
    bed.later(100 * 3600);
    bed.tend().await;
    assert_eq!(bed.complete().await.der, empty.der);
    assert_eq!(bed.delta().await.made.base, Some(empty.made.number));
    let bed = bed.restarted().await;
    assert_eq!(bed.complete().await.der, empty.der);
    bed.config(json!({"disable": false})).await;
    assert_eq!(named(&bed, &bed.complete().await).await, serials(&[&one, &two]));
}

#[tokio::test]
async fn a_list_of_many_pages_comes_back_and_forgets_what_is_forgotten() {
    let bed = Bed::new().await;
    let scope = bed.scope("root").await;
    let leaf = bed.leaf(json!({})).await;
    bed.engine.store.journal_many(scope, 5_000, NOW).await;
    assert_eq!(bed.complete().await.made.count, 5_000);
    bed.revoke(&leaf).await;
    bed.engine.store.journal_many(scope, 15_000, NOW).await;
    let crl = bed.complete().await;
    assert_eq!(crl.made.count, 20_001);
    let head = bed.at_rest(scope).await.head;
    assert_eq!(head.pages, u64::try_from(crl.der.len() / PAGE_SIZE).unwrap());
    assert!(head.paged < 20_001 && head.paged > 13_000, "{head:?}");

    let bed = bed.restarted().await;
    assert_eq!(bed.complete().await.der, crl.der);
    let other = bed.leaf(json!({})).await;
    bed.revoke(&other).await;
    let names = named(&bed, &bed.complete().await).await;
    assert_eq!(names.len(), 20_002);
    assert!(names.contains(&leaf.serial) && names.last() == Some(&other.serial));

    let name = certificate_name(&leaf.number());
    let record = bed.engine.store.view.get(collection::REVOKED, &name).await.unwrap().unwrap();
    let stored = StoredRevocation::read(name, &record).unwrap();
    bed.engine.store.forget_revocations(&[stored], Writes::new()).await.unwrap();
    // A crash comes before the next build.
    let bed = bed.restarted().await;
    let names = named(&bed, &bed.complete().await).await;
    assert_eq!(names.len(), 20_001);
    assert!(!names.contains(&leaf.serial));
    let again = bed.at_rest(scope).await;
    assert!(!again.is_stale());
    assert_eq!((again.head.generation, again.head.pages), (1, head.pages));
    let old = format!("crl-pages/{scope}/0");
    assert!(bed.engine.store.view().list(&old, Position::Start, 10).await.unwrap().is_empty());
    let bed = bed.restarted().await;
    assert_eq!(named(&bed, &bed.complete().await).await, names);
}

#[tokio::test]
async fn no_number_is_given_to_two_lists_whatever_fails() {
    let bed = Bed::new().await;
    let mut seen: HashMap<u64, Vec<u8>> = HashMap::new();
    let mut last = 0;
    let mut bed = bed;
    let mut revoked = Vec::new();
    for round in 0..24_u32 {
        let leaf = bed.leaf(json!({})).await;
        bed.revoke(&leaf).await;
        revoked.push(leaf.serial.clone());
        // The first commit of a build takes the number, the last one puts it in force.
        let fault = [Fault::Fails, Fault::FailsAfterPersisting][usize::try_from(round % 2).unwrap()];
        let at = usize::try_from(round % 3).unwrap();
        bed.commit_after(at, fault);
        let failed = bed.try_crl("root", Which::Complete).await;
        bed.next_commit(Fault::None);
        assert_eq!(failed.is_err(), at < 2, "round {round}: {failed:?}");
        if round % 5 == 4 {
            bed = bed.restarted().await;
        }
        let crl = bed.complete().await;
        assert!(crl.made.number > last, "round {round}");
        last = crl.made.number;
        assert_eq!(named(&bed, &crl).await, revoked, "round {round}");
        let before = seen.insert(last, crl.der.to_vec());
        assert!(before.is_none_or(|before| before == crl.der), "round {round}");
    }
}

#[tokio::test]
async fn only_the_list_of_the_scope_that_changed_is_built() {
    let bed = Bed::new().await;
    bed.add_root("other", KeySpec::new("ec", 256).unwrap()).await;
    let leaf = bed.leaf(json!({"issuer_ref": "other"})).await;
    let (root, other) = (bed.crl("root", Which::Complete).await, bed.crl("other", Which::Complete).await);
    bed.revoke(&leaf).await;
    bed.add_root("third", KeySpec::new("ec", 256).unwrap()).await;
    assert_eq!(bed.crl("root", Which::Complete).await.der, root.der);
    let next = bed.crl("other", Which::Complete).await;
    assert_eq!(named(&bed, &next).await, serials(&[&leaf]));
    assert!(next.made.number > other.made.number);
    assert!(named(&bed, &bed.crl("third", Which::Complete).await).await.is_empty());
}

#[tokio::test]
async fn issuers_that_share_name_and_key_share_the_list() {
    let bed = Bed::empty().await;
    let first = json!({"common_name": "same", "key_type": "ec", "issuer_name": "one", "key_name": "k"});
    bed.write("root/generate/internal", first).await.unwrap();
    let second = json!({"common_name": "same", "key_ref": "k", "issuer_name": "two"});
    bed.write("root/generate/existing", second).await.unwrap();
    let leaf = bed.leaf(json!({"issuer_ref": "two"})).await;
    bed.revoke(&leaf).await;
    let one = bed.crl("one", Which::Complete).await;
    assert_eq!(named(&bed, &one).await, serials(&[&leaf]));
    assert_eq!(bed.crl("two", Which::Complete).await.der, one.der);
    assert_eq!(bed.engine.store.authorities().await.unwrap().scopes().count(), 1);
    // One of them is revoked: the other one's CRL, which is the same, says so.
    let revoked = data(&bed.write("issuer/one/revoke", json!({})).await.unwrap());
    let serial = Certificate::from_pem(text(&revoked, "certificate")).unwrap().serial_number();
    assert_eq!(
        named(&bed, &bed.crl("two", Which::Complete).await).await,
        [leaf.serial.clone(), serial.to_string()]
    );
}

#[tokio::test]
async fn an_issuer_that_is_deleted_and_imported_again_has_the_list_it_had() {
    let bed = Bed::new().await;
    let leaf = bed.leaf(json!({})).await;
    bed.revoke(&leaf).await;
    let before = bed.complete().await;
    let pem = text(&bed.read("issuer/root").await.unwrap(), "certificate").to_owned();
    bed.ask(Operation::Delete, "issuer/root", json!({})).await.unwrap();
    let imported = data(&bed.write("issuers/import/cert", json!({"pem_bundle": pem})).await.unwrap());
    let id = imported["imported_issuers"][0].as_str().unwrap();
    assert_eq!(bed.crl(id, Which::Complete).await.der, before.der);
    let bed = bed.restarted().await;
    assert_eq!(bed.crl(id, Which::Complete).await.der, before.der);
}

#[tokio::test]
async fn the_background_lets_lie_what_is_good() {
    let bed = Bed::new().await;
    bed.config(json!({"auto_rebuild": true, "enable_delta": true})).await;
    let (complete, delta) = (bed.complete().await, bed.delta().await);
    let bed = bed.restarted().await;
    bed.next_commit(Fault::Fails);
    bed.tend().await;
    assert_eq!(
        (bed.complete().await.der.clone(), bed.delta().await.der.clone()),
        (complete.der.clone(), delta.der.clone())
    );
    bed.next_commit(Fault::None);
    bed.later(60 * 3600);
    bed.tend().await;
    assert!(bed.complete().await.made.number > delta.made.number);
}

#[tokio::test]
async fn a_list_is_dated_no_earlier_than_the_one_before_unless_the_clock_was_wrong() {
    let bed = Bed::new().await;
    bed.later(10);
    let first = bed.complete().await;
    // The request was made ten seconds ago, and waited.
    bed.later(-10);
    let leaf = bed.leaf(json!({})).await;
    bed.revoke(&leaf).await;
    let second = bed.complete().await;
    assert!(second.made.number > first.made.number);
    assert_eq!(second.made.this_update, first.made.this_update);
    // Whoever was told its date asks by it for the next one.
    bed.later(11);
    assert_eq!(bed.raw("crl").await.last_modified, Some(second.made.this_update));
    bed.later(-11);
    let other = bed.leaf(json!({})).await;
    bed.revoke(&other).await;
    let second = bed.complete().await;
    assert_eq!(second.made.this_update, first.made.this_update + 1);
    bed.later(-3600);
    let third = bed.complete().await;
    assert!(third.made.number > second.made.number);
    assert_eq!(third.made.this_update, bed.now().as_second());
    assert_eq!(bed.complete().await.der, third.der);
}

#[tokio::test]
async fn a_delta_is_not_served_beyond_its_end() {
    let bed = Bed::new().await;
    bed.config(json!({"auto_rebuild": true, "enable_delta": true})).await;
    let complete = bed.complete().await;
    let short = json!({"expiry": "1h", "auto_rebuild_grace_period": "10m", "delta_rebuild_interval": "5m"});
    bed.config(short).await;
    let delta = bed.delta().await;
    bed.later(3600);
    assert_eq!(bed.complete().await.der, complete.der);
    let next = bed.delta().await;
    assert!(next.made.number > delta.made.number && next.made.lasts(bed.now()));
}

#[tokio::test]
async fn the_background_builds_a_list_before_it_ends() {
    let bed = Bed::new().await;
    let first = bed.complete().await;
    let scope = bed.scope("root").await;
    bed.later(72 * 3600 - 601);
    bed.tend().await;
    assert_eq!(bed.at_rest(scope).await.head.complete.unwrap().number, first.made.number);
    bed.later(1);
    for _ in 0..200 {
        bed.tend().await;
        if bed.at_rest(scope).await.head.complete.unwrap().number > first.made.number {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("nothing was built");
}

#[tokio::test]
async fn places_grow_after_a_restart_though_the_last_entries_are_gone_and_the_clock_went_back() {
    let bed = Bed::new().await;
    let leaf = bed.leaf(json!({})).await;
    bed.revoke(&leaf).await;
    let place = bed.complete().await.made.place;
    let name = certificate_name(&leaf.number());
    let record = bed.engine.store.view.get(collection::REVOKED, &name).await.unwrap().unwrap();
    let stored = StoredRevocation::read(name, &record).unwrap();
    bed.engine.store.forget_revocations(&[stored], Writes::new()).await.unwrap();
    let scope = bed.scope("root").await;
    let bed = bed.restarted().await;
    let journal = bed.engine.store.journals.of(Some(scope));
    let earlier = NOW.checked_sub(jiff::SignedDuration::from_secs(10)).unwrap();
    let under_way = journal.begin(bed.engine.store.view(), earlier).await.unwrap();
    assert!(under_way.place() > place);
    under_way.ended(&Ok(()));
}

#[tokio::test]
async fn a_certificate_without_a_number_is_revoked_listed_and_named() {
    let bed = Bed::new().await;
    let root = bed.engine.store.authorities().await.unwrap().find_issuer("root").unwrap().record.id;
    let key: Arc<dyn Signer> = Arc::new(PrivateKey::generate(KeySpec::new("ec", 256).unwrap()).unwrap());
    let mut request = CaRequest::new("old", bed.engine.limits());
    request.ttl = Some(Duration::from_secs(3600));
    let zero = SerialNumber::or_zero(&[0]).unwrap();
    let old = prepare_root(&request, &key, &AiaUrls::default(), zero, NOW).unwrap().sign().unwrap();
    let old = Certificate::from_pem(&old.pem).unwrap();
    bed.engine.store.put_certificate(&zero, Some(root), old.der()).await.unwrap();
    bed.write("revoke", json!({"serial_number": "00"})).await.unwrap();
    assert_eq!(bed.keys("certs/revoked", json!({})).await, ["00"]);
    assert_eq!(bed.keys("certs", json!({})).await, ["00"]);
    let crl = bed.complete().await;
    let read = ImportedCrl::from_der(&crl.der).unwrap();
    assert!(matches!(read.entries(), [entry] if entry.serial.is_empty()));
}

#[tokio::test]
async fn what_was_revoked_before_1970_is_listed_as_of_then() {
    let bed = Bed::new().await;
    let leaf = bed.leaf(json!({})).await;
    let early = Timestamp::from_second(-1).unwrap();
    let body = json!({"serial_number": leaf.serial});
    bed.ask_at(early, Operation::Update, "revoke", body).await.unwrap();
    let crl = bed.complete().await;
    let read = ImportedCrl::from_der(&crl.der).unwrap();
    assert!(matches!(read.entries(), [entry] if entry.at.as_second() == 0));
}

#[tokio::test]
async fn a_list_that_nobody_may_sign_stays_as_it_was_and_says_why() {
    let bed = Bed::new().await;
    let leaf = bed.leaf(json!({})).await;
    let before = bed.complete().await;
    let id = text(&bed.read("issuer/root").await.unwrap(), "issuer_id").to_owned();
    let usage = json!({"issuer_name": "root", "usage": "read-only,issuing-certificates"});
    bed.write("issuer/root", usage).await.unwrap();
    let warning = format!(
        "Warning 1 during CRL rebuild: warning from local CRL rebuild: Issuer equivalency set with associated keys lacked an issuer with CRL Signing KeyUsage; refusing to rebuild CRL for this group of issuers: {id}"
    );
    let revoked = bed.write("revoke", json!({"serial_number": leaf.serial})).await.unwrap();
    assert_eq!(revoked.warnings, std::slice::from_ref(&warning));
    let rotated = bed.ask(Operation::Read, "crl/rotate", json!({})).await.unwrap();
    assert_eq!((data(&rotated), rotated.warnings), (json!({"success": true}), vec![warning]));
    assert_eq!(bed.complete().await.der, before.der);
    let error = bed.write("issuer/root/sign-revocation-list", json!({})).await.unwrap_err();
    assert_eq!(
        error.message(),
        format!(
            "error while attempting to use issuer {id}: requested usage crl-signing for issuer [id:{id} / name:root] but only had usage issuing-certificates,read-only"
        )
    );
}

#[tokio::test]
async fn lists_are_handed_out_in_the_peers_forms() {
    let bed = Bed::empty().await;
    for path in ["crl", "crl/pem", "crl/delta", "crl/delta/pem"] {
        let response = bed.ask(Operation::Read, path, json!({})).await.unwrap();
        assert_eq!(response.status, Some(204), "{path}");
    }
    for path in ["cert/crl", "issuer/default/crl", "issuer/default/crl/delta/pem"] {
        let error = bed.read(path).await.unwrap_err();
        assert_eq!(
            (error.kind, error.message().as_str()),
            (Kind::Internal, "no default issuer currently configured")
        );
    }
    bed.add_root("root", KeySpec::new("ec", 256).unwrap()).await;
    let (complete, delta) = (bed.complete().await, bed.delta().await);
    // Another one may follow in the same second: whoever has this one must get that.
    assert_eq!(bed.raw("crl").await.last_modified, None);
    bed.later(1);
    for (crl, der_paths, pem_paths, json_paths) in [
        (
            &complete,
            ["crl", "issuer/root/crl/der"],
            ["crl/pem", "issuer/root/crl/pem"],
            ["cert/crl", "issuer/root/crl"],
        ),
        (
            &delta,
            ["crl/delta", "issuer/root/crl/delta/der"],
            ["crl/delta/pem", "issuer/root/crl/delta/pem"],
            ["cert/delta-crl", "issuer/root/crl/delta"],
        ),
    ] {
        let pem = chancery_issuance::crl_pem(&crl.der);
        for path in der_paths {
            let raw = bed.raw(path).await;
            assert_eq!((raw.content_type.as_ref(), &raw.body), ("application/pkix-crl", &crl.der));
            assert_eq!(raw.last_modified, Some(NOW.as_second()));
        }
        for (path, text) in pem_paths.into_iter().zip([pem.trim_end(), &pem]) {
            let raw = bed.raw(path).await;
            assert_eq!(
                (raw.content_type.as_ref(), &raw.body[..]),
                ("application/x-pem-file", text.as_bytes())
            );
        }
        assert_eq!(text(&bed.read(json_paths[0]).await.unwrap(), "certificate"), pem.trim_end());
        assert_eq!(text(&bed.read(json_paths[1]).await.unwrap(), "crl"), pem);
    }
    for (path, public) in [
        ("crl", true),
        ("crl/pem", true),
        ("crl/delta", true),
        ("crl/delta/pem", true),
        ("cert/crl", true),
        ("cert/delta-crl", true),
        ("issuer/root/crl", true),
        ("issuer/root/crl/der", true),
        ("issuer/root/crl/delta/pem", true),
        ("crl/rotate", false),
        ("crl/rotate-delta", false),
        ("revoke", false),
        ("revoke-with-key", false),
        ("certs/revoked", false),
        ("config/crl", false),
        ("issuer/root/resign-crls", false),
        ("issuer/root/sign-revocation-list", false),
    ] {
        assert_eq!(Pki::routes().matching(path).unwrap().flags.public, public, "{path}");
    }
}

#[tokio::test]
async fn every_kind_of_key_signs_its_list_in_the_way_that_was_chosen() {
    let bed = Bed::empty().await;
    for (key_type, bits, algorithm) in [
        ("rsa", 2048, ""),
        ("rsa", 2048, "SHA512WithRSAPSS"),
        ("ec", 224, ""),
        ("ec", 384, ""),
        ("ed25519", 0, ""),
    ] {
        let name = format!("{key_type}{bits}{algorithm}");
        bed.add_root(&name, KeySpec::new(key_type, bits).unwrap()).await;
        let body = json!({"issuer_name": name, "revocation_signature_algorithm": algorithm});
        bed.write(&format!("issuer/{name}"), body).await.unwrap();
        let crl = bed.crl(&name, Which::Complete).await;
        assert!(named(&bed, &crl).await.is_empty());
        if !algorithm.is_empty() {
            assert_eq!(crl.made.algorithm, algorithm);
        }
    }
}

#[tokio::test]
async fn how_crls_are_published_is_checked_in_the_peers_words() {
    let bed = Bed::new().await;
    let shown = json!({"allow_expired_cert_revocation": false, "auto_rebuild": false,
        "auto_rebuild_grace_period": "12h", "delta_rebuild_interval": "15m", "disable": false, "enable_delta": false,
        "expiry": "72h", "ocsp_disable": false, "ocsp_expiry": "12h"});
    assert_eq!(bed.read("config/crl").await.unwrap(), shown);
    for (body, sentence) in [
        (json!({"expiry": "x"}), r#"given expiry could not be decoded: time: invalid duration "x""#),
        (
            json!({"auto_rebuild_grace_period": "zz"}),
            r#"given auto_rebuild_grace_period could not be decoded: time: invalid duration "zz""#,
        ),
        (json!({"ocsp_expiry": "-1h"}), "ocsp_expiry must be greater than or equal to 0 got: -1h0m0s"),
        (json!({"ocsp_expiry": "-90s"}), "ocsp_expiry must be greater than or equal to 0 got: -1m30s"),
        (
            json!({"delta_rebuild_interval": "q"}),
            r#"given delta_rebuild_interval could not be decoded: time: invalid duration "q""#,
        ),
        (
            json!({"auto_rebuild": true, "auto_rebuild_grace_period": "100h"}),
            "CRL auto-rebuilding grace period (100h) must be strictly shorter than CRL expiry (72h) value when auto-rebuilding of CRLs is enabled",
        ),
        (
            json!({"auto_rebuild": true, "enable_delta": true, "delta_rebuild_interval": "72h"}),
            "CRL delta rebuild window (72h) must be strictly shorter than CRL expiry (72h) value when delta CRLs are enabled",
        ),
        (
            json!({"enable_delta": true}),
            "Delta CRLs cannot be enabled when auto rebuilding is disabled as the complete CRL is always regenerated!",
        ),
        (json!({"expiry": "0"}), r#"the expiry of CRLs must be at least a second, not "0""#),
    ] {
        let error = bed.write("config/crl", body).await.unwrap_err();
        assert_eq!((error.kind, error.message().as_str()), (Kind::InvalidRequest, sentence));
    }
    bed.next_commit(Fault::Fails);
    bed.write("config/crl", json!({"expiry": "1h"})).await.unwrap_err();
    assert_eq!(bed.read("config/crl").await.unwrap(), shown);
    bed.next_commit(Fault::FailsAfterPersisting);
    bed.write("config/crl", json!({"expiry": 3600})).await.unwrap_err();
    assert_eq!(bed.read("config/crl").await.unwrap()["expiry"], "3600");
}

/// The scale that the design promises, on disk: `cargo test --release -p chancery-secrets --lib -- --ignored a_million
/// --nocapture`.
#[tokio::test]
#[ignore = "takes minutes in a debug build"]
async fn a_million_entries_are_built_in_seconds() {
    let folder = tempfile::tempdir().unwrap();
    let store = chancery_storage::Embedded::open(folder.path().join("store")).unwrap();
    let barrier = Barrier::new(Arc::new(store), None);
    let founding =
        barrier.found(ShareScheme::new(1, 1).unwrap(), std::time::SystemTime::UNIX_EPOCH).await.unwrap();
    let view = founding.commit(Writes::new()).await.unwrap().0.view("mount").unwrap();
    let bed = Bed { engine: engine(view.clone()).await, ..Bed::empty().await };
    bed.add_root("root", KeySpec::new("ec", 256).unwrap()).await;
    let leaf = bed.leaf(json!({})).await;
    bed.engine.store.journal_many(bed.scope("root").await, 1_000_000, NOW).await;
    let report = |what: &str, began: std::time::Instant| {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let peak = status.lines().find(|line| line.starts_with("VmHWM")).unwrap_or_default().to_owned();
        eprintln!("{what}: {:?}, {peak}", began.elapsed());
    };
    let now = std::time::Instant::now;
    report("filled", now());
    let began = now();
    let crl = bed.complete().await;
    report(&format!("first build of {} entries, {} bytes", crl.made.count, crl.der.len()), began);
    let began = now();
    bed.revoke(&leaf).await;
    report("a revocation", began);
    let began = now();
    assert_eq!(bed.complete().await.made.count, 1_000_001);
    report("the next build", began);
    let began = now();
    let bed = Bed { engine: engine(view).await, ..bed };
    report("opening again", began);
    let began = now();
    bed.complete().await;
    report("the same list after a restart", began);
    let began = now();
    bed.read("crl/rotate").await.unwrap();
    report("a list with nothing new", began);
}
