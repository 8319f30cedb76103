storage "embedded" { path = "/var/lib/chancery" }
listener "tcp" {
  address = "127.0.0.1:8200"
  tls_cert_file = "a.crt"
  tls_key_file = "a.key"
  tls_client_ca_file = "ca.crt"
  tls_require_and_verify_client_cert = true
  tls_min_version = "tls12"
  max_request_size = 1048576
  max_request_duration = "30s"
  x_forwarded_for_authorized_addrs = "10.0.0.0/8,127.0.0.1"
  x_forwarded_for_hop_skips = "1"
  telemetry { unauthenticated_metrics_access = true }
}
listener "unix" { address = "/run/c.sock" socket_mode = "0600" }
api_addr = "https://a:8200"
ui = true
log_level = "debug"
default_lease_ttl = "1h"
max_lease_ttl = 86400
telemetry { prometheus_retention_time = "30s" disable_hostname = true }
