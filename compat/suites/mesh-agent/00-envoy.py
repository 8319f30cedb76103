"""Two Envoys with mutual TLS, whose certificates come from the agent: renewals, a change of root and restarts under traffic."""

import os, pathlib, signal, socket, ssl, sys, time

sys.path.insert(0, os.environ["SUITE"])
import mesh
from cryptography.hazmat.primitives.asymmetric import ec
from mesh import CA, PEM, Agent, Envoy, Root, Traffic, check, cluster, done, key_pem, listener, pem, port, request, tls, until

ca = CA(life=6)
sleep, httpbin = Agent(ca, "sleep"), Agent(ca, "httpbin")
begin = time.monotonic()
for agent in sleep, httpbin:
    agent.start()
until("the agents are ready", lambda: sleep.ready() and httpbin.ready())
print(f"ready after {time.monotonic() - begin:.3f} s; resident {sleep.memory()}")
check("the token and the cluster are told", all(
    call.get("authorization") == "Bearer the-token" and call.get("clusterid") == "Kubernetes" for call in ca.calls))
check("a request has one name, critical, no subject, and a key of its own", all(
    extension.critical and len(list(extension.value)) == 1 and not list(csr.subject) for csr, extension in ca.requests)
    and len({csr.public_key().public_numbers().x for csr, _ in ca.requests}) == len(ca.requests))

inbound, outbound = port(), port()
hello = {"direct_response": {"status": 200, "body": {"inline_string": "hello"}}}
server = Envoy("httpbin", httpbin, [listener("inbound", inbound, hello, tls("DownstreamTlsContext", sleep.id))])
client = Envoy("sleep", sleep, [listener("outbound", outbound, {"route": {"cluster": "httpbin"}})],
               [cluster("httpbin", inbound, tls("UpstreamTlsContext", httpbin.id))])
until("a request passes", lambda: request(outbound) == (200, "hello"))
check("mutual TLS with the secrets of both agents", request(outbound) == (200, "hello"))
check("Envoy holds the workload's identity", all(
    any(name.get("uri") == agent.id for entry in envoy.certificates() for one in entry["cert_chain"][:1]
        for name in one["subject_alt_names"]) for agent, envoy in ((sleep, client), (httpbin, server))))


def handshake(certificate=None):
    """Whether the inbound listener answers this client."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if certificate:
        context.load_cert_chain(certificate)
    try:
        with socket.create_connection(("127.0.0.1", inbound), timeout=5) as plain, context.wrap_socket(plain) as connection:
            connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            return connection.recv(100).startswith(b"HTTP/1.1 200")
    except OSError:
        return False


def certificate(root, uri):
    key = ec.generate_private_key(ec.SECP256R1())
    path = pathlib.Path(f"stranger-{len(list(pathlib.Path().glob('stranger-*')))}.pem")
    leaf = root.leaf([mesh.x509.UniformResourceIdentifier(uri)], key.public_key(), 3600)
    path.write_text(pem(leaf) + key_pem(key).decode())
    return path


check("the right identity is let in", handshake(certificate(ca.root, sleep.id)))
check("no certificate, no answer", not handshake())
check("another identity is kept out", not handshake(certificate(ca.root, httpbin.id)))
check("another root is kept out", not handshake(certificate(Root("stranger"), sleep.id)))

# Renewal.
traffic = Traffic(outbound)
before = server.serials(), client.serials()
updates = server.stat("server_ssl_socket_factory.ssl_context_update_by_sds")
until("three renewals at each Envoy", lambda: server.stat("sds.default.update_success") >= 4 and client.stat("sds.default.update_success") >= 4, 40)
check("the certificates are others", not before[0] & server.serials() and not before[1] & client.serials())
check("Envoy has taken them over", server.stat("server_ssl_socket_factory.ssl_context_update_by_sds") >= updates + 3)
check("the roots were sent once", server.stat("sds.ROOTCA.update_success") == 1)
check("no request failed", traffic.count > 200 and not traffic.failures, traffic.count, traffic.failures[:3])

# A change of root: the new one is trusted everywhere, then signs, then the old one goes.
old, new = ca.root, Root("two")
number = lambda root: root.certificate.serial_number
ca.roots = [old, new]
until("both roots are everywhere", lambda: all({number(old), number(new)} <= envoy.roots() for envoy in (client, server)), 30)
ca.root, ca.roots = new, [new, old]
serials = server.serials() | client.serials()
until("the new root has signed everywhere", lambda: not serials & (server.serials() | client.serials()), 30)
time.sleep(0.5)
ca.roots = [new]
until("the old root is gone everywhere", lambda: all({number(new)} == envoy.roots() for envoy in (client, server)), 30)
check("no request failed while the root was changed", not traffic.failures, traffic.count, traffic.failures[:3])
check("what the old root signed is kept out", not handshake(certificate(old, sleep.id)))
check("what the new root signed is let in", handshake(certificate(new, sleep.id)))

# Restarts.
for how, name in (signal.SIGTERM, "stopped in order"), (signal.SIGKILL, "killed"):
    serials = server.serials()
    code = httpbin.stop(how)
    check(f"{name}: the socket is " + ("gone" if how == signal.SIGTERM else "left"),
          httpbin.socket.exists() == (how == signal.SIGKILL) and (how == signal.SIGKILL or code == 0), code)
    time.sleep(0.3)
    httpbin.start()
    until("Envoy has a new certificate", lambda: not serials & server.serials())
    check(f"{name} and started again: no request failed", not traffic.failures, traffic.count, traffic.failures[:3])

# The CA away for longer than the wait for a renewal, but not for a whole life.
ca.refuse = True
calls = len(ca.calls)
until("the agents ask in vain", lambda: len(ca.calls) >= calls + 4)
ca.refuse = False
serials = server.serials() | client.serials()
until("both have new certificates", lambda: not serials & (server.serials() | client.serials()))
traffic.end()
check("a CA that was away: no request failed", not traffic.failures, traffic.count, traffic.failures[:3])
check("Envoy refused nothing", server.stat("update_rejected") == 0 and client.stat("update_rejected") == 0)
print(f"{traffic.count} requests, each with a handshake; resident {sleep.memory()}")

# What Envoy refuses, and what is not there.
key = ec.generate_private_key(ec.SECP224R1())
leaf = ca.root.leaf([mesh.x509.UniformResourceIdentifier(httpbin.id)], key.public_key(), 3600)
odd = pathlib.Path("odd").resolve()
odd.mkdir()
(odd / "chain.pem").write_text(pem(leaf))
(odd / "key.pem").write_bytes(key_pem(key))
refused = f"file-cert:{odd}/chain.pem~{odd}/key.pem"
good, bad, missing, incremental = port(), port(), port(), port()
third = Envoy("third", httpbin, [
    listener("good", good, hello, tls("DownstreamTlsContext", sleep.id)),
    listener("incremental", incremental, hello, tls("DownstreamTlsContext", sleep.id, api="DELTA_GRPC")),
    listener("bad", bad, hello, tls("DownstreamTlsContext", sleep.id, refused, "1s")),
    listener("missing", missing, hello, tls("DownstreamTlsContext", sleep.id, "kubernetes://gateway", "1s"))])
until("Envoy has the good certificate", lambda: third.serials() and third.stat("sds.default.update_success"))
until("Envoy refuses the odd one", lambda: third.stat("update_rejected"))
until("the agent says why", lambda: "Envoy refused a secret" in httpbin.log.read_text())
line = next(line for line in httpbin.log.read_text().splitlines() if "Envoy refused a secret" in line)
print(line)
check("the log has Envoy's reason", "Failed to load certificate chain" in line, line)
check("an unknown name is refused by name", "kubernetes://gateway" in httpbin.log.read_text())
inbound = incremental
# Envoy begins to listen once the missing ones have had their second.
until("the others are served", lambda: handshake(certificate(new, sleep.id)))
check("the incremental variant works", third.stat("update_success") >= 4)
inbound = good
check("the others are served", handshake(certificate(new, sleep.id)))
serials = third.serials()
until("the third Envoy sees a renewal", lambda: len(third.serials()) == 1 and not serials & third.serials())
check("both variants push the same renewal", handshake(certificate(new, sleep.id)))
metrics = httpbin.metrics()
check("measurements", all(name in metrics for name in (
    "num_outgoing_requests", "outgoing_latency", 'cert_expiry_seconds{resource_name="default"}', "num_sds_rejections_total")), metrics)

logs = sleep.log.read_text() + httpbin.log.read_text()
check("no secret is in the logs", "the-token" not in logs and "PRIVATE" not in logs)
for envoy in third, client, server:
    envoy.stop()
check("the agents end in order", [agent.stop() for agent in (sleep, httpbin)] == [0, 0])
done()
