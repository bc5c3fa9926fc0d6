# Many HTTPS servers, each a process of its own: certificate, key, how many. Prints a line "PID PORT" for each, then "ready".
import os, signal, socket, ssl, sys

context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[1], sys.argv[2])


def serve(listener):
    while True:
        try:
            with context.wrap_socket(listener.accept()[0], server_side=True) as connection:
                if connection.recv(65536):
                    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nok\n")
        except OSError:
            pass


for _ in range(int(sys.argv[3])):
    listener = socket.create_server(("127.0.0.1", 0))
    child = os.fork()
    if child == 0:
        serve(listener)
    print(child, listener.getsockname()[1])
    listener.close()
print("ready", flush=True)
signal.pause()
