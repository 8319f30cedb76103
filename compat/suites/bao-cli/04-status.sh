# what the server says of itself
. "$COMPAT/lib/lib.sh"
exits 0 bao status
holds "the table" "$out" "Seal Type       shamir"
holds "the table" "$out" "Sealed          false"
same "initialised" "$(bao status -format=json | json 'd["initialized"]')" true
exits 0 bao operator init -status
holds "the answer" "$out" "is initialized"
exits 0 bao operator key-status
holds "the table" "$out" "Key Term"
exits 0 bao operator rotate
holds "the answer" "$out" "Success! Rotated key"
exits 0 bao operator members
exits 0 bao version-history
exits 2 bao audit list
same "the answer" "$out" "No audit devices are enabled."
