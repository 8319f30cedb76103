//! OCSP through the engine's routes.

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, SHA256, digest};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use chancery_issuance::SerialNumber;

use super::*;
use crate::engine::pki::revocations::Revocation;
use crate::engine::pki::store::certificate_name;

fn tlv(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let content = parts.concat();
    let length = match content.len() {
        short @ 0..0x80 => vec![u8::try_from(short).unwrap()],
        long => [&[0x84][..], &u32::try_from(long).unwrap().to_be_bytes()].concat(),
    };
    // Lengths in the fewest bytes.
    let length = match length.as_slice() {
        [0x84, 0, 0, 0, one] => vec![0x81, *one],
        [0x84, 0, 0, two @ ..] => [&[0x82][..], two].concat(),
        [0x84, 0, three @ ..] => [&[0x83][..], three].concat(),
        short => short.to_vec(),
    };
    [vec![tag], length, content].concat()
}

/// A CertID by SHA-1.
fn cert_id(issuer: &Certificate, serial: &SerialNumber) -> Vec<u8> {
    const SHA1: &[u8] = &[0x30, 9, 6, 5, 0x2b, 14, 3, 2, 26, 5, 0];
    let sha1 = |bytes: &[u8]| digest(&SHA1_FOR_LEGACY_USE_ONLY, bytes).as_ref().to_vec();
    let key_id = issuer.public_key().unwrap().subject_key_id();
    let (name, key) = (tlv(4, &[&sha1(issuer.subject_der())]), tlv(4, &[&key_id]));
    tlv(0x30, &[SHA1, &name, &key, &tlv(2, &[serial.as_bytes()])])
}

fn request_of(ids: &[Vec<u8>]) -> Vec<u8> {
    let singles: Vec<Vec<u8>> = ids.iter().map(|id| tlv(0x30, &[id])).collect();
    let list = tlv(0x30, &[&singles.concat()]);
    tlv(0x30, &[&tlv(0x30, &[&list])])
}

/// As [`request_of`], with a nonce (RFC 6960, 4.4.1).
fn request_with_nonce(id: &[u8]) -> Vec<u8> {
    const NONCE: &[u8] = &[6, 9, 0x2b, 6, 1, 5, 5, 7, 0x30, 1, 2];
    let list = tlv(0x30, &[&tlv(0x30, &[id])]);
    let nonce = tlv(0x30, &[NONCE, &tlv(4, &[&tlv(4, &[b"nonce"])])]);
    tlv(0x30, &[&tlv(0x30, &[&list, &tlv(0xa2, &[&tlv(0x30, &[&nonce])])])])
}

const MALFORMED: (u16, &[u8]) = (400, &[0x30, 3, 10, 1, 1]);
const INTERNAL: (u16, &[u8]) = (500, &[0x30, 3, 10, 1, 2]);
const UNAUTHORIZED: (u16, &[u8]) = (401, &[0x30, 3, 10, 1, 6]);

/// What an answer says of each certificate, in order.
#[derive(Debug, PartialEq)]
enum Said {
    Good,
    Revoked,
    Unknown,
}

struct Answered {
    status: u16,
    body: Vec<u8>,
}

impl Answered {
    fn of(response: Response) -> Self {
        let raw = response.raw.unwrap();
        assert_eq!(raw.content_type, "application/ocsp-response");
        Self { status: response.status.unwrap_or(200), body: raw.body.to_vec() }
    }

    fn refusal(&self) -> (u16, &[u8]) {
        (self.status, &self.body)
    }

    /// The statuses that stand behind the CertIDs asked after.
    fn said(&self, ids: &[Vec<u8>]) -> Vec<Said> {
        assert_eq!(self.status, 200);
        let mut rest = self.body.as_slice();
        ids.iter()
            .map(|id| {
                let found = rest.windows(id.len()).position(|window| window == id).unwrap();
                rest = &rest[found + id.len()..];
                match rest[0] {
                    0x80 => Said::Good,
                    0xa1 => Said::Revoked,
                    0x82 => Said::Unknown,
                    other => panic!("a status of {other:#x}"),
                }
            })
            .collect()
    }

    fn is_by(&self, issuer: &Certificate) -> bool {
        self.body.windows(issuer.subject_der().len()).any(|window| window == issuer.subject_der())
    }

    /// Whether the signature is that of an issuer with a P-256 key.
    fn is_signed_by(&self, issuer: &Certificate) -> bool {
        let inside = |der| after(der).0;
        let response = elements(inside(&self.body));
        let basic = elements(inside(inside(response[1])))[1];
        let [tbs, _, signature] = elements(inside(inside(basic)))[..] else { return false };
        // The point stands at the end of the SubjectPublicKeyInfo.
        let key = issuer.public_key().unwrap().spki_der().to_vec();
        let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, &key[key.len() - 65..]);
        // The first byte of a BIT STRING counts the bits that are missing.
        key.verify(tbs, &inside(signature)[1..]).is_ok()
    }
}

/// The elements of a list, whole.
fn elements(mut der: &[u8]) -> Vec<&[u8]> {
    let mut all = Vec::new();
    while !der.is_empty() {
        let (whole, rest) = der.split_at(der.len() - after(der).1.len());
        all.push(whole);
        der = rest;
    }
    all
}

/// What stands in the first element, and what after it.
fn after(der: &[u8]) -> (&[u8], &[u8]) {
    let (head, length) = match der[1] {
        short @ 0..=0x7f => (2, usize::from(short)),
        0x81 => (3, usize::from(der[2])),
        _ => (4, usize::from(der[2]) << 8 | usize::from(der[3])),
    };
    der[head..].split_at(length)
}

impl Bed {
    async fn post_ocsp(&self, body: Vec<u8>) -> Answered {
        let matched = Pki::routes().matching("ocsp").unwrap();
        let call = Call {
            request_id: "request".into(),
            operation: Operation::Update,
            path: "ocsp".into(),
            captures: matched.captures.clone(),
            body: body.into(),
            query: Vec::new(),
            connection: Connection::default(),
            mount_path: "pki/".into(),
            authorized: None,
            presented: None,
            now: self.now(),
        };
        assert!(matched.flags.public);
        Answered::of(Pki::routes().dispatch(Arc::clone(&self.engine), &matched, call).await.unwrap())
    }

    async fn get_ocsp(&self, text: &str) -> Answered {
        Answered::of(self.ask(Operation::Read, &format!("ocsp/{text}"), json!({})).await.unwrap())
    }

    async fn said(&self, ids: &[Vec<u8>]) -> Vec<Said> {
        self.post_ocsp(request_of(ids)).await.said(ids)
    }

    async fn certificate_of(&self, issuer: IssuerId) -> Certificate {
        let authorities = self.engine.store.authorities().await.unwrap();
        Certificate::clone(&authorities.issuer(&issuer).unwrap().certificate)
    }

    async fn issuer_in_use(&self) -> IssuerId {
        self.engine.store.authorities().await.unwrap().default_issuer().unwrap().record.id
    }

    async fn change_issuer(&self, id: IssuerId, change: impl FnOnce(&mut IssuerRecord)) {
        let mut pending = self.engine.store.change().await.unwrap();
        let mut record = pending.before.issuer(&id).unwrap().record.clone();
        change(&mut record);
        pending.put_issuer(&record).unwrap();
        pending.commit().await.unwrap();
    }

    /// A leaf of the default issuer.
    async fn a_serial_number(&self) -> SerialNumber {
        self.role("any", json!({"allow_any_name": true, "key_type": "ec"})).await;
        let made = data(&self.write("issue/any", json!({"common_name": "a.com"})).await.unwrap());
        text(&made, "serial_number").parse().unwrap()
    }

    async fn revoke_serial_number(&self, serial: &SerialNumber) {
        self.write("revoke", json!({"serial_number": serial.to_string()})).await.unwrap();
    }
}

fn no_usage(record: &mut IssuerRecord) {
    record.usage.ocsp_signing = false;
}

#[tokio::test]
async fn certificates_are_good_until_they_are_revoked() {
    let bed = Bed::new().await;
    let id = bed.issuer_in_use().await;
    let root = bed.certificate_of(id).await;
    let (first, second) = (bed.a_serial_number().await, bed.a_serial_number().await);
    let never = SerialNumber::from_bytes(&[5; 20]).unwrap();
    let ids = [&first, &second, &never].map(|serial| cert_id(&root, serial));
    assert_eq!(bed.said(&ids).await, [Said::Good, Said::Good, Said::Good]);
    bed.revoke_serial_number(&second).await;
    assert_eq!(bed.said(&ids).await, [Said::Good, Said::Revoked, Said::Good]);
    let answer = bed.post_ocsp(request_of(&ids)).await;
    assert!(answer.is_by(&root));
    // Of NOW, and twelve hours later.
    for time in [&b"20270115080000Z"[..], b"20270115200000Z"] {
        assert!(answer.body.windows(15).any(|window| window == time));
    }
}

#[tokio::test]
async fn what_is_remembered_of_a_certificate_ends_with_any_revocation() {
    let bed = Bed::new().await;
    let root = bed.certificate_of(bed.issuer_in_use().await).await;
    let (first, second) = (bed.a_serial_number().await, bed.a_serial_number().await);
    let ids = [&first, &second].map(|serial| cert_id(&root, serial));
    assert_eq!(bed.said(&ids).await, [Said::Good, Said::Good]);
    let store = &bed.engine.store;
    let as_of = store.journals.written();
    assert_eq!(store.revocations.get(&first), Some((as_of, None)));
    bed.revoke_serial_number(&second).await;
    assert!(store.journals.written() > as_of);
    // Somebody had read before the commit, and came to remember it only after it.
    store.revocations.insert(second, (as_of, None));
    assert_eq!(bed.said(&ids).await, [Said::Good, Said::Revoked]);
    let kept = store.revocations.get(&second).unwrap();
    assert!(kept.0 > as_of && kept.1.is_some());
    // It is not read again as long as nothing is revoked.
    store.revocations.insert(first, (store.journals.written(), kept.1));
    assert_eq!(bed.said(&ids).await, [Said::Revoked, Said::Revoked]);
}

#[tokio::test]
async fn what_would_be_signed_again_byte_for_byte_is_not() {
    let bed = Bed::new().await;
    let root = bed.certificate_of(bed.issuer_in_use().await).await;
    let serial = bed.a_serial_number().await;
    let ids = [cert_id(&root, &serial)];
    let ask = || async { bed.post_ocsp(request_of(&ids)).await };
    let first = ask().await;
    assert!(first.is_signed_by(&root) && first.said(&ids) == [Said::Good]);
    // ECDSA takes a new random number for each signature.
    assert_eq!(ask().await.body, first.body);
    // With a nonce each has its own, and so has a request that names two.
    let with_nonce = || async { bed.post_ocsp(request_with_nonce(&ids[0])).await };
    let (one, other) = (with_nonce().await, with_nonce().await);
    assert!(one.is_signed_by(&root) && other.is_signed_by(&root) && one.body != other.body);
    assert_eq!(one.said(&ids), [Said::Good]);
    bed.later(1);
    let later = ask().await;
    assert!(later.is_signed_by(&root) && later.body != first.body);
    // A revocation counts at once, in whatever second.
    bed.revoke_serial_number(&serial).await;
    assert_eq!(ask().await.said(&ids), [Said::Revoked]);
}

#[tokio::test]
async fn the_same_answer_of_another_issuer_is_signed_by_that_one() {
    let bed = Bed::new().await;
    let unknown = SerialNumber::from_bytes(&[5; 20]).unwrap();
    // Of an issuer that nobody knows: the default issuer says so, whose name alone stands in the answer.
    let stranger = Bed::new().await;
    let ids = [cert_id(&stranger.certificate_of(stranger.issuer_in_use().await).await, &unknown)];
    let first = bed.certificate_of(bed.issuer_in_use().await).await;
    assert!(bed.post_ocsp(request_of(&ids)).await.is_signed_by(&first));
    let second = bed.add_root("root", KeySpec::new("ec", 256).unwrap()).await;
    let second = bed.certificate_of(second).await;
    assert_eq!(first.subject_der(), second.subject_der());
    let answer = bed.post_ocsp(request_of(&ids)).await;
    assert!(answer.is_signed_by(&second) && !answer.is_signed_by(&first));
    assert_eq!(answer.said(&ids), [Said::Unknown]);
}

#[tokio::test]
async fn a_revocation_under_one_issuer_says_nothing_under_another() {
    let bed = Bed::new().await;
    let one = bed.issuer_in_use().await;
    let serial = bed.a_serial_number().await;
    let two = bed.add_root("two", KeySpec::Ed25519).await;
    let (first, second) = (bed.certificate_of(one).await, bed.certificate_of(two).await);
    bed.revoke_serial_number(&serial).await;
    let ids = [cert_id(&first, &serial), cert_id(&second, &serial)];
    assert_eq!(bed.said(&ids[..1]).await, [Said::Revoked]);
    assert_eq!(bed.said(&ids[1..]).await, [Said::Unknown]);
    // One answer speaks for one issuer: that of the first certificate.
    assert_eq!(bed.said(&ids).await, [Said::Revoked, Said::Unknown]);
    let turned = [ids[1].clone(), ids[0].clone()];
    assert_eq!(bed.said(&turned).await, [Said::Unknown, Said::Unknown]);
    assert!(bed.post_ocsp(request_of(&turned)).await.is_by(&second));
}

#[tokio::test]
async fn issuers_with_one_name_and_key_speak_for_each_other() {
    let bed = Bed::new().await;
    let one = bed.issuer_in_use().await;
    let serial = bed.a_serial_number().await;
    let root = bed.certificate_of(one).await;
    let twin = IssuerId::fresh();
    let mut change = bed.engine.store.change().await.unwrap();
    let record =
        IssuerRecord { id: twin, name: String::new(), ..change.before.issuer(&one).unwrap().record.clone() };
    change.put_issuer(&record).unwrap();
    change.commit().await.unwrap();
    bed.revoke_serial_number(&serial).await;
    let ids = [cert_id(&root, &serial)];
    assert_eq!(bed.said(&ids).await, [Said::Revoked]);
    bed.change_issuer(one, no_usage).await;
    assert_eq!(bed.said(&ids).await, [Said::Revoked]);
    bed.change_issuer(twin, no_usage).await;
    assert_eq!(bed.post_ocsp(request_of(&ids)).await.refusal(), UNAUTHORIZED);
}

#[tokio::test]
async fn revocations_outlive_the_ids_of_their_issuers() {
    let bed = Bed::new().await;
    let id = bed.issuer_in_use().await;
    let root = bed.certificate_of(id).await;
    let serial = bed.a_serial_number().await;
    bed.revoke_serial_number(&serial).await;
    bed.ask(Operation::Delete, &format!("issuer/{id}"), json!({})).await.unwrap();
    bed.write("issuers/import/cert", json!({"pem_bundle": root.pem()})).await.unwrap();
    assert_eq!(bed.said(&[cert_id(&root, &serial)]).await, [Said::Revoked]);
}

#[tokio::test]
async fn a_revocation_of_nobody_knows_whose_is_that_of_the_certificates_issuer() {
    let bed = Bed::new().await;
    let root = bed.certificate_of(bed.issuer_in_use().await).await;
    let serial = bed.a_serial_number().await;
    let other = bed.certificate_of(bed.add_root("other", KeySpec::Ed25519).await).await;
    let gone = SerialNumber::from_bytes(&[6; 20]).unwrap();
    for serial in [&serial, &gone] {
        let revocation =
            Revocation { at: NOW, issuer: None, scope: None, not_after: NOW.into(), reason: 0, place: 0 };
        let view = bed.engine.store.view();
        let record = revocation.encode();
        view.put(collection::REVOKED, &certificate_name(serial), &record).await.unwrap();
    }
    assert_eq!(bed.said(&[cert_id(&root, &serial)]).await, [Said::Revoked]);
    assert_eq!(bed.said(&[cert_id(&other, &serial)]).await, [Said::Unknown]);
    // One that is not stored any more is rather revoked too often.
    assert_eq!(bed.said(&[cert_id(&root, &gone)]).await, [Said::Revoked]);
}

#[tokio::test]
async fn the_mount_says_whether_and_for_how_long_answers_hold() {
    let bed = Bed::new().await;
    let root = bed.certificate_of(bed.issuer_in_use().await).await;
    let ids = [cert_id(&root, &bed.a_serial_number().await)];
    let next_update = |answer: &Answered, time: &[u8]| answer.body.windows(15).any(|window| window == time);
    bed.write("config/crl", json!({"ocsp_expiry": "1h"})).await.unwrap();
    let answer = bed.post_ocsp(request_of(&ids)).await;
    assert!(next_update(&answer, b"20270115090000Z"));
    bed.write("config/crl", json!({"ocsp_expiry": "0"})).await.unwrap();
    let shorter = bed.post_ocsp(request_of(&ids)).await;
    // No nextUpdate, which takes 19 bytes; the signature's length varies by a few.
    assert!(shorter.body.len() + 12 < answer.body.len());
    bed.write("config/crl", json!({"ocsp_disable": true})).await.unwrap();
    for body in [request_of(&ids), b"nonsense".to_vec()] {
        assert_eq!(bed.post_ocsp(body).await.refusal(), UNAUTHORIZED);
    }
}

#[tokio::test]
async fn strangers_are_unknown_to_the_default_issuer() {
    let bed = Bed::new().await;
    let serial = bed.a_serial_number().await;
    let root = bed.certificate_of(bed.issuer_in_use().await).await;
    let elsewhere = Bed::new().await;
    let stranger = elsewhere.certificate_of(elsewhere.issuer_in_use().await).await;
    let ids = [cert_id(&stranger, &serial)];
    let answer = bed.post_ocsp(request_of(&ids)).await;
    assert_eq!(answer.said(&ids), [Said::Unknown]);
    assert!(answer.is_by(&root));
    // A known issuer anywhere in the request speaks for itself.
    let both = [cert_id(&stranger, &serial), cert_id(&root, &serial)];
    assert_eq!(bed.said(&both).await, [Said::Unknown, Said::Good]);
    bed.change_issuer(bed.issuer_in_use().await, no_usage).await;
    assert_eq!(bed.post_ocsp(request_of(&ids)).await.refusal(), UNAUTHORIZED);
    let empty = Bed::empty().await;
    assert_eq!(empty.post_ocsp(request_of(&ids)).await.refusal(), UNAUTHORIZED);
}

#[tokio::test]
async fn an_issuer_without_usage_or_key_does_not_answer() {
    let bed = Bed::new().await;
    let id = bed.issuer_in_use().await;
    let ids = [cert_id(&bed.certificate_of(id).await, &bed.a_serial_number().await)];
    bed.add_root("other", KeySpec::Ed25519).await;
    bed.change_issuer(id, no_usage).await;
    assert_eq!(bed.post_ocsp(request_of(&ids)).await.refusal(), UNAUTHORIZED);
    bed.change_issuer(id, |record| record.usage.ocsp_signing = true).await;
    assert_eq!(bed.said(&ids).await, [Said::Good]);
    // Without a key it is as unknown as a stranger.
    bed.change_issuer(id, |record| record.key = None).await;
    assert_eq!(bed.said(&ids).await, [Said::Unknown]);
}

#[tokio::test]
async fn an_issuer_that_was_removed_is_unknown() {
    let bed = Bed::new().await;
    let id = bed.issuer_in_use().await;
    let ids = [cert_id(&bed.certificate_of(id).await, &bed.a_serial_number().await)];
    bed.add_root("other", KeySpec::Ed25519).await;
    bed.ask(Operation::Delete, &format!("issuer/{id}"), json!({})).await.unwrap();
    assert_eq!(bed.said(&ids).await, [Said::Unknown]);
}

#[tokio::test]
async fn requests_come_in_paths_too() {
    let bed = Bed::new().await;
    let root = bed.certificate_of(bed.issuer_in_use().await).await;
    let ids = [cert_id(&root, &bed.a_serial_number().await)];
    let text = data_encoding::BASE64.encode(&request_of(&ids));
    for text in [text.as_str(), text.trim_end_matches('='), &format!("{text}===")] {
        assert_eq!(bed.get_ocsp(text).await.said(&ids), [Said::Good], "{text}");
    }
    // A slash is part of the request.
    let slashes = data_encoding::BASE64.encode(&[0xff; 30]);
    assert!(slashes.contains('/'));
    for text in [&*slashes, "!!!", "AAAA", "A", "-_-_", "AA=A", "="] {
        assert_eq!(bed.get_ocsp(text).await.refusal(), MALFORMED, "{text}");
    }
}

#[tokio::test]
async fn what_is_no_request_or_too_large_is_malformed() {
    let bed = Bed::new().await;
    let root = bed.certificate_of(bed.issuer_in_use().await).await;
    let ids = [cert_id(&root, &bed.a_serial_number().await)];
    let good = request_of(&ids);
    for body in [
        Vec::new(),
        b"hello".to_vec(),
        b"{}".to_vec(),
        good[1..].to_vec(),
        [good.as_slice(), &[0]].concat(),
        request_of(&[]),
        request_of(&vec![ids[0].clone(); 101]),
        request_of(&vec![ids[0].clone(); 10_000]),
        vec![0x30; 1 << 20],
        // Lengths that promise more than is there.
        vec![0x30, 0x84, 0xff, 0xff, 0xff, 0xff, 0x30],
    ] {
        assert_eq!(bed.post_ocsp(body).await.refusal(), MALFORMED);
    }
    assert_eq!(bed.said(&vec![ids[0].clone(); 100]).await.len(), 100);
}

#[tokio::test]
async fn a_server_that_fails_says_so_in_the_words_of_ocsp() {
    let bed = Bed::new().await;
    let root = bed.certificate_of(bed.issuer_in_use().await).await;
    let serial = bed.a_serial_number().await;
    let view = bed.engine.store.view();
    view.put(collection::REVOKED, &certificate_name(&serial), b"nonsense").await.unwrap();
    let answer = bed.post_ocsp(request_of(&[cert_id(&root, &serial)])).await;
    assert_eq!(answer.refusal(), INTERNAL);
}

#[tokio::test]
async fn large_keys_answer_too_and_pss_is_left_to_lists() {
    let bed = Bed::empty().await;
    let id = bed.add_root("rsa", KeySpec::Rsa(3072)).await;
    bed.change_issuer(id, |record| {
        record.revocation_signature_algorithm = "SHA384WithRSAPSS".to_owned();
    })
    .await;
    let ids = [cert_id(&bed.certificate_of(id).await, &bed.a_serial_number().await)];
    let answer = bed.post_ocsp(request_of(&ids)).await;
    assert_eq!(answer.said(&ids), [Said::Good]);
    // sha384WithRSAEncryption
    let algorithm = [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 12, 5, 0];
    assert!(answer.body.windows(11).any(|window| window == algorithm));
}

#[tokio::test]
async fn the_digest_is_the_clients_choice() {
    let bed = Bed::new().await;
    let root = bed.certificate_of(bed.issuer_in_use().await).await;
    let sha256 = |bytes: &[u8]| tlv(4, &[digest(&SHA256, bytes).as_ref()]);
    let spki = root.public_key().unwrap().spki_der();
    // The point of a P-256 key is the end of its SPKI.
    let key = &spki[spki.len() - 65..];
    let algorithm = [0x30, 11, 6, 9, 0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 1];
    let id = tlv(0x30, &[&algorithm, &sha256(root.subject_der()), &sha256(key), &[2, 1, 7]]);
    assert_eq!(bed.said(&[id]).await, [Said::Good]);
}
