path "pki/sign/web" { capabilities = ["update", "sudo"] }
path "secret/+/x*" {
  capabilities = ["create", "read", "patch", "scan"]
  required_parameters = ["a"]
  allowed_parameters = { "ttl" = ["1h*"], "*" = [] }
  denied_parameters = { "x" = [] }
  min_wrapping_ttl = "1s"
  max_wrapping_ttl = 60
  pagination_limit = 10
  expiration = "2030-01-01T00:00:00Z"
}
path "auth/{{identity.entity.id}}/{{identity.groups.names.devs.id}}/*" { capabilities = ["deny"] }
