//! Each setting's variable and flag.

/// A setting: the variable, the flag that stands above it, and what both are about.
#[derive(Debug)]
pub struct Variable {
    /// The variable of the environment.
    pub name: &'static str,
    /// The flag, without dashes.
    pub flag: &'static str,
    /// What it takes.
    pub takes: Takes,
    /// One or two sentences, and the variable's name.
    pub help: &'static str,
}

/// What a setting takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Takes {
    /// Any text, to be looked at.
    Text,
    /// `true` or `false`.
    Bool,
    /// A length of time.
    Duration,
}

macro_rules! variables {
    ($($takes:ident $name:literal $flag:literal $help:literal)*) => {
        &[$(Variable {
            name: $name,
            flag: $flag,
            takes: Takes::$takes,
            help: concat!($help, " Variable: ", $name, "."),
        }),*]
    };
}

/// Every setting. Beside these, `CA_HEADER_<NAME>` adds a header to each call of the CA, and
/// `KUBERNETES_SERVICE_HOST`, if it is set, has the output certificates be readable, and the socket be usable, by all.
pub const VARIABLES: &[Variable] = variables! {
    Text "CA_ADDR" "ca-address"
        "Where the CA is, host:port; port 15010 means without TLS. The default is istiod.istio-system.svc:15012."
    Text "CA_PROVIDER" "ca-provider" "The kind of CA. There is Citadel only: Istio's protocol."
    Text "CA_ROOT_CA" "ca-root-file" "The file of roots that the CA's certificate is verified with, or SYSTEM."
    Text "PILOT_CERT_PROVIDER" "ca-root-provider"
        "Where these roots are if no file is named: istiod (/var/run/secrets/istio/root-cert.pem, the default) or \
         custom (/etc/certs/root-cert.pem)."
    Text "ISTIOD_SAN" "ca-server-name" "The name in the CA's certificate, instead of the address's host."
    Text "CHANCERY_AGENT_TOKEN_FILE" "token-file"
        "The service account's token. The default is /var/run/secrets/tokens/istio-token."
    Text "JWT_POLICY" "jwt-policy"
        "Which token if no file is named: third-party-jwt, first-party-jwt, or none for certificates only."
    Text "CREDENTIAL_FETCHER_TYPE" "credential-fetcher" "How a token is come by. There is JWT only: a file."
    Text "PROV_CERT" "provisioned-certs" "A folder with cert-chain.pem and key.pem to show the CA, and its root-cert.pem."
    Text "ISTIO_META_CLUSTER_ID" "cluster-id" "The cluster that the token is of."
    Text "ISTIO_META_CERT_SIGNER" "cert-signer" "Whom the CA shall let sign."
    Text "TRUST_DOMAIN" "trust-domain" "The mesh's trust domain. The default is cluster.local."
    Text "POD_NAMESPACE" "namespace" "The workload's namespace."
    Text "SERVICE_ACCOUNT" "service-account" "The workload's service account."
    Text "CHANCERY_AGENT_KEY" "key" "The kind of key: p256 (the default), p384, or rsa2048 to rsa8192."
    Text "ECC_SIGNATURE_ALGORITHM" "ecc-signature-algorithm" "ECDSA, or nothing."
    Text "ECC_CURVE" "ecc-curve" "The curve of ECDSA keys: P256 or P384."
    Text "WORKLOAD_RSA_KEY_SIZE" "rsa-key-size"
        "The size of RSA keys. Keys are then RSA, unless ECDSA is asked for."
    Bool "PKCS8_KEY" "pkcs8-key" "Write keys as PKCS #8."
    Duration "SECRET_TTL" "ttl" "How long a certificate shall live. The default is 24h."
    Text "SECRET_GRACE_PERIOD_RATIO" "ratio"
        "The part of a certificate's life before its end at which it is renewed. The default is 0.5."
    Text "SECRET_GRACE_PERIOD_RATIO_JITTER" "jitter"
        "How far this part is moved at random, either way. The default is 0.01."
    Text "OUTPUT_CERTS" "output-certs"
        "A folder that key.pem, cert-chain.pem and root-cert.pem are written to."
    Bool "FILE_MOUNTED_CERTS" "file-mounted" "Serve the certificate of files; call no CA."
    Text "CHANCERY_AGENT_CERTS" "certs"
        "The folder of these files: cert-chain.pem, key.pem, root-cert.pem. The default is /etc/certs."
    Duration "FILE_DEBOUNCE_DURATION" "file-debounce"
        "How long to wait at first for files that are being written. The default is 100ms."
    Text "CHANCERY_AGENT_SOCKET" "socket"
        "The unix socket that Envoy and SPIFFE clients connect to. The default is \
         /var/run/secrets/workload-spiffe-uds/socket."
    Text "WORKLOAD_IDENTITY_SOCKET_FILE" "socket-file"
        "The name of another provider's socket in the usual folder; files only are then served."
    Text "CHANCERY_AGENT_FILES_SOCKET" "files-socket"
        "The socket for files, if another provider serves the first. The default is \
         /var/run/secrets/credential-uds/files-socket."
    Text "CHANCERY_AGENT_STATUS_PORT" "status-port"
        "A port for /healthz/ready and /metrics. The default is 0: none."
};
