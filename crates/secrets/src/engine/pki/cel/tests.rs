//! CEL roles through the engine's own routes.

use chancery_issuance::{
    Certificate, CsrRequest, KeySpec, KeyUsage, PrivateKey, RequestedNames, SanSet, Subject, create_csr,
};
use chancery_storage::memory::Fault;
use serde_json::{Value, json};

use super::program::{Program, ProgramText, Variable};
use crate::engine::pki::tests::{Bed, NOW};
use crate::error::Error;
use crate::request::Operation;
use crate::response::Response;

const LEAF: &str = r#"ValidationOutput{
    key_type: "ec",
    template: CertTemplate{
        Subject: PKIX.Name{CommonName: request.common_name, Organization: ["Example"]},
        DNSNames: [request.common_name],
        IPAddresses: [net.IP{IP: b"\x7f\x00\x00\x01"}],
        URIs: [url.URL{Scheme: "spiffe", Host: "example.org", Path: "/a"}],
        KeyUsage: KeyUsage.KeyUsageDigitalSignature + KeyUsage.KeyUsageKeyEncipherment,
        ExtKeyUsage: [ExtKeyUsage.ExtKeyUsageClientAuth],
        NotAfter: now + duration("1h"),
    },
    warnings: ["as asked"],
}"#;

async fn role(bed: &Bed, name: &str, expression: &str) {
    let program = json!({"cel_program": {"expression": expression}});
    bed.write(&format!("cel/roles/{name}"), program).await.unwrap();
}

fn data(response: &Response) -> Value {
    serde_json::from_str(response.data.as_ref().unwrap().get()).unwrap()
}

fn certificate(response: &Response) -> Certificate {
    Certificate::from_pem(data(response)["certificate"].as_str().unwrap()).unwrap()
}

fn program(expression: &str) -> Result<Program, Error> {
    Program::new(&ProgramText { variables: Vec::new(), expression: expression.to_owned() })
}

#[tokio::test]
async fn a_certificate_says_what_the_program_wrote_and_is_stored() {
    let bed = Bed::new().await;
    role(&bed, "web", LEAF).await;
    let response = bed.write("cel/issue/web", json!({"common_name": "a.example.org"})).await.unwrap();
    // The program's usages are not those of a workload, which the lint says besides.
    assert!(response.warnings.iter().any(|warning| warning == "as asked"), "{:?}", response.warnings);
    let leaf = certificate(&response);
    assert_eq!(leaf.common_name(), Some("a.example.org"));
    let sans = leaf.sans().unwrap();
    assert_eq!(
        (sans.dns, sans.uri),
        (vec!["a.example.org".to_owned()], vec!["spiffe://example.org/a".to_owned()])
    );
    assert_eq!(sans.ip, ["127.0.0.1".parse::<std::net::IpAddr>().unwrap()]);
    assert_eq!(leaf.key_usage(), Some(KeyUsage::from_names(&["DigitalSignature", "KeyEncipherment"])));
    assert_eq!(leaf.not_after().as_second(), NOW.as_second() + 3600);
    assert_eq!(leaf.not_before().as_second(), NOW.as_second() - 30);
    let serial = data(&response)["serial_number"].as_str().unwrap().to_owned();
    assert!(bed.keys("certs", json!({})).await.contains(&serial));
}

#[tokio::test]
async fn a_program_refuses_in_its_own_words_and_what_is_no_output_is_no_certificate() {
    let bed = Bed::new().await;
    for (expression, sentence) in [
        ("has(request.common_name) ? 'yes' : 'no name'", "no name"),
        ("true", "request denied"),
        ("1", "unexpected mainProgram result type int64"),
        ("request.absent", "error evaluating mainProgram: failed to evaluate expression:"),
        ("ValidationOutput{}", "template is nil"),
        ("ValidationOutput{template: CertTemplate{}}", "the template must have a NotAfter"),
        (
            "ValidationOutput{template: CertTemplate{IsCA: true}}",
            "a CEL role makes no certificates of authorities",
        ),
        ("ValidationOutput{template: CertTemplate{MaxPathLen: 1}}", "the field MaxPathLen of a CEL role"),
        ("ValidationOutput{template: CertTemplate{KeyUsage: 1024}}", "there is no key usage 1024"),
        ("ValidationOutput{template: CertTemplate{Foo: 1}}", "error evaluating mainProgram"),
        ("ValidationOutput{template: CertTemplate{KeyUsage: 'x'}}", "error evaluating mainProgram"),
        (
            "ValidationOutput{template: CertTemplate{NotAfter: now + duration('1h'), DNSNames: ['a b']}, key_type: 'ec'}",
            "\"a b\" is not a DNS name",
        ),
        (
            "ValidationOutput{template: CertTemplate{NotAfter: now + duration('1h')}, key_type: 'dsa'}",
            "invalid cel response for key type, key bits, or signature bits: unknown key type",
        ),
        (
            "ValidationOutput{template: CertTemplate{NotAfter: now + duration('1000000h')}, key_type: 'ec'}",
            "cannot satisfy request",
        ),
        (
            "ValidationOutput{template: CertTemplate{NotAfter: now}, issuer_ref: 'none'}",
            "could not fetch the CA certificate",
        ),
    ] {
        role(&bed, "r", expression).await;
        let error = bed.write("cel/issue/r", json!({})).await.unwrap_err();
        assert!(error.message().contains(sentence), "{expression}: {}", error.message());
    }
    assert!(bed.keys("certs", json!({})).await.is_empty());
    let error = bed.write("cel/issue/absent", json!({})).await.unwrap_err();
    assert_eq!(error.message(), "CEL role not found");
}

#[tokio::test]
async fn a_csr_is_signed_as_the_program_decides_about_what_it_says() {
    let bed = Bed::new().await;
    let expression = r#"parsed_csr.Subject.CommonName == "a.example" && use_csr
        ? ValidationOutput{no_store: true, template: CertTemplate{
            Subject: PKIX.Name{CommonName: parsed_csr.DNSNames[1]}, NotAfter: now + duration("5m")}}
        : "another name""#;
    role(&bed, "r", expression).await;
    let csr = |name: &str, serial_number: &str| {
        let names = RequestedNames {
            serial_number: serial_number.to_owned(),
            common_name: name.to_owned(),
            alt_names: vec!["b.example".to_owned()],
            ..RequestedNames::default()
        };
        let request = CsrRequest { names, subject: Subject::default(), ..CsrRequest::default() };
        create_csr(&request, &PrivateKey::generate(KeySpec::Ed25519).unwrap()).unwrap().pem
    };
    let response = bed.write("cel/sign/r", json!({"csr": csr("a.example", "")})).await.unwrap();
    assert_eq!(certificate(&response).common_name(), Some("b.example"));
    assert_eq!(certificate(&response).sans().unwrap_or_default(), SanSet::default());
    assert!(bed.keys("certs", json!({})).await.is_empty());
    let error = bed.write("cel/sign/r", json!({"csr": csr("c.example", "")})).await.unwrap_err();
    assert_eq!(error.message(), "another name");
    let error = bed.write("cel/sign/r", json!({"csr": csr("a.example", "7")})).await.unwrap_err();
    assert_eq!(error.message(), "serial_number 7 not allowed by this role", "the program did not write it");
    let error = bed.write("cel/sign/r", json!({"csr": "nonsense"})).await.unwrap_err();
    assert!(error.message().starts_with("failed to parse CSR: "), "{}", error.message());
}

#[tokio::test]
async fn variables_are_worked_out_in_order() {
    let bed = Bed::new().await;
    let program = json!({"cel_program": {
        "variables": [{"name": "a", "expression": "request.n + 1"}, {"name": "b", "expression": "string(a * 2)"}],
        "expression": "b",
    }});
    let written = bed.write("cel/roles/r", program.clone()).await.unwrap();
    assert_eq!(data(&written), json!({"name": "r", "cel_program": program["cel_program"]}));
    let error = bed.write("cel/issue/r", json!({"n": 20})).await.unwrap_err();
    assert_eq!(error.message(), "42");
    let error = bed.write("cel/issue/r", json!({})).await.unwrap_err();
    assert!(error.message().contains("variable[0].a"), "{}", error.message());
}

#[tokio::test]
async fn a_patch_changes_what_it_names_and_a_rewritten_role_is_in_force_at_once() {
    let bed = Bed::new().await;
    role(&bed, "r", "'first'").await;
    let said = async || bed.write("cel/issue/r", json!({})).await.unwrap_err().message();
    assert_eq!(said().await, "first");
    let patch = json!({"cel_program": {"variables": [{"name": "x", "expression": "'second'"}]}});
    bed.ask(Operation::Patch, "cel/roles/r", patch).await.unwrap();
    assert_eq!(said().await, "first");
    bed.ask(Operation::Patch, "cel/roles/r", json!({"cel_program": {"expression": "x"}})).await.unwrap();
    assert_eq!(said().await, "second");
    assert_eq!(bed.keys("cel/roles", json!({})).await, ["r"]);
    bed.ask(Operation::Delete, "cel/roles/r", json!({})).await.unwrap();
    assert_eq!(said().await, "CEL role not found");
    let error = bed.ask(Operation::Patch, "cel/roles/r", json!({})).await.unwrap_err();
    assert_eq!(error.message(), "Unable to fetch cel role entry to patch");
}

#[tokio::test]
async fn a_program_that_could_not_be_written_is_not_in_force_and_one_that_was_is() {
    let bed = Bed::new().await;
    role(&bed, "r", "'old'").await;
    let said = async || bed.write("cel/issue/r", json!({})).await.unwrap_err().message();
    for (fault, expected) in [(Fault::Fails, "old"), (Fault::FailsAfterPersisting, "new")] {
        for operation in [Operation::Update, Operation::Patch] {
            role(&bed, "r", "'old'").await;
            assert_eq!(said().await, "old");
            bed.next_commits([fault]);
            let program = json!({"cel_program": {"expression": "'new'"}});
            bed.ask(operation, "cel/roles/r", program).await.unwrap_err();
            assert_eq!(said().await, expected, "{fault:?} {operation:?}");
        }
    }
    for (fault, expected) in [(Fault::Fails, "new"), (Fault::FailsAfterPersisting, "CEL role not found")] {
        bed.next_commits([fault]);
        bed.ask(Operation::Delete, "cel/roles/r", json!({})).await.unwrap_err();
        assert_eq!(said().await, expected);
    }
}

#[test]
fn programs_beyond_the_bounds_are_refused_when_they_are_written() {
    let deep = format!("{}1{}", "(".repeat(200), ")".repeat(200));
    let rows = vec!["1"; 5_000].join("+");
    let lists = format!("{}{}", "[".repeat(3_000), "]".repeat(3_000));
    let long = format!("'{}'", "x".repeat(40_000));
    for expression in [deep.as_str(), &rows, &lists, &long, "", "1 +", "foo", "'%d'.format([1])"] {
        assert!(program(expression).is_err(), "{}", &expression[..expression.len().min(40)]);
    }
    // An even number of them says nothing.
    assert!(program(&format!("{}true", "!".repeat(20_000))).is_ok());
    let overlapping = ProgramText {
        variables: vec![Variable { name: "request".to_owned(), expression: "1".to_owned() }],
        expression: "1".to_owned(),
    };
    assert!(Program::new(&overlapping).is_err());
}

#[tokio::test]
async fn runs_that_could_take_too_long_or_too_much_are_not_begun() {
    let bed = Bed::new().await;
    role(&bed, "r", "request.l.all(a, request.l.all(b, request.l.all(c, a + b + c > 0))) ? 'all' : 'none'")
        .await;
    let small = bed.write("cel/issue/r", json!({"l": vec![1; 10]})).await.unwrap_err();
    assert_eq!(small.message(), "all");
    let large = bed.write("cel/issue/r", json!({"l": vec![1; 1_000]})).await.unwrap_err();
    assert!(large.message().contains("steps with this request, more than"), "{}", large.message());

    let doubled: Vec<Value> = (0..40)
        .map(|n| {
            let before = if n == 0 { "request.t".to_owned() } else { format!("v{}", n - 1) };
            json!({"name": format!("v{n}"), "expression": format!("{before} + {before}")})
        })
        .collect();
    let program = json!({"cel_program": {"variables": doubled, "expression": "string(size(v39))"}});
    bed.write("cel/roles/r", program).await.unwrap();
    let error = bed.write("cel/issue/r", json!({"t": "x"})).await.unwrap_err();
    assert!(error.message().contains("with this request, more than"), "{}", error.message());
}
