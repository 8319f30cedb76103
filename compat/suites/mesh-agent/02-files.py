"""Certificates in files: one agent writes them (OUTPUT_CERTS), another serves them, and Envoy sees each renewal."""

import os, pathlib, subprocess, sys

sys.path.insert(0, os.environ["SUITE"])
from mesh import CA, Agent, Envoy, check, cluster, done, listener, port, request, tls, until

ca = CA(life=6)
folder = pathlib.Path("pod/certs").resolve()
writer = Agent(ca, "pod", f"-output-certs={folder}").start()
until("the writer is ready", writer.ready)
check("the files are there", sorted(path.name for path in folder.iterdir()) == ["cert-chain.pem", "key.pem", "root-cert.pem"])
check("only the agent's user reads the key", (folder / "key.pem").stat().st_mode & 0o777 == 0o600)
openssl = subprocess.run(["openssl", "verify", "-CAfile", folder / "root-cert.pem", folder / "cert-chain.pem"], capture_output=True, text=True)
check("openssl verifies them", openssl.returncode == 0, openssl.stdout, openssl.stderr)

reader = Agent(ca, "reader", "-file-mounted", f"-certs={folder}").start()
until("the reader is ready", reader.ready)
inbound, outbound = port(), port()
hello = {"direct_response": {"status": 200, "body": {"inline_string": "hello"}}}
pair = f"file-cert:{folder}/cert-chain.pem~{folder}/key.pem"
envoy = Envoy("reader", reader, [
    listener("inbound", inbound, hello, tls("DownstreamTlsContext", writer.id)),
    listener("outbound", outbound, {"route": {"cluster": "inbound"}})],
    # The same files, under their own name.
    [cluster("inbound", inbound, tls("UpstreamTlsContext", writer.id, pair))])
until("a request passes", lambda: request(outbound) == (200, "hello"))
check("mutual TLS with certificates of files", request(outbound) == (200, "hello"))
serials = envoy.serials()
until("a renewal arrives under both names", lambda: not serials & envoy.serials() and len(envoy.serials()) == 1)
check("and is used", request(outbound) == (200, "hello"))
check("Envoy refused nothing", envoy.stat("update_rejected") == 0)
log = reader.log.read_text()
check("the reader has called no CA", "a certificate was issued" not in log and "files were read" in log)
envoy.stop()
check("the agents end in order", [agent.stop() for agent in (writer, reader)] == [0, 0])
done()
