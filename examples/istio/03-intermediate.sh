#!/bin/bash
# The intermediate that signs for Istio, at istioca/.
. "$(dirname "$0")/settings.sh"

$cli secrets enable --path istioca pki
# Five years.
$cli secrets tune -max-lease-ttl=43800h istioca

# "exported" shows the key this once, for a backup; with "internal" it never leaves the server.
$cli write -format=json istioca/intermediate/generate/exported common_name="" ttl=43800h >intermediate.json
python3 - <<'PYTHON'
import json
data = json.load(open("intermediate.json"))["data"]
for field, name in ("csr", "istioca.csr"), ("private_key", "istioca.key"):
    open(name, "w").write(data[field].strip() + "\n")
PYTHON
rm intermediate.json

# pem_bundle: the intermediate, and the root behind it. With both imported, what the intermediate signs comes with the root, and
# issuers can tell the one from the other.
$cli write -field=certificate pki/root/sign-intermediate csr=@istioca.csr format=pem_bundle ttl=43800h >istioca.crt
$cli write istioca/intermediate/set-signed certificate=@istioca.crt

openssl verify -CAfile ca.crt istioca.crt
