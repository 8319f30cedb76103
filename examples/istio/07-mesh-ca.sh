#!/bin/bash
# The certificate service, under istio-csr's name, so that documents about that fit. It signs through the Issuer, gives out the root
# in every namespace, and has istiod's certificate made (Certificate istiod, Secret istiod-tls).
. "$(dirname "$0")/settings.sh"

# The root, and not the intermediate: it is what every sidecar will trust.
kubectl create secret generic istio-root-ca \
    --namespace cert-manager \
    --from-file=ca.cert.pem=ca.crt

helm upgrade cert-manager-istio-csr "$charts/chancery-mesh" \
    --install \
    --namespace cert-manager \
    --set "app.server.clusterID=$cluster" \
    --set "app.certmanager.issuer.name=vault-issuer" \
    --set "app.tls.rootCAFile=/var/run/secrets/istio-csr/ca.cert.pem" \
    --set "volumeMounts[0].name=root-ca" \
    --set "volumeMounts[0].mountPath=/var/run/secrets/istio-csr" \
    --set "volumes[0].name=root-ca" \
    --set "volumes[0].secret.secretName=istio-root-ca"

kubectl rollout status deployment/cert-manager-istio-csr -n cert-manager --timeout=120s
kubectl get pods -n cert-manager
kubectl wait --for=condition=Ready certificate/istiod -n istio-system --timeout=60s
kubectl get certificates -n istio-system
