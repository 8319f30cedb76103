//! The steps, as they would be typed.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aws_lc_rs::rand;
use chancery_api::{Clock, Secret, SystemClock};
use chancery_client::Value;
use chancery_issuance::{
    AiaUrls, CaRequest, CsrRequest, KeyForm, KeySpec, MountLimits, PrivateKey, RequestedNames, SerialNumber,
    Signer, create_csr, prepare_root,
};

use super::report::Report;
use super::terminal::recording;
use crate::ui::Ui;

/// The workload whose certificate is signed.
pub(super) const WORKLOAD: &str = "spiffe://cluster.local/ns/foo/sa/sleep";
/// One that must not get a certificate here.
const STRANGER: &str = "spiffe://elsewhere.example/ns/foo/sa/sleep";

const ROOT_LIFE: Duration = Duration::from_secs(87_600 * 3600);

/// Where the steps are done.
pub(super) struct Bench<'a> {
    /// The real terminal.
    pub(super) ui: &'a mut Ui,
    /// Where they are told.
    pub(super) report: &'a mut Report,
    /// The program's name.
    pub(super) program: &'a str,
    /// Where files are.
    pub(super) folder: &'a Path,
    /// `VAULT_ADDR`
    pub(super) address: String,
    /// `VAULT_TOKEN`
    pub(super) token: Secret,
    /// What else must be known to reach a server that is there already: `VAULT_CACERT` and its like.
    pub(super) connection: Vec<(String, String)>,
}

/// What the steps made, for those who look at it.
pub(super) struct Made {
    /// The workload's certificate.
    pub(super) leaf: String,
    /// The intermediate and what is above it.
    pub(super) chain: String,
    /// The root that was imported.
    pub(super) root: String,
}

/// One command line, and how it is shown.
struct Step<'a> {
    title: &'a str,
    /// As typed in a shell.
    typed: &'a str,
    args: Vec<String>,
    stdin: &'a str,
    token: Option<Secret>,
    expects: Expects,
}

#[derive(PartialEq, Eq)]
enum Expects {
    Success,
    /// The step shows that something is refused.
    Refusal,
}

/// Arguments as a command takes them.
pub(super) fn args<const N: usize>(args: [&str; N]) -> Vec<String> {
    args.map(str::to_owned).to_vec()
}

impl Bench<'_> {
    /// All steps in order.
    pub(super) fn walk(&mut self, is_new: bool) -> Result<Made, String> {
        if is_new {
            self.report.chapter(self.ui, "The server");
            self.initialise()?;
        }
        self.report.chapter(self.ui, "A root CA");
        let root = self.root()?;
        self.report.chapter(self.ui, "An intermediate CA for Istio");
        let chain = self.intermediate()?;
        self.report.chapter(self.ui, "Who may have certificates signed");
        self.access()?;
        self.report.chapter(self.ui, "A workload's certificate");
        let leaf = self.workload()?;
        Ok(Made { leaf, chain, root })
    }

    fn initialise(&mut self) -> Result<(), String> {
        let out = self.run(
            "Initialise it",
            "operator init -key-shares=1 -key-threshold=1 -format=json > init.json",
            args(["operator", "init", "-key-shares=1", "-key-threshold=1", "-format=json"]),
        )?;
        let init = Value::parse(&out).map_err(|error| error.to_string())?;
        let key = init.field("unseal_keys_b64").and_then(Value::as_array).and_then(|keys| keys.first());
        let key = key.and_then(Value::as_str).ok_or("the server gave no unseal key")?.to_owned();
        let token =
            init.field("root_token").and_then(Value::as_str).ok_or("the server gave no root token")?;
        self.token = Secret::new(token);
        self.run("Unseal it with its one key", "operator unseal KEY", args(["operator", "unseal", &key]))?;
        Ok(())
    }

    fn root(&mut self) -> Result<String, String> {
        let began = Instant::now();
        let (certificate, key) = make_root()?;
        self.save("ca.crt", &certificate)?;
        self.save("ca.key", &key)?;
        let note = "ca.crt, ca.key: RSA 2048, ten years, made here as openssl would";
        self.report.local(self.ui, "Make a root CA outside of the server", note, began.elapsed());
        self.run("Mount the PKI engine", "secrets enable pki", args(["secrets", "enable", "pki"]))?;
        self.run(
            "Let it issue for ten years",
            "secrets tune -max-lease-ttl=87600h pki",
            args(["secrets", "tune", "-max-lease-ttl=87600h", "pki"]),
        )?;
        let bundle = format!("pem_bundle={certificate}{key}");
        self.run(
            "Import the root with its key",
            "write -format=json pki/config/ca pem_bundle=\"$(cat ca.crt ca.key)\"",
            args(["write", "-format=json", "pki/config/ca", &bundle]),
        )?;
        Ok(certificate)
    }

    fn intermediate(&mut self) -> Result<String, String> {
        self.run(
            "Mount the engine a second time",
            "secrets enable --path istioca pki",
            args(["secrets", "enable", "--path", "istioca", "pki"]),
        )?;
        self.run(
            "Let it issue for five years",
            "secrets tune -max-lease-ttl=43800h istioca",
            args(["secrets", "tune", "-max-lease-ttl=43800h", "istioca"]),
        )?;
        let out = self.run(
            "Make the intermediate's key and request",
            "write -format=json istioca/intermediate/generate/exported common_name=\"\" ttl=43800h > istioca.json",
            args(["write", "-format=json", "istioca/intermediate/generate/exported", "common_name=", "ttl=43800h"]),
        )?;
        let answer = Value::parse(&out).map_err(|error| error.to_string())?;
        let data = answer.field("data").cloned().unwrap_or_default();
        for (field, file) in [("csr", "istioca.csr"), ("private_key", "istioca.key")] {
            let text = data
                .field(field)
                .and_then(Value::as_str)
                .ok_or_else(|| format!("no {field} in the answer"))?;
            self.save(file, text)?;
        }
        let csr = format!("csr=@{}", self.at("istioca.csr"));
        let chain = self.run(
            "Have the root sign it",
            "write -field=certificate pki/root/sign-intermediate csr=@istioca.csr format=pem_bundle ttl=43800h > istioca.crt",
            args(["write", "-field=certificate", "pki/root/sign-intermediate", &csr, "format=pem_bundle", "ttl=43800h"]),
        )?;
        self.save("istioca.crt", &chain)?;
        let certificate = format!("certificate=@{}", self.at("istioca.crt"));
        self.run(
            "Give the signed certificate back to the mount",
            "write istioca/intermediate/set-signed certificate=@istioca.crt",
            args(["write", "istioca/intermediate/set-signed", &certificate]),
        )?;
        Ok(chain)
    }

    fn access(&mut self) -> Result<(), String> {
        self.run(
            "Say what may be signed",
            "write istioca/roles/cluster-local allowed_domains=\"svc\" allow_subdomains=true max_ttl=\"720h\" \
             require_cn=false allowed_uri_sans=\"spiffe://cluster.local/*\"",
            args([
                "write",
                "istioca/roles/cluster-local",
                "allowed_domains=svc",
                "allow_subdomains=true",
                "max_ttl=720h",
                "require_cn=false",
                "allowed_uri_sans=spiffe://cluster.local/*",
            ]),
        )?;
        self.run("Let machines log in", "auth enable approle", args(["auth", "enable", "approle"]))?;
        let policy = "path \"istioca/sign/cluster-local\" { capabilities = [\"update\"] }";
        self.step(Step {
            title: "Write the issuer's policy",
            typed: "policy write cert-manager - <<'EOF'\npath \"istioca/sign/cluster-local\" { capabilities = [\"update\"] }\nEOF",
            args: args(["policy", "write", "cert-manager", "-"]),
            stdin: policy,
            token: None,
            expects: Expects::Success,
        })?;
        self.run(
            "Write the issuer's role",
            "write auth/approle/role/cert-manager token_policies=\"cert-manager\" token_ttl=1h token_max_ttl=4h",
            args([
                "write",
                "auth/approle/role/cert-manager",
                "token_policies=cert-manager",
                "token_ttl=1h",
                "token_max_ttl=4h",
            ]),
        )?;
        let role = self.run(
            "Fetch its role id",
            "read -field=role_id auth/approle/role/cert-manager/role-id > role-id",
            args(["read", "-field=role_id", "auth/approle/role/cert-manager/role-id"]),
        )?;
        self.save("role-id", &role)?;
        let secret = self.run(
            "Make it a secret id",
            "write -force -field=secret_id auth/approle/role/cert-manager/secret-id > secret-id",
            args(["write", "-force", "-field=secret_id", "auth/approle/role/cert-manager/secret-id"]),
        )?;
        self.save("secret-id", &secret)
    }

    fn workload(&mut self) -> Result<String, String> {
        let (role, secret) =
            (format!("role_id=@{}", self.at("role-id")), format!("secret_id=@{}", self.at("secret-id")));
        let token = self.run(
            "Log in as the issuer",
            "write -field=token auth/approle/login role_id=@role-id secret_id=@secret-id > token",
            args(["write", "-field=token", "auth/approle/login", &role, &secret]),
        )?;
        let issuer = Secret::new(token);
        for (file, name) in [("sleep", WORKLOAD), ("stranger", STRANGER)] {
            let began = Instant::now();
            let (csr, key) = make_csr(name)?;
            self.save(&format!("{file}.csr"), &csr)?;
            self.save(&format!("{file}.key"), &key)?;
            if name == WORKLOAD {
                let note = "sleep.csr: RSA 2048, no subject, one SPIFFE name, as Istio's agent asks";
                self.report.local(self.ui, "Make the workload's key and request", note, began.elapsed());
            }
        }
        let csr = format!("csr=@{}", self.at("sleep.csr"));
        let leaf = self.as_issuer(
            &issuer,
            "Have it signed",
            "write -field=certificate istioca/sign/cluster-local csr=@sleep.csr > sleep.crt",
            args(["write", "-field=certificate", "istioca/sign/cluster-local", &csr]),
            Expects::Success,
        )?;
        self.save("sleep.crt", &leaf)?;
        let csr = format!("csr=@{}", self.at("stranger.csr"));
        self.as_issuer(
            &issuer,
            "A name of another trust domain is refused",
            "write istioca/sign/cluster-local csr=@stranger.csr",
            args(["write", "istioca/sign/cluster-local", &csr]),
            Expects::Refusal,
        )?;
        self.as_issuer(
            &issuer,
            "So is everything else to this token",
            "read istioca/roles/cluster-local",
            args(["read", "istioca/roles/cluster-local"]),
            Expects::Refusal,
        )?;
        Ok(leaf)
    }

    fn as_issuer(
        &mut self,
        token: &Secret,
        title: &str,
        typed: &str,
        args: Vec<String>,
        expects: Expects,
    ) -> Result<String, String> {
        self.step(Step { title, typed, args, stdin: "", token: Some(token.clone()), expects })
    }

    /// A command line of whoever holds the root token.
    pub(super) fn run(&mut self, title: &str, typed: &str, args: Vec<String>) -> Result<String, String> {
        self.step(Step { title, typed, args, stdin: "", token: None, expects: Expects::Success })
    }

    /// Runs one command line and shows it.
    fn step(&mut self, step: Step<'_>) -> Result<String, String> {
        let mut variables: BTreeMap<String, String> = self.connection.iter().cloned().collect();
        variables.insert("VAULT_ADDR".to_owned(), self.address.clone());
        let token = step.token.as_ref().unwrap_or(&self.token);
        variables.insert("VAULT_TOKEN".to_owned(), token.expose().to_owned());
        let (mut ui, stdout, stderr) = recording(self.program, variables, step.stdin.to_owned());
        let began = Instant::now();
        let code = crate::run(&step.args, &mut ui);
        let elapsed = began.elapsed();
        let (out, err) = (stdout.text(), stderr.text());
        let prefix = if step.token.is_some() { "VAULT_TOKEN=$(cat token) " } else { "" };
        let typed = format!("{prefix}{} {}", self.program, step.typed);
        let as_expected = (code == 0) == (step.expects == Expects::Success);
        self.report.step(self.ui, step.title, &typed, &out, &err, elapsed, as_expected);
        match as_expected {
            true => Ok(out),
            false if code == 0 => Err(format!("{:?} worked, and should have been refused", step.title)),
            false => Err(format!("{:?} failed", step.title)),
        }
    }

    fn at(&self, file: &str) -> String {
        self.folder.join(file).display().to_string()
    }

    /// A command that goes on running.
    pub(super) fn told(&mut self, title: &str, typed: &str, took: Duration) {
        let typed = format!("{} {typed}", self.program);
        self.told_of(title, &typed, took);
    }

    /// The same, of another program.
    pub(super) fn told_of(&mut self, title: &str, typed: &str, took: Duration) {
        self.report.step(self.ui, title, typed, "", "", took, true);
    }

    /// Writes a file.
    pub(super) fn save(&self, file: &str, text: &str) -> Result<(), String> {
        fs::write(self.folder.join(file), text).map_err(|error| format!("{file}: {error}"))
    }
}

/// A root CA as one has it before there is a server: certificate and key in PEM.
fn make_root() -> Result<(String, String), String> {
    let said = |error: &dyn std::fmt::Display| error.to_string();
    let key = PrivateKey::generate(KeySpec::Rsa(2048)).map_err(|error| said(&error))?;
    let pem = key.to_pem(KeyForm::Pkcs8);
    let signer: Arc<dyn Signer> = Arc::new(key);
    let limits = MountLimits { default_ttl: ROOT_LIFE, max_ttl: ROOT_LIFE };
    let mut random = [0; 14];
    rand::fill(&mut random).map_err(|_| "the system gives no random bytes")?;
    let now = SystemClock.now();
    let serial = SerialNumber::generate(now, random);
    let request = CaRequest { ttl: Some(ROOT_LIFE), ..CaRequest::new("root-ca", limits) };
    let prepared = prepare_root(&request, &signer, &AiaUrls::default(), serial, now);
    let issued = prepared.map_err(|error| said(&error))?.sign().map_err(|error| said(&error))?;
    Ok((issued.pem, pem.to_string()))
}

/// A workload's request and key: no subject, one URI.
fn make_csr(name: &str) -> Result<(String, String), String> {
    let key = PrivateKey::generate(KeySpec::Rsa(2048)).map_err(|error| error.to_string())?;
    let request = CsrRequest {
        names: RequestedNames { uri_sans: vec![name.to_owned()], ..RequestedNames::default() },
        ..CsrRequest::default()
    };
    let csr = create_csr(&request, &key).map_err(|error| error.to_string())?;
    Ok((csr.pem, key.to_pem(KeyForm::Pkcs8).to_string()))
}
