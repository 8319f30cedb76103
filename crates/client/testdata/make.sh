#!/bin/sh
# Makes the certificates of the client's tests: P-256, valid for a hundred years unless the name says otherwise.
set -e
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
config=$work/config
cat > "$config" <<CONFIG
[ca]
default_ca = this
[this]
database = $work/index
new_certs_dir = $work
serial = $work/serial
default_md = sha256
policy = any
unique_subject = no
[any]
commonName = supplied
[req]
distinguished_name = dn
[dn]
[authority]
basicConstraints = critical, CA:true
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
[loopback]
subjectAltName = IP:127.0.0.1
[elsewhere]
subjectAltName = DNS:chancery.test
[client]
extendedKeyUsage = clientAuth
CONFIG
new() { openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$1.key" 2>/dev/null; }
authority() {
    new "$1"
    openssl req -x509 -new -key "$1.key" -subj "/CN=$1" -days 36500 -config "$config" -extensions authority -out "$1.pem"
}
leaf() {
    new "$1"
    openssl req -new -key "$1.key" -subj "/CN=$1" -config "$config" -out "$work/request.pem"
    # Unlike `openssl x509`, this takes dates in every version.
    : > "$work/index"
    openssl rand -hex 8 > "$work/serial"
    openssl ca -batch -notext -config "$config" -extensions "$2" -startdate "$3" -enddate "$4" \
        -cert authority.pem -keyfile authority.key -in "$work/request.pem" -out "$1.pem" 2>/dev/null
}
authority authority
authority other_authority
leaf server loopback 20260101000000Z 21260101000000Z
leaf server_elsewhere elsewhere 20260101000000Z 21260101000000Z
leaf server_expired loopback 20200101000000Z 20210101000000Z
leaf client client 20260101000000Z 21260101000000Z
rm -f authority.key other_authority.key
