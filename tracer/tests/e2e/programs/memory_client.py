"""Sends the end of the handshake and the first request by one send, then one more request: port, two targets."""
import socket, ssl, sys

port, targets = int(sys.argv[1]), sys.argv[2:]
wire = socket.create_connection(("127.0.0.1", port))
inward, outward = ssl.MemoryBIO(), ssl.MemoryBIO()
session = ssl._create_unverified_context().wrap_bio(inward, outward, server_hostname="localhost")
while True:
    try:
        session.do_handshake()
        break
    except ssl.SSLWantReadError:
        wire.sendall(outward.read())
        inward.write(wire.recv(65536))
for target in targets:
    session.write(f"GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    wire.sendall(outward.read())
    response = b""
    while not response.endswith(b"ok\n"):
        try:
            response += session.read()
        except ssl.SSLWantReadError:
            inward.write(wire.recv(65536))
wire.close()
