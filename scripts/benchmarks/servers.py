"""Redis, PostgreSQL, MariaDB and dnsmasq: a short load whose requests each carry a number, and what came of it.

Each part gives the cases of `accuracy`: the truth is what the client sent and was answered, or the server's log.
"""

import contextlib
import json
import pathlib
import re
import shutil
import signal
import socket
import struct
import subprocess
import tempfile

from .processes import Child, answers, unused_ports, wait_for
from .tracing import Tracer

NEEDS = {
    "redis": ["redis-server"],
    "pgsql": ["pgbench", "postgres", "initdb", "runuser"],
    "mysql": ["mariadbd", "mariadb", "mariadb-install-db"],
    "dns": ["dnsmasq"],
}


def find(command):
    """A program; PostgreSQL's are not in PATH on Debian."""
    versions = sorted(pathlib.Path("/usr/lib/postgresql").glob(f"*/bin/{command}"))
    return shutil.which(command) or (versions and str(versions[-1])) or None


def missing(part):
    """Why a part cannot be measured here."""
    absent = [command for command in NEEDS[part] if not find(command)]
    return f"not installed: {', '.join(absent)}" if absent else None


class Truth:
    """What must be in the records: by number, a request with its answer and the client's port (None: not known)."""

    def __init__(self):
        self.expected = {}

    def add(self, number, answer, port):
        self.expected[number] = (answer, port)

    def compare(self, tracer, read):
        """`read` gives (number, answer) of a record, or None for one that is not of this load."""
        tracer.settle(60)
        ledger = tracer.stop()
        counts = dict.fromkeys(("invented", "twice", "wrong_pair", "wrong_tuple", "incomplete"), 0)
        seen = set()
        with open(tracer.records) as file:
            for record in map(json.loads, file):
                if (found := read(record)) is None:
                    continue
                number, answer = found
                if number not in self.expected:
                    counts["invented"] += 1
                    continue
                counts["twice"] += number in seen
                seen.add(number)
                truth, port = self.expected[number]
                counts["incomplete"] += not record["integrity"]["complete"]
                counts["wrong_pair"] += answer != truth
                counts["wrong_tuple"] += port not in (None, record["connection"]["remote"]["port"])
        lost = len(self.expected.keys() - seen)
        return {
            "requests": len(self.expected), "missing": lost, "recall": 1 - lost / max(1, len(self.expected)), **counts,
            "balanced": ledger.balanced, "lost_events": ledger.total("events", "lost"), "ledger": ledger.plain(),
        }


def redis():
    """Pipelines of up to 100 commands on 8 connections: SET, GET and an error among them."""
    (port,) = unused_ports(1)
    truth = Truth()
    with tempfile.TemporaryDirectory() as folder:
        command = ["redis-server", "--port", port, "--bind", "127.0.0.1", "--save", "", "--dir", folder]
        with Child(command, stdout=subprocess.DEVNULL) as server:
            wait_for("redis serves", lambda: answers(port))
            with Tracer(server.pid) as tracer:
                for client in range(8):
                    pipelines(port, client, truth)
                return truth.compare(tracer, redis_record)


def pipelines(port, client, truth):
    with socket.create_connection(("127.0.0.1", port)) as connection:
        own = connection.getsockname()[1]
        for batch in range(20):
            sent, expected = b"", b""
            for index in range(1 + (batch * 37 + client) % 100):
                number = f"{client}-{batch}-{index}"
                answer = ("echo", "incr")[index % 5 == 4]
                if answer == "echo":
                    sent += b"*2\r\n$4\r\nECHO\r\n$%d\r\n%s\r\n" % (len(number), number.encode())
                    expected += b"$%d\r\n%s\r\n" % (len(number), number.encode())
                    truth.add(number, number, own)
                else:
                    sent += b"*3\r\n$3\r\nGET\r\n$%d\r\n%s\r\n$1\r\nx\r\n" % (len(number), number.encode())
                    message = b"ERR wrong number of arguments for 'get' command"
                    expected += b"-" + message + b"\r\n"
                    truth.add(number, message.decode(), own)
            connection.sendall(sent)
            received = b""
            while len(received) < len(expected):
                received += connection.recv(65536)
            assert received == expected, received


def redis_record(record):
    request, response = record["request"], record["response"]
    if record["protocol"] != "redis" or not request or request["command"].upper() not in ("ECHO", "GET"):
        return None
    return request["args"][0], response and (response.get("error") or response.get("value"))


def pgsql():
    """pgbench on 8 connections against the server's log of statements."""
    (port,) = unused_ports(1)
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        path = pathlib.Path(folder)
        path.chmod(0o755)
        shutil.chown(path, "postgres")
        as_postgres = ["runuser", "-u", "postgres", "--"]
        subprocess.run(
            [*as_postgres, find("initdb"), "-A", "trust", "-D", path / "data", "-N"], check=True, capture_output=True
        )
        # setpriv, unlike runuser, leaves the server under the pid that is known here.
        command = ["setpriv", "--reuid", "postgres", "--regid", "postgres", "--clear-groups", find("postgres")]
        for setting in (f"port={port}", f"unix_socket_directories={folder}", "listen_addresses=127.0.0.1", "fsync=off",
                        "log_statement=all", "log_line_prefix=%r ", "jit=off"):
            command += ["-c", setting]
        log = stack.enter_context(open(path / "log", "w+"))
        server = stack.enter_context(Child([*command, "-D", path / "data"], signal.SIGINT, stderr=log, cwd=folder))
        wait_for("PostgreSQL serves", lambda: answers(port))
        (path / "script.sql").write_text("\\set n :n + 1\nSELECT :client_id * 1000000 + :n AS number;\n")
        tracer = stack.enter_context(Tracer(server.pid, "--no-redact"))
        bench = ["pgbench", "-n", "-f", path / "script.sql", "-D", "n=0", "-c", "8", "-t", "250", "-h", "127.0.0.1"]
        bench += ["-p", str(port), "-U", "postgres", "postgres"]
        subprocess.run(bench, check=True, capture_output=True)
        truth = Truth()
        for line in (path / "log").read_text().splitlines():
            if found := re.match(r"127\.0\.0\.1\((\d+)\) LOG:  statement: SELECT (\d+) \* 1000000 \+ (\d+)", line):
                truth.add((int(found[2]), int(found[3])), ("SELECT 1", 1), int(found[1]))
        return truth.compare(tracer, pgsql_record)


def pgsql_record(record):
    request, response = record["request"], record["response"]
    found = re.match(r"SELECT (\d+) \* 1000000 \+ (\d+)", (request or {}).get("query") or "")
    if record["protocol"] != "pgsql" or not found:
        return None
    return (int(found[1]), int(found[2])), response and (response.get("command_tag"), response.get("rows"))


def mysql():
    """The command line client on 4 connections: statements that give rows, and some that fail."""
    (port,) = unused_ports(1)
    truth = Truth()
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        path = pathlib.Path(folder)
        (path / "data").mkdir()
        install = ["mariadb-install-db", "--no-defaults", f"--datadir={folder}/data", "--user=root"]
        install += ["--auth-root-authentication-method=normal"]
        subprocess.run(install, check=True, capture_output=True)
        command = ["mariadbd", "--no-defaults", f"--datadir={folder}/data", "--user=root", f"--port={port}"]
        command += [f"--socket={folder}/socket", "--bind-address=127.0.0.1", f"--pid-file={folder}/pid"]
        server = stack.enter_context(Child(command, stderr=subprocess.DEVNULL))
        wait_for("MariaDB serves", lambda: answers(port), 60)
        tracer = stack.enter_context(Tracer(server.pid, "--no-redact"))
        for client in range(4):
            statements = []
            for index in range(250):
                number = client * 1000 + index
                fails = index % 10 == 9
                statements.append(f"SELECT {number} AS number{' FROM missing.table' if fails else ' UNION SELECT -1'};")
                truth.add(number, ("error", 1146) if fails else ("resultset", 2), None)
            run = ["mariadb", "--no-defaults", "--force", "--skip-ssl", "-h", "127.0.0.1", "-P", str(port), "-u", "root"]
            subprocess.run(run, input="\n".join(statements), text=True, capture_output=True)
        return truth.compare(tracer, mysql_record)


def mysql_record(record):
    request, response = record["request"], record["response"]
    found = re.match(r"SELECT (\d+) AS number", (request or {}).get("query") or "")
    if record["protocol"] != "mysql" or not found:
        return None
    response = response or {}
    return int(found[1]), (response.get("status"), response.get("error_code") or response.get("rows"))


def dns():
    """Questions by UDP on sockets of their own, half of which have an answer."""
    (port,) = unused_ports(1)
    truth = Truth()
    with tempfile.TemporaryDirectory() as folder:
        command = ["dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--no-hosts", "--user=root"]
        command += ["--local=/test/", "--address=/good.test/192.0.2.1", f"--port={port}", f"--pid-file={folder}/pid"]
        command += ["--listen-address=127.0.0.1", "--bind-interfaces"]
        with Child(command, stderr=subprocess.DEVNULL) as server:
            wait_for("dnsmasq serves", lambda: answers(port))
            with Tracer(server.pid) as tracer:
                for number in range(1000):
                    kind = ("good", "bad")[number % 2]
                    name = f"n{number}.{kind}.test"
                    truth.add(name, ("NOERROR", ["192.0.2.1"]) if kind == "good" else ("NXDOMAIN", []), ask(port, name))
                return truth.compare(tracer, dns_record)


def ask(port, name):
    """Asks for an address and waits for the answer; the port that was used."""
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    question = struct.pack(">6H", 4711, 0x100, 1, 0, 0, 0) + labels + b"\0" + struct.pack(">2H", 1, 1)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(5)
        client.connect(("127.0.0.1", port))
        client.send(question)
        client.recv(4096)
        return client.getsockname()[1]


def dns_record(record):
    request, response = record["request"], record["response"] or {}
    if record["protocol"] != "dns" or not request:
        return None
    return request["questions"][0]["name"], (response.get("rcode"), [answer["data"] for answer in response.get("answers", [])])


PARTS = {"redis": redis, "pgsql": pgsql, "mysql": mysql, "dns": dns}
