#!/bin/bash
# The secret id as a Secret, and the Issuer that logs in with it, where Istio is.
. "$(dirname "$0")/settings.sh"

kubectl get namespace istio-system >/dev/null 2>&1 || kubectl create namespace istio-system

sed "s|SECRET_ID_BASE64|$(tr -d '\n' <secret-id | base64 | tr -d '\n')|" "$here/vault-secret.yaml" | kubectl apply -f -
sed -e "s|SERVER_URL|$server|" -e "s|ROLE_ID|$(cat role-id)|" "$here/vault-issuer.yaml" | kubectl apply -f -

kubectl wait --for=condition=Ready issuer/vault-issuer -n istio-system --timeout=60s
# vault-issuer   True    Vault verified
kubectl get issuers vault-issuer -n istio-system -o wide
