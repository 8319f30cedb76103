name = "x"
path "*" { policy = "sudo" comment = "c" }
