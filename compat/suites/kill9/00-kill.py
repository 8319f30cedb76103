"""Signing load, SIGKILL, restart, unseal: every acknowledged certificate must be there."""

import os, pathlib, random, subprocess, threading, time
from chancery_compat import Api, Durable

ROUNDS = int(os.environ.get("KILL9_ROUNDS", "5"))
CLIENTS = 8

subprocess.run(["openssl", "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout",
                "leaf.key", "-out", "leaf.csr", "-subj", "/", "-addext",
                "subjectAltName=URI:spiffe://cluster.local/ns/foo/sa/sleep"], check=True, capture_output=True)
csr = pathlib.Path("leaf.csr").read_text()

server = Durable("store")
server.start()
root = server.initialise(shares=3, threshold=2)
root.write("sys/mounts/pki", type="pki", config={"max_lease_ttl": "43800h"})
root.write("pki/root/generate/internal", common_name="kill root", key_type="ec", ttl="8760h")
root.write("pki/roles/mesh", allowed_uri_sans="spiffe://cluster.local/*", require_cn=False, key_type="any", max_ttl="720h")

# Serial number and certificate of every answer that a client received whole.
acknowledged = {}


def client(until):
    api = server.api()
    while not until.is_set():
        try:
            status, answer = api.send("POST", "pki/sign/mesh", {"csr": csr})
        except Exception:
            return  # killed in the middle: not acknowledged
        if status == 200:
            acknowledged[answer["data"]["serial_number"]] = answer["data"]["certificate"]
        elif status not in (500, 503):
            raise SystemExit(f"FAILED: sign answers {status}: {answer}")


checked = 0
for number in range(1, ROUNDS + 1):
    before = len(acknowledged)
    until = threading.Event()
    clients = [threading.Thread(target=client, args=(until,)) for _ in range(CLIENTS)]
    for thread in clients:
        thread.start()
    time.sleep(random.uniform(0.2, 1.0))
    server.kill()
    until.set()
    for thread in clients:
        thread.join()
    new = list(acknowledged)[before:]
    if not new:
        raise SystemExit(f"FAILED: round {number}: nothing was signed before the kill")
    started = time.monotonic()
    server.start()
    server.unseal()
    ready = time.monotonic() - started
    api = server.api()
    listed = set(api.ok("LIST", "pki/certs")["data"]["keys"])
    missing = [serial for serial in acknowledged if serial not in listed]
    if missing:
        raise SystemExit(f"FAILED: round {number}: {len(missing)} acknowledged certificates are not listed, as {missing[0]}")
    # All of this round, and some of the earlier ones.
    for serial in new + random.sample(list(acknowledged), min(200, len(acknowledged))):
        stored = api.read(f"pki/cert/{serial}")["data"]["certificate"]
        if stored.strip() != acknowledged[serial].strip():
            raise SystemExit(f"FAILED: round {number}: {serial} reads back differently")
        checked += 1
    print(f"round {number}: {len(new)} signed and all there, serving again after {ready:.2f} s", flush=True)

server.kill()
print(f"{len(acknowledged)} certificates acknowledged over {ROUNDS} kills, all listed; {checked} read back and equal")
