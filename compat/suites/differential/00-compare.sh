# ours (or the peer once more) against the peer; prints each difference and, at the end, the counts
. "$COMPAT/lib/lib.sh"
python3 "$COMPAT/differential/run.py" --ours "$VAULT_ADDR" --peer "$PEER_ADDR" --token "$VAULT_TOKEN"
