# secrets and auth: enable, list, tune, move, disable
. "$COMPAT/lib/lib.sh"
exits 0 bao secrets enable -path=first -description="a mount" -max-lease-ttl=10h -default-lease-ttl=1h pki
same "the answer" "$out" "Success! Enabled the pki secrets engine at: first/"
exits 2 bao secrets enable -path=first pki
holds "the refusal" "$out" "path is already in use at first/"
exits 2 bao secrets enable nonsense
holds "the refusal" "$out" "plugin not found in the catalog: nonsense"
exits 1 bao secrets enable
exits 0 bao secrets list
holds "the table" "$out" "Path          Type         Accessor              Description"
holds "the table" "$out" "first/        pki          pki_"
exits 0 bao secrets list -detailed
holds "the table" "$out" "first/        pki          pki_"
holds "the table" "$out" "36000"
same "the mount's maximum" "$(bao secrets list -format=json | json 'd["first/"]["config"]["max_lease_ttl"]')" 36000
exits 0 bao secrets tune -default-lease-ttl=2h -description="another" first
same "the answer" "$out" "Success! Tuned the secrets engine at: first/"
exits 0 bao read sys/mounts/first/tune
holds "the table" "$out" "default_lease_ttl    2h"
holds "the table" "$out" "max_lease_ttl        10h"
exits 0 bao secrets move first second
holds "the answer" "$out" "Success! Finished moving secrets engine first/ to second/"
exits 2 bao secrets move first third
holds "the refusal" "$out" 'no matching mount at "first/"'
exits 0 bao secrets disable second
same "the answer" "$out" "Success! Disabled the secrets engine (if it existed) at: second/"
exits 0 bao secrets disable second

exits 0 bao auth enable -path=robots approle
same "the answer" "$out" "Success! Enabled approle auth method at: robots/"
exits 0 bao auth list
holds "the table" "$out" "robots/    approle    auth_approle_"
holds "the table" "$out" "token/     token      auth_token_"
exits 0 bao auth list -detailed
holds "the table" "$out" "default-service"
exits 0 bao auth tune -max-lease-ttl=5h -description=x robots
same "the answer" "$out" "Success! Tuned the auth method at: robots/"
same "the tuned maximum" "$(bao read -field=max_lease_ttl sys/auth/robots/tune)" 18000
exits 0 bao auth move auth/robots auth/machines
holds "the answer" "$out" "Success! Finished moving auth method auth/robots/ to auth/machines/"
exits 0 bao auth disable machines
same "the answer" "$out" "Success! Disabled the auth method (if it existed) at: machines/"
exits 2 bao auth disable token
