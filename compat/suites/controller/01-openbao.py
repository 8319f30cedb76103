"""OpenBao signs."""

import os

import scene

os.environ |= {"TARGET": "openbao", "SERVER": os.environ["BAO"]}
scene.play()
