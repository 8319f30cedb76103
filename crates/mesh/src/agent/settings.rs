//! What an operator sets: Istio's variables under their names, and flags over them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use chancery_issuance::{Curve, KeyForm, KeySpec, SpiffeId};
use http::{HeaderName, HeaderValue};

use super::files::KeyFiles;
use super::variables::VARIABLES;
use crate::Workload;

/// Why the settings cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{variable}{}: {reason}", if flag.is_empty() { String::new() } else { format!(" (or -{flag})") })]
pub struct SettingsError {
    /// The variable.
    pub variable: &'static str,
    /// Its flag; empty if it has none.
    pub flag: &'static str,
    /// What is wrong.
    pub reason: String,
}

/// What the agent does.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The CA that is called; `None`: everything comes from files.
    pub ca: Option<CaSettings>,
    /// The kind of the workload's keys.
    pub key: KeySpec,
    /// How keys are written.
    pub key_form: KeyForm,
    /// How long a certificate shall live.
    pub ttl: Duration,
    /// The part of its life before its end at which a certificate is renewed.
    pub ratio: f64,
    /// How far this part is moved at random, either way.
    pub jitter: f64,
    /// Where the workload's certificate is if somebody else renews it.
    pub files: KeyFiles,
    /// Where issued certificates are written to.
    pub output: Option<PathBuf>,
    /// All who are here are the same workload: others than the agent's user may use the socket, whatever its folder, and
    /// read what is written out.
    pub in_pod: bool,
    /// How long to wait at first for files that are being written.
    pub debounce: Duration,
    /// How often files are looked at.
    pub poll: Duration,
    /// After a change of the CA's roots, a certificate is asked for within this time, at random: all agents learn of it
    /// together.
    pub spread: Duration,
    /// How often another provider's socket is looked at.
    pub look: Duration,
    /// The socket.
    pub socket: PathBuf,
    /// The socket is another provider's, and must be there.
    pub socket_is_foreign: bool,
    /// The socket for files, if another provider serves the first.
    pub files_socket: PathBuf,
    /// The port of readiness and measurements.
    pub status_port: Option<u16>,
}

/// The CA and what it is told.
#[derive(Debug, Clone)]
pub struct CaSettings {
    /// `host:port`
    pub address: String,
    /// Without TLS.
    pub plaintext: bool,
    /// The name that its certificate must have.
    pub server_name: String,
    /// What its certificate is verified with.
    pub roots: CaRoots,
    /// The service account's token.
    pub token: Option<PathBuf>,
    /// A folder with a certificate and its key to show.
    pub provisioned: Option<PathBuf>,
    /// The header `clusterid`.
    pub cluster_id: String,
    /// The metadata `CertSigner`.
    pub cert_signer: String,
    /// Further headers.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Whom certificates are asked for.
    pub identity: SpiffeId,
}

/// Where roots are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CaRoots {
    /// In a file.
    File(PathBuf),
    /// With the operating system.
    System,
}

/// Where a pod's certificate is mounted by whoever provides it instead of the CA.
const MOUNTED: &str = "/var/run/secrets/workload-spiffe-credentials";
const SOCKETS: &str = "/var/run/secrets/workload-spiffe-uds";
const SOCKET_FILE: &str = "socket";

impl Settings {
    /// Reads the variables; flags have been put over them under the variables' names.
    ///
    /// # Errors
    /// The first that cannot be used, by name.
    pub fn read(variables: &BTreeMap<String, String>) -> Result<Self, SettingsError> {
        let read = Reader(variables);
        let file_mounted = read.boolean("FILE_MOUNTED_CERTS")?;
        if file_mounted && read.text("PROV_CERT").is_some() {
            return Err(read.wrong("PROV_CERT", "it cannot be used together with FILE_MOUNTED_CERTS"));
        }
        let mounted = KeyFiles::of(Path::new(MOUNTED));
        let (files, from_files) = match read.text("CHANCERY_AGENT_CERTS") {
            Some(folder) => (KeyFiles::of(Path::new(folder)), file_mounted),
            None if mounted.exist() => (mounted, true),
            None => (KeyFiles::of(Path::new("/etc/certs")), file_mounted),
        };
        let socket_file = read.text("WORKLOAD_IDENTITY_SOCKET_FILE").unwrap_or(SOCKET_FILE);
        if socket_file.contains('/') {
            return Err(
                read.wrong("WORKLOAD_IDENTITY_SOCKET_FILE", "it is the name of a file, without a folder")
            );
        }
        let socket = read.text("CHANCERY_AGENT_SOCKET").map(PathBuf::from);
        let files_socket = read
            .text("CHANCERY_AGENT_FILES_SOCKET")
            .unwrap_or("/var/run/secrets/credential-uds/files-socket");
        let ttl = read.duration("SECRET_TTL", Duration::from_secs(24 * 3600))?;
        if ttl.is_zero() {
            return Err(read.wrong("SECRET_TTL", "a certificate must live for some time"));
        }
        Ok(Self {
            ca: if from_files { None } else { Some(CaSettings::read(&read)?) },
            key: read.key()?,
            key_form: if read.boolean("PKCS8_KEY")? { KeyForm::Pkcs8 } else { KeyForm::Traditional },
            ttl,
            ratio: read.part("SECRET_GRACE_PERIOD_RATIO", 0.5)?,
            jitter: read.part("SECRET_GRACE_PERIOD_RATIO_JITTER", 0.01)?,
            files,
            output: read.text("OUTPUT_CERTS").map(PathBuf::from),
            in_pod: variables.contains_key("KUBERNETES_SERVICE_HOST"),
            debounce: read.duration("FILE_DEBOUNCE_DURATION", Duration::from_millis(100))?,
            poll: Duration::from_secs(1),
            spread: Duration::from_secs(5),
            look: Duration::from_secs(10),
            socket_is_foreign: socket.is_none() && socket_file != SOCKET_FILE,
            socket: socket.unwrap_or_else(|| Path::new(SOCKETS).join(socket_file)),
            files_socket: PathBuf::from(files_socket),
            status_port: read.number("CHANCERY_AGENT_STATUS_PORT")?.filter(|port| *port != 0),
        })
    }

    /// Whether the files of a certificate may be served although certificates are issued: not those that the agent
    /// writes itself, which would then never be renewed.
    pub fn files_are_input(&self) -> bool {
        // Whichever way they are written.
        let place = |path: &Path| path.canonicalize().or_else(|_| std::path::absolute(path)).ok();
        self.ca.is_none() || self.output.as_deref().and_then(place) != self.files.folder().and_then(place)
    }
}

impl CaSettings {
    fn read(read: &Reader<'_>) -> Result<Self, SettingsError> {
        read.one_of("CA_PROVIDER", &["Citadel"])?;
        read.one_of("CREDENTIAL_FETCHER_TYPE", &["JWT"])?;
        let address = read.text("CA_ADDR").unwrap_or("istiod.istio-system.svc:15012");
        let host = address
            .rsplit_once(':')
            .filter(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port != 0))
            .map(|(host, _)| host.trim_start_matches('[').trim_end_matches(']'));
        let host =
            host.ok_or_else(|| read.wrong("CA_ADDR", format!("{address:?} is not of the form host:port")))?;
        // At the other end of a tunnel to this machine is istiod.
        let host = if host.contains("localhost") { "istiod.istio-system.svc" } else { host };
        let server_name = read.text("ISTIOD_SAN").unwrap_or(host).to_owned();
        if rustls::pki_types::ServerName::try_from(server_name.as_str()).is_err() {
            let reason = format!("{server_name:?} is no name of a server");
            return Err(
                read.wrong(if read.text("ISTIOD_SAN").is_some() { "ISTIOD_SAN" } else { "CA_ADDR" }, reason)
            );
        }
        let roots = match (read.text("CA_ROOT_CA"), read.text("PILOT_CERT_PROVIDER").unwrap_or("istiod")) {
            (Some("SYSTEM"), _) => CaRoots::System,
            (Some(path), _) => CaRoots::File(path.into()),
            // Whoever provisioned the certificate provisioned the roots with it.
            (None, _) if read.text("PROV_CERT").is_some() => {
                let folder = Path::new(read.text("PROV_CERT").unwrap_or_default());
                CaRoots::File(KeyFiles::of(folder).root)
            }
            (None, "none") => {
                return Err(
                    read.wrong("PILOT_CERT_PROVIDER", "none: then CA_ROOT_CA must name the CA's roots")
                );
            }
            (None, "custom") => CaRoots::File("/etc/certs/root-cert.pem".into()),
            (None, _) => CaRoots::File("/var/run/secrets/istio/root-cert.pem".into()),
        };
        let token = match (
            read.text("CHANCERY_AGENT_TOKEN_FILE"),
            read.text("JWT_POLICY").unwrap_or("third-party-jwt"),
        ) {
            (Some(path), _) => Some(path),
            (None, "third-party-jwt") => Some("/var/run/secrets/tokens/istio-token"),
            (None, "first-party-jwt") => Some("/var/run/secrets/kubernetes.io/serviceaccount/token"),
            (None, _) => None,
        };
        Ok(Self {
            address: address.to_owned(),
            plaintext: address.ends_with(":15010"),
            server_name,
            roots,
            token: token.map(PathBuf::from),
            provisioned: read.text("PROV_CERT").map(PathBuf::from),
            cluster_id: read.header_value("ISTIO_META_CLUSTER_ID")?,
            cert_signer: read.text("ISTIO_META_CERT_SIGNER").unwrap_or_default().to_owned(),
            headers: read.headers()?,
            identity: read.identity()?,
        })
    }
}

struct Reader<'a>(&'a BTreeMap<String, String>);

impl<'a> Reader<'a> {
    fn wrong(&self, name: &str, reason: impl Into<String>) -> SettingsError {
        let known = VARIABLES.iter().find(|variable| variable.name == name);
        let (variable, flag) = known.map_or(("CA_HEADER_", ""), |known| (known.name, known.flag));
        SettingsError { variable, flag, reason: reason.into() }
    }

    /// Nothing said and the empty text are the same, as Istio has it.
    fn text(&self, name: &str) -> Option<&'a str> {
        self.0.get(name).map(|text| text.trim()).filter(|text| !text.is_empty())
    }

    fn boolean(&self, name: &str) -> Result<bool, SettingsError> {
        match self.text(name) {
            None => Ok(false),
            Some("1" | "t" | "T" | "true" | "TRUE" | "True") => Ok(true),
            Some("0" | "f" | "F" | "false" | "FALSE" | "False") => Ok(false),
            Some(other) => Err(self.wrong(name, format!("{other:?} is neither true nor false"))),
        }
    }

    fn duration(&self, name: &str, default: Duration) -> Result<Duration, SettingsError> {
        let Some(text) = self.text(name) else { return Ok(default) };
        chancery_api::duration::parse(text).map_err(|error| self.wrong(name, error.to_string()))
    }

    fn part(&self, name: &str, default: f64) -> Result<f64, SettingsError> {
        let Some(text) = self.text(name) else { return Ok(default) };
        let part = text.parse().ok().filter(|part| (0.0..=1.0).contains(part));
        part.ok_or_else(|| self.wrong(name, format!("{text:?} is not between 0 and 1")))
    }

    fn number<T: std::str::FromStr>(&self, name: &str) -> Result<Option<T>, SettingsError> {
        let Some(text) = self.text(name) else { return Ok(None) };
        text.parse().map(Some).map_err(|_| self.wrong(name, format!("{text:?} is no number of that kind")))
    }

    fn one_of(&self, name: &str, known: &[&str]) -> Result<(), SettingsError> {
        match self.text(name) {
            Some(text) if !known.contains(&text) => {
                Err(self.wrong(name, format!("{text:?} is not offered; there is {}", known.join(", "))))
            }
            _ => Ok(()),
        }
    }

    fn header_value(&self, name: &str) -> Result<String, SettingsError> {
        let text = self.text(name).unwrap_or_default();
        let wrong = |_| self.wrong(name, format!("{text:?} cannot stand in a header"));
        HeaderValue::from_str(text).map_err(wrong)?;
        Ok(text.to_owned())
    }

    /// RSA if its size is said and ECDSA is not, as with Istio; if nothing is said, P-256.
    fn key(&self) -> Result<KeySpec, SettingsError> {
        const KEY: &str = "CHANCERY_AGENT_KEY";
        let rsa = |name: &str, bits: u32| match bits {
            2048 | 3072 | 4096 | 8192 => Ok(KeySpec::Rsa(bits)),
            _ => Err(self.wrong(name, format!("RSA keys have 2048, 3072, 4096 or 8192 bits, not {bits}"))),
        };
        if let Some(text) = self.text(KEY) {
            return match text.to_ascii_lowercase().as_str() {
                "p256" => Ok(KeySpec::Ec(Curve::P256)),
                "p384" => Ok(KeySpec::Ec(Curve::P384)),
                "rsa" => Ok(KeySpec::Rsa(2048)),
                other => match other.strip_prefix("rsa").and_then(|bits| bits.parse().ok()) {
                    Some(bits) => rsa(KEY, bits),
                    None => {
                        Err(self.wrong(KEY, format!("{text:?} is none of p256, p384 and rsa2048 to rsa8192")))
                    }
                },
            };
        }
        let size = self.number("WORKLOAD_RSA_KEY_SIZE")?;
        match (self.text("ECC_SIGNATURE_ALGORITHM"), self.text("ECC_CURVE").unwrap_or("P256"), size) {
            (None, _, Some(bits)) => rsa("WORKLOAD_RSA_KEY_SIZE", bits),
            (Some("ECDSA") | None, "P256", _) => Ok(KeySpec::Ec(Curve::P256)),
            (Some("ECDSA") | None, "P384", _) => Ok(KeySpec::Ec(Curve::P384)),
            (Some("ECDSA") | None, other, _) => {
                Err(self.wrong("ECC_CURVE", format!("{other:?} is neither P256 nor P384")))
            }
            (Some(other), _, _) => {
                Err(self
                    .wrong("ECC_SIGNATURE_ALGORITHM", format!("{other:?} is not offered; there is ECDSA")))
            }
        }
    }

    fn identity(&self) -> Result<SpiffeId, SettingsError> {
        let domain = Workload::trust_domain(self.text("TRUST_DOMAIN").unwrap_or("cluster.local"))
            .map_err(|error| self.wrong("TRUST_DOMAIN", error.to_string()))?;
        let part = |name: &str| self.text(name).ok_or_else(|| self.wrong(name, "it must be set"));
        let (namespace, service_account) = (part("POD_NAMESPACE")?, part("SERVICE_ACCOUNT")?);
        for (name, text) in [("POD_NAMESPACE", namespace), ("SERVICE_ACCOUNT", service_account)] {
            SpiffeId::from_segments(&domain, &[text]).map_err(|error| self.wrong(name, error.to_string()))?;
        }
        let workload =
            Workload { namespace: namespace.to_owned(), service_account: service_account.to_owned() };
        workload.spiffe_id(&domain).map_err(|error| self.wrong("SERVICE_ACCOUNT", error.to_string()))
    }

    fn headers(&self) -> Result<Vec<(HeaderName, HeaderValue)>, SettingsError> {
        let mut headers = Vec::new();
        for (variable, value) in self.0 {
            let Some(name) = variable.strip_prefix("CA_HEADER_").filter(|name| !name.is_empty()) else {
                continue;
            };
            let parsed = HeaderName::from_bytes(name.as_bytes()).ok().zip(HeaderValue::from_str(value).ok());
            // gRPC's own, and those that the agent sends for itself.
            let reserved = |name: &HeaderName| {
                let name = name.as_str();
                name.starts_with("grpc-")
                    || ["authorization", "clusterid", "content-type", "te"].contains(&name)
            };
            match parsed.filter(|(name, _)| !reserved(name)) {
                Some((name, mut value)) => {
                    value.set_sensitive(true);
                    headers.push((name, value));
                }
                None => {
                    return Err(self.wrong("CA_HEADER_", format!("{name} with its value cannot be a header")));
                }
            }
        }
        Ok(headers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Result<Settings, SettingsError> {
        let least = [("POD_NAMESPACE", "sandbox"), ("SERVICE_ACCOUNT", "httpbin")];
        let pairs = least.iter().chain(pairs);
        Settings::read(&pairs.map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
    }

    #[test]
    fn the_defaults_are_istios_but_for_the_key() {
        let settings = read(&[]).unwrap();
        let ca = settings.ca.as_ref().unwrap();
        assert_eq!(ca.address, "istiod.istio-system.svc:15012");
        assert_eq!(ca.server_name, "istiod.istio-system.svc");
        assert!(!ca.plaintext);
        assert_eq!(ca.roots, CaRoots::File("/var/run/secrets/istio/root-cert.pem".into()));
        assert_eq!(ca.token, Some("/var/run/secrets/tokens/istio-token".into()));
        assert_eq!(ca.identity.as_str(), "spiffe://cluster.local/ns/sandbox/sa/httpbin");
        assert_eq!(settings.key, KeySpec::Ec(Curve::P256));
        assert_eq!(settings.key_form, KeyForm::Traditional);
        assert_eq!(settings.ttl, Duration::from_secs(86400));
        assert_eq!((settings.ratio, settings.jitter), (0.5, 0.01));
        assert_eq!(settings.socket, Path::new("/var/run/secrets/workload-spiffe-uds/socket"));
        assert!(!settings.socket_is_foreign && !settings.in_pod);
        assert_eq!(settings.status_port, None);
    }

    #[test]
    fn keys_are_asked_for_in_istios_words_or_in_one() {
        for (pairs, key) in [
            (&[("ECC_SIGNATURE_ALGORITHM", "ECDSA")][..], KeySpec::Ec(Curve::P256)),
            (&[("ECC_SIGNATURE_ALGORITHM", "ECDSA"), ("ECC_CURVE", "P384")], KeySpec::Ec(Curve::P384)),
            (&[("WORKLOAD_RSA_KEY_SIZE", "3072")], KeySpec::Rsa(3072)),
            (
                &[("ECC_SIGNATURE_ALGORITHM", "ECDSA"), ("WORKLOAD_RSA_KEY_SIZE", "2048")],
                KeySpec::Ec(Curve::P256),
            ),
            (&[("WORKLOAD_RSA_KEY_SIZE", "2048"), ("CHANCERY_AGENT_KEY", "p384")], KeySpec::Ec(Curve::P384)),
            (&[("CHANCERY_AGENT_KEY", "rsa4096")], KeySpec::Rsa(4096)),
        ] {
            assert_eq!(read(pairs).unwrap().key, key, "{pairs:?}");
        }
    }

    #[test]
    fn a_wrong_value_is_an_error_that_names_the_variable() {
        for (name, value) in [
            ("CA_ADDR", "nowhere"),
            ("CA_ADDR", "host:99999"),
            ("CA_ADDR", ":15012"),
            ("CA_ADDR", "a b:15012"),
            ("CA_PROVIDER", "GkeWorkloadCertificate"),
            ("CREDENTIAL_FETCHER_TYPE", "GoogleComputeEngine"),
            ("PILOT_CERT_PROVIDER", "none"),
            ("ISTIOD_SAN", "no name"),
            ("TRUST_DOMAIN", "A"),
            ("POD_NAMESPACE", ""),
            ("POD_NAMESPACE", "a/b"),
            ("SERVICE_ACCOUNT", "a%b"),
            ("ISTIO_META_CLUSTER_ID", "a\nb"),
            ("CHANCERY_AGENT_KEY", "p257"),
            ("CHANCERY_AGENT_KEY", "rsa1024"),
            ("ECC_SIGNATURE_ALGORITHM", "EdDSA"),
            ("ECC_CURVE", "P521"),
            ("WORKLOAD_RSA_KEY_SIZE", "1024"),
            ("WORKLOAD_RSA_KEY_SIZE", "many"),
            ("PKCS8_KEY", "perhaps"),
            ("SECRET_TTL", "0s"),
            ("SECRET_TTL", "tomorrow"),
            ("SECRET_GRACE_PERIOD_RATIO", "1.5"),
            ("SECRET_GRACE_PERIOD_RATIO_JITTER", "NaN"),
            ("FILE_DEBOUNCE_DURATION", "soon"),
            ("WORKLOAD_IDENTITY_SOCKET_FILE", "a/b"),
            ("CHANCERY_AGENT_STATUS_PORT", "70000"),
            ("FILE_MOUNTED_CERTS", "2"),
        ] {
            let error = read(&[(name, value)]).expect_err(name);
            assert_eq!(error.variable, name, "{value}: {error}");
            assert!(error.to_string().contains(name) && error.to_string().contains(error.flag), "{error}");
        }
        for header in ["CA_HEADER_a b", "CA_HEADER_AUTHORIZATION", "CA_HEADER_grpc-timeout"] {
            assert_eq!(read(&[(header, "x")]).expect_err(header).variable, "CA_HEADER_");
        }
        assert_eq!(
            read(&[("FILE_MOUNTED_CERTS", "true"), ("PROV_CERT", "/x")]).expect_err("both").variable,
            "PROV_CERT"
        );
    }

    #[test]
    fn the_ca_is_set_as_istio_sets_it() {
        let ca = |pairs: &[(&str, &str)]| read(pairs).unwrap().ca.unwrap();
        assert!(ca(&[("CA_ADDR", "istiod.istio-system.svc:15010")]).plaintext);
        assert_eq!(ca(&[("CA_ADDR", "localhost:15012")]).server_name, "istiod.istio-system.svc");
        assert_eq!(ca(&[("CA_ADDR", "[::1]:15012")]).server_name, "::1");
        assert_eq!(
            ca(&[("CA_ADDR", "10.0.0.1:443"), ("ISTIOD_SAN", "ca.example")]).server_name,
            "ca.example"
        );
        assert_eq!(ca(&[("CA_ROOT_CA", "SYSTEM")]).roots, CaRoots::System);
        assert_eq!(
            ca(&[("CA_ROOT_CA", "/r"), ("PILOT_CERT_PROVIDER", "none")]).roots,
            CaRoots::File("/r".into())
        );
        assert_eq!(
            ca(&[("PILOT_CERT_PROVIDER", "custom")]).roots,
            CaRoots::File("/etc/certs/root-cert.pem".into())
        );
        assert_eq!(ca(&[("PROV_CERT", "/p")]).roots, CaRoots::File("/p/root-cert.pem".into()));
        assert_eq!(ca(&[("PROV_CERT", "/p"), ("CA_ROOT_CA", "/r")]).roots, CaRoots::File("/r".into()));
        assert_eq!(ca(&[("JWT_POLICY", "none")]).token, None);
        assert_eq!(ca(&[("TRUST_DOMAIN", "a@b")]).identity.as_str(), "spiffe://a.b/ns/sandbox/sa/httpbin");
        let headers = ca(&[("CA_HEADER_X_REGION", "eu"), ("CA_HEADER_", "x")]).headers;
        assert_eq!(headers.len(), 1);
        assert_eq!((headers[0].0.as_str(), headers[0].1.as_bytes()), ("x_region", &b"eu"[..]));
    }

    #[test]
    fn another_providers_socket_is_named_in_the_usual_folder() {
        let settings = read(&[("WORKLOAD_IDENTITY_SOCKET_FILE", "spire.sock")]).unwrap();
        assert!(settings.socket_is_foreign);
        assert_eq!(settings.socket, Path::new("/var/run/secrets/workload-spiffe-uds/spire.sock"));
        assert!(!read(&[("WORKLOAD_IDENTITY_SOCKET_FILE", "socket")]).unwrap().socket_is_foreign);
        let own = [("WORKLOAD_IDENTITY_SOCKET_FILE", "spire.sock"), ("CHANCERY_AGENT_SOCKET", "/run/own")];
        assert!(!read(&own).unwrap().socket_is_foreign);
    }

    #[test]
    fn files_need_no_ca_and_no_identity() {
        let variables = [("FILE_MOUNTED_CERTS", "true"), ("CHANCERY_AGENT_CERTS", "/c")];
        let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let settings = Settings::read(&variables).unwrap();
        assert!(settings.ca.is_none());
        assert_eq!(settings.files.key, Path::new("/c/key.pem"));
        assert!(settings.files_are_input());
        let same = read(&[("CHANCERY_AGENT_CERTS", "/c"), ("OUTPUT_CERTS", "/c")]).unwrap();
        assert!(!same.files_are_input());
        let same = read(&[("CHANCERY_AGENT_CERTS", "c"), ("OUTPUT_CERTS", "./c/")]).unwrap();
        assert!(!same.files_are_input());
        assert!(read(&[("CHANCERY_AGENT_CERTS", "/c"), ("OUTPUT_CERTS", "/d")]).unwrap().files_are_input());
        assert!(read(&[("CHANCERY_AGENT_CERTS", "/c")]).unwrap().files_are_input());
    }
}
