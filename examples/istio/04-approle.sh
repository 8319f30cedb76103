#!/bin/bash
# What the cluster may do, and how it logs in.
. "$(dirname "$0")/settings.sh"

# Names below .svc and the mesh's SPIFFE IDs, for 30 days at most. Istio's agents may bring EC keys: key_type=any.
$cli write istioca/roles/cluster-local allowed_domains="svc" allow_subdomains=true max_ttl="720h" require_cn=false \
    allowed_uri_sans="spiffe://cluster.local/*" key_type=any

$cli auth enable approle
$cli policy write cert-manager "$here/cert-manager.hcl"
$cli write auth/approle/role/cert-manager token_policies="cert-manager" token_ttl=1h token_max_ttl=4h

$cli read -field=role_id auth/approle/role/cert-manager/role-id >role-id
$cli write -force -field=secret_id auth/approle/role/cert-manager/secret-id >secret-id
echo "Role id and secret id are in $out."
