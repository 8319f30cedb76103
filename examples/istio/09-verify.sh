#!/bin/bash
# A workload is deployed, and what its sidecar holds is looked at.
. "$(dirname "$0")/settings.sh"

kubectl create ns foo
kubectl label ns foo istio-injection=enabled
kubectl apply -f "$here/sleep.yaml" -n foo
kubectl rollout status deployment/sleep -n foo --timeout=120s
pod=$(kubectl get pods -n foo -l app=sleep -o 'jsonpath={.items[0].metadata.name}')

istioctl pc secret "$pod" -n foo -o json >secrets.json
# The workload's chain, and the roots that it trusts.
python3 - <<'PYTHON'
import base64, json
for secret in json.load(open("secrets.json"))["dynamicActiveSecrets"]:
    held = secret["secret"]
    if held["name"] == "default":
        open("foo-chain.crt", "wb").write(base64.b64decode(held["tlsCertificate"]["certificateChain"]["inlineBytes"]))
    elif held["name"] == "ROOTCA":
        open("root.crt", "wb").write(base64.b64decode(held["validationContext"]["trustedCa"]["inlineBytes"]))
PYTHON
# The first certificate of the chain is the workload's.
openssl x509 -in foo-chain.crt -out foo.crt
openssl x509 -in foo.crt -text -noout
openssl x509 -in foo.crt -noout -ext subjectAltName | grep "URI:spiffe://cluster.local/ns/foo/sa/sleep"

# It leads to the root of the first step, and that is what the workload trusts.
openssl verify -CAfile ca.crt -untrusted foo-chain.crt foo.crt
openssl x509 -in root.crt -text -noout
[ "$(openssl x509 -in root.crt -noout -fingerprint -sha256)" = "$(openssl x509 -in ca.crt -noout -fingerprint -sha256)" ]
echo "The workload's certificate comes from the root in $out/ca.crt."

# The same, and more, in one command:
chancery mesh secrets -f secrets.json -root-file=ca.crt
