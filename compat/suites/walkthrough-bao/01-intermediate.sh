# "Setup Intermediate CA for Istio"
. "$COMPAT/lib/lib.sh"
exits 0 $cli secrets enable --path istioca pki
same "the answer" "$out" "Success! Enabled the pki secrets engine at: istioca/"
exits 0 $cli secrets tune -max-lease-ttl=43800h istioca
same "the answer" "$out" "Success! Tuned the secrets engine at: istioca/"

# The table that the document shows, with an empty common name.
exits 0 $cli write istioca/intermediate/generate/exported common_name="" ttl=43800h
holds "the table" "$out" "private_key         -----BEGIN RSA PRIVATE KEY-----"
holds "the table" "$out" "-----BEGIN CERTIFICATE REQUEST-----"

$cli write -format=json istioca/intermediate/generate/exported common_name="" ttl=43800h >generated.json
json 'd["data"]["csr"]' <generated.json >istioca.csr
json 'd["data"]["private_key"]' <generated.json >istioca.key
openssl req -in istioca.csr -verify -noout 2>&1 | grep -q -i "verify OK" || fail "the CSR's signature does not verify"
same "the CSR's subject" "$(openssl req -in istioca.csr -noout -subject)" "subject="
same "the CSR's key" "$(openssl req -in istioca.csr -noout -pubkey)" "$(openssl pkey -in istioca.key -pubout)"

$cli write -field=certificate pki/root/sign-intermediate csr=@istioca.csr format=pem_bundle ttl=43800h >istioca.crt
openssl verify -CAfile ca.crt istioca.crt || fail "the intermediate does not verify"
openssl x509 -in istioca.crt -noout -ext basicConstraints,keyUsage >extensions
holds "the intermediate" "$(cat extensions)" "CA:TRUE"
holds "the intermediate" "$(cat extensions)" "Certificate Sign, CRL Sign"

exits 0 $cli write istioca/intermediate/set-signed certificate=@istioca.crt
holds "the answer" "$out" "imported_issuers"

# Five years, as asked, and not a day more.
seconds=$(($(date -d "$(openssl x509 -in istioca.crt -noout -enddate | cut -d= -f2)" +%s) - $(date +%s)))
[ $((43800 * 3600 - seconds)) -lt 120 ] && [ "$seconds" -le $((43800 * 3600)) ] || fail "the intermediate ends in $seconds s"
