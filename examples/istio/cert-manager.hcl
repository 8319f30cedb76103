# To sign by this role, and nothing else.
path "istioca/sign/cluster-local" {
  capabilities = ["update"]
}
