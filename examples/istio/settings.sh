# What all steps share. Each can be set before.
set -euo pipefail
umask 077

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# Where the charts are.
charts=${CHARTS:-$here/../../deploy/helm}
# Where keys and certificates are kept between the steps.
out=${OUT:-$here/out}
# The command line; `vault` and `bao` do as well.
cli=${CLI:-chancery}

export VAULT_ADDR=${VAULT_ADDR:-http://127.0.0.1:8200} VAULT_TOKEN=${VAULT_TOKEN:-root}
# The server as pods reach it.
server=${SERVER_URL:-http://vault-chancery.vault-demo.svc:8200}
# How Istio calls the cluster (values.global.multiCluster.clusterName).
cluster=${CLUSTER_NAME:-Kubernetes}

mkdir -p "$out"
cd "$out"
