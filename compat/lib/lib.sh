# What the bash steps share: `. "$COMPAT/lib/lib.sh"`.
# The runner sets VAULT_ADDR, VAULT_TOKEN, BAO_ADDR, BAO_TOKEN, TARGET, SERVER, CHANCERY, BAO, COMPAT, SUITE.
set -euo pipefail

# fail SENTENCE: ends the step and says why.
fail() {
    echo "FAILED: $*" >&2
    exit 1
}

# skip SENTENCE: the step cannot run here.
skip() {
    echo "$*"
    exit 77
}

# same WHAT GOT WANTED
same() {
    [ "$2" = "$3" ] || fail "$1 is
$2
and should be
$3"
}

# holds WHAT TEXT PART: the text contains the part.
holds() {
    case "$2" in
        *"$3"*) ;;
        *) fail "$1 does not contain '$3':
$2" ;;
    esac
}

# row TEXT: the table in $out has this row, however wide its columns are.
row() {
    holds "the table" "$(echo "$out" | tr -s ' ')" "$1"
}

# exits CODE COMMAND…: runs the command, keeps its output (both streams) in $out, and checks its exit code.
exits() {
    local wanted=$1 got=0
    shift
    out=$("$@" 2>&1) || got=$?
    [ "$got" = "$wanted" ] || fail "'$*' exits with $got, not $wanted, and says:
$out"
}

# json EXPRESSION: prints a field of the JSON on standard input, as Python writes it: json 'd["data"]["keys"][0]'
json() {
    python3 -c 'import json, sys
d = json.load(sys.stdin)
v = eval(sys.argv[1])
print(v if isinstance(v, str) else json.dumps(v))' "$1"
}

# api METHOD PATH [BODY]: one HTTP call with the token; prints the body, then the status on a line of its own.
api() {
    curl -sS -X "$1" -H "X-Vault-Token: ${VAULT_TOKEN:-}" ${3+--data-binary "$3"} -w '\n%{http_code}\n' "$VAULT_ADDR/v1/$2"
}

# make_root: a root certificate and key as the founding document has them, in ca.crt and ca.key.
make_root() {
    openssl req -x509 -newkey rsa:4096 -nodes -keyout ca.key -out ca.crt -days 3650 -subj /CN=root-ca \
        -addext basicConstraints=critical,CA:true -addext keyUsage=critical,keyCertSign,cRLSign 2>/dev/null
}

# make_workload_csr: what Istio's agent makes by default, in workload.csr: RSA 2048, no subject, one SPIFFE name.
make_workload_csr() {
    openssl req -new -newkey rsa:2048 -nodes -keyout workload.key -out workload.csr -subj / \
        -addext subjectAltName=URI:spiffe://cluster.local/ns/foo/sa/sleep 2>/dev/null
}

# free_port: a port of this machine that is free now.
free_port() {
    python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

# start_durable FOLDER [LINE…]: writes FOLDER/server.hcl (with the further lines) unless it is there, starts the
# server under judgement on it and waits until it answers. Sets VAULT_ADDR and BAO_ADDR; the process id is in $server.
start_durable() {
    local folder=$1
    shift
    if [ ! -f "$folder/server.hcl" ]; then
        mkdir -p "$folder/data"
        local port cluster
        port=$(free_port)
        cluster=$(free_port)
        {
            if [ "$TARGET" = openbao ]; then
                echo "storage \"raft\" { path = \"$PWD/$folder/data\" node_id = \"one\" }"
                echo "cluster_addr = \"http://127.0.0.1:$cluster\""
            else
                echo "storage \"embedded\" { path = \"$PWD/$folder/data\" }"
            fi
            echo "listener \"tcp\" { address = \"127.0.0.1:$port\" tls_disable = true }"
            echo "api_addr = \"http://127.0.0.1:$port\""
            printf '%s\n' "$@"
        } >"$folder/server.hcl"
        echo "http://127.0.0.1:$port" >"$folder/address"
    fi
    "$SERVER" server -config="$PWD/$folder/server.hcl" >>"$folder/log" 2>&1 &
    server=$!
    echo "$server" >>"$HOME/pids"
    VAULT_ADDR=$(cat "$folder/address")
    BAO_ADDR=$VAULT_ADDR
    export VAULT_ADDR BAO_ADDR
    for _ in $(seq 300); do
        curl -s -o /dev/null "$VAULT_ADDR/v1/sys/health" && return
        kill -0 "$server" 2>/dev/null || fail "the server ended: $(tail -n 5 "$folder/log")"
        sleep 0.1
    done
    fail "the server did not answer within 30 s"
}

# stop_server: asks the server that start_durable started to end, and waits for it.
stop_server() {
    kill "$server"
    wait "$server" || true
}

# The command line that the walkthrough is typed with.
cli=${cli:-bao}
