# "Setup Authentication From The Control Plane"
. "$COMPAT/lib/lib.sh"
exits 0 $cli write istioca/roles/cluster-local allowed_domains="svc" allow_subdomains=true max_ttl="720h" \
    require_cn=false allowed_uri_sans="spiffe://cluster.local/*"
holds "the role" "$out" "allowed_uri_sans                      [spiffe://cluster.local/*]"
holds "the role" "$out" "max_ttl                               720h"

exits 0 $cli auth enable approle
same "the answer" "$out" "Success! Enabled approle auth method at: approle/"

exits 0 $cli policy write cert-manager - <<EOF
path "istioca/sign/cluster-local" { capabilities = ["update"] }
EOF
same "the answer" "$out" "Success! Uploaded policy: cert-manager"

exits 0 $cli write auth/approle/role/cert-manager token_policies="cert-manager" token_ttl=1h token_max_ttl=4h
same "the answer" "$out" "Success! Data written to: auth/approle/role/cert-manager"

exits 0 $cli read auth/approle/role/cert-manager/role-id
holds "the table" "$out" "role_id    "
$cli read -field=role_id auth/approle/role/cert-manager/role-id >role_id
exits 0 $cli write -force auth/approle/role/cert-manager/secret-id
holds "the table" "$out" "secret_id_num_uses    0"
$cli write -force -field=secret_id auth/approle/role/cert-manager/secret-id >secret_id
