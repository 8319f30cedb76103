# A durable server: shares, unsealing, sealing, new unseal keys, a new root token, audit devices.
. "$COMPAT/lib/lib.sh"
unset BAO_TOKEN VAULT_TOKEN
more=
# OpenBao takes audit devices over the API only if its configuration says so.
[ "$TARGET" = openbao ] && more="unsafe_allow_api_audit_creation = true"
start_durable durable "$more"

exits 2 bao status
row "Initialized false"
exits 2 bao operator init -status
bao operator init -key-shares=5 -key-threshold=3 -format=json >init.json
key() { json "d['unseal_keys_b64'][$1]" <init.json; }
exits 2 bao operator init
holds "the refusal" "$out" "is already initialized"
exits 2 bao status
row "Sealed true"
row "Total Shares 5"
exits 0 bao operator unseal "$(key 0)"
row "Unseal Progress 1/3"
exits 0 bao operator unseal -reset
row "Unseal Progress 0/3"
exits 0 bao operator unseal "$(key 0)"
exits 0 bao operator unseal "$(json 'd["unseal_keys_hex"][3]' <init.json)"
exits 0 bao operator unseal "$(key 4)"
row "Sealed false"
BAO_TOKEN=$(json 'd["root_token"]' <init.json)
export BAO_TOKEN
exits 0 bao token lookup
exits 0 bao secrets enable -path=kept pki

exits 0 bao audit enable file file_path="$PWD/audit.log"
same "the answer" "$out" "Success! Enabled the file audit device at: file/"
exits 0 bao audit list
row "file/ file"
exits 0 bao read sys/mounts/kept/tune
grep -q '"path":"sys/mounts/kept/tune"' audit.log || fail "the request is not in the audit log"
grep -q "$BAO_TOKEN" audit.log && fail "the token is in the audit log as it stands"
exits 0 bao audit disable file
same "the answer" "$out" "Success! Disabled audit device (if it was enabled) at: file/"

# A wrong share, then the right ones.
exits 0 bao operator seal
same "the answer" "$out" "Success! Vault is sealed."
exits 2 bao status
exits 2 bao read sys/mounts
holds "the refusal" "$out" "is sealed"
exits 2 bao operator unseal nonsense
for share in 0 1; do exits 0 bao operator unseal "$(key $share)"; done
wrong=$(python3 -c 'import base64,sys; b = bytearray(base64.b64decode(sys.argv[1])); b[0] ^= 1; print(base64.b64encode(b).decode())' "$(key 2)")
exits 2 bao operator unseal "$wrong"
exits 2 bao status
row "Unseal Progress 0/3"
for share in 1 2 3; do exits 0 bao operator unseal "$(key $share)"; done
exits 0 bao status

# A new root token from the shares.
exits 0 bao operator generate-root -init -format=json
otp=$(echo "$out" | json 'd["otp"]')
nonce=$(echo "$out" | json 'd["nonce"]')
for share in 0 2; do exits 0 bao operator generate-root -nonce="$nonce" "$(key $share)"; done
exits 0 bao operator generate-root -nonce="$nonce" -format=json "$(key 4)"
made=$(bao operator generate-root -otp="$otp" -decode="$(echo "$out" | json 'd["encoded_token"]')")
exits 0 env BAO_TOKEN="$made" bao token lookup
holds "the new token" "$out" "[root]"

# New shares: two of three; the old ones are worth nothing then.
exits 0 bao operator rotate-keys -init -key-shares=3 -key-threshold=2 -format=json
nonce=$(echo "$out" | json 'd["nonce"]')
for share in 0 1; do exits 0 bao operator rotate-keys -nonce="$nonce" "$(key $share)"; done
bao operator rotate-keys -nonce="$nonce" -format=json "$(key 2)" >rekeyed.json
new() { json "(d.get('unseal_keys_b64') or d['keys_base64'])[$1]" <rekeyed.json; }
exits 0 bao operator rotate
row "Key Term 2"

# An orderly stop; what was there is there.
stop_server
start_durable durable
exits 0 bao operator unseal "$(new 0)"
exits 0 bao operator unseal "$(new 2)"
row "Sealed false"
for _ in $(seq 100); do bao status >/dev/null 2>&1 && bao secrets list >/dev/null 2>&1 && break; sleep 0.2; done
exits 0 bao secrets list
row "kept/"
exits 0 bao operator key-status
row "Key Term 2"
stop_server
