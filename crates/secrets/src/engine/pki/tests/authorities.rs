//! Authorities: imported in any order, named, chained, signed.

use chancery_issuance::SerialNumber;

use super::*;
use crate::engine::pki::heavy;

/// A root made elsewhere, in PEM.
struct Stranger {
    certificate: String,
    key: String,
}

impl Stranger {
    fn new(name: &str) -> Self {
        Self::with_serial(name, fresh_serial(NOW).unwrap())
    }

    fn with_serial(name: &str, serial: SerialNumber) -> Self {
        let key = Arc::new(PrivateKey::generate(KeySpec::new("ec", 256).unwrap()).unwrap());
        let signer: Arc<dyn Signer> = key.clone();
        let limits =
            MountLimits { default_ttl: Duration::from_secs(3600), max_ttl: Duration::from_secs(3600) };
        let request = CaRequest::new(name, limits);
        let root = prepare_root(&request, &signer, &AiaUrls::default(), serial, NOW);
        Self {
            certificate: root.unwrap().sign().unwrap().pem,
            key: key.to_pem(KeyForm::Pkcs8).as_str().to_owned(),
        }
    }
}

impl Bed {
    async fn import(&self, parts: &[&String]) -> Response {
        let bundle: String = parts.iter().map(|part| part.as_str()).collect();
        self.write("issuers/import/bundle", json!({ "pem_bundle": bundle })).await.unwrap()
    }

    async fn default_issuer(&self) -> String {
        text(&self.read("config/issuers").await.unwrap(), "default").to_owned()
    }

    /// How many certificates were about to be signed and are not stored.
    async fn intents(&self) -> usize {
        let view = self.engine.store.view();
        view.list(collection::INTENTS, Position::Start, usize::MAX).await.unwrap().len()
    }

    async fn default_key(&self) -> String {
        text(&self.read("config/keys").await.unwrap(), "default").to_owned()
    }
}

fn ids(response: &Response, list: &str) -> Vec<String> {
    serde_json::from_value::<Option<_>>(data(response)[list].clone()).unwrap().unwrap_or_default()
}

#[tokio::test]
async fn the_first_issuer_of_a_bundle_with_a_key_becomes_the_default() {
    let (one, two) = (Stranger::new("one"), Stranger::new("two"));
    // Keys come in the order of the bundle too, wherever they stand.
    for parts in [
        [&one.certificate, &two.certificate, &two.key, &one.key],
        [&two.key, &one.certificate, &one.key, &two.certificate],
    ] {
        let bed = Bed::empty().await;
        let answer = bed.import(&parts).await;
        let issuers = ids(&answer, "imported_issuers");
        assert_eq!(bed.default_issuer().await, issuers[0]);
        let keys = ids(&answer, "imported_keys");
        assert_eq!(bed.default_key().await, keys[0]);
        assert_eq!(data(&answer)["mapping"], json!({ &issuers[0]: keys[1], &issuers[1]: keys[0] }));
        assert!(answer.warnings[0].starts_with("The imported bundle contained multiple certs"));
    }
    let bed = Bed::empty().await;
    let answer = bed.import(&[&one.certificate, &two.certificate, &two.key]).await;
    assert_eq!(bed.default_issuer().await, ids(&answer, "imported_issuers")[1]);
}

#[tokio::test]
async fn an_issuer_without_its_key_becomes_the_default_when_the_key_comes() {
    let (one, two) = (Stranger::new("one"), Stranger::new("two"));
    let bed = Bed::empty().await;
    let issuers = ids(&bed.import(&[&one.certificate, &two.certificate]).await, "imported_issuers");
    assert_eq!(bed.default_issuer().await, "");
    let key = data(&bed.write("keys/import", json!({ "pem_bundle": two.key })).await.unwrap());
    assert_eq!(bed.default_issuer().await, issuers[1]);
    assert_eq!(bed.read("issuer/default").await.unwrap()["key_id"], key["key_id"]);
    // With a bundle it is the same, but the default stays now.
    let answer = bed.import(&[&one.key]).await;
    assert_eq!(bed.default_issuer().await, issuers[1]);
    let linked = bed.read(&format!("issuer/{}", issuers[0])).await.unwrap();
    assert_eq!(linked["key_id"], ids(&answer, "imported_keys")[0]);
}

#[tokio::test]
async fn a_key_that_comes_with_the_next_in_the_chain_stays_with_its_issuer() {
    let bed = Bed::new().await;
    let other = Bed::empty().await;
    let request = data(
        &other
            .write("intermediate/generate/exported", json!({"common_name": "sub", "key_type": "ec"}))
            .await
            .unwrap(),
    );
    let body = json!({"csr": request["csr"], "common_name": "sub"});
    let signed = data(&bed.write("root/sign-intermediate", body).await.unwrap());
    let (certificate, root) =
        (text(&signed, "certificate").to_owned(), text(&signed, "issuing_ca").to_owned());

    let third = Bed::empty().await;
    let issuers = ids(&third.import(&[&certificate]).await, "imported_issuers");
    // The key and the root arrive at once: the issuer gets both its key and its longer chain.
    third.import(&[&text(&request, "private_key").to_owned(), &"\n".to_owned(), &root]).await;
    let issuer = third.read(&format!("issuer/{}", issuers[0])).await.unwrap();
    assert_ne!(issuer["key_id"], "");
    assert_eq!(issuer["ca_chain"].as_array().unwrap().len(), 2);
    assert_eq!(third.default_issuer().await, issuers[0]);
}

#[tokio::test]
async fn the_default_follows_the_latest_issuer_only_without_a_choice() {
    let bed = Bed::new().await;
    let root = bed.default_issuer().await;
    let body = json!({"default": root, "default_follows_latest_issuer": true});
    bed.write("config/issuers", body).await.unwrap();
    let [one, two, three] = ["one", "two", "three"].map(Stranger::new);
    let answer = bed.import(&[&one.certificate, &one.key, &two.certificate, &two.key]).await;
    assert_eq!(bed.default_issuer().await, root);
    assert!(answer.warnings[0].starts_with("Default issuer left unchanged"));
    bed.import(&[&three.certificate]).await;
    assert_eq!(bed.default_issuer().await, root);
    let four = Stranger::new("four");
    let answer = bed.import(&[&four.certificate, &four.key]).await;
    assert_eq!(bed.default_issuer().await, ids(&answer, "imported_issuers")[0]);
}

#[tokio::test]
async fn what_stands_twice_in_a_bundle_is_imported_once() {
    let one = Stranger::new("one");
    let bed = Bed::empty().await;
    let answer = bed.import(&[&one.certificate, &one.key, &one.certificate, &one.key]).await;
    for kind in ["issuers", "keys"] {
        let imported = ids(&answer, &format!("imported_{kind}"));
        assert_eq!((imported.len(), &imported), (1, &ids(&answer, &format!("existing_{kind}"))));
    }
    assert_eq!((bed.keys("issuers", json!({})).await.len(), bed.keys("keys", json!({})).await.len()), (1, 1));
}

#[tokio::test]
async fn imports_are_refused_in_the_peers_words() {
    let (one, two) = (Stranger::new("one"), Stranger::new("two"));
    let bed = Bed::empty().await;
    let both = format!("{}{}", one.key, two.key);
    let trailing = format!("{}trailing", one.certificate);
    let too_short = "provided data for import was too short; perhaps a path was passed to the API rather than \
                     the contents of a PEM file";
    for (path, body, sentence) in [
        (
            "keys/import",
            json!({"pem_bundle": both}),
            "only a single key can be present within the pem_bundle for importing",
        ),
        (
            "keys/import",
            json!({"pem_bundle": one.certificate}),
            "failed to parse PEM block: no private key found in the PEM given",
        ),
        (
            "keys/import",
            json!({"pem_bundle": format!("{} x", one.key)}),
            "error when parsing block 2: invalid PEM data",
        ),
        ("keys/import", json!({}), too_short),
        (
            "keys/import",
            json!({"pem_bundle": one.key, "key_name": "default"}),
            "reserved keyword 'default' can not be used as key name",
        ),
        ("config/ca", json!({"pem_bundle": "/etc/ca.pem"}), too_short),
        ("config/ca", json!({"pem_bundle": trailing}), "error when parsing block 2: invalid PEM data"),
        (
            "config/ca",
            json!({"certificate": one.certificate}),
            "'pem_bundle' and 'certificate' parameters were empty",
        ),
        (
            "intermediate/set-signed",
            json!({"pem_bundle": one.certificate}),
            "'pem_bundle' and 'certificate' parameters were empty",
        ),
        (
            "issuers/import/cert",
            json!({"pem_bundle": both}),
            "private keys found in the PEM bundle but not allowed by the path; use /issuers/import/bundle",
        ),
    ] {
        assert_eq!(bed.write(path, body).await.unwrap_err().message(), sentence, "{path}");
    }
    assert!(bed.keys("keys", json!({})).await.is_empty());
    // The name is looked at before the key.
    let body = json!({"pem_bundle": one.key, "key_name": "named"});
    bed.write("keys/import", body.clone()).await.unwrap();
    assert_eq!(bed.write("keys/import", body).await.unwrap_err().message(), "key name already in use");
    let again = bed.write("keys/import", json!({"pem_bundle": one.key})).await.unwrap();
    assert_eq!(again.warnings, ["Key already imported, use key/ endpoint to update name."]);
}

#[tokio::test]
async fn a_key_gets_another_name_or_none() {
    let bed = Bed::empty().await;
    let key =
        data(&bed.write("keys/generate/internal", json!({"key_type": "ec", "key_name": "k"})).await.unwrap());
    let id = text(&key, "key_id").to_owned();
    let refused = bed.write("key/k", json!({"key_name": "a b"})).await.unwrap_err();
    assert_eq!(refused.message(), "new key name outside of valid character limits");
    assert!(bed.write("key/k", json!({"key_name": "l"})).await.unwrap().warnings.is_empty());
    let cleared = bed.write("key/l", json!({})).await.unwrap();
    let sentence = "Name successfully deleted, you will now need to reference this key by it's Id: ";
    assert_eq!(cleared.warnings, [format!("{sentence}{id}")]);
    for gone in ["key/l", "key/default", "key/default"] {
        bed.ask(Operation::Delete, gone, json!({})).await.unwrap();
    }
    assert!(bed.keys("keys", json!({})).await.is_empty());
}

#[tokio::test]
async fn a_manual_chain_begins_with_the_issuer_itself() {
    let bed = Bed::new().await;
    let id = bed.default_issuer().await;
    let other = bed.add_root("other", KeySpec::new("ec", 256).unwrap()).await.to_string();
    let patch = |chain: Value| bed.ask(Operation::Patch, "issuer/root", json!({ "manual_chain": chain }));
    let changed = data(&patch(json!("self,other")).await.unwrap());
    assert_eq!(changed["manual_chain"], json!([id, other]));
    assert_eq!(changed["ca_chain"].as_array().unwrap().len(), 2);
    for (chain, sentence) in [
        (
            json!("other,self"),
            format!("expected first cert in chain to be a self-reference, but was: other/{other}"),
        ),
        (
            json!("root,self"),
            "1 error occurred:\n\t* unable to find PKI issuer for reference: self\n\n".to_owned(),
        ),
        (
            json!("self,no"),
            "1 error occurred:\n\t* unable to find PKI issuer for reference: no\n\n".to_owned(),
        ),
    ] {
        assert_eq!(patch(chain).await.unwrap_err().message(), sentence);
    }
    let mut cleared = bed.write("issuer/root", json!({"issuer_name": "root"})).await.unwrap();
    assert_eq!(data(&cleared)["manual_chain"], Value::Null);
    // Deleting one takes it out of the chains of the others.
    patch(json!("self,other")).await.unwrap();
    cleared = bed.ask(Operation::Delete, "issuer/other", json!({})).await.unwrap();
    assert!(cleared.warnings[0].starts_with(&format!("Deleted issuer {other} (via issuer_ref other)")));
    assert_eq!(bed.read("issuer/root").await.unwrap()["manual_chain"], json!([id]));
}

#[tokio::test]
async fn an_issuers_own_urls_are_shown_with_their_templating_and_tried_out() {
    let bed = Bed::new().await;
    let shown = bed.read("issuer/root").await.unwrap();
    assert_eq!((&shown["ocsp_servers"], shown.get("enable_aia_url_templating")), (&json!([]), None));
    let patch = |body| bed.ask(Operation::Patch, "issuer/root", body);

    let refused = patch(json!({"ocsp_servers": "http://x/,nonsense"})).await.unwrap_err();
    assert_eq!(
        refused.message(),
        "invalid URL found in Authority Information Access (AIA) parameter ocsp_servers: nonsense"
    );
    let answer = patch(json!({"ocsp_servers": "{{cluster_path}}/ocsp", "enable_aia_url_templating": true}));
    let answer = answer.await.unwrap();
    assert_eq!(data(&answer)["enable_aia_url_templating"], json!(true));
    assert_eq!(data(&answer)["issuing_certificates"], Value::Null);
    assert_eq!(
        answer.warnings,
        [
            "issuance may fail: unable to template AIA URLs as we lack local cluster address information (path)\n\nConsider setting the cluster-local address if it is not already set."
        ]
    );
    bed.write("config/cluster", json!({"path": "http://c/v1/pki"})).await.unwrap();
    assert!(patch(json!({})).await.unwrap().warnings.is_empty());
    // And it can be switched off again, which only then shows that the template is no URL.
    let off =
        patch(json!({"enable_aia_url_templating": false, "ocsp_servers": "http://x/ocsp"})).await.unwrap();
    assert_eq!(data(&off)["enable_aia_url_templating"], json!(false));
}

#[tokio::test]
async fn the_algorithm_of_revocation_lists_is_the_roots_own_until_it_is_changed() {
    let bed = Bed::empty().await;
    let body = json!({"common_name": "r", "key_type": "rsa", "signature_bits": 384, "use_pss": true, "issuer_name": "r"});
    bed.write("root/generate/internal", body).await.unwrap();
    assert_eq!(bed.read("issuer/r").await.unwrap()["revocation_signature_algorithm"], "SHA384WithRSAPSS");
    let patch =
        |word| bed.ask(Operation::Patch, "issuer/r", json!({ "revocation_signature_algorithm": word }));
    let changed = data(&patch("sha512withrsa").await.unwrap());
    assert_eq!(changed["revocation_signature_algorithm"], "SHA512WithRSA");
    assert_eq!(
        patch("ECDSAWithSHA256").await.unwrap_err().message(),
        "1 error occurred:\n\t* unable to use issuer of type RSA to sign with ECDSA-SHA256 key type\n\n"
    );
    let unknown = patch("SHA1WithRSA").await.unwrap_err().message();
    assert!(
        unknown
            .starts_with("Unknown signature algorithm value: SHA1WithRSA - valid values are sha256withrsa,")
    );
}

#[tokio::test]
async fn roles_that_name_an_issuer_are_counted_when_its_name_goes() {
    let bed = Bed::new().await;
    for (role, issuer) in [("a", "root"), ("b", "root"), ("c", "default")] {
        bed.role(role, json!({ "issuer_ref": issuer })).await;
    }
    let rename = |name| bed.ask(Operation::Patch, "issuer/default", json!({ "issuer_name": name }));
    assert!(rename("root").await.unwrap().warnings.is_empty());
    assert_eq!(rename("next").await.unwrap().warnings, ["2 roles reference root"]);
    rename("root").await.unwrap();
    let deleted = bed.ask(Operation::Delete, "issuer/root", json!({})).await.unwrap();
    assert_eq!(deleted.warnings[0], "2 roles reference root");
    assert_eq!(deleted.warnings[2], "1 roles reference default");
    for gone in ["issuer/root", "issuer/default"] {
        let answer = bed.ask(Operation::Delete, gone, json!({})).await.unwrap();
        assert_eq!((data(&answer), answer.warnings.len()), (Value::Null, 0));
    }
}

#[tokio::test]
async fn the_mounts_url_templates_stand_in_a_root_unless_they_need_its_id() {
    let bed = Bed::empty().await;
    let root = || bed.write("root/generate/internal", json!({"common_name": "r", "key_type": "ec"}));
    let urls = |url: &str| {
        let body = json!({"enable_templating": true, "issuing_certificates": url});
        bed.write("config/urls", body)
    };
    assert!(
        urls("{{cluster_path}}/ca").await.unwrap().warnings.is_empty(),
        "there is no issuer to try it with"
    );
    assert_eq!(
        root().await.unwrap_err().message(),
        "1 error occurred:\n\t* unable to parse AIA URL information: unable to template AIA URLs as we lack local cluster address information (path)\nUsing templated AIA URL's {{issuer_id}} field when generating root certificates is not supported.\n\n"
    );
    bed.write("config/cluster", json!({"path": "http://c/v1/pki"})).await.unwrap();
    let made = root().await.unwrap();
    assert!(made.warnings.is_empty(), "{:?}", made.warnings);
    let der = Certificate::from_pem(text(&data(&made), "certificate")).unwrap().der().to_vec();
    assert!(der.windows(18).any(|part| part == b"http://c/v1/pki/ca"));
    urls("{{cluster_path}}/{{issuer_id}}").await.unwrap();
    let warned = root().await.unwrap().warnings;
    assert!(warned[0].starts_with("When generating root CA, found global AIA configuration with issuer_id"));
    assert!(warned[1].starts_with("This mount hasn't configured any authority information access"));
    let tried = urls("{{nonsense}}/x").await.unwrap().warnings;
    assert!(
        tried[0]
            .starts_with("issuance may fail: error validating templated issuing_certificates; invalid URI")
    );
}

#[tokio::test]
async fn authorities_with_large_keys_sign_off_the_worker_thread() {
    let bed = Bed::empty().await;
    let id = bed.add_root("rsa", KeySpec::Rsa(3072)).await;
    let key =
        bed.engine.store.authorities().await.unwrap().issuer(&id).unwrap().record.key.unwrap().to_string();
    let signed = data(&bed.write("root/sign-intermediate", json!({"csr": csr("sub", &[])})).await.unwrap());
    let issuer = Certificate::from_pem(text(&signed, "issuing_ca")).unwrap();
    assert!(Certificate::from_pem(text(&signed, "certificate")).unwrap().is_signed_by(&issuer));
    let body = json!({"common_name": "again", "key_ref": key});
    let root = data(&bed.write("root/generate/existing", body.clone()).await.unwrap());
    assert!(Certificate::from_pem(text(&root, "certificate")).unwrap().is_self_signed());
    bed.write("intermediate/generate/existing", body).await.unwrap();
    // A key that is there has its type and size.
    for given in [json!({"key_type": "ec"}), json!({"key_bits": 0})] {
        let mut body = json!({"common_name": "again", "key_ref": key});
        body.as_object_mut().unwrap().extend(given.as_object().unwrap().clone());
        let refused = bed.write("root/generate/existing", body).await.unwrap_err().message();
        assert!(refused.ends_with("key_type nor key_bits arguments can be set in this mode"), "{refused}");
    }
}

#[tokio::test]
async fn another_authoritys_certificate_is_signed_anew_or_refused_in_the_peers_words() {
    let bed = Bed::new().await;
    let stranger = Stranger::new("stranger");
    let answer =
        bed.write("root/sign-self-issued", json!({"certificate": stranger.certificate})).await.unwrap();
    let signed = Certificate::from_pem(text(&data(&answer), "certificate")).unwrap();
    assert_eq!(signed.common_name(), Some("stranger"));
    assert!(signed.is_signed_by(&Certificate::from_pem(text(&data(&answer), "issuing_ca")).unwrap()));

    let rsa = Bed::empty().await;
    rsa.add_root("rsa", KeySpec::Rsa(2048)).await;
    bed.role("web", json!({"allow_any_name": true, "key_type": "ec"})).await;
    let leaf = data(&bed.write("issue/web", json!({"common_name": "a.com"})).await.unwrap());
    let sub = data(&bed.write("root/sign-intermediate", json!({"csr": csr("sub", &[])})).await.unwrap());
    for (certificate, sentence) in [
        ("nonsense", "certificate could not be PEM-decoded"),
        (text(&leaf, "certificate"), "given certificate is not a CA certificate"),
        (text(&sub, "certificate"), "given certificate is not self-issued"),
        (
            &stranger.certificate,
            "signing certificate's public key algorithm (RSA) does not match submitted certificate's (ECDSA), and require_matching_certificate_algorithms is true",
        ),
    ] {
        let body = json!({"certificate": certificate, "require_matching_certificate_algorithms": true});
        assert_eq!(rsa.write("root/sign-self-issued", body).await.unwrap_err().message(), sentence);
    }
}

#[tokio::test]
async fn a_lifetime_that_makes_no_sense_is_refused_for_a_csr_too() {
    let bed = Bed::empty().await;
    for (body, sentence) in [
        (json!({"not_after": "nonsense"}), "parsing time \"nonsense\" as"),
        (
            json!({"not_after": "2030-01-01T00:00:00Z", "ttl": "1h"}),
            "Either ttl or not_after should be provided.",
        ),
    ] {
        let error = bed.write("intermediate/generate/internal", body).await.unwrap_err().message();
        assert!(error.starts_with(sentence), "{error}");
    }
    assert!(bed.keys("keys", json!({})).await.is_empty(), "nothing is left behind");
}

#[tokio::test]
async fn a_role_in_the_body_of_sign_verbatim_is_said_to_be_passed_over() {
    let bed = Bed::new().await;
    for path in ["sign-verbatim", "issuer/root/sign-verbatim"] {
        let answer = bed.write(path, json!({"csr": csr("a.com", &[]), "role": "x"})).await.unwrap();
        assert_eq!(
            answer.warnings,
            [
                "Endpoint replaced the value of these parameters with the values captured from the endpoint's path: [role]"
            ]
        );
    }
}

#[tokio::test]
async fn basic_constraints_of_sign_verbatim_are_the_requests_or_else_the_roles() {
    let bed = Bed::new().await;
    bed.role("says", json!({"basic_constraints_valid_for_non_ca": true})).await;
    bed.role("silent", json!({})).await;
    let says_it = |answer: Response| {
        let der = Certificate::from_pem(text(&data(&answer), "certificate")).unwrap().der().to_vec();
        der.windows(3).any(|part| part == [0x55, 0x1d, 0x13])
    };
    for (role, given, expected) in [
        ("says", None, true),
        ("says", Some(false), false),
        ("silent", None, false),
        ("silent", Some(true), true),
    ] {
        let mut body = json!({"csr": csr("a.com", &[])});
        if let Some(given) = given {
            body["basic_constraints_valid_for_non_ca"] = given.into();
        }
        let answer = bed.write(&format!("sign-verbatim/{role}"), body).await.unwrap();
        assert_eq!(says_it(answer), expected, "{role} {given:?}");
    }
}

#[tokio::test]
async fn an_intent_goes_with_its_certificate_and_no_other_takes_its_place() {
    let bed = Bed::empty().await;
    bed.write("root/generate/internal", json!({"common_name": "r", "key_type": "ec"})).await.unwrap();
    bed.write("root/sign-intermediate", json!({"csr": csr("sub", &[])})).await.unwrap();
    assert_eq!((bed.intents().await, bed.keys("certs", json!({})).await.len()), (0, 2));

    // What is signed anew has a serial number of its maker's choice, and is not stored.
    let serial = fresh_serial(NOW).unwrap();
    let [one, two] = ["one", "two"].map(|name| Stranger::with_serial(name, serial));
    for (stranger, intents) in [(&one, 1), (&two, 2), (&one, 2)] {
        let body = json!({ "certificate": stranger.certificate });
        bed.write("root/sign-self-issued", body).await.unwrap();
        assert_eq!(bed.intents().await, intents);
    }
    assert_eq!(bed.keys("certs", json!({})).await.len(), 2);
}

#[tokio::test]
async fn a_name_that_another_key_took_while_this_one_was_made_is_refused() {
    for (path, intents) in [("root/generate/internal", 1), ("intermediate/generate/internal", 0)] {
        let bed = Bed::empty().await;
        let body = json!({"common_name": "r", "key_type": "rsa", "key_name": "k"});
        let (one, two) = tokio::join!(bed.write(path, body.clone()), bed.write(path, body));
        let refused: Vec<String> =
            [one, two].into_iter().filter_map(Result::err).map(|error| error.message()).collect();
        assert_eq!(refused, ["key name already in use"], "{path}");
        assert_eq!(bed.keys("keys", json!({})).await.len(), 1);
        assert_eq!(bed.intents().await, intents, "a root was signed that is not stored");
    }
}

#[tokio::test]
async fn a_key_that_is_deleted_while_it_signs_makes_no_authority() {
    let key = PrivateKey::generate(KeySpec::Rsa(3072)).unwrap().to_pem(KeyForm::Pkcs8);
    for path in ["root/generate/existing", "intermediate/generate/existing"] {
        let bed = Bed::empty().await;
        bed.write("keys/import", json!({"pem_bundle": key.as_str(), "key_name": "k"})).await.unwrap();
        let held_up = heavy::held_up().await;
        let deletes = async {
            // The key was found, and its signature waits.
            heavy::begun_here().await;
            bed.ask(Operation::Delete, "key/k", json!({})).await.unwrap();
            drop(held_up);
        };
        let makes = bed.write(path, json!({"common_name": "r", "key_ref": "k"}));
        let ((), made) = tokio::join!(deletes, makes);
        let refused = made.unwrap_err().message();
        assert!(refused.ends_with("was deleted meanwhile"), "{path}: {refused}");
        for list in ["issuers", "keys", "certs"] {
            assert!(bed.keys(list, json!({})).await.is_empty(), "{path}: {list}");
        }
    }
}

#[tokio::test]
async fn urls_beyond_ascii_are_refused_by_name() {
    let bed = Bed::new().await;
    let url = "http://x/\u{fc}";
    let words = "invalid URL found in Authority Information Access (AIA) parameter ocsp_servers: ";
    let refused = bed.write("config/urls", json!({ "ocsp_servers": url })).await.unwrap_err();
    assert_eq!(refused.message(), format!("{words}{url}"));
    let patch = json!({ "ocsp_servers": url });
    let refused = bed.ask(Operation::Patch, "issuer/root", patch).await.unwrap_err();
    assert_eq!(refused.message(), format!("{words}{url}"));
    let refused = bed.write("config/cluster", json!({ "path": url })).await.unwrap_err();
    assert!(refused.message().contains(&format!("invalid, non-URL path given to cluster: {url}")));
}
