# read, write, list, delete, patch, unwrap, path-help; formats; what is printed instead of sent
. "$COMPAT/lib/lib.sh"
exits 0 bao secrets enable -path=ca -max-lease-ttl=8760h pki
exits 0 bao write ca/root/generate/internal common_name=data key_type=ec issuer_name=one key_name=first ttl=8000h
holds "the warning" "$out" "WARNING! The following warnings were returned from OpenBao:"
holds "the table" "$out" "issuer_name      one"
exits 0 bao list -detailed ca/issuers
holds "the table" "$out" "is_default    issuer_name    key_id"
exits 0 bao list -detailed ca/keys
holds "the table" "$out" "true          first"
exits 2 bao list ca/roles
same "the answer" "$out" "No value found at ca/roles"
echo '{"allow_any_name": true, "key_type": "ec", "ttl": "1h"}' >role.json
exits 0 bao write ca/roles/a @role.json
exits 0 bash -c 'bao write ca/roles/b - <role.json'
exits 0 bao write ca/roles/c allow_any_name=true ou=one ou=two
same "a field given twice" "$(bao read -format=json ca/roles/c | json 'd["data"]["ou"]')" '["one", "two"]'
exits 0 bao list ca/roles
same "the list" "$(echo "$out" | tr '\n' ' ')" "Keys ---- a b c "
same "as JSON" "$(bao list -format=json ca/roles | json 'd')" '["a", "b", "c"]'
exits 0 bao patch ca/roles/a ttl=2h
holds "the table" "$out" "ttl                                   2h"
same "the field" "$(bao read -field=ttl ca/roles/a)" 7200
exits 0 bao read -format=yaml ca/roles/a
holds "the YAML" "$out" "  allow_any_name: true"
exits 2 bao read ca/roles/absent
same "the answer" "$out" "No value found at ca/roles/absent"
exits 1 bao read
exits 1 bao read -format=nonsense ca/roles/a
exits 1 bao read -field=absent ca/roles/a
holds "the answer" "$out" 'Field "absent" not present in secret'
exits 0 bao delete ca/roles/c
same "the answer" "$out" "Success! Data deleted (if it existed) at: ca/roles/c"
exits 2 bao read absent/path
exits 2 bao write absent/path a=b
holds "the refusal" "$out" 'no handler for route "absent/path". route entry not found.'
exits 2 bao write ca/nonsense a=b
holds "the refusal" "$out" "unsupported path"

exits 0 bao path-help ca/roles/a
holds "the help" "$out" "## PARAMETERS"
holds "the help" "$out" "allow_any_name (bool)"
exits 0 bao path-help ca
holds "the help" "$out" "## PATHS"
exits 0 bao write -output-policy ca/issue/a common_name=x
holds "the policy" "$out" 'capabilities = ["create", "update"]'
exits 0 bao read -output-policy sys/policies/acl
holds "the policy" "$out" 'path "sys/policies/acl"'
exits 0 bao write -output-curl-string ca/roles/a ttl=1h
holds "the command" "$out" "curl -X PUT"

exits 0 bao write -wrap-ttl=60s ca/issue/a common_name=a.example.com
holds "the table" "$out" "wrapping_token:"
holds "the table" "$out" "wrapping_token_ttl:              1m"
wrapped=$(bao write -wrap-ttl=60s -field=wrapping_token ca/issue/a common_name=a.example.com)
exits 0 bao unwrap "$wrapped"
holds "the table" "$out" "private_key_type    ec"
exits 2 bao unwrap "$wrapped"
holds "the refusal" "$out" "wrapping token is not valid or does not exist"
exits 0 env BAO_TOKEN="$(bao read -wrap-ttl=60s -field=wrapping_token ca/roles/a)" bao unwrap
holds "the table" "$out" "allow_any_name"

exits 0 bao write cubbyhole/mine a=b
same "the answer" "$out" "Success! Data written to: cubbyhole/mine"
same "the value" "$(bao read -field=a cubbyhole/mine)" b
exits 0 bao secrets disable ca
