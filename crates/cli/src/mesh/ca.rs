//! `mesh ca`: The certificate service.

mod kubernetes;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use chancery_api::Secret;
use chancery_client::{Config, ConfigError, Credential, Environment, Login};
use chancery_mesh::Workload;
use chancery_mesh::ca::config::{Authentication, ServingNames, Settings, SignerChoice};
use chancery_mesh::ca::listener::ListenerSettings;
use chancery_mesh::ca::run::run;
use chancery_mesh::ca::signer::DirectSettings;
use chancery_mesh::token;
use chancery_server::config::LogFormat;

use crate::command::{Arguments, Call, Command, Failure, Outcome};
use crate::flags::{Flag, Flags, Kind};
use crate::logs;

const MESH: &[Flag] = &[
    Flag::new("trust-domain", Kind::Text, "The mesh's trust domain.").default("cluster.local"),
    Flag::new(
        "trust-domain-aliases",
        Kind::Texts,
        "Further trust domains of this mesh. May be repeated, or comma-separated.",
    ),
    Flag::new(
        "cluster-id",
        Kind::Texts,
        "The id of a cluster whose workloads are served. May be repeated, or comma-separated; the default is Kubernetes.",
    ),
    Flag::new(
        "root-ca-file",
        Kind::Text,
        "The mesh's roots in PEM; the file is watched. Without it the root that the signer names first is trusted.",
    ),
    Flag::new(
        "allow-intermediate-root",
        Kind::Bool,
        "Take roots that are not self-signed. TLS libraries in OpenSSL's manner will refuse them.",
    ),
    Flag::new(
        "max-client-certificate-duration",
        Kind::Duration,
        "The longest life of a workload's certificate; what asks for more is shortened.",
    )
    .alias(&["m"])
    .default("1h"),
    Flag::new(
        "audiences",
        Kind::Texts,
        "What a caller's token may be for. May be repeated, or comma-separated; the default is in the variable TOKEN_AUDIENCES, or else istio-ca.",
    ),
    Flag::new(
        "jwks-file",
        Kind::Text,
        "Keys (JWKS) that callers' tokens are held against; Kubernetes is then not asked. Needs -jwks-issuer.",
    ),
    Flag::new(
        "token-review",
        Kind::Bool,
        "With -jwks-file: also have tokens reviewed by Kubernetes that the keys do not vouch for.",
    ),
    Flag::new(
        "jwks-issuer",
        Kind::Texts,
        "Who may have issued these tokens. May be repeated, or comma-separated.",
    ),
    Flag::new(
        "enable-client-cert-authenticator",
        Kind::Bool,
        "Also know callers by a client certificate of the mesh.",
    ),
    Flag::new(
        "ca-trusted-node-accounts",
        Kind::Texts,
        "NAMESPACE/SERVICE_ACCOUNT that may ask for the certificates of pods on its node (ztunnel). May be repeated, or comma-separated.",
    ),
];

const SERVING: &[Flag] = &[
    Flag::new("serving-address", Kind::Text, "Where calls are taken.").alias(&["a"]).default("0.0.0.0:6443"),
    Flag::new(
        "serving-certificate-dns-names",
        Kind::Texts,
        "A name of this service. May be repeated, or comma-separated; the default is cert-manager-istio-csr.cert-manager.svc.",
    ),
    Flag::new(
        "serving-certificate-duration",
        Kind::Duration,
        "How long the service's own certificate shall live; it is renewed at two thirds.",
    )
    .alias(&["t"])
    .default("1h"),
    Flag::new("serving-signature-algorithm", Kind::Text, "The kind of its key: \"ECDSA\" or \"RSA\".")
        .default("ECDSA"),
    Flag::new(
        "serving-certificate-key-size",
        Kind::Uint,
        "The key's bits: 256 or 384, or with RSA 2048 and more. The default is the least.",
    ),
    Flag::new(
        "serving-tls-min-version",
        Kind::Text,
        "\"VersionTLS12\" or \"VersionTLS13\". The default is the former.",
    ),
    Flag::new(
        "serving-tls-cipher-suites",
        Kind::Texts,
        "A cipher suite of TLS 1.2, by its IANA name. May be repeated, or comma-separated.",
    ),
    Flag::new(
        "serving-tls-curve-preferences",
        Kind::Texts,
        "A key exchange: X25519, P-256, P-384 or its number. In order; may be repeated, or comma-separated.",
    ),
    Flag::new("max-connections", Kind::Uint, "Most connections at a time. The default is 16384."),
    Flag::new(
        "readiness-probe-port",
        Kind::Uint,
        "Where probes are answered, on all addresses of the family of -serving-address; 0 is any free port.",
    )
    .default("6060"),
    Flag::new("readiness-probe-path", Kind::Text, "The path of the readiness probe.").default("/readyz"),
    Flag::new("metrics-port", Kind::Uint, "Where /metrics is; 0 is any free port.").default("9402"),
];

const SIGNER: &[Flag] = &[
    Flag::new("signer", Kind::Text, "Who signs: \"direct\" (the server, over its API) or \"certificate-request\" (cert-manager).").default("direct"),
    Flag::new("sign-path", Kind::Text, "MOUNT/sign/ROLE for workloads. The role must allow their SPIFFE IDs (allowed_uri_sans), names without a common name (require_cn=false) and EC keys (key_type=any); the login's policy must allow to update this path.").default("istioca/sign/cluster-local"),
    Flag::new("serving-sign-path", Kind::Text, "The same for the service's own certificate; the role must allow its DNS names. The default is -sign-path."),
    Flag::new("vault-addr", Kind::Text, "Where the server is. The default is https://127.0.0.1:8200.").alias(&["address"]).env("ADDR"),
    Flag::new("vault-ca-file", Kind::Text, "PEM certificates of the server's authority.").alias(&["ca-cert"]).env("CACERT"),
    Flag::new("vault-tls-server-name", Kind::Text, "The name in the server's certificate, if it is not the address's host.").env("TLS_SERVER_NAME"),
    Flag::new("vault-namespace", Kind::Text, "The namespace that paths are relative to.").env("NAMESPACE"),
    Flag::new("vault-timeout", Kind::Duration, "How long one request to the server may take.").default("10s"),
    Flag::new("approle-path", Kind::Text, "Log in by AppRole, mounted there.").default("approle"),
    Flag::new("role-id", Kind::Text, "The AppRole's id."),
    Flag::new("role-id-file", Kind::Text, "A file with it, read before each login."),
    Flag::new("secret-id-file", Kind::Text, "A file with the secret id, read before each login."),
    Flag::new("kubernetes-auth-path", Kind::Text, "Where the Kubernetes method is mounted.").default("kubernetes"),
    Flag::new("kubernetes-role", Kind::Text, "Log in by the service account's token, to this role."),
    Flag::new("kubernetes-token-file", Kind::Text, "The service account's token, read before each login.").default("/var/run/secrets/kubernetes.io/serviceaccount/token"),
    Flag::new("cert-auth-path", Kind::Text, "Log in by client certificate, at the method mounted there. Needs -vault-client-cert and -vault-client-key."),
    Flag::new("cert-auth-role", Kind::Text, "The role to log in to by client certificate. The default is any that fits."),
    Flag::new("vault-client-cert", Kind::Text, "A PEM certificate to show the server.").env("CLIENT_CERT"),
    Flag::new("vault-client-key", Kind::Text, "Its key.").env("CLIENT_KEY"),
    Flag::new("token-file", Kind::Text, "A file with a token, instead of a login; read again when the token is refused."),
];

pub(super) const COMMANDS: &[Command] = &[Command {
    name: "mesh ca",
    synopsis: "Give certificates to the workloads of an Istio mesh",
    usage: "[options]",
    help: "Answers Istio's agents and ztunnel as its certificate service (istio.v1.auth.IstioCertificateService): it knows \
           the caller by its token, checks that the CSR asks for the caller's name and nothing more, has it signed, and \
           checks what came back. istiod is pointed here with global.caAddress. The flags have istio-csr's names where \
           they mean the same.\n\n\
           Sign with a role of the server, logged in by AppRole:\n\n\
           $ {p} mesh ca -vault-addr=https://vault:8200 -vault-ca-file=vault-ca.pem -sign-path=istioca/sign/cluster-local \
           -role-id=ROLE_ID -secret-id-file=/var/run/secrets/mesh/secret-id \
           -root-ca-file=/var/run/secrets/istio-csr/ca.cert.pem\n\n\
           The same as a pod, by its service account:\n\n\
           $ {p} mesh ca -vault-addr=https://vault:8200 -kubernetes-role=mesh-ca -root-ca-file=ca.cert.pem\n\n\
           Try it out on one machine, with keys in a file in place of Kubernetes:\n\n\
           $ {p} mesh ca -vault-addr=http://127.0.0.1:8200 -token-file=$HOME/.vault-token -jwks-file=jwks.json \
           -jwks-issuer=https://kubernetes.default.svc -serving-certificate-dns-names=localhost.mesh.svc -without-kubernetes",
    flags: &[
        ("Mesh Options", MESH),
        ("Serving Options", SERVING),
        ("Signer Options", SIGNER),
        ("Kubernetes Options", kubernetes::CONNECTION),
        ("cert-manager Options", kubernetes::REQUESTS),
        ("istiod Options", kubernetes::ISTIOD),
        ("Log Options", logs::FLAGS),
    ],
    arguments: Arguments::Exactly(0),
    run: serve,
}];

fn serve(call: &mut Call<'_>) -> Outcome {
    let settings = settings(call)?;
    logs::init(&call.flags, log_format)?;
    chancery_server::raise_open_files();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::Local(format!("no runtime: {error}")))?;
    runtime.block_on(run(settings)).map_err(|error| Failure::Local(error.to_string()))?;
    Ok(0)
}

fn settings(call: &Call<'_>) -> Result<Settings, Failure> {
    let flags = &call.flags;
    let path = |name: &str| flags.non_empty(name).map(PathBuf::from);
    let text = |name: &str| flags.text(name).unwrap_or_default().to_owned();
    let duration = |name: &str| flags.duration(name).unwrap_or_default();
    let serving = flags.text("serving-address").unwrap_or_default();
    // As in Go, nothing before the colon means every address.
    let serving = if serving.starts_with(':') { format!("[::]{serving}") } else { serving.to_owned() };
    let serving_address: SocketAddr =
        serving.parse().map_err(|_| Failure::flag("serving-address", &serving, "an address and a port"))?;
    let any = if serving_address.is_ipv6() {
        IpAddr::from(Ipv6Addr::UNSPECIFIED)
    } else {
        IpAddr::from(Ipv4Addr::UNSPECIFIED)
    };
    let listener = ListenerSettings::default();
    let max_connections = match number(flags, "max-connections")? {
        0 => listener.max_connections,
        number => usize::try_from(number).unwrap_or(usize::MAX),
    };
    Ok(Settings {
        trust_domain: text("trust-domain"),
        trust_domain_aliases: flags.list("trust-domain-aliases"),
        cluster_ids: list(flags, "cluster-id", &["Kubernetes"]),
        serving_address,
        readiness_address: SocketAddr::new(any, port(flags, "readiness-probe-port")?),
        readiness_path: text("readiness-probe-path"),
        metrics_address: Some(SocketAddr::new(any, port(flags, "metrics-port")?)),
        root_ca_file: path("root-ca-file"),
        allow_intermediate_root: flags.on("allow-intermediate-root"),
        serving: ServingNames {
            dns_names: list(
                flags,
                "serving-certificate-dns-names",
                &["cert-manager-istio-csr.cert-manager.svc"],
            ),
            duration: duration("serving-certificate-duration"),
            signature_algorithm: text("serving-signature-algorithm"),
            key_size: number(flags, "serving-certificate-key-size")?,
            tls_min_version: text("serving-tls-min-version"),
            tls_cipher_suites: flags.list("serving-tls-cipher-suites"),
            tls_curve_preferences: curves(flags),
        },
        signer: signer(call)?,
        max_client_certificate_duration: duration("max-client-certificate-duration"),
        authentication: Authentication {
            audiences: audiences(flags, call.ui.variable("TOKEN_AUDIENCES").as_deref()),
            jwks_file: path("jwks-file"),
            token_review: flags.on("token-review"),
            jwks_issuers: flags.list("jwks-issuer"),
            client_certificates: flags.on("enable-client-cert-authenticator"),
            trusted_node_accounts: node_accounts(flags)?,
        },
        kubernetes: kubernetes::settings(flags)?,
        listener: ListenerSettings { max_connections, ..listener },
    })
}

fn signer(call: &Call<'_>) -> Result<SignerChoice, Failure> {
    let flags = &call.flags;
    let text = |name: &str| flags.text(name).unwrap_or_default().to_owned();
    match flags.text("signer").unwrap_or_default() {
        "certificate-request" => {
            Ok(SignerChoice::CertificateRequest(Box::new(kubernetes::certificate_requests(flags))))
        }
        "direct" => Ok(SignerChoice::Direct(Box::new(DirectSettings {
            client: server(call)?,
            login: login(flags, || call.token())?,
            sign_path: text("sign-path"),
            serving_sign_path: flags.non_empty("serving-sign-path").map(str::to_owned),
        }))),
        other => Err(Failure::flag("signer", other, "direct or certificate-request")),
    }
}

/// How the server is reached: by flags, and for the rest by the environment as all commands read it.
fn server(call: &Call<'_>) -> Result<Config, Failure> {
    let flags = &call.flags;
    let failed = |error: ConfigError| Failure::Local(format!("failed to create client: {error}"));
    let address = flags.non_empty("vault-addr").map(str::to_owned);
    let overlay = |name: &str| match (name, &address) {
        ("BAO_AGENT_ADDR" | "VAULT_AGENT_ADDR", _) => None,
        ("BAO_ADDR", Some(address)) => Some(address.clone()),
        _ => call.ui.variable(name),
    };
    let mut config = Config::from_env(&overlay).map_err(failed)?;
    let path = |name: &str| flags.non_empty(name).map(PathBuf::from);
    config.ca_cert = path("vault-ca-file");
    config.client_cert = path("vault-client-cert");
    config.client_key = path("vault-client-key");
    config.tls_server_name = flags.non_empty("vault-tls-server-name").map(str::to_owned);
    config.namespace = flags.non_empty("vault-namespace").map(str::to_owned);
    config.timeout = flags.duration("vault-timeout").unwrap_or(Duration::from_secs(10));
    Ok(config)
}

/// The one way to log in that the flags speak of; without any, the token that all commands would use.
fn login(flags: &Flags, token: impl FnOnce() -> Result<Option<Secret>, Failure>) -> Result<Login, Failure> {
    let text = |name: &str| flags.text(name).unwrap_or_default().to_owned();
    let file = |name: &str| flags.non_empty(name).map(|path| Credential::File(path.into()));
    let mut found = Vec::new();
    let role_id = flags.non_empty("role-id").map(|id| Credential::Given(Secret::new(id)));
    if let Some(role_id) = role_id.or_else(|| file("role-id-file")) {
        let secret_id = file("secret-id-file").unwrap_or_else(|| Credential::Given(Secret::default()));
        found.push(Login::AppRole { mount: text("approle-path"), role_id, secret_id });
    } else if flags.given("secret-id-file") {
        return Err(Failure::Local("-secret-id-file needs -role-id or -role-id-file".to_owned()));
    }
    if let (Some(role), Some(jwt)) = (flags.non_empty("kubernetes-role"), file("kubernetes-token-file")) {
        found.push(Login::Kubernetes { mount: text("kubernetes-auth-path"), role: role.to_owned(), jwt });
    }
    if let Some(mount) = flags.non_empty("cert-auth-path") {
        if flags.non_empty("vault-client-cert").is_none() {
            return Err(Failure::Local(
                "-cert-auth-path needs -vault-client-cert and -vault-client-key".to_owned(),
            ));
        }
        found.push(Login::Certificate { mount: mount.to_owned(), name: text("cert-auth-role") });
    }
    found.extend(file("token-file").map(Login::Token));
    if found.is_empty() {
        found.extend(token()?.map(|token| Login::Token(Credential::Given(token))));
    }
    match (found.pop(), found.is_empty()) {
        (Some(login), true) => Ok(login),
        (Some(_), false) => Err(Failure::Local(
            "several ways to log in are given; give one of -role-id, -kubernetes-role, -cert-auth-path and -token-file"
                .to_owned(),
        )),
        (None, _) => Err(Failure::Local(
            "there is no way to log in; give one of -role-id, -kubernetes-role, -cert-auth-path and -token-file".to_owned(),
        )),
    }
}

/// The values of a flag, or else the default.
fn list(flags: &Flags, name: &str, default: &[&str]) -> Vec<String> {
    if flags.texts(name).is_empty() {
        return default.iter().map(|&value| value.to_owned()).collect();
    }
    flags.list(name)
}

/// Those of which one is empty too, which is refused later.
fn curves(flags: &Flags) -> Vec<String> {
    let values = flags.texts("serving-tls-curve-preferences").iter().flat_map(|value| value.split(','));
    values.map(|value| value.trim().to_owned()).collect()
}

fn audiences(flags: &Flags, variable: Option<&str>) -> Vec<String> {
    if flags.texts("audiences").is_empty() {
        return token::audiences(variable.unwrap_or_default());
    }
    flags.list("audiences")
}

fn node_accounts(flags: &Flags) -> Result<Vec<Workload>, Failure> {
    let parse = |account: String| match account.split_once('/') {
        Some((namespace, name)) if !namespace.is_empty() && !name.is_empty() && !name.contains('/') => {
            Ok(Workload { namespace: namespace.to_owned(), service_account: name.to_owned() })
        }
        _ => Err(Failure::flag("ca-trusted-node-accounts", &account, "NAMESPACE/SERVICE_ACCOUNT")),
    };
    flags.list("ca-trusted-node-accounts").into_iter().map(parse).collect()
}

fn number(flags: &Flags, name: &str) -> Result<u32, Failure> {
    let Some(text) = flags.non_empty(name) else { return Ok(0) };
    text.parse().map_err(|_| Failure::flag(name, text, "a number"))
}

fn port(flags: &Flags, name: &str) -> Result<u16, Failure> {
    let number = number(flags, name)?;
    u16::try_from(number).map_err(|_| Failure::flag(name, &number.to_string(), "a port"))
}

/// As istio-csr reads it.
fn log_format(word: &str) -> Result<LogFormat, Failure> {
    match word.to_ascii_lowercase().as_str() {
        "text" => Ok(LogFormat::Standard),
        "json" => Ok(LogFormat::Json),
        _ => Err(Failure::Local("invalid log-format; must be either \"text\" or \"json\"".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flags::{Parsed, parse};

    fn read(args: &[&str]) -> Flags {
        let args: Vec<String> = args.iter().map(|&arg| arg.to_owned()).collect();
        let command = COMMANDS.first().expect("the command");
        let table = command.flags.iter().flat_map(|(_, flags)| flags.iter());
        match parse(table, &args, |_| None).expect("flags") {
            Parsed::Command(flags, _) => flags,
            Parsed::Help => panic!("help"),
        }
    }

    fn said(refused: Result<impl std::fmt::Debug, Failure>) -> String {
        match refused.expect_err("refused") {
            Failure::Local(sentence) => sentence,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn lists_are_repeated_or_separated_by_commas() {
        let flags = read(&["-cluster-id=one,two", "--cluster-id", "three", "-cluster-id=,"]);
        assert_eq!(list(&flags, "cluster-id", &["Kubernetes"]), ["one", "two", "three"]);
        assert_eq!(list(&read(&[]), "cluster-id", &["Kubernetes"]), ["Kubernetes"]);
        let accounts = node_accounts(&read(&["-ca-trusted-node-accounts=istio-system/ztunnel"]));
        assert_eq!(accounts.expect("accounts").first().expect("one").to_string(), "istio-system/ztunnel");
        for account in ["ztunnel", "/ztunnel", "a/b/c"] {
            let flags = read(&[&format!("-ca-trusted-node-accounts={account}")]);
            assert!(said(node_accounts(&flags)).ends_with("expected NAMESPACE/SERVICE_ACCOUNT"));
        }
    }

    #[test]
    fn audiences_come_from_the_flag_then_from_the_variable() {
        assert_eq!(audiences(&read(&["-audiences=a,b"]), Some("c")), ["a", "b"]);
        assert_eq!(audiences(&read(&[]), Some("c, d")), ["c", "d"]);
        assert_eq!(audiences(&read(&[]), None), ["istio-ca"]);
        // It is refused later.
        assert!(audiences(&read(&["-audiences=,"]), Some("c")).is_empty());
    }

    #[test]
    fn one_way_to_log_in_is_found_and_several_are_refused() {
        let found = |args: &[&str]| login(&read(args), || Ok(Some(Secret::from("stored"))));
        let shown = |args: &[&str]| format!("{:?}", found(args).expect("a login"));
        assert!(shown(&["-role-id=r", "-secret-id-file=/s"]).starts_with("AppRole { mount: \"approle\""));
        assert!(shown(&["-role-id-file=/r"]).starts_with("AppRole"));
        assert!(shown(&["-kubernetes-role=mesh"]).contains("serviceaccount/token"));
        assert!(shown(&["-cert-auth-path=cert", "-vault-client-cert=/c"]).starts_with("Certificate"));
        assert!(shown(&["-token-file=/t"]).starts_with("Token(File"));
        assert_eq!(shown(&[]), "Token(Given([redacted]))");
        assert!(said(login(&read(&[]), || Ok(None))).starts_with("there is no way to log in"));
        assert!(said(found(&["-role-id=r", "-token-file=/t"])).starts_with("several ways to log in"));
        assert!(said(found(&["-secret-id-file=/s"])).contains("needs -role-id"));
        assert!(said(found(&["-cert-auth-path=cert"])).contains("needs -vault-client-cert"));
    }

    #[test]
    fn ports_and_log_settings_that_are_none_are_refused() {
        assert_eq!(port(&read(&[]), "readiness-probe-port").expect("a port"), 6060);
        assert!(said(port(&read(&["-metrics-port=70000"]), "metrics-port")).ends_with("expected a port"));
        let sentence = "invalid log-format; must be either \"text\" or \"json\"";
        assert_eq!(said(logs::init(&read(&["-log-format=xml"]), log_format)), sentence);
        assert!(
            said(logs::init(&read(&["-v=9"]), log_format))
                .starts_with("invalid value \"9\" for flag -log-level")
        );
    }
}
