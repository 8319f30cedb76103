storage "inmem" {}
seal "static" {
  current_key_id = "20260101"
  current_key = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="
}
plugin_directory = "/x"
raw_storage_endpoint = true
