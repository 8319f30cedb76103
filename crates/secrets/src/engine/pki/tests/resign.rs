//! Lists that callers bring: signed, merged, or refused in the peer's words.

use chancery_issuance::ImportedCrl;

use super::*;

async fn sign(bed: &Bed, body: Value) -> Result<ImportedCrl, String> {
    let answer =
        bed.write("issuer/root/sign-revocation-list", body).await.map_err(|error| error.message())?;
    Ok(ImportedCrl::from_pem(text(&data(&answer), "crl")).unwrap())
}

#[tokio::test]
async fn a_list_that_the_caller_brings_is_signed_or_refused_in_the_peers_words() {
    const T: &str = "2026-01-02T03:04:05Z";
    let bed = Bed::new().await;
    let entry = |more: Value| {
        let mut entry = json!({"serial_number": "11:22", "revocation_time": T});
        for (name, value) in more.as_object().unwrap() {
            entry[name] = value.clone();
        }
        json!({"revoked_certs": [entry]})
    };
    for (body, sentence) in [
        (json!({"format": "x"}), "unknown format value of x"),
        (json!({"next_update": "x"}), r#"invalid value for next_update: time: invalid duration "x""#),
        (json!({"next_update": "0"}), "next_update parameter must be greater than 0"),
        (json!({"next_update": "-1h"}), "next_update parameter must be greater than 0"),
        (json!({"crl_number": -1}), "crl_number parameter must be 0 or greater"),
        (json!({"delta_crl_base_number": -2}), "delta_crl_base_number parameter must be -1 or greater"),
        (
            json!({"revoked_certs": [{}]}),
            "failed parsing serial_number from entry 0: missing 'serial_number' field",
        ),
        (
            entry(json!({"serial_number": "zz"})),
            "failed parsing serial_number from entry 0: 'serial_number' failed converting to bytes: encoding/hex: invalid byte: U+007A 'z'",
        ),
        (
            entry(json!({"serial_number": "123"})),
            "failed parsing serial_number from entry 0: 'serial_number' failed converting to bytes: encoding/hex: odd length hex string",
        ),
        (
            json!({"revoked_certs": [{"serial_number": "11"}]}),
            "failed parsing revocation_time from entry 0: missing 'revocation_time' field",
        ),
        (
            entry(json!({"revocation_time": "x"})),
            "failed parsing revocation_time from entry 0: failed parsing time x: could not parse string as date and time",
        ),
        (
            entry(json!({"revocation_time": "1951-01-01T00:00:00Z"})),
            "a revocation before 1970, at 1951-01-01T00:00:00Z, cannot be written",
        ),
        (
            entry(json!({"extensions": "x"})),
            "failed parsing extensions from entry 0: 'extensions' field did not contain a slice",
        ),
        (
            entry(json!({"extensions": [{}]})),
            "failed parsing extensions from entry 0: failed parsing extension entry 0: missing id field",
        ),
        (
            json!({"revoked_certs": [{"serial_number": "11:22", "revocation_time": T}, {"serial_number": "1122", "revocation_time": T}]}),
            "duplicate serial number: 1122, original entry 0 and 1",
        ),
        (json!({"extensions": ["x"]}), "extension entry 0 not a map"),
        (
            json!({"extensions": [{"id": "x"}]}),
            r#"failed parsing extension entry 0: failed parsing asn1 index element 0 value x: strconv.Atoi: parsing "x": invalid syntax"#,
        ),
        (
            json!({"extensions": [{"id": ""}]}),
            "failed parsing extension entry 0: zero length object identifier",
        ),
        (json!({"extensions": [{"id": "1.2.3"}]}), "failed parsing extension entry 0: missing 'value' field"),
        (
            json!({"extensions": [{"id": "2.5.29.20", "value": ""}]}),
            "failed parsing extension entry 0: crl number object identifier (2.5.29.20) is reserved",
        ),
        (
            json!({"extensions": [{"id": "2.5.29.020", "value": ""}]}),
            "failed parsing extension entry 0: crl number object identifier (2.5.29.20) is reserved",
        ),
        (
            json!({"extensions": [{"id": "1.2.3", "value": "BQA="}, {"id": "1.2.3", "value": "BQA="}]}),
            "duplicate extension id: 1.2.3",
        ),
        (
            json!({"extensions": [{"id": "1.2.3", "value": "BQA="}, {"id": "1.2.03", "value": "BQA="}]}),
            "duplicate extension id: 1.2.03",
        ),
        (
            json!({"extensions": [{"id": "9.9", "value": "BQA="}]}),
            "failed parsing extension entry 0: invalid object identifier: 9.9",
        ),
        (
            json!({"extensions": [{"id": "1.2.3", "value": "!"}]}),
            "failed parsing extension entry 0: failed base64 decoding 'value' field: illegal base64 data at input byte 0",
        ),
    ] {
        assert_eq!(sign(&bed, body).await.unwrap_err(), sentence);
    }
    assert!(sign(&bed, json!({})).await.unwrap().entries().is_empty());
    let whole = json!({"crl_number": 5, "delta_crl_base_number": 0, "revoked_certs": [
        {"serial_number": "ff:00", "revocation_time": T, "extensions": [{"id": "2.5.29.21", "value": "CgEB"}]},
        {"serial_number": "00", "revocation_time": 1_700_000_000}, "passed over"],
        "extensions": [{"id": "1.2.3", "critical": true, "value": "BQA="}]});
    let signed = sign(&bed, whole).await.unwrap();
    let read: Vec<_> =
        signed.entries().iter().map(|entry| (&entry.serial[..], entry.at.as_second())).collect();
    assert_eq!(read, [(&[0xff, 0][..], 1_767_323_045), (&[], 1_700_000_000)]);
}

#[tokio::test]
async fn lists_of_one_issuer_are_merged_and_those_of_others_refused() {
    let bed = Bed::new().await;
    bed.add_root("other", KeySpec::new("ec", 256).unwrap()).await;
    let list = async |issuer: &str, certs: Value| {
        let path = format!("issuer/{issuer}/sign-revocation-list");
        let answer = bed.write(&path, json!({"revoked_certs": certs})).await.unwrap();
        text(&data(&answer), "crl").to_owned()
    };
    let (early, late) = ("2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z");
    let one = list("root", json!([{"serial_number": "22", "revocation_time": late}, {"serial_number": "11", "revocation_time": late}])).await;
    let two = list("root", json!([{"serial_number": "11", "revocation_time": early}, {"serial_number": "33", "revocation_time": late}])).await;
    let foreign = list("other", json!([])).await;
    let path = "issuer/root/resign-crls";
    let merged = bed.write(path, json!({"crls": [one, two], "crl_number": 7})).await.unwrap();
    assert_eq!(
        merged.warnings,
        ["Duplicate serial 11 with different revocation times detected, using oldest revocation time"]
    );
    let read = ImportedCrl::from_pem(text(&data(&merged), "crl")).unwrap();
    let entries: Vec<_> =
        read.entries().iter().map(|entry| (&entry.serial[..], entry.at.to_string())).collect();
    assert_eq!(
        entries,
        [(&[0x22][..], late.to_owned()), (&[0x11], early.to_owned()), (&[0x33], late.to_owned())]
    );
    for (body, sentence) in [
        (json!({"crls": [one, foreign]}), "CRL index: 1 was not signed by requested issuer"),
        (json!({"crls": ["x"]}), "failed decoding crl 0: invalid crl; should be one PEM block only"),
        (
            json!({"crls": [one.repeat(2)]}),
            "failed decoding crl 0: invalid crl; should be one PEM block only",
        ),
        (
            json!({"crls": [bed.read("issuer/root").await.unwrap()["certificate"]]}),
            "failed decoding crl 0: x509: unsupported crl version",
        ),
    ] {
        assert_eq!(bed.write(path, body).await.unwrap_err().message(), sentence);
    }
}
