"""The steps of examples/istio in their order, and what stands in its README."""

import base64, json, os, pathlib, re, shutil, subprocess, sys

sys.path.insert(0, os.environ["SUITE"])
import yaml
from charts import ROOT, SUITE, Tally, describe, folder, laid_over
from chancery_compat import Durable, free_port, skip
from pods import certificate
from schemas import VERSIONS, definitions, invalid

if os.environ["TARGET"] != "chancery":
    skip("the charts are of our own binary")
CHANCERY = os.environ["CHANCERY"]
tally = Tally()
home = pathlib.Path(os.environ["HOME"])
tree = home / "tree"
example, cluster = tree / "examples/istio", home / "cluster.json"
shutil.rmtree(tree, ignore_errors=True)
shutil.copytree(ROOT / "examples/istio", example, ignore=shutil.ignore_patterns("out"))
(tree / "deploy").mkdir()
shutil.copytree(folder(), tree / "deploy/helm", ignore=shutil.ignore_patterns("charts"))
programs = home / "programs"
programs.mkdir(exist_ok=True)
for name, program in [("chancery", CHANCERY), *((name, SUITE / "stand-ins" / name) for name in ("kubectl", "helm", "istioctl"))]:
    (programs / name).unlink(missing_ok=True)
    (programs / name).symlink_to(program)

server = Durable(home / "server")
address = server.address.removeprefix("http://")
environment = os.environ | {
    "PATH": f"{programs}:{os.environ['PATH']}", "CLUSTER": str(cluster), "VAULT_ADDR": server.address, "VAULT_TOKEN": "root",
    "PYTHONPATH": f"{SUITE}/stand-ins:{SUITE}:{os.environ['PYTHONPATH']}"}
with open(home / "server/log", "ab") as log:
    server.process = subprocess.Popen([CHANCERY, "server", "-dev", "-dev-no-store-token", "-dev-root-token-id=root", f"-dev-listen-address={address}"],
                                      stdout=log, stderr=log)
with open(home / "pids", "a") as pids:
    pids.write(f"{server.process.pid}\n")
server.wait(lambda status: status == 200)


def script(*words):
    ended = subprocess.run(words, cwd=example, env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    tally.check(" ".join(map(str, words))[-100:], ended.returncode == 0, "\n", ended.stdout[-1500:], ended.stderr[-1500:])
    return ended.stdout + ended.stderr


def objects():
    return json.loads(cluster.read_text())["objects"]


def judge(what):
    unjudged = []
    for one in objects().values():
        for version in VERSIONS:
            wrong = None if one["apiVersion"].startswith("install.") else invalid(one, version)
            if wrong == "unknown" and one["apiVersion"].startswith("cert-manager.io/") and not definitions():
                unjudged.append(describe(one))
                break
            tally.check(f"{what}: {describe(one)} is valid for {version}", wrong is None, wrong)
    if unjudged:
        tally.skip(f"{what}: there are no CRDs yet to hold these against: {', '.join(unjudged)}")


# Istio is there, and everything else is made by the steps.
seed = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "istiod", "namespace": "istio-system"}, "spec": {
    "selector": {"matchLabels": {"app": "istiod"}}, "template": {"metadata": {"labels": {"app": "istiod"}}, "spec": {
        "containers": [{"name": "discovery", "image": "istio/pilot:1.13.3"}]}}}}
cluster.write_text(json.dumps({"namespaces": ["istio-system"], "objects": {"deployment/istio-system/istiod": seed}, "releases": {}}))
steps = sorted(path.name for path in example.glob("[0-9][0-9]-*.sh"))
said = {step: script("bash", f"./{step}") for step in steps}
tally.check("the last step looks at the workload", "URI:spiffe://cluster.local/ns/foo/sa/sleep" in said[steps[-1]] and "foo.crt: OK" in said[steps[-1]])
tally.check("and finds nothing wrong", re.search(r"default +Cert Chain +ACTIVE +true", said[steps[-1]]), said[steps[-1]][-600:])
judge("the steps")

out, made = example / "out", objects()
issuer = made["issuer/istio-system/vault-issuer"]["spec"]["vault"]
host, namespace = re.fullmatch(r"http://([^.]+)\.([^.]+)\.svc:8200", issuer["server"]).groups()
tally.check("the Issuer's server is the Service of the first step", f"service/{namespace}/{host}" in made, issuer["server"])
tally.check("its role id is the AppRole's", issuer["auth"]["appRole"]["roleId"] == (out / "role-id").read_text().strip())
caller = yaml.safe_load((example / "control-plane.yaml").read_text())
addresses = re.findall(r"([a-z-]+)\.([a-z-]+)\.svc:443", json.dumps(caller))
tally.check("Istio is pointed to the service of the seventh step", [f"service/{space}/{name}" in made for name, space in addresses] == [True], addresses)
tally.check("istio.yaml says the same address", f"{addresses[0][0]}.{addresses[0][1]}.svc:443" in (example / "istio.yaml").read_text())
tally.check("nobody else can read the keys", all(path.stat().st_mode & 0o077 == 0 for path in out.iterdir()))

# What is written twice says the same.
rendered = subprocess.run([CHANCERY, "mesh", "overlay", "render-control-plane"], capture_output=True, text=True, check=True).stdout
tally.check("control-plane.yaml is what the command prints", (example / "control-plane.yaml").read_text() == rendered)
same = yaml.safe_load((example / "certificate-istiod.yaml").read_text())["spec"] == made["certificate/istio-system/istiod"]["spec"]
tally.check("certificate-istiod.yaml is the chart's", same)
flags = json.loads(cluster.read_text())["releases"]["cert-manager/cert-manager-istio-csr"]
values = yaml.safe_load((example / "mesh-values.yaml").read_text())
tally.check("mesh-values.yaml is the same as the flags", laid_over(values, {"app": {"server": {"clusterID": "Kubernetes"}}}) == flags, flags)

for name in "control-plane.yaml", "istio.yaml":
    linted = subprocess.run([CHANCERY, "mesh", "overlay", "lint", "-f", example / name], capture_output=True, text=True)
    tally.check(f"the linter has nothing to say of {name}", linted.returncode == 0, linted.stdout, linted.stderr)

# Each command of the guide that this follows.
text = " ".join((example / step).read_text().replace("\\\n", "") for step in steps)
text = re.sub(r"\s+", " ", text.replace("$cli", "vault").replace("$charts", ""))
for command in (
    "secrets enable pki", "secrets tune -max-lease-ttl=87600h pki", 'write -format=json pki/config/ca pem_bundle="$(cat ca.crt ca.key)"',
    "secrets enable --path istioca pki", "secrets tune -max-lease-ttl=43800h istioca",
    'istioca/intermediate/generate/exported common_name="" ttl=43800h', "pki/root/sign-intermediate csr=@istioca.csr format=pem_bundle ttl=43800h",
    "write istioca/intermediate/set-signed certificate=@istioca.crt", 'write istioca/roles/cluster-local allowed_domains="svc" allow_subdomains=true '
    'max_ttl="720h" require_cn=false allowed_uri_sans="spiffe://cluster.local/*"', "auth enable approle", "policy write cert-manager",
    'write auth/approle/role/cert-manager token_policies="cert-manager" token_ttl=1h token_max_ttl=4h', "auth/approle/role/cert-manager/role-id",
    "auth/approle/role/cert-manager/secret-id", "helm install vault", "vault-secret.yaml", "vault-issuer.yaml", "kubectl get issuers vault-issuer",
    "kubectl create secret generic istio-root-ca --namespace cert-manager", "helm upgrade cert-manager-istio-csr", "kubectl get pods -n cert-manager",
    "kubectl get certificates -n istio-system", "control-plane.yaml", "kubectl create ns foo", "kubectl label ns foo istio-injection=enabled",
    "istioctl pc secret", "openssl x509 -in foo.crt -text -noout", "openssl x509 -in root.crt -text -noout",
):
    tally.check(f"the steps have: {command}", command in text)

# The commands of the README, section by section, each in a new cluster.
(example / "server.crt").write_text("certificate")
(example / "server.key").write_text("key")
for section in (example / "README.md").read_text().split("\n## ")[1:]:
    title = section.splitlines()[0]
    cluster.write_text(json.dumps({"namespaces": ["istio-system", "cert-manager"], "objects": {}, "releases": {}}))
    if title == "Without CertificateRequests":
        # The Secret of step 07.
        script("kubectl", "create", "secret", "generic", "istio-root-ca", "--namespace", "cert-manager", "--from-file=ca.cert.pem=out/ca.crt")
    commands = [one for block in re.findall(r"```console\n(.*?)```", section, re.DOTALL) for one in re.findall(r"^\$ ((?:.*\\\n)*.*)", block, re.MULTILINE)]
    for command in commands:
        # /dev/stdin is a pipe there, and here.
        script("bash", "-euo", "pipefail", "-c", command)
    if title == "The short way":
        # The next command is in the notes of the first.
        notes = folder() / "chancery-istio"
        import helm_python
        release = json.loads(cluster.read_text())["releases"]["cert-manager/istio-ca"]
        printed = helm_python.Chart.load(notes).render(release, name="istio-ca", namespace="cert-manager")["chancery-istio/templates/NOTES.txt"]
        upgrade = re.search(r"\$ (helm upgrade (?:.*\\\n)*.*)", printed).group(1)
        upgrade = upgrade.replace(" chancery-istio ", " ../../deploy/helm/chancery-istio ").replace("=ca.crt", "=out/ca.crt")
        script("bash", "-euo", "pipefail", "-c", upgrade)
        held = objects()
        tally.check("the short way ends with the same Issuer", held["issuer/istio-system/vault-issuer"]["spec"]["vault"] == issuer | {
            "server": "http://istio-ca-chancery.cert-manager.svc:8200"}, held["issuer/istio-system/vault-issuer"])
        root = held["configmap/cert-manager/istio-root-ca"]["data"]["ca.cert.pem"]
        tally.check("and the same root", root.strip() == (out / "ca.crt").read_text().strip())
        secret = base64.b64decode(held["secret/istio-system/cert-manager-vault-approle"]["data"]["secretId"]).decode()
        tally.check("and a secret id of its own", len(secret) == 36 and secret != (out / "secret-id").read_text().strip())
        tally.check("and the same service", f"service/cert-manager/{addresses[0][0]}" in held)
    if title == "Without CertificateRequests":
        # This needs nothing but the server, and so the service itself can run here.
        spec = objects()["deployment/cert-manager/cert-manager-istio-csr"]["spec"]["template"]["spec"]
        good, logs = certificate(home / "service", spec, objects(), server.address, "http://vault-chancery.vault-demo.svc:8200")
        tally.check("the service, started as its pod is, becomes ready and gives an agent a certificate", good, logs)
        if good:
            verified = subprocess.run(["openssl", "verify", "-CAfile", out / "ca.crt", "-untrusted", "cert-chain.pem", "cert-chain.pem"],
                                      cwd=home / "service/got", capture_output=True, text=True)
            tally.check("that leads to the root", verified.returncode == 0, verified.stdout, verified.stderr)
            shown = subprocess.run(["openssl", "x509", "-in", home / "service/got/cert-chain.pem", "-noout", "-ext", "subjectAltName"], capture_output=True, text=True).stdout
            tally.check("and is the workload's", "URI:spiffe://cluster.local/ns/foo/sa/sleep" in shown, shown)
    tally.check(f"README, {title}: there are commands", len(commands) > 1)
    judge(f"README, {title}")
server.process.terminate()
server.process.wait(timeout=20)
tally.done()
