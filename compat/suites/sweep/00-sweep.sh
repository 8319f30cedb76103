# two thousand roles with a request each: the same verdict, the same certificate
. "$COMPAT/lib/lib.sh"
python3 "$SUITE/sweep.py" --ours "$VAULT_ADDR" --peer "$PEER_ADDR" --token "$VAULT_TOKEN"
