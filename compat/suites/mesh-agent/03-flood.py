"""Clients that write without an end and never read: the agent's memory stays what it is, and others are served."""

import os, re, socket, struct, sys, time

sys.path.insert(0, os.environ["SUITE"])
from mesh import CA, Agent, check, done, until
from spiffe import WorkloadApiClient

ca = CA(life=None)
agent = Agent(ca, "flooded").start()
until("the agent is ready", agent.ready)
own = lambda: float(re.search("own ([0-9.]+)", agent.memory())[1])


def frame(kind, flags, stream, payload):
    return struct.pack("!I", len(payload))[1:] + bytes([kind, flags]) + struct.pack("!I", stream) + payload


def literal(name, value):
    return b"\x00" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode()


def text(number, value):
    data = value if isinstance(value, bytes) else value.encode()
    return bytes([number << 3 | 2, len(data)]) + data


path = "/envoy.service.secret.v3.SecretDiscoveryService/StreamSecrets"
headers = (b"\x83\x86" + literal(":path", path) + literal(":authority", "x") + literal("content-type", "application/grpc")
           + literal("te", "trailers"))
# node.id, then both names: each of these asks for everything again.
request = text(2, text(1, "flood")) + text(3, "default") + text(3, "ROOTCA")
message = b"\0" + struct.pack("!I", len(request)) + request


def flood(streams):
    """Writes until nothing more is taken, and keeps the connection."""
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(str(agent.socket))
    # Windows that hold all answers of a day.
    settings = frame(4, 0, 0, struct.pack("!HI", 4, 2**31 - 1)) + frame(8, 0, 0, struct.pack("!I", 2**31 - 1 - 65535))
    connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + settings)
    sent = 0
    connection.settimeout(2)
    try:
        for number in range(streams):
            connection.sendall(frame(1, 4, 2 * number + 1, headers))
        for number in range(10**9):
            sent += connection.send(frame(0, 0, 2 * (number % streams) + 1, message))
    except OSError:
        pass
    return connection, sent


before = own()
kept = [flood(streams) for streams in (1, 50, 400, 400, 400)]
time.sleep(1)
after = own()
print(f"{before} MB before, {after} MB after; taken: {[sent for _, sent in kept]} bytes")
check("memory stays within bounds", after < before + 64, before, after)
check("no flood is taken without an end", all(sent < 4 << 20 for _, sent in kept), kept)
with WorkloadApiClient(f"unix://{agent.socket}") as client:
    try:
        check("others are served, or told that there is no room", str(client.fetch_x509_svid().spiffe_id) == agent.id)
    except Exception as error:
        check("others are served, or told that there is no room", "too many calls" in str(error), error)
for connection, _ in kept:
    connection.close()


def served():
    with WorkloadApiClient(f"unix://{agent.socket}") as client:
        try:
            return str(client.fetch_x509_svid().spiffe_id) == agent.id
        except Exception:
            return False


until("others are served once the flood is over", served)
check("memory is given back", own() < before + 40, own())
print(agent.memory())
check("the agent ends in order", agent.stop() == 0)
done()
