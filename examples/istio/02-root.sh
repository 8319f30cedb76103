#!/bin/bash
# The mesh's root, made here unless out/ca.crt and out/ca.key are there, and its mount.
. "$(dirname "$0")/settings.sh"

if [ ! -f ca.crt ]; then
    openssl req -x509 -newkey rsa:4096 -nodes -keyout ca.key -out ca.crt -days 3650 -subj "/O=Example/CN=Mesh Root" \
        -addext basicConstraints=critical,CA:true -addext keyUsage=critical,keyCertSign,cRLSign
fi

$cli secrets enable pki
# Ten years.
$cli secrets tune -max-lease-ttl=87600h pki
$cli write -format=json pki/config/ca pem_bundle="$(cat ca.crt ca.key)" >root-imported.json

# The server gives out the same root, to everybody.
$cli read -field=certificate pki/cert/ca >root-served.crt
[ "$(openssl x509 -in root-served.crt -noout -fingerprint -sha256)" = "$(openssl x509 -in ca.crt -noout -fingerprint -sha256)" ]
echo "The root is in $out/ca.crt; its key is in the server. Put $out/ca.key where keys are kept, or delete it."
