# Started under another name, the binary is that command line.
. "$COMPAT/lib/lib.sh"
mkdir -p names
for name in vault bao; do
    ln -sf "$CHANCERY" "names/$name"
    exits 0 "names/$name" read -field=max_ttl istioca/roles/cluster-local
    same "the field" "$out" 2592000
    exits 0 "names/$name" list istioca/roles
    same "the list" "$(echo "$out" | tr '\n' ' ')" "Keys ---- cluster-local "
    exits 2 "names/$name" read istioca/roles/absent
    same "the answer" "$out" "No value found at istioca/roles/absent"
    exits 0 "names/$name" status
    holds "the table" "$out" "Sealed          false"
done
