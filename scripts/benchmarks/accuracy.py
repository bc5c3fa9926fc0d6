"""Whether every record is true: against the server's own log and the client's own clock."""

import collections
import concurrent.futures
import json
import random
import socket
import ssl
import statistics
import time

from . import servers
from .load import wrk
from .nginx import Nginx
from .report import Results, table
from .tracing import Tracer

HELP = "recall, invented records, wrong pairs, tuples, statuses, sizes and paths, errors of latency"
SMOKE = (["--only", "nginx"],)

# Scheme, workers, connections, one request a connection, bytes of a response.
MATRIX = [
    (scheme, workers, connections, one_shot, size)
    for scheme in ("plain", "tls")
    for workers, connections, one_shot, size in [
        (1, 1, False, 1024), (1, 16, False, 1024), (1, 256, False, 1024), (2, 256, False, 1024),
        (1, 16, True, 1024), (2, 64, True, 1024), (1, 4, False, 1 << 20), (2, 16, False, 1 << 20),
    ]
]


def arguments(parser):
    parser.add_argument("--seconds", type=int, default=2, help="length of each load [%(default)s]")
    parser.add_argument("--only", default="nginx,clock,mixed,redis,pgsql,mysql,dns", help="parts [%(default)s]")


def run(options):
    if options.quick or options.smoke:
        options.seconds = 1
    matrix = MATRIX[:1] + MATRIX[8:9] if options.smoke else MATRIX[:2] + MATRIX[9:13:3] if options.quick else MATRIX
    results = Results("accuracy")
    for part in options.only.split(","):
        if part == "nginx":
            for case in matrix:
                results.add(name_of(*case), under_wrk(*case, options.seconds))
        elif part in ("clock", "mixed"):
            for scheme in ("plain", "tls"):
                results.add(f"{part} {scheme}", (by_clock if part == "clock" else mixed)(scheme))
        elif (reason := servers.missing(part)) is None:
            results.add(part, servers.PARTS[part]())
        else:
            print(f"not measured: {part}: {reason}")
    show(results.new())
    return all(is_good(case) for case in results.new().values())


def name_of(scheme, workers, connections, one_shot, size):
    kind = "one-shot" if one_shot else "keep-alive"
    return f"{scheme} w{workers} c{connections} {kind} {size} B"


def under_wrk(scheme, workers, connections, one_shot, size, seconds):
    """As many requests as fit into the time."""
    with Nginx(scheme, workers, [size], log=True) as nginx, Tracer(nginx.pid) as tracer:
        # With one request a connection, wrk takes the end of each for an error.
        wrk(nginx.url(f"/{size}"), seconds, connections, numbered="w", one_shot=one_shot)
        return conclude(nginx, tracer)


def by_clock(scheme):
    """One request at a time on one connection, each timed by who sends it. The machine is otherwise idle."""
    with Nginx(scheme, log=True) as nginx, Tracer(nginx.pid) as tracer:
        timed = {}
        with Client(nginx) as client:
            for number in range(1000):
                timed[f"k-{number}"] = client.get(f"/1024?id=k-{number}")
                time.sleep(0.001)
        return conclude(nginx, tracer, timed)


def mixed(scheme):
    """Slow and fast requests, found and missing, long and short, on 16 connections of which each ends now and then."""
    paths = ["/1024", "/missing", "/slow/100000", "/1048576", "/slow/262144"]

    def one(number):
        chance, timed = random.Random(number), {}
        for batch in range(6):
            with Client(nginx) as client:
                for request in range(chance.randrange(1, 20)):
                    path = chance.choices(paths, [60, 20, 3, 15, 2])[0]
                    identifier = f"m-{number}-{batch}-{request}"
                    timed[identifier] = client.get(f"{path}?id={identifier}")
        return timed

    with Nginx(scheme, 2, [1024, 100_000, 262_144, 1 << 20], log=True) as nginx, Tracer(nginx.pid) as tracer:
        with concurrent.futures.ThreadPoolExecutor(16) as pool:
            timed = {key: value for part in pool.map(one, range(16)) for key, value in part.items()}
        return conclude(nginx, tracer, timed)


class Client:
    """A keep-alive connection; the time of each request is from before it is sent to after its last byte has come."""

    def __init__(self, nginx):
        self.socket = socket.create_connection(("127.0.0.1", nginx.port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if nginx.scheme == "tls":
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            self.socket = context.wrap_socket(self.socket)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def get(self, target):
        request = f"GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
        began = time.perf_counter_ns()
        self.socket.sendall(request)
        data = b""
        while b"\r\n\r\n" not in data:
            data += self.socket.recv(65536)
        head, body = data.split(b"\r\n\r\n", 1)
        left = next(int(line[16:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length: "))
        left -= len(body)
        while left:
            left -= len(self.socket.recv(65536))
        return time.perf_counter_ns() - began


def conclude(nginx, tracer, timed=None):
    """Ends both, and compares the server's log with the records."""
    tracer.settle(60)
    nginx.stop()
    ledger = tracer.stop()
    served = {}
    for line in map(json.loads, nginx.access_log()):
        if "?id=" in line["uri"]:
            served[line["uri"].split("?id=")[1]] = line
    verdict = Verdict(served, timed or {})
    with open(tracer.records) as file:
        for line in file:
            verdict.take(json.loads(line))
    return verdict.case(ledger)


class Verdict:
    """The sum of the comparisons."""

    WRONG = ("invented", "twice", "wrong_pair", "wrong_tuple", "wrong_status", "wrong_bytes", "wrong_path")

    def __init__(self, served, timed):
        self.served, self.timed = served, timed
        self.counts = collections.Counter()
        # A loss may leave a request and its response in two records, which say that they are halves.
        self.requests, self.responses, self.complete = set(), set(), set()
        self.against_server, self.against_client = [], []

    def take(self, record):
        asked = ((record["request"] or {}).get("target") or "").partition("?id=")[2] or None
        answered = ((record["response"] or {}).get("headers") or {}).get("x-id", [None])[0]
        identifier = asked or answered
        truth = self.served.get(identifier)
        whole = record["integrity"]["complete"]
        if truth is None or (whole and None in (asked, answered)):
            self.counts["invented"] += 1
            return
        self.counts["twice"] += asked in self.requests or answered in self.responses
        self.requests |= {asked} - {None}
        self.responses |= {answered} - {None}
        self.counts["wrong_pair"] += None not in (asked, answered) and asked != answered
        if whole:
            self.complete.add(identifier)
        self.compare(identifier, truth, record)

    def compare(self, identifier, truth, record):
        request, response, connection = record["request"], record["response"], record["connection"]
        if connection["tuple_source"] != "none":
            ports = [connection[end]["port"] for end in ("remote", "local")]
            self.counts["wrong_tuple"] += ports != [truth["remote_port"], truth["server_port"]]
        else:
            self.counts["no_tuple"] += 1
        if request:
            self.counts["wrong_path"] += request["target"] != truth["uri"] or request["method"] != truth["method"]
            self.counts["wrong_bytes"] += request["bytes"] not in (None, truth["request_length"])
        if response is None or truth["completion"] != "OK":
            return
        self.counts["wrong_status"] += response["status"] != truth["status"]
        self.counts["wrong_bytes"] += response["bytes"] not in (None, truth["bytes_sent"])
        if record["latency_ns"] is not None:
            self.against_server.append(record["latency_ns"] / 1000 - truth["request_time"] * 1e6)
            if identifier in self.timed:
                self.against_client.append((record["latency_ns"] - self.timed[identifier]) / 1000)

    def case(self, ledger):
        finished = [key for key, truth in self.served.items() if truth["completion"] == "OK"]
        missing = sum(key not in self.requests and key not in self.responses for key in finished)
        incomplete = sum(key not in self.complete for key in finished) - missing
        wrong = {key: self.counts[key] for key in self.WRONG}
        return {
            "requests": len(finished), "missing": missing, "recall": 1 - missing / max(1, len(finished)), **wrong,
            "incomplete": incomplete, "no_tuple": self.counts["no_tuple"], "balanced": ledger.balanced,
            "lost_events": ledger.total("events", "lost"),
            "error_us_to_server_log": quantiles(self.against_server),
            "error_us_to_client": quantiles(self.against_client), "ledger": ledger.plain(),
        }


def quantiles(values):
    if len(values) < 2:
        return None
    cuts = statistics.quantiles(values, n=1000, method="inclusive")
    return {"p1": cuts[9], "p50": cuts[499], "p99": cuts[989], "max": max(values), "count": len(values)}


def is_good(case):
    """What is lost under load and stands in the ledger is no lie; anything wrong is."""
    lied = any(case.get(key) for key in Verdict.WRONG)
    unexplained = (case["missing"] or case["incomplete"] or case.get("no_tuple")) and not case["lost_events"]
    return case["balanced"] and not lied and not unexplained


def show(cases):
    def error(figures):
        return f"{figures['p50']:+.0f} ({figures['p1']:+.0f}..{figures['p99']:+.0f})" if figures else "-"

    rows = [
        [name, case["requests"], f"{case['recall']:.4%}", *(case.get(key, 0) for key in Verdict.WRONG), case.get("no_tuple", 0), case["incomplete"],
         error(case.get("error_us_to_server_log")), error(case.get("error_us_to_client")),
         case["lost_events"], "yes" if case["balanced"] else "NO"]
        for name, case in cases.items()
    ]
    table(["case", "requests", "recall", *(key.replace("wrong_", "w ") for key in Verdict.WRONG), "no tuple", "incompl",
           "us to log p50 (p1..p99)", "us to client", "lost ev", "ledger"], rows)
