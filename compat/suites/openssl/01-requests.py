"""Requests made by openssl, with each key type and each way of naming a subject, signed by one issuer."""

import subprocess
from chancery_compat import Api

api = Api()
api.write("sys/mounts/requests", type="pki", config={"max_lease_ttl": "87600h"})
root = api.write("requests/root/generate/internal", common_name="requests root", key_type="ec", ttl="8760h")["data"]
api.write("requests/roles/any", allow_any_name=True, key_type="any", require_cn=False, allowed_uri_sans="*")
open("requests-root.crt", "w").write(root["certificate"] + "\n")

KEYS = {
    "rsa2048": ["rsa:2048"], "rsa3072": ["rsa:3072"], "p256": ["ec", "-pkeyopt", "ec_paramgen_curve:P-256"],
    "p224": ["ec", "-pkeyopt", "ec_paramgen_curve:secp224r1"], "p384": ["ec", "-pkeyopt", "ec_paramgen_curve:P-384"],
    "p521": ["ec", "-pkeyopt", "ec_paramgen_curve:P-521"], "ed25519": ["ed25519"],
}
SUBJECTS = ["/", "/CN=a.example.com", "/C=DE/O=Größe GmbH/OU=eins/OU=zwei/CN=a.example.com"]
NAMES = ["URI:spiffe://cluster.local/ns/foo/sa/sleep", "DNS:b.example.com,DNS:c.example.com,IP:192.0.2.7,email:a@example.com"]

for name, options in KEYS.items():
    for subject in SUBJECTS:
        for names in NAMES:
            subprocess.run(["openssl", "req", "-new", "-utf8", "-newkey", *options, "-nodes", "-keyout", "r.key", "-out", "r.csr",
                            "-subj", subject, "-addext", f"subjectAltName={names}"], check=True, capture_output=True)
            signed = api.write("requests/sign/any", csr=open("r.csr").read(), ttl="1h")["data"]
            open("r.crt", "w").write(signed["certificate"] + "\n")
            said = subprocess.run(["openssl", "verify", "-x509_strict", "-CAfile", "requests-root.crt", "r.crt"],
                                  capture_output=True, text=True)
            if said.returncode:
                raise SystemExit(f"FAILED: {name} {subject} {names}: {said.stdout}{said.stderr}")
            text = subprocess.run(["openssl", "x509", "-in", "r.crt", "-noout", "-ext", "subjectAltName"],
                                  capture_output=True, text=True).stdout
            for one in names.split(","):
                wanted = one.replace("IP:", "IP Address:")
                if wanted not in text:
                    raise SystemExit(f"FAILED: {name}: {one} is not among the names: {text}")
print(f"{len(KEYS) * len(SUBJECTS) * len(NAMES)} requests signed and verified")
