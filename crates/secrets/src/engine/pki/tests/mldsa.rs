//! ML-DSA keys from end to end.

use chancery_issuance::MlDsa;

use super::*;

#[tokio::test]
async fn roots_intermediates_and_leaves_have_keys_of_each_parameter_set() {
    for set in MlDsa::ALL {
        let (upper, lower) = (Bed::empty().await, Bed::empty().await);
        let key = json!({"common_name": "root", "key_type": "mldsa", "key_bits": set.number()});
        let root = data(&upper.write("root/generate/exported", key.clone()).await.unwrap());
        assert_eq!(root["private_key_type"], "mldsa");
        let made = data(&lower.write("intermediate/generate/internal", key).await.unwrap());
        let body = json!({"csr": made["csr"], "common_name": "sub", "ttl": "2h"});
        let sub = data(&upper.write("root/sign-intermediate", body).await.unwrap());
        let bundle = format!("{}\n{}", text(&sub, "certificate"), text(&root, "certificate"));
        lower.write("intermediate/set-signed", json!({ "certificate": bundle })).await.unwrap();

        let role =
            json!({"allow_any_name": true, "key_type": "mldsa", "key_bits": set.number(), "ttl": "1h"});
        lower.role("leaf", role).await;
        // The same after a restart: the key is read back from its record.
        for bed in [&lower, &lower.restarted().await] {
            let leaf = data(&bed.write("issue/leaf", json!({"common_name": "a.com"})).await.unwrap());
            let certificate = Certificate::from_pem(text(&leaf, "certificate")).unwrap();
            let issuer = Certificate::from_pem(text(&sub, "certificate")).unwrap();
            assert!(certificate.is_signed_by(&issuer));
            assert!(issuer.is_signed_by(&Certificate::from_pem(text(&root, "certificate")).unwrap()));
            let key = PrivateKey::from_pem(text(&leaf, "private_key")).unwrap();
            assert_eq!(certificate.public_key(), Some(key.public_key()));
            assert_eq!(key.spec(), KeySpec::MlDsa(set));
            assert_eq!(leaf["ca_chain"].as_array().unwrap().len(), 2);
        }
    }
}

#[tokio::test]
async fn a_role_takes_the_parameter_set_it_asks_for_or_a_larger_one() {
    let bed = Bed::new().await;
    bed.role("r", json!({"allow_any_name": true, "key_type": "mldsa", "key_bits": 65})).await;
    let sign = |set| bed.write("sign/r", json!({"csr": csr_with(KeySpec::MlDsa(set), "a.com", &[])}));
    assert_eq!(
        sign(MlDsa::MlDsa44).await.unwrap_err().message(),
        "role requires a minimum of a 65-bit key, but CSR's key is 44 bits"
    );
    assert!(sign(MlDsa::MlDsa65).await.is_ok() && sign(MlDsa::MlDsa87).await.is_ok());
    assert_eq!(
        bed.write("sign/r", json!({"csr": csr("a.com", &[])})).await.unwrap_err().message(),
        "role requires keys of type mldsa"
    );
    for bits in [1, 256, -1] {
        let refused = bed.write("roles/r", json!({"key_type": "mldsa", "key_bits": bits})).await.unwrap_err();
        assert_eq!(refused.message(), format!("unsupported bit length for ML-DSA key: {bits}"));
    }
}

#[tokio::test]
async fn a_damaged_request_is_not_signed() {
    let bed = Bed::new().await;
    let pem = csr_with(KeySpec::MlDsa(MlDsa::MlDsa44), "a.com", &[]);
    let mut lines: Vec<String> = pem.lines().map(str::to_owned).collect();
    // In the middle of the signature, which is most of it.
    let line = lines.len() * 3 / 4;
    let other = if lines[line].starts_with('A') { 'B' } else { 'A' };
    lines[line].replace_range(0..1, &other.to_string());
    let refused = bed.write("sign-verbatim", json!({"csr": lines.join("\n")})).await.unwrap_err();
    assert_eq!(refused.kind, Kind::InvalidRequest);
    assert!(bed.write("sign-verbatim", json!({ "csr": pem })).await.is_ok());
}
