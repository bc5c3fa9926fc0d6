"""An HTTPS server whose connections go from thread to thread: one accepts, one reads, one writes. Certificate, key."""
import queue, socket, ssl, sys, threading

context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
context.load_cert_chain(sys.argv[1], sys.argv[2])
accepted, answered = queue.Queue(), queue.Queue()


def read():
    while True:
        connection = accepted.get()
        request = connection.recv(4096)
        if request:
            print(request.split()[1].decode(), connection.getpeername()[1], flush=True)
            answered.put(connection)
        else:
            connection.close()


def write():
    while True:
        connection = answered.get()
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok\n")
        accepted.put(connection)


for task in (read, read, write):
    threading.Thread(target=task, daemon=True).start()
listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
while True:
    accepted.put(context.wrap_socket(listener.accept()[0], server_side=True))
