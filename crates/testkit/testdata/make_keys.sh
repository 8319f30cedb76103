#!/bin/sh
# Makes the fixed test keys. Run it in this folder only to add a kind: the keys that are here must
# stay as they are, because recorded certificates and snapshots depend on them.
set -eu
mkdir -p keys && cd keys

[ -e rsa2048.pem ] || openssl genrsa -traditional -out rsa2048.pem 2048
[ -e rsa2056.pem ] || openssl genrsa -traditional -out rsa2056.pem 2056
[ -e rsa1024.pem ] || openssl genrsa -traditional -out rsa1024.pem 1024
for curve in p224:secp224r1 p256:prime256v1 p384:secp384r1 p521:secp521r1 k256:secp256k1; do
    file=${curve%%:*}.pem
    [ -e "$file" ] || openssl ecparam -genkey -name "${curve##*:}" -noout -out "$file"
done
# A second P-256 key, for chains and for signatures by the wrong key.
[ -e p256-other.pem ] || openssl ecparam -genkey -name prime256v1 -noout -out p256-other.pem
[ -e ed25519.pem ] || openssl genpkey -algorithm ed25519 -out ed25519.pem
[ -e ed448.pem ] || openssl genpkey -algorithm ed448 -out ed448.pem

for kind in rsa2048 p224 p256 p384 p521; do
    [ -e "$kind.pkcs8.pem" ] || openssl pkcs8 -topk8 -nocrypt -in "$kind.pem" -out "$kind.pkcs8.pem"
done
[ -e p256.encrypted.pem ] || openssl pkcs8 -topk8 -passout pass:secret -in p256.pem -out p256.encrypted.pem
[ -e rsa2048.encrypted.pem ] ||
    openssl rsa -traditional -aes256 -passout pass:secret -in rsa2048.pem -out rsa2048.encrypted.pem
