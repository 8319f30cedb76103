"""The `spiffe` client reads the identity that Envoy holds."""

import os, sys, threading

sys.path.insert(0, os.environ["SUITE"])
from mesh import CA, Agent, Envoy, check, done, listener, port, tls, until
from spiffe import TrustDomain, WorkloadApiClient, X509Source
from spiffe.errors import PySpiffeError

ca = CA(life=None)
agent = Agent(ca, "spiffe").start()
until("the agent is ready", agent.ready)
hello = {"direct_response": {"status": 200, "body": {"inline_string": "hello"}}}
envoy = Envoy("spiffe", agent, [listener("inbound", port(), hello, tls("DownstreamTlsContext", agent.id))])
until("Envoy has its certificate", lambda: envoy.serials())

with WorkloadApiClient(f"unix://{agent.socket}") as client:
    svid = client.fetch_x509_svid()
    check("the identity", str(svid.spiffe_id) == agent.id, svid.spiffe_id)
    check("Envoy's certificate", {svid.leaf.serial_number} == envoy.serials())
    check("its key", svid.private_key.public_key() == svid.leaf.public_key())
    check("the chain is without the root", svid.cert_chain == [svid.leaf])
    lifetime = (svid.leaf.not_valid_after_utc - svid.leaf.not_valid_before_utc).total_seconds()
    check("the life that was asked for", abs(lifetime - 86400) < 60, lifetime)
    bundle = client.fetch_x509_bundles().get_bundle_for_trust_domain(TrustDomain("cluster.local"))
    check("the roots", bundle.x509_authorities == {ca.root.certificate})
    svid.leaf.verify_directly_issued_by(next(iter(bundle.x509_authorities)))
    try:
        client.fetch_jwt_svid(audience={"x"})
        check("there are no JWT-SVIDs", False)
    except PySpiffeError as error:
        check("there are no JWT-SVIDs", "JWT" in str(error), error)
check("the agent ends in order", agent.stop() == 0)

svid_of = lambda source: source.get_x509_context().default_svid

# Renewals, seen by a program that follows them.
ca.life = 4
agent.start()
until("the agent is ready", agent.ready)
with X509Source(socket_path=f"unix://{agent.socket}", timeout_in_seconds=10) as source:
    first, changed = svid_of(source), threading.Event()
    source.subscribe_for_updates(changed.set)
    check("a renewal is followed", changed.wait(20) and svid_of(source).leaf.serial_number != first.leaf.serial_number)
    until("Envoy has the same one again", lambda: envoy.serials() == {svid_of(source).leaf.serial_number})
    check("Envoy and the client hold the same", True)
envoy.stop()
check("the agent ends in order", agent.stop() == 0)
done()
