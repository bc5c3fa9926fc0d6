"""What the tracer does when there is too much of everything."""

import concurrent.futures
import contextlib
import fcntl
import json
import os
import resource
import signal
import time

from .accuracy import Client, Verdict
from .load import wrk
from .nginx import Nginx
from .processes import Failure
from .report import Results, table
from .tracing import Tracer

HELP = "a stopped tracer, a tiny ring, one processor, a sink that blocks, very many connections, a huge download"
SMOKE = (["--only", "stopped"],)

F_SETPIPE_SZ = 1031
GIGABYTES = 2


def arguments(parser):
    parser.add_argument("--seconds", type=int, default=6, help="length of each load [%(default)s]")
    parser.add_argument("--schemes", default="tls,plain", help="[%(default)s]")
    parser.add_argument("--only", default=",".join(SCENARIOS), help="scenarios [%(default)s]")


def run(options):
    if options.quick:
        options.seconds, options.schemes = 4, "tls"
    if options.smoke:
        options.seconds, options.schemes = 3, "plain"
    resource.setrlimit(resource.RLIMIT_NOFILE, (most_files(), most_files()))
    results = Results("overload")
    for scheme in options.schemes.split(","):
        for name in options.only.split(","):
            results.add(f"{name} {scheme}", SCENARIOS[name](scheme, options.seconds))
            show({f"{name} {scheme}": results.cases[f"{name} {scheme}"]})
    show(results.new())
    return all(case["true"] for case in results.new().values())


def stopped(scheme, seconds):
    """SIGSTOP for a third of the time."""
    with Nginx(scheme, log=True) as nginx, Tracer(nginx.pid) as tracer:
        with loaded(nginx, seconds) as load:
            time.sleep(seconds / 3)
            began = time.time()
            os.kill(tracer.pid, signal.SIGSTOP)
            time.sleep(seconds / 3)
            os.kill(tracer.pid, signal.SIGCONT)
            ended = time.time()
            load.result()
        # The first second is for wrk to get going.
        return verdict(nginx, tracer, normal=(ended - seconds / 3 - 0.8, began), under=(began, ended), recovered=ended + 1)


def tiny_ring(scheme, seconds):
    """A ring of 64 KiB."""
    return against_normal(scheme, seconds, lambda nginx: Tracer(nginx.pid, "--ring-size", "64K"))


def blocked_sink(scheme, seconds):
    """Standard output is a pipe that nobody reads."""
    reader, writer = os.pipe()
    fcntl.fcntl(writer, F_SETPIPE_SZ, 4096)
    try:
        return against_normal(scheme, seconds, lambda nginx: Tracer(nginx.pid, stdout=writer))
    finally:
        os.close(reader)
        os.close(writer)


def one_cpu(scheme, seconds):
    """nginx, wrk and the tracer share one processor."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        return against_untraced(scheme, seconds, 16)
    finally:
        os.sched_setaffinity(0, before)


def many_connections(scheme, seconds):
    """20 000 connections over plain HTTP, or as many as this process may have; 4 000 over TLS, for which the client would
    need too long."""
    return against_untraced(scheme, seconds, min(20_000 if scheme == "plain" else 4000, most_files() - 600))


def new_connections(scheme, seconds):
    """As many new connections as the server takes, each for one request."""
    return against_untraced(scheme, seconds, 64, one_shot=True)


def download(scheme, _seconds):
    """One response of 2 GB."""
    size = GIGABYTES << 30

    def fetch(nginx):
        with Client(nginx) as client:
            return size / client.get(f"/{size}?id=download")

    with Nginx(scheme, sizes=[size], log=True) as nginx:
        # The first reads the file into memory.
        for _ in range(2):
            untraced = fetch(nginx)
        with Tracer(nginx.pid) as tracer:
            traced = fetch(nginx)
            case = verdict(nginx, tracer, expect={"download"})
    return case | {"keeps_of_untraced": traced / untraced}


SCENARIOS = {
    "stopped": stopped, "tiny_ring": tiny_ring, "blocked_sink": blocked_sink, "one_cpu": one_cpu,
    "many_connections": many_connections, "new_connections": new_connections, "download": download,
}


def most_files():
    """How many files wrk, nginx and the tracer may have open, each. Raised where that is allowed."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (32_768, max(hard, 32_768)))
    return resource.getrlimit(resource.RLIMIT_NOFILE)[1]


@contextlib.contextmanager
def loaded(nginx, seconds, **options):
    """Runs wrk meanwhile."""
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        yield pool.submit(wrk, nginx.url(), seconds, numbered="o", **options)


def against_normal(scheme, seconds, start):
    """The same load under a tracer as it should be, then under this one."""
    seconds = max(2, seconds // 2)
    with Nginx(scheme, log=True) as nginx, Tracer(nginx.pid) as tracer:
        normal = wrk(nginx.url(), seconds, numbered="n")["rate"]
        tracer.settle(60)
        tracer.stop()
    with Nginx(scheme, log=True) as nginx, start(nginx) as tracer:
        rate = wrk(nginx.url(), seconds, numbered="o")["rate"]
        case = verdict(nginx, tracer)
    return case | {"keeps_of_traced": rate / normal}


def against_untraced(scheme, seconds, connections, one_shot=False):
    """A load that is much even without a tracer."""
    seconds = max(2, seconds // 2)
    # wrk opens its connections in the time that it is given.
    seconds += connections // 1000
    with Nginx(scheme, log=True, connections=connections) as nginx:
        # The first run is not counted: nginx still makes its buffers.
        for _ in range(2):
            untraced = wrk(nginx.url(), seconds, connections, numbered="u", one_shot=one_shot)["rate"]
        with Tracer(nginx.pid) as tracer:
            rate = wrk(nginx.url(), seconds, connections, numbered="o", one_shot=one_shot)["rate"]
            case = verdict(nginx, tracer, expect="o")
    return case | {"keeps_of_untraced": rate / untraced, "rate": rate}


def verdict(nginx, tracer, normal=None, under=None, recovered=None, expect=""):
    """Ends both and compares. Times are those of the server's log; `expect`: prefixes of the ids that were traced."""
    settled = tracer.settle(120)
    nginx.stop()
    ledger = tracer.stop()
    log = [json.loads(line) for line in nginx.access_log() if "?id=" in line]
    prefixes = tuple(expect) if isinstance(expect, set) else expect
    served = {entry["uri"].split("?id=")[1]: entry for entry in log}
    served = {key: entry for key, entry in served.items() if key.startswith(prefixes)}
    found = Verdict(served, {})
    after_recovery = 0
    if tracer.records.exists():
        late = {key for key, entry in served.items() if recovered and entry["msec"] - entry["request_time"] > recovered
                and entry["completion"] == "OK"}
        with open(tracer.records) as file:
            for record in map(json.loads, file):
                found.take(record)
                if record["integrity"]["complete"]:
                    late.discard(((record["request"] or {}).get("target") or "").partition("?id=")[2])
        after_recovery = len(late)
    case = found.case(ledger)
    case["wrong"] = sum(case[key] for key in Verdict.WRONG)
    case["written_as_counted"] = not tracer.records.exists() or tracer.lines() == ledger.get("records", "written: json")
    case["shed"] = ledger.get("connections", "shed")
    case["sink_dropped"] = ledger.get("records", "dropped: json")
    case["lost_after_recovery"] = after_recovery
    case["settled_s"] = settled
    case["tracer_mb"] = tracer.peak_kb / 1024
    case["true"] = case["balanced"] and not case["wrong"] and case["written_as_counted"] and not after_recovery
    if normal:
        case["keeps_of_traced"] = per_second(log, *under) / per_second(log, *normal)
    return case


def is_good(case):
    """True, and the traced process hardly notices."""
    return case["true"] and case.get("keeps_of_traced", 1) >= 0.95


def per_second(log, begin, end):
    count = sum(begin <= entry["msec"] < end for entry in log)
    if not count:
        raise Failure("nothing was served")
    return count / (end - begin)


def show(cases):
    def percent(case, key):
        return f"{case[key]:.1%}" if key in case else "-"

    rows = [
        [name, case["requests"], percent(case, "keeps_of_traced"), percent(case, "keeps_of_untraced"),
         f"{case['recall']:.2%}", case["wrong"], case["incomplete"], case["lost_events"], case["sink_dropped"],
         case["shed"], case["lost_after_recovery"], f"{case['settled_s']:.1f}", f"{case['tracer_mb']:.0f}",
         "yes" if case["balanced"] and case["written_as_counted"] else "NO", "yes" if is_good(case) else "NO"]
        for name, case in cases.items()
    ]
    table(["case", "requests", "of traced", "of untraced", "recall", "wrong", "incompl", "lost ev", "sink drop", "shed",
           "lost after 1 s", "settled s", "MB", "ledger", "good"], rows)
