"""What the stand-ins for kubectl, helm and istioctl keep: namespaces and objects, in a file. Nothing runs."""

import json, os, pathlib, sys

import yaml

STORE = pathlib.Path(os.environ["CLUSTER"])


class Cluster:
    def __init__(self):
        self.state = json.loads(STORE.read_text()) if STORE.exists() else {"namespaces": [], "objects": {}, "releases": {}}

    def save(self):
        STORE.write_text(json.dumps(self.state))

    def keep(self, one, namespace=None):
        metadata = one["metadata"]
        cluster_wide = one["kind"].startswith("Cluster") or one["kind"].endswith(("WebhookConfiguration", "CustomResourceDefinition"))
        if not cluster_wide:
            if metadata.setdefault("namespace", namespace or "default") not in [*self.state["namespaces"], "default", "kube-system"]:
                stop(f'namespaces "{metadata["namespace"]}" not found')
        self.state["objects"]["/".join([one["kind"].lower(), metadata.get("namespace", ""), metadata["name"]])] = one

    def find(self, kind, namespace, name):
        kind = {"deploy": "deployment", "issuers": "issuer", "certificates": "certificate"}.get(kind.lower(), kind.lower())
        return self.state["objects"].get(f"{kind}/{namespace}/{name}")

    def apply(self, text, namespace=None):
        for one in yaml.safe_load_all(text):
            if one:
                self.keep(one, namespace)


def stop(sentence):
    print(f"{pathlib.Path(sys.argv[0]).name} (stand-in): {sentence}", file=sys.stderr)
    sys.exit(1)


def read(arguments, switches=(), values=()):
    """Positions and flags; a flag that is not known ends the program."""
    positions, flags, rest = [], [], list(arguments)
    while rest:
        word = rest.pop(0)
        name, equals, value = word.partition("=")
        if not word.startswith("-") or word == "-":
            positions.append(word)
        elif name in switches:
            flags.append((name, value or "true"))
        elif name in values:
            flags.append((name, value if equals else rest.pop(0)))
        elif word == "--":
            return positions, flags, rest
        else:
            stop(f"what is {word}?")
    return positions, flags, []
