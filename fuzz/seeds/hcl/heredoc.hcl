text = <<-EOF
  one
  two ${x}
  EOF
n = -0x1F
f = 1e-3
s = "\u00e9\n\"q\""
block "a" "b" { x = [1, [2, {y = 3}],] }
