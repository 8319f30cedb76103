"""The server of this suite: a mount with a root, on which ACME is served, and a name server that knows every name."""

import os, socket, sys

from acme_world import Names
from chancery_compat import Durable, free_port, skip

PEER = os.environ["TARGET"] == "openbao"


def free(port):
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", port))
            return True
        except OSError:
            return False


HTTP_PORT, TLS_PORT = (80, 443) if PEER else (free_port(), free_port())
if PEER and not (free(HTTP_PORT) and free(TLS_PORT)):
    skip("the peer asks at the ports 80 and 443, which cannot be had here")


class Server:
    def __init__(self, folder):
        lines = [] if PEER else [
            f'acme {{ permitted_networks = ["127.0.0.0/8"] http_port = {HTTP_PORT} tls_port = {TLS_PORT} }}']
        self.durable = Durable(folder, lines)
        self.durable.start()
        self.api = self.durable.initialise()
        self.names = Names()
        self.mount = f"{self.durable.address}/v1/pki"
        headers = ["Replay-Nonce", "Link", "Location", "Retry-After"]
        self.api.write("sys/mounts/pki", type="pki", config={"max_lease_ttl": "87600h", "allowed_response_headers": headers})
        root = self.api.write("pki/root/generate/internal", common_name="acme root", key_type="ec", ttl="80000h")["data"]
        open("root.pem", "w").write(root["certificate"] + "\n")
        self.api.ok("POST", "pki/config/cluster", {"path": self.mount})
        self.api.write("pki/config/acme", enabled=True, dns_resolver=self.names.address)
        self.api.write("pki/roles/web", allow_any_name=True, key_type="any", ttl="720h")

    def directory(self, prefix=""):
        return f"{self.mount}/{prefix}acme/directory"


def must(condition, *what):
    if not condition:
        print("FAILED:", *what)
        sys.exit(1)
