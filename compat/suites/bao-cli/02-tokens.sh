# token and lease: create, lookup, renew, capabilities, revoke; login
. "$COMPAT/lib/lib.sh"
exits 0 bao token create -policy=default -ttl=1h -display-name=shell -metadata=team=blue -use-limit=50
holds "the table" "$out" "token_duration       1h"
holds "the table" "$out" 'token_policies       ["default"]'
holds "the table" "$out" "token_meta_team      blue"
token=$(bao token create -policy=default -explicit-max-ttl=3h -field=token)
exits 0 bao token lookup "$token"
holds "the table" "$out" "display_name        token"
holds "the table" "$out" "explicit_max_ttl    3h"
accessor=$(bao token lookup -format=json "$token" | json 'd["data"]["accessor"]')
exits 0 bao token lookup -accessor "$accessor"
exits 0 bao token renew -increment=30m "$token"
holds "the table" "$out" "token_duration       30m"
exits 0 bao token capabilities "$token" cubbyhole/x
same "the capabilities" "$out" "create, delete, list, read, update"
exits 0 bao token capabilities "$token" sys/seal
same "the capabilities" "$out" "deny"
exits 0 bao token revoke -accessor "$accessor"
same "the answer" "$out" "Success! Revoked token (if it existed)"
exits 2 bao token lookup "$token"
holds "the refusal" "$out" "Code: 403"
exits 0 bao token create -type=batch -policy=default -ttl=10m
holds "the table" "$out" "token_accessor       n/a"
exits 0 bao token create -orphan -period=1h -policy=default -format=json
same "an orphan" "$(echo "$out" | json 'd["auth"]["orphan"]')" true

exits 0 bao login -no-store root
holds "the answer" "$out" "Success! You are now authenticated."
holds "the table" "$out" 'token_policies       ["root"]'
exits 2 bao login -no-store nonsense
holds "the refusal" "$out" "permission denied"

exits 0 bao secrets enable -path=leased -max-lease-ttl=8760h pki
bao write -field=certificate leased/root/generate/internal common_name=leased key_type=ec ttl=8000h >/dev/null
bao write leased/roles/r allow_any_name=true key_type=ec generate_lease=true ttl=1h >/dev/null
lease=$(bao write -field=lease_id leased/issue/r common_name=a.example.com)
exits 0 bao lease lookup "$lease"
holds "the table" "$out" "id              $lease"
exits 2 bao lease renew "$lease"
holds "the refusal" "$out" "lease is not renewable"
exits 0 bao lease revoke "$lease"
holds "the answer" "$out" "All revocation operations queued successfully!"
exits 0 bao lease revoke -prefix leased/
exits 2 bao lease lookup absent
holds "the refusal" "$out" "invalid lease"
exits 0 bao secrets disable leased
