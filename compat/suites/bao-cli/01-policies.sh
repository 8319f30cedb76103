# policy: write, read, list, fmt, delete
. "$COMPAT/lib/lib.sh"
echo 'path "a/*" { capabilities = ["read", "list"] }' >p.hcl
exits 0 bao policy write reader p.hcl
same "the answer" "$out" "Success! Uploaded policy: reader"
exits 0 bao policy read reader
same "the policy" "$out" "$(cat p.hcl)"
exits 0 bao policy list
same "the list" "$(echo "$out" | tr '\n' ' ')" "default reader root "
exits 2 bao policy read absent
same "the answer" "$out" "No policy named: absent"
echo 'path "a" { capabilities = ["nonsense"] }' >bad.hcl
exits 2 bao policy write bad bad.hcl
holds "the refusal" "$out" 'invalid capability "nonsense"'
echo 'path "a" { capabilities = ["read"' >bad.hcl
exits 2 bao policy write bad bad.hcl
holds "the refusal" "$out" "failed to parse policy"
exits 2 bao policy delete root
holds "the refusal" "$out" 'cannot delete "root" policy'
exits 0 bao policy delete reader
same "the answer" "$out" "Success! Deleted policy: reader"
