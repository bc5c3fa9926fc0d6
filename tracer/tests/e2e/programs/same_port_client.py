"""Asks an HTTPS server again and again, each time on a new connection from the same port: port, own port, targets."""
import socket, ssl, struct, sys

port, own, targets = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]
context = ssl._create_unverified_context()
for target in targets:
    wire = socket.socket()
    wire.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    # Closed by a reset, so that the port is free at once.
    wire.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    wire.bind(("127.0.0.1", own))
    wire.connect(("127.0.0.1", port))
    session = context.wrap_socket(wire)
    session.sendall(f"GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    response = b""
    while not response.endswith(b"ok\n"):
        response += session.recv(4096)
    session.close()
