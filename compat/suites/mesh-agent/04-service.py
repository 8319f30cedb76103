"""The whole chain of our own: server, certificate service, agents; and Envoys that go on through all that happens to these."""

import os, pathlib, signal, subprocess, sys, time

sys.path.insert(0, os.environ["SUITE"])
from chancery_compat import free_port
from cryptography import x509
from mesh import Agent, Envoy, Steady, Traffic, check, cluster, done, listener, port, remember, request, tls, until
from spiffe import WorkloadApiClient

CHANCERY = os.environ["CHANCERY"]
# Requests a second, by many connections; without it one after the other.
RATE = int(os.environ.get("MESH_TRAFFIC", "0"))
HOME = pathlib.Path("service").resolve()
HOME.mkdir()
os.chdir(HOME)
address = f"127.0.0.1:{free_port()}"
os.environ |= {"VAULT_ADDR": f"http://{address}", "VAULT_TOKEN": "root"}


def run(*arguments, code=0):
    ended = subprocess.run([CHANCERY, *arguments], capture_output=True, text=True)
    if ended.returncode != code:
        print("FAILED:", arguments, ended.returncode, ended.stdout, ended.stderr)
        sys.exit(1)
    return ended.stdout


def background(name, *arguments):
    with open(f"{name}.log", "ab") as log:
        return remember(subprocess.Popen([CHANCERY, *arguments], stdout=log, stderr=log))


def is_up(*arguments):
    return subprocess.run([CHANCERY, *arguments], capture_output=True).returncode == 0


background("server", "server", "-dev", "-dev-no-store-token", "-dev-root-token-id=root", f"-dev-listen-address={address}")
until("the server answers", lambda: is_up("status"))
roots = {}
for mount in "a", "b":
    run("secrets", "enable", f"-path={mount}", "pki")
    run("secrets", "tune", "-max-lease-ttl=87600h", mount)
    roots[mount] = run("write", "-field=certificate", f"{mount}/root/generate/internal", f"common_name={mount}", "key_type=ec", "ttl=8760h") + "\n"
    run("write", f"{mount}/roles/cluster-local", "allowed_domains=svc", "allow_subdomains=true", "require_cn=false", "key_type=any",
        "allowed_uri_sans=spiffe://cluster.local/*", "max_ttl=720h",
        # The spiffe client refuses a certificate that does not say that it is no authority's.
        "basic_constraints_valid_for_non_ca=true")
number = lambda mount: x509.load_pem_x509_certificate(roots[mount].encode()).serial_number


def trust(*mounts):
    """Written beside and renamed, as Kubernetes does it."""
    pathlib.Path("ca-root.new").write_text("".join(roots[mount] for mount in mounts))
    os.replace("ca-root.new", "ca-root.pem")


trust("a")
pathlib.Path("vault-token").write_text("root")
serving, probes = free_port(), free_port()


def service(mount):
    return background(
        "mesh-ca", "mesh", "ca", f"-serving-address=127.0.0.1:{serving}", f"-readiness-probe-port={probes}", "-metrics-port=0",
        "-serving-certificate-dns-names=istiod.istio-system.svc", f"-sign-path={mount}/sign/cluster-local", "-root-ca-file=ca-root.pem",
        "-token-file=vault-token", "-without-kubernetes", "-jwks-file=tokens/jwks.json",
        "-jwks-issuer=https://kubernetes.default.svc.cluster.local")


class Service:
    address = f"localhost:{serving}"


tokens = {name: run("mesh", "dev-token", "-folder=tokens", "-namespace=sandbox", f"-service-account={name}") for name in ("sleep", "httpbin")}
ca = service("a")
agents = {}
for name, token in tokens.items():
    pathlib.Path(f"{name}.token").write_text(token)
    # The last of two flags counts.
    agents[name] = Agent(Service, name, f"-token-file={name}.token", "-ttl=8s", "-jitter=0.05").start()
until("both agents have their certificates", lambda: all(agent.ready() for agent in agents.values()))
inbound, outbound = port(), port()
hello = {"direct_response": {"status": 200, "body": {"inline_string": "hello"}}}
server = Envoy("server", agents["httpbin"], [listener("inbound", inbound, hello, tls("DownstreamTlsContext", agents["sleep"].id))])
client = Envoy("client", agents["sleep"], [listener("outbound", outbound, {"route": {"cluster": "httpbin"}})],
               [cluster("httpbin", inbound, tls("UpstreamTlsContext", agents["httpbin"].id), 20 if RATE else 1)])
until("a request passes", lambda: request(outbound) == (200, "hello"))
envoys = client, server
with WorkloadApiClient(f"unix://{agents['sleep'].socket}") as workload:
    identity = until("the spiffe client and Envoy hold one certificate", lambda: (
        found := workload.fetch_x509_svid()) and {found.leaf.serial_number} == client.serials() and found)
check("the spiffe client reads the identity", str(identity.spiffe_id) == agents["sleep"].id, identity.spiffe_id)

traffic = Steady(outbound, RATE) if RATE else Traffic(outbound)
held = lambda: client.serials() | server.serials()


def renewed(what, seconds=40):
    before = held()
    until(what, lambda: not before & held(), seconds)
    time.sleep(0.3)
    check(f"{what}: no request failed", traffic.count and not traffic.failures, traffic.count, traffic.failures[:3])


renewed("both certificates are renewed")
ca.kill()
ca.wait()
time.sleep(1)
ca = service("a")
renewed("the certificate service was killed and started again")
code = agents["httpbin"].stop()
agents["httpbin"].start()
renewed("an agent was restarted")
check("it had stopped in order", code == 0, code)

# Another root: trusted first, then signing, then alone.
trust("a", "b")
until("both roots are everywhere", lambda: all({number("a"), number("b")} <= envoy.roots() for envoy in envoys), 40)
ca.terminate()
check("the certificate service stops in order", ca.wait(timeout=20) == 0)
ca = service("b")
renewed("the other root signs")
trust("b")
until("the old root is gone everywhere", lambda: all({number("b")} == envoy.roots() for envoy in envoys), 40)
renewed("only the other root is left")
traffic.end()
print(f"{traffic.count} requests, {'a handshake for 20 of them' if RATE else 'each with a handshake'}, {len(traffic.failures)} failed")

admin = f"-admin=127.0.0.1:{client.admin}"
table = run("mesh", "secrets", admin, "-root-file=ca-root.pem", "-least-left=0")
check("the table shows both secrets", "default" in table and "ROOTCA" in table, table)
print(run("mesh", "verify", admin, "-root-file=ca-root.pem", "-issuer-path=b/issuer/default"))
run("mesh", "verify", admin, "-root-file=ca-root.pem", "-issuer-path=a/issuer/default", code=2)
check("verify tells the mesh's issuer from another one", True)
done()
