"""redis-server; the client is here, so that it knows every byte."""
import socket
import time

from .process import Server, unused_port


def encode(words):
    parts = [f"*{len(words)}\r\n".encode()]
    for word in words:
        data = word.encode()
        parts.append(b"$%d\r\n%s\r\n" % (len(data), data))
    return b"".join(parts)


class Client:
    def __init__(self, port, known):
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.file = self.socket.makefile("rb")
        self.known = known

    def reply(self):
        """One reply of RESP2 or RESP3 with the attributes before it."""
        line = self.file.readline()
        kind, rest = line[:1], line[1:-2]
        if kind in b"$=" and int(rest) >= 0:
            line += self.file.read(int(rest) + 2)
        count = {b"*": 1, b"~": 1, b">": 1, b"%": 2, b"|": 2}.get(kind, 0) * max(0, int(rest) if count_follows(kind) else 0)
        for _ in range(count + (kind == b"|")):
            line += self.reply()
        return line

    def note(self, words, request, reply, **more):
        entry = {"protocol": "redis", "request": {"command": words[0].upper(), "args": words[1:], "bytes": len(request)},
                 "response": None if reply is None else {"bytes": len(reply), **more}}
        if any(len(word) > 4096 for word in words):
            del entry["request"]["args"]
        self.known.append(entry)

    def call(self, *words, **more):
        request = encode(words)
        self.socket.sendall(request)
        reply = self.reply()
        self.note(list(words), request, reply, **more)
        return reply

    def silent(self, *words):
        request = encode(words)
        self.socket.sendall(request)
        self.note(list(words), request, None)

    def close(self):
        self.file.close()
        self.socket.close()


def count_follows(kind):
    return kind in b"*~>%|"


def serve(directory):
    port = unused_port()
    server = Server(["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(directory),
                     "--enable-debug-command", "yes"], port).wait_for_port()
    yield server
    known = []
    for part in (types, values, transactions, blocking, subscriptions, replies_off, monitor, inline, pipeline):
        part(port, known)
    yield known


def types(port, known):
    for version in ("2", "3"):
        client = Client(port, known)
        client.call("HELLO", version)
        for kind in ("string", "integer", "double", "null", "array", "set", "map", "attrib", "verbatim", "true",
                     "false", "bignum"):
            client.call("DEBUG", "PROTOCOL", kind)
        client.close()


def values(port, known):
    client = Client(port, known)
    assert client.call("SET", "key", "value", type="simple_string", value="OK") == b"+OK\r\n"
    client.call("GET", "key", type="bulk_string", value="value")
    client.call("GET", "none", type="null")
    client.call("LPUSH", "key", "x", type="error", error="WRONGTYPE Operation against a key holding the wrong kind of value")
    client.call("SET", "large", "0123456789abcdef" * 1024, type="simple_string")
    client.call("GET", "large", type="bulk_string")
    client.call("HSET", "hash", "a", "1", "b", "2", type="integer", value=2)
    client.call("HGETALL", "hash", type="array", value=["a", "1", "b", "2"])
    client.call("CONFIG", "SET", "requirepass", "geheim")
    client.call("AUTH", "wrong", type="error")
    client.call("HELLO", "3", "AUTH", "default", "geheim", type="map")
    client.call("CONFIG", "SET", "requirepass", "")
    client.call("SELECT", "5")
    client.call("DBSIZE", type="integer", value=0)
    client.close()


def transactions(port, known):
    client = Client(port, known)
    client.call("MULTI", value="OK")
    client.call("SET", "a", "text", value="QUEUED")
    client.call("INCR", "a", value="QUEUED")
    client.call("EXEC", type="array", value=["OK", {"error": "ERR value is not an integer or out of range"}])
    client.call("MULTI")
    client.call("DISCARD")
    client.close()


def blocking(port, known):
    waiting, other = Client(port, known), Client(port, known)
    request = encode(["BLPOP", "list", "0"])
    waiting.socket.sendall(request)
    time.sleep(0.05)
    other.call("RPUSH", "list", "element", type="integer", value=1)
    waiting.note(["BLPOP", "list", "0"], request, waiting.reply(), type="array", value=["list", "element"])
    waiting.close()
    other.close()


def subscriptions(port, known):
    publisher = Client(port, known)
    for version in ("2", "3"):
        client = Client(port, known)
        client.call("HELLO", version)
        words = ["SUBSCRIBE", "one", "two"]
        client.socket.sendall(encode(words))
        client.note(words, encode(words), client.reply() + client.reply(), replies=2)
        publisher.call("PUBLISH", "one", "hello", type="integer", value=1)
        client.reply()
        client.call("PING", pushes=1)
        words = ["UNSUBSCRIBE"]
        client.socket.sendall(encode(words))
        client.note(words, encode(words), client.reply() + client.reply(), replies=2)
        client.close()
    publisher.close()


def replies_off(port, known):
    client = Client(port, known)
    client.call("SET", "counter", "1")
    client.silent("CLIENT", "REPLY", "SKIP")
    client.silent("INCR", "counter")
    client.call("INCR", "counter", type="integer", value=3)
    client.silent("CLIENT", "REPLY", "OFF")
    client.silent("INCR", "counter")
    client.call("CLIENT", "REPLY", "ON", value="OK")
    client.call("GET", "counter", value="4")
    client.close()


def monitor(port, known):
    client, other = Client(port, known), Client(port, known)
    client.call("MONITOR", value="OK")
    for number in range(3):
        other.call("SET", f"key{number}", "x")
        client.reply()
    client.close()
    other.close()


def inline(port, known):
    client = Client(port, known)
    for line, words in ((b"PING\r\n", ["PING"]), (b'set key "two words"\r\n', ["SET", "key", "two words"]),
                        (b"GET key\n", ["GET", "key"])):
        client.socket.sendall(line)
        client.note(words, line, client.reply())
    client.close()


def pipeline(port, known):
    client = Client(port, known)
    commands = [[word, f"p{number % 3}", *([str(number)] if word == "SET" else [])]
                for number in range(20) for word in ("SET", "GET")]
    client.socket.sendall(b"".join(map(encode, commands)))
    for words in commands:
        value = {"value": "OK"} if words[0] == "SET" else {}
        client.note(words, encode(words), client.reply(), **value)
    client.close()
