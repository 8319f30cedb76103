"""Our own server signs."""

import os

import scene

os.environ |= {"TARGET": "chancery", "SERVER": os.environ["CHANCERY"]}
scene.play()
