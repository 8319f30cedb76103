#!/bin/bash
# The controller of Issuers and Certificates. Where cert-manager runs already, leave this out: the rest is the same.
. "$(dirname "$0")/settings.sh"

helm install chancery-controller "$charts/chancery-controller" --namespace cert-manager --create-namespace
kubectl rollout status deployment/chancery-controller -n cert-manager --timeout=120s
