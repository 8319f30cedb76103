# What cert-manager's issuer then does, and what "Verify the Root CA of a new application" looks at.
. "$COMPAT/lib/lib.sh"
make_workload_csr
$cli write -format=json auth/approle/login role_id=@role_id secret_id=@secret_id >login.json
same "the token's policies" "$(json 'd["auth"]["policies"]' <login.json)" '["cert-manager", "default"]'
same "the token's time" "$(json 'd["auth"]["lease_duration"]' <login.json)" 3600
token=$(json 'd["auth"]["client_token"]' <login.json)

BAO_TOKEN=$token VAULT_TOKEN=$token $cli write -format=json istioca/sign/cluster-local csr=@workload.csr >signed.json
json 'd["data"]["certificate"]' <signed.json >foo.crt
json 'd["data"]["issuing_ca"]' <signed.json >issuing_ca.crt
same "the answer's fields" "$(json 'sorted(d["data"])' <signed.json)" \
    '["ca_chain", "certificate", "expiration", "issuing_ca", "not_before", "serial_number"]'
same "the chain" "$(json '"\n".join(d["data"]["ca_chain"])' <signed.json)" "$(cat istioca.crt)"

# That token may do nothing else.
VAULT_TOKEN=$token BAO_TOKEN=$token exits 2 $cli read istioca/roles/cluster-local
holds "the refusal" "$out" "permission denied"
VAULT_TOKEN=$token BAO_TOKEN=$token exits 2 $cli write istioca/issue/cluster-local common_name=a.svc
holds "the refusal" "$out" "permission denied"

# A name outside the role is refused.
openssl req -new -newkey rsa:2048 -nodes -keyout other.key -out other.csr -subj / \
    -addext subjectAltName=URI:spiffe://other.domain/ns/foo/sa/sleep 2>/dev/null
VAULT_TOKEN=$token BAO_TOKEN=$token exits 2 $cli write istioca/sign/cluster-local csr=@other.csr
holds "the refusal" "$out" "URI Subject Alternative Names were provided via CSR which are not valid for this role"
