"""Sends what no client should; exits 1 at the first thing that goes wrong."""

import socket
import sys

PORT, PID = int(sys.argv[1]), sys.argv[2]
LIMIT = 4096
MIB = 1 << 20


def connect():
    return socket.create_connection(("127.0.0.1", PORT), timeout=30)


def ask(connection, line):
    connection.sendall(line + b"\n")
    answer = b""
    while not answer.endswith(b"\n"):
        piece = connection.recv(4096)
        if not piece:
            break
        answer += piece
    return answer


def resident():
    with open(f"/proc/{PID}/status") as status:
        for line in status:
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
    raise SystemExit("the node is gone")


def expect(what, condition, detail=""):
    print(("ok: " if condition else "not ok: ") + what + (f" ({detail})" if detail else ""))
    if not condition:
        raise SystemExit(1)


first = connect()
expect("a filter is made", ask(first, b"create f") == b"Done\n")

before = resident()
idle = []
for _ in range(10_000):
    try:
        idle.append(connect())
    except OSError as error:
        # This process, not the node, may be out of descriptors: what is open is enough.
        expect("10,000 connections are tried", len(idle) > LIMIT, str(error))
        break
expect("a client with a connection is served", ask(first, b"s f a") == b"Yes\n")
closed = 0
for connection in idle[LIMIT:]:
    connection.settimeout(30)
    closed += connection.recv(1) == b""
expect("those over the limit are closed", closed >= len(idle) - LIMIT - 1, f"{closed} of {len(idle)}")
taken = resident() - before
expect("idle connections take little", taken < 64 * MIB, f"{taken // 1024} KiB for {LIMIT}")
for connection in idle:
    connection.close()

before = resident()
long = None
for _ in range(300):
    try:
        long = connect()
        if ask(long, b"c f a") == b"Yes\n":
            break
    except OSError:
        pass
# Passed over up to its end, with one error; the connection goes on.
for _ in range(1 << 10):
    long.sendall(b"x" * MIB)
long.sendall(b"\nlist none\n")
answer = b""
while not answer.endswith(b"END\n"):
    piece = long.recv(4096)
    if not piece:
        break
    answer += piece
expect(
    "a 1 GiB line is passed over with one error",
    answer == b"Client Error: Line too long\nSTART\nEND\n",
    f"{answer!r}",
)
taken = resident() - before
expect("and takes little", taken < 32 * MIB, f"{taken // 1024} KiB")

keys = [b"\0", b"a\0b", b"\xff\xfe", bytes(range(1, 10)) + bytes(range(11, 13)) + bytes(range(14, 32)), b"\xe9" * 1000]
for key in keys:
    expect(f"a key of any bytes is new once: {key[:12]!r}", ask(first, b"s f " + key) == b"Yes\n")
    expect("and then seen", ask(first, b"s f " + key) == b"No\n")
expect("keys that differ behind a NUL differ", ask(first, b"c f a\0c") == b"No\n")
