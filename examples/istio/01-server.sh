#!/bin/bash
# The server, in development mode: in memory, unsealed, root token "root", plain HTTP. See the README for one that lasts.
. "$(dirname "$0")/settings.sh"

helm install vault "$charts/chancery" --namespace vault-demo --create-namespace --set='server.dev.enabled=true'
kubectl rollout status statefulset/vault-chancery -n vault-demo --timeout=120s

# The next steps talk to it through this. It ends with this terminal.
echo "In another terminal: kubectl port-forward -n vault-demo svc/vault-chancery 8200"
