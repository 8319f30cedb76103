//! What the service's own steps cost, without the signer. Prints; judges nothing, because machines differ.
//!
//! `cargo test --release -p chancery-mesh --test speed -- --ignored --nocapture`

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests fail loudly")]

mod common;

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chancery_api::{Clock, FixedClock};
use chancery_issuance::{Signer as _, Time, TrustDomain};
use chancery_mesh::Workload;
use chancery_mesh::ca::answer::{Answers, Wanted};
use chancery_mesh::ca::authenticate::{
    Authenticator, ClusterIds, Credentials, JwksAuthenticator, JwksOptions, JwksSource,
};
use chancery_mesh::ca::request::{CheckedCsr, KeyRules};
use chancery_mesh::ca::roots::Roots;
use chancery_mesh::ca::signer::SignedChain;
use chancery_mesh::token::dev::{DevIssuer, TokenRequest};
use common::{Authority, ME, NOW, Template, csr, new_key};

fn measure<T>(what: &str, mut step: impl FnMut() -> T) {
    let mut best = f64::MAX;
    for _ in 0..20 {
        let begin = Instant::now();
        for _ in 0..50 {
            black_box(step());
        }
        best = best.min(begin.elapsed().as_secs_f64() / 50.0);
    }
    println!("{what:<40} {:8.1} µs", best * 1e6);
}

#[test]
#[ignore = "a measurement, not a check"]
fn what_a_call_costs_beside_the_signature() {
    let key = new_key();
    let pem = csr(&key, &[ME]);
    let identities = [ME.to_owned()];
    measure("the CSR", || CheckedCsr::check(&pem, &identities, &KeyRules::default()).unwrap());

    let root = Authority::root("root");
    let intermediate = root.intermediate("intermediate");
    let leaf = intermediate.sign(&Template::leaf(&[ME]), &key);
    let signed = SignedChain { chain: format!("{}{}", leaf.pem(), intermediate.pem()), root: None };
    let roots = Arc::new(Roots { certificates: vec![root.certificate.clone()], pem: root.pem().to_owned() });
    let wanted = Wanted { public_key: key.public_key(), identities: &identities };
    let answer = |answers: &Answers| answers.answer(&signed, wanted, &roots, Time::from_second(NOW)).unwrap();
    measure("the answer, below a new authority", || answer(&Answers::default()));
    let answers = Answers::default();
    measure("the answer", || answer(&answers));

    let issuer = DevIssuer::generate("https://issuer.example").unwrap();
    let clock = Arc::new(FixedClock::at(jiff::Timestamp::from_second(NOW).unwrap()));
    let domain = TrustDomain::new("cluster.local").unwrap();
    let options = |remembered| {
        let issuers = vec!["https://issuer.example".to_owned()];
        JwksOptions {
            remembered,
            ..JwksOptions::new(issuers, domain.clone(), Arc::new(ClusterIds::default()))
        }
    };
    let request = TokenRequest {
        workload: Workload { namespace: "sandbox".to_owned(), service_account: "httpbin".to_owned() },
        audiences: vec!["istio-ca".to_owned()],
        ttl: Duration::from_secs(600),
        pod: Some(("p".to_owned(), "u".to_owned())),
        node: None,
    };
    let token = issuer.token(&request, clock.now()).unwrap();
    let value = format!("Bearer {}", token.expose()).parse().unwrap();
    let metadata: http::HeaderMap = [(http::header::AUTHORIZATION, value)].into_iter().collect();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    for (what, remembered) in [("a token", 0), ("a token that is remembered", 100)] {
        let source = JwksSource::Text(issuer.jwks().to_owned());
        let clock: Arc<dyn Clock> = Arc::<FixedClock>::clone(&clock);
        let authenticator = JwksAuthenticator::new(source, options(remembered), clock).unwrap();
        let credentials = Credentials { metadata: &metadata, certificates: &[] };
        measure(what, || runtime.block_on(authenticator.authenticate(&credentials)).unwrap().unwrap());
    }
}
