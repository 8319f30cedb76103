# "openssl x509 -in foo.crt -text -noout": issuer, names and chain have the expected values.
. "$COMPAT/lib/lib.sh"
# (Not with -x509_strict: the intermediate's subject is empty, as the document has it, and RFC 5280 wants one there.)
same "what openssl verify says" "$(openssl verify -CAfile ca.crt -untrusted istioca.crt foo.crt 2>&1 || true)" "foo.crt: OK"
holds "the names" "$(openssl x509 -in foo.crt -noout -ext subjectAltName)" "URI:spiffe://cluster.local/ns/foo/sa/sleep"
holds "the names, as the subject is empty," "$(openssl x509 -in foo.crt -noout -ext subjectAltName)" "critical"
same "the subject" "$(openssl x509 -in foo.crt -noout -subject)" "subject="
same "the issuer" "$(openssl x509 -in foo.crt -noout -issuer_hash)" "$(openssl x509 -in istioca.crt -noout -subject_hash)"
same "the key" "$(openssl x509 -in foo.crt -noout -pubkey)" "$(openssl pkey -in workload.key -pubout)"
same "the issuing CA" "$(cat issuing_ca.crt)" "$(openssl x509 -in istioca.crt)"
usage=$(openssl x509 -in foo.crt -noout -ext keyUsage,extendedKeyUsage,basicConstraints 2>/dev/null)
holds "the usages" "$usage" "Digital Signature, Key Encipherment, Key Agreement"
holds "the usages" "$usage" "TLS Web Server Authentication, TLS Web Client Authentication"

serial=$(json 'd["data"]["serial_number"]' <signed.json)
same "the stored certificate" "$($cli read -field=certificate "istioca/cert/$serial")" "$(cat foo.crt)"
holds "the list" "$($cli list istioca/certs)" "$serial"
