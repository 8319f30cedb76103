# comment
path "secret/*" {
  capabilities = ["read", "list"] // why
  allowed_parameters = { "a" = ["x", 1, 1.5e3, true], "*" = [] }
}
path "a" { policy = "write" }
