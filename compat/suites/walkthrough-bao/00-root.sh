# "Enable Vault PKI" and "Setup Root CA in Vault"
. "$COMPAT/lib/lib.sh"
make_root

exits 0 $cli secrets enable pki
same "the answer" "$out" "Success! Enabled the pki secrets engine at: pki/"
exits 0 $cli secrets tune -max-lease-ttl=87600h pki
same "the answer" "$out" "Success! Tuned the secrets engine at: pki/"
$cli write -format=json pki/config/ca pem_bundle="$(cat ca.crt ca.key)" >imported.json

same "the number of imported issuers" "$(json 'len(d["data"]["imported_issuers"])' <imported.json)" 1
same "the number of imported keys" "$(json 'len(d["data"]["imported_keys"])' <imported.json)" 1
same "the mapping" "$(json 'd["data"]["mapping"] == {d["data"]["imported_issuers"][0]: d["data"]["imported_keys"][0]}' <imported.json)" true

# "You may verify them by downloading and inspecting them"
curl -sS "$VAULT_ADDR/v1/pki/ca/pem" >downloaded.crt
same "the downloaded root" "$(openssl x509 -in downloaded.crt -noout -fingerprint -sha256)" \
    "$(openssl x509 -in ca.crt -noout -fingerprint -sha256)"
