"""A cluster, a server that signs, and the controller between them, as the `kubernetes` client sees it."""

import base64, os, pathlib, subprocess, sys, time

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from kubernetes import client, config, dynamic, utils, watch

from chancery_compat import Durable

HOME = "istio-system"
GROUP = {"group": "cert-manager.io", "version": "v1", "namespace": HOME}
SLEEP = "spiffe://cluster.local/ns/foo/sa/sleep"
passed = 0

# What the document has, with what is different for each reader filled in.
SECRET = """
apiVersion: v1
kind: Secret
type: Opaque
metadata:
  name: cert-manager-vault-approle
  namespace: istio-system
data:
  secretId: {secret_id}
"""
ISSUER = """
apiVersion: cert-manager.io/v1
kind: Issuer
metadata:
  name: vault-issuer
  namespace: istio-system
spec:
  vault:
    path: istioca/sign/cluster-local
    server: {server}
    auth:
      appRole:
        path: approle
        roleId: {role_id}
        secretRef:
          name: cert-manager-vault-approle
          key: secretId
"""
ISTIOD = """
apiVersion: cert-manager.io/v1
kind: Certificate
metadata:
  name: istiod
  namespace: istio-system
spec:
  commonName: istiod.istio-system.svc
  dnsNames: [istiod.istio-system.svc]
  uris: ["spiffe://cluster.local/ns/istio-system/sa/istiod-service-account"]
  secretName: istiod-tls
  duration: 1h
  renewBefore: 30m
  revisionHistoryLimit: 1
  privateKey: {rotationPolicy: Always, algorithm: RSA, size: 2048}
  issuerRef: {name: vault-issuer, kind: Issuer, group: cert-manager.io}
"""


def check(what, condition, *more):
    global passed
    if not condition:
        fail(what, *more)
    print("ok:", what)
    passed += 1


def fail(*words):
    print("FAILED:", *words)
    for log in pathlib.Path().glob("*.log"):
        print(f"--- {log}\n{log.read_text()[-5000:]}")
    sys.exit(1)


def until(what, look, seconds=30):
    """What `look` finds, once it finds anything."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := look():
            return found
        time.sleep(0.02)
    fail(what)


def start(name, *command):
    with open(f"{name}.log", "ab") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    with open(pathlib.Path(os.environ["HOME"]) / "pids", "a") as pids:
        pids.write(f"{process.pid}\n")
    return process


def set_up(vault):
    """The founding document, up to the secret id. Answers the root, the role id and the secret id."""
    mount = lambda ttl: {"type": "pki", "config": {"max_lease_ttl": ttl}}
    vault.write("sys/mounts/pki", **mount("87600h"))
    root = vault.write("pki/root/generate/internal", common_name="root-ca", ttl="87600h")["data"]["certificate"]
    vault.write("sys/mounts/istioca", **mount("43800h"))
    csr = vault.write("istioca/intermediate/generate/exported", common_name="", ttl="43800h")["data"]["csr"]
    bundle = vault.write("pki/root/sign-intermediate", csr=csr, format="pem_bundle", ttl="43800h")["data"]["certificate"]
    vault.write("istioca/intermediate/set-signed", certificate=bundle)
    vault.write("istioca/roles/cluster-local", allowed_domains="svc", allow_subdomains=True, max_ttl="720h",
                require_cn=False, allowed_uri_sans="spiffe://cluster.local/*")
    vault.write("sys/auth/approle", type="approle")
    vault.write("sys/policies/acl/cert-manager", policy='path "istioca/sign/cluster-local" { capabilities = ["update"] }')
    vault.write("auth/approle/role/cert-manager", token_policies="cert-manager", token_ttl="1h", token_max_ttl="4h")
    role_id = vault.read("auth/approle/role/cert-manager/role-id")["data"]["role_id"]
    secret_id = vault.write("auth/approle/role/cert-manager/secret-id")["data"]["secret_id"]
    return x509.load_pem_x509_certificate(root.encode()), role_id, secret_id


class Cluster:
    def __init__(self, name):
        kubeconfig = f"kubeconfig-{name}"
        self.process = start(f"kubernetes-{name}", os.environ["KUBERNETES"], "127.0.0.1:0", kubeconfig)
        until("the API server", lambda: "is to be had" in pathlib.Path(f"kubernetes-{name}.log").read_text())
        self.kubeconfig = kubeconfig
        self.api = config.new_client_from_config(kubeconfig)
        self.core, self.custom = client.CoreV1Api(self.api), client.CustomObjectsApi(self.api)

    def install(self):
        """Our CustomResourceDefinitions, as they are delivered."""
        crds = sorted((pathlib.Path(os.environ["COMPAT"]).parent / "deploy/helm/chancery-controller/files/crds").glob("*.yaml"))
        for path in crds:
            utils.create_from_yaml(self.api, str(path))
        found = client.ApiextensionsV1Api(self.api).list_custom_resource_definition().items
        ready = [one.metadata.name for one in found
                 if any(condition.type == "Established" and condition.status == "True" for condition in one.status.conditions)]
        check("the definitions are established", len(ready) == len(crds) == 4, ready)
        self.dynamic = dynamic.DynamicClient(self.api)

    def apply(self, text):
        for body in yaml.safe_load_all(text):
            resource = self.dynamic.resources.get(api_version=body["apiVersion"], kind=body["kind"])
            metadata = body["metadata"]
            resource.server_side_apply(body=body, name=metadata["name"], namespace=metadata["namespace"],
                                       field_manager="compat", force_conflicts=True)

    def get(self, plural, name):
        try:
            return self.custom.get_namespaced_custom_object(plural=plural, name=name, **GROUP)
        except client.ApiException as refused:
            if refused.status != 404:
                raise
            return {}

    def secret(self, name):
        try:
            return self.core.read_namespaced_secret(name, HOME)
        except client.ApiException as refused:
            if refused.status != 404:
                raise

    def names(self, plural):
        items = self.custom.list_namespaced_custom_object(plural=plural, **GROUP)["items"]
        return sorted(item["metadata"]["name"] for item in items)

    def events(self, kind, name):
        selector = f"involvedObject.kind={kind},involvedObject.name={name}"
        return {(event.type, event.reason) for event in self.core.list_namespaced_event(HOME, field_selector=selector).items}

    def watched(self, plural, name, holds, seconds=30):
        """The object as a watch shows it, once it is as it is to be."""
        watching, last = watch.Watch(), None
        for event in watching.stream(self.custom.list_namespaced_custom_object, plural=plural,
                                     field_selector=f"metadata.name={name}", timeout_seconds=seconds, **GROUP):
            last = event["object"]
            if holds(last):
                watching.stop()
                return last
        fail(f"{plural} {name} is still", last)


def condition(thing, kind):
    found = [one for one in thing.get("status", {}).get("conditions", []) if one["type"] == kind]
    return found[0] if found else {}


def is_condition(kind, status, reason):
    return lambda thing: (condition(thing, kind).get("status"), condition(thing, kind).get("reason")) == (status, reason)


def issued(revision):
    def holds(thing):
        status = thing.get("status", {})
        is_over = not condition(thing, "Issuing") and "nextPrivateKeySecretName" not in status
        return condition(thing, "Ready").get("status") == "True" and status.get("revision") == revision and is_over
    return holds


def judge(what, chain, authority, root, public_key):
    """A chain of two that leads to the root, and is for this key."""
    certificates = x509.load_pem_x509_certificates(chain)
    check(f"{what}: leaf and intermediate", len(certificates) == 2)
    leaf, intermediate = certificates
    leaf.verify_directly_issued_by(intermediate)
    intermediate.verify_directly_issued_by(root)
    check(f"{what}: the authority is the root", x509.load_pem_x509_certificates(authority) == [root])
    form = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    check(f"{what}: the key", leaf.public_key().public_bytes(*form) == public_key.public_bytes(*form))
    return leaf


def request(name):
    """What a mesh's certificate service asks for, and its key."""
    key = rsa.generate_private_key(65537, 2048)
    names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(SLEEP)])
    csr = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).add_extension(names, True).sign(key, hashes.SHA256())
    body = {"apiVersion": "cert-manager.io/v1", "kind": "CertificateRequest",
            "metadata": {"name": name, "annotations": {"istio.cert-manager.io/identities": SLEEP}},
            "spec": {"request": base64.b64encode(csr.public_bytes(serialization.Encoding.PEM)).decode(), "duration": "1h",
                     "isCA": False, "usages": ["client auth", "server auth"],
                     "issuerRef": {"name": "vault-issuer", "kind": "Issuer", "group": "cert-manager.io"}}}
    return body, key


def judge_secret(cluster, root):
    secret = cluster.secret("istiod-tls")
    data = {name: base64.b64decode(value) for name, value in secret.data.items()}
    check("the Secret's keys", sorted(data) == ["ca.crt", "tls.crt", "tls.key"], sorted(data))
    check("the Secret's type", secret.type == "kubernetes.io/tls", secret.type)
    check("the Secret's label", secret.metadata.labels == {"controller.cert-manager.io/fao": "true"}, secret.metadata.labels)
    check("the Secret's annotations", len(secret.metadata.annotations) == 8, secret.metadata.annotations)
    key = serialization.load_pem_private_key(data["tls.key"], None)
    leaf = judge("istiod", data["tls.crt"], data["ca.crt"], root, key.public_key())
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    check("istiod's name", names.get_values_for_type(x509.DNSName) == ["istiod.istio-system.svc"])
    return leaf


def play():
    target = os.environ["TARGET"]
    server = Durable(target)
    server.start()
    root, role_id, secret_id = set_up(server.initialise())
    cluster = Cluster(target)
    cluster.install()
    start(f"controller-{target}", os.environ["CHANCERY"], "controller", f"-kubeconfig={cluster.kubeconfig}", "-webhook=false",
          "-metrics-address=127.0.0.1:0", "-health-address=127.0.0.1:0")

    encoded = base64.b64encode(secret_id.encode()).decode()
    cluster.apply(SECRET.format(secret_id=encoded) + "---" + ISSUER.format(server=server.address, role_id=role_id))
    issuer = cluster.watched("issuers", "vault-issuer", is_condition("Ready", "True", "VaultVerified"))
    check("the issuer's message", condition(issuer, "Ready")["message"] == "Vault verified", issuer)

    cluster.apply(ISTIOD)
    certificate = cluster.watched("certificates", "istiod", issued(1))
    check("istiod is ready", condition(certificate, "Ready")["reason"] == "Ready", certificate)
    first = judge_secret(cluster, root)
    until("the temporary key goes", lambda: len(cluster.core.list_namespaced_secret(HOME).items) == 2)
    wanted = {("Normal", "Issuing"), ("Normal", "Generated"), ("Normal", "Requested")}
    until("istiod's events", lambda: wanted <= cluster.events("Certificate", "istiod"))

    body, key = request("istio-csr-1")
    cluster.custom.create_namespaced_custom_object(plural="certificaterequests", body=body, **GROUP)
    signed = cluster.watched("certificaterequests", "istio-csr-1", is_condition("Ready", "True", "Issued"))
    text = lambda name: base64.b64decode(signed["status"][name])
    leaf = judge("a workload", text("certificate"), text("ca"), root, key.public_key())
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    check("a workload's identity", names.value.get_values_for_type(x509.UniformResourceIdentifier) == [SLEEP])
    cluster.custom.delete_namespaced_custom_object(plural="certificaterequests", name="istio-csr-1", **GROUP)

    cluster.core.delete_namespaced_secret("istiod-tls", HOME)
    cluster.watched("certificates", "istiod", issued(2))
    check("another certificate", judge_secret(cluster, root).serial_number != first.serial_number)
    until("the old request goes", lambda: cluster.names("certificaterequests") == ["istiod-2"])

    cluster.apply(ISTIOD.replace("[istiod.istio-system.svc]", "[istiod.example.com]"))
    refused = cluster.watched("certificaterequests", "istiod-3", is_condition("Ready", "False", "Failed"))
    check("the server's reason is told", "istiod.example.com not allowed by this role" in condition(refused, "Ready")["message"], refused)
    cluster.watched("certificates", "istiod", is_condition("Issuing", "False", "Failed"))
    cluster.apply(ISTIOD)
    certificate = cluster.watched("certificates", "istiod", lambda thing: condition(thing, "Ready").get("status") == "True")
    check("the old names need no new certificate, or get one", certificate["status"]["revision"] in (2, 3), certificate)

    server.api().ok("PUT", "sys/seal")
    body, key = request("istio-csr-2")
    cluster.custom.create_namespaced_custom_object(plural="certificaterequests", body=body, **GROUP)
    cluster.watched("certificaterequests", "istio-csr-2", is_condition("Ready", "False", "Pending"))
    server.unseal()
    signed = cluster.watched("certificaterequests", "istio-csr-2", is_condition("Ready", "True", "Issued"))
    judge("a workload, after the seal", text("certificate"), text("ca"), root, key.public_key())
    print(f"{passed} passed, 0 failed, 0 skipped")
