#!/bin/sh
# Makes the certificates and the dumps of a real Envoy that the tests of `inspect` read. Keys are made, used by that Envoy
# and thrown away.
#
#   ENVOY=/path/to/envoy ./make_dumps.sh
set -eu
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'kill "$pid" 2>/dev/null; rm -rf "$work"' EXIT
pid=
cd "$work"

key() { openssl ecparam -name prime256v1 -genkey -noout -out "$1.key"; }
signed() { # name, issuer, extensions
    key "$1"
    printf '%b' "$4" > "$1.ext"
    openssl req -new -key "$1.key" -subj "$3" -out "$1.csr"
    openssl x509 -req -in "$1.csr" -CA "$2.pem" -CAkey "$2.key" -days 36500 -extfile "$1.ext" -out "$1.pem" 2>/dev/null
}
ca='basicConstraints=critical,CA:true\nkeyUsage=critical,keyCertSign,cRLSign\nsubjectKeyIdentifier=hash\n'
leaf='basicConstraints=critical,CA:false\nkeyUsage=critical,digitalSignature,keyEncipherment\nextendedKeyUsage=serverAuth,clientAuth\nauthorityKeyIdentifier=keyid\n'
for root in root other-root; do
    key $root
    openssl req -x509 -new -key $root.key -subj "/O=test/CN=$root" -days 36500 -out $root.pem \
        -addext 'basicConstraints=critical,CA:true' -addext 'keyUsage=critical,keyCertSign,cRLSign'
done
signed intermediate root '/O=test/CN=intermediate' "$ca"
signed workload intermediate '/' "${leaf}subjectAltName=critical,URI:spiffe://cluster.local/ns/foo/sa/sleep\n"
cat workload.pem intermediate.pem root.pem > chain.pem
cat workload.pem intermediate.pem > static-chain.pem

b64() { base64 -w0 "$1"; }
secret() { # file, body
    printf '{"resources":[{"@type":"type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret",%s}]}' "$2" > "$1"
}
secret default.json "\"name\":\"default\",\"tls_certificate\":{\"certificate_chain\":{\"inline_bytes\":\"$(b64 chain.pem)\"},\"private_key\":{\"inline_bytes\":\"$(b64 workload.key)\"}}"
secret ROOTCA.json "\"name\":\"ROOTCA\",\"validation_context\":{\"trusted_ca\":{\"inline_bytes\":\"$(b64 root.pem)\"}}"
secret spiffe.json "\"name\":\"spiffe\",\"validation_context\":{\"custom_validator_config\":{\"name\":\"envoy.tls.cert_validator.spiffe\",\"typed_config\":{\"@type\":\"type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.SPIFFECertValidatorConfig\",\"trust_domains\":[{\"name\":\"cluster.local\",\"trust_bundle\":{\"inline_bytes\":\"$(b64 root.pem)\"}},{\"name\":\"other.example\",\"trust_bundle\":{\"inline_bytes\":\"$(b64 other-root.pem)\"}}]}}}"
cat > envoy.yaml <<YAML
node: {id: test, cluster: test}
admin: {address: {socket_address: {address: 127.0.0.1, port_value: 23200}}}
static_resources:
  secrets:
  - name: static-files
    tls_certificate:
      certificate_chain: {filename: $work/static-chain.pem}
      private_key: {filename: $work/workload.key}
  - name: static-inline
    tls_certificate:
      certificate_chain: {inline_string: "$(awk '{printf "%s\\n", $0}' static-chain.pem)"}
      private_key: {inline_string: "$(awk '{printf "%s\\n", $0}' workload.key)"}
  listeners:
$(port=23201; for roots in ROOTCA spiffe missing; do cat <<LISTENER
  - name: $roots
    address: {socket_address: {address: 127.0.0.1, port_value: $port}}
    filter_chains:
    - filters:
      - name: tcp
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy
          stat_prefix: tcp
          cluster: nobody
      transport_socket:
        name: tls
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext
          common_tls_context:
            tls_certificate_sds_secret_configs:
            - name: default
              sds_config: {resource_api_version: V3, path_config_source: {path: $work/default.json}}
            validation_context_sds_secret_config:
              name: $roots
              sds_config: {resource_api_version: V3, path_config_source: {path: $work/$roots.json}}
LISTENER
port=$((port + 1)); done)
  clusters:
  - name: nobody
    connect_timeout: 1s
    load_assignment: {cluster_name: nobody}
YAML
printf '{"resources":[]}' > missing.json
"$ENVOY" -c envoy.yaml --disable-hot-restart -l error > envoy.log 2>&1 &
pid=$!
for _ in $(seq 100); do
    curl -sf 'http://127.0.0.1:23200/ready' > /dev/null 2>&1 && break
    sleep 0.1
done
sleep 1
curl -s 'http://127.0.0.1:23200/config_dump' | sed "s#$work#/etc/test#g" > all.json
curl -s 'http://127.0.0.1:23200/config_dump?mask=dynamic_active_secrets,dynamic_warming_secrets' > masked.json
curl -s 'http://127.0.0.1:23200/certs' > certs.json
cp all.json "$here/envoy-1.40-config-dump.json"
cp masked.json "$here/envoy-1.40-masked.json"
cp certs.json "$here/envoy-1.40-certs.json"
for name in root other-root intermediate workload chain; do cp $name.pem "$here/"; done
cat envoy.log >&2
