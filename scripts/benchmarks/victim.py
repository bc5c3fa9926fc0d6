"""A process that makes calls and times each: with a tracer attached or not, the difference is what a hook costs.

    victim.py FOLDER      the folder holds a certificate

For each line `KIND SIZE COUNT` on standard input it makes COUNT exchanges and prints their figures as JSON. KIND: `memory`
(TLS over memory BIOs: no socket), `tls` (TLS over a TCP connection), `tcp`. Both ends of the connection are here, so that
no other process has a part in it. SIZE: bytes of a response with its head.
"""

import json
import pathlib
import socket
import ssl
import statistics
import sys
import time

REQUEST = b"GET /model HTTP/1.1\r\nHost: localhost\r\nAccept: text/plain\r\n\r\n"


def response(size):
    head = b"HTTP/1.1 200 OK\r\nContent-Length: %5d\r\n\r\n"
    body = size - len(head % 0)
    return head % body + b"x" * body


def contexts(folder):
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
    return server, client


class Memory:
    """TLS whose ciphertext is carried by hand."""

    def __init__(self, folder):
        server, client = contexts(folder)
        to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.server = server.wrap_bio(to_server, to_client, server_side=True)
        self.client = client.wrap_bio(to_client, to_server)
        self.waits = ssl.SSLWantReadError
        for _ in range(3):
            for end in (self.client, self.server):
                try:
                    end.do_handshake()
                except ssl.SSLWantReadError:
                    pass


class Sockets:
    """A TCP connection, with TLS or without."""

    def __init__(self, folder=None):
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self.client = socket.create_connection(listener.getsockname())
            self.server, _ = listener.accept()
        self.waits = BlockingIOError
        for end in (self.client, self.server):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if folder:
            self.encrypt(folder)
        else:
            for end in (self.client, self.server):
                end.setblocking(False)
            self.plain = (self.client, self.server)
            self.client, self.server = map(Plain, self.plain)

    def encrypt(self, folder):
        server, client = contexts(folder)
        for end in (self.client, self.server):
            end.setblocking(False)
        self.server = server.wrap_socket(self.server, server_side=True, do_handshake_on_connect=False)
        self.client = client.wrap_socket(self.client, do_handshake_on_connect=False)
        self.waits = ssl.SSLWantReadError
        for _ in range(4):
            for end in (self.client, self.server):
                try:
                    end.do_handshake()
                except ssl.SSLWantReadError:
                    pass


class Plain:
    """A socket with the names that TLS has for its calls."""

    def __init__(self, end):
        self.read, self.write = end.recv, end.send


def exchange(ends, answer, figures):
    """One request and its response; adds the nanoseconds of the calls that are of interest."""
    clock = time.perf_counter_ns
    ends.client.write(REQUEST)
    ends.server.read(65536)
    before = clock()
    ends.server.write(answer)
    figures["write"].append(clock() - before)
    before = clock()
    ends.client.read(65536)
    figures["read"].append(clock() - before)
    before = clock()
    try:
        ends.client.read(65536)
    except ends.waits:
        pass
    figures["nothing"].append(clock() - before)


def measure(ends, size, count):
    figures = {"write": [], "read": [], "nothing": []}
    answer = response(size)
    for number in range(count):
        exchange(ends, answer, figures)
        if number % 500 == 0:
            # The tracer must not be behind: only the cost for this process is of interest here.
            time.sleep(0.02)
    return {call: {"median": statistics.median(values), "mean": statistics.fmean(values)} for call, values in figures.items()}


def main(folder):
    folder = pathlib.Path(folder)
    ends = {"memory": Memory(folder), "tls": Sockets(folder), "tcp": Sockets()}
    print("ready", flush=True)
    for line in sys.stdin:
        kind, size, count = line.split()
        print(json.dumps(measure(ends[kind], int(size), int(count))), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
