"""A long time at full load, with connections that come and go: whether anything grows, and whether a line is lost."""

import concurrent.futures
import os
import signal
import time

from . import bpf
from .load import wrk
from .nginx import Nginx
from .processes import open_files, status_kb
from .report import Results, table
from .tracing import Tracer

HELP = "minutes of full load with connection churn and log rotation: memory, descriptors, maps, ledger, lines"
SMOKE = (["--minutes", "0.1", "--schemes", "plain"],)

# What may differ between samples that are equal in effect: connections come and go while they are counted.
SLACK_KB, SLACK_ENTRIES = 4096, 1024


def arguments(parser):
    parser.add_argument("--minutes", type=float, default=10, help="[%(default)s]")
    parser.add_argument("--schemes", default="tls", help="[%(default)s]")
    parser.add_argument("--rotate", type=float, default=10, help="seconds between rotations of the output [%(default)s]")


def run(options):
    if options.quick:
        options.minutes = min(options.minutes, 3)
    if options.smoke:
        options.rotate = 2
    results = Results("soak")
    for scheme in options.schemes.split(","):
        results.add(f"{options.minutes:g} minutes {scheme}", soak(scheme, options.minutes * 60, options.rotate))
    show(results.new())
    return all(case["good"] for case in results.new().values())


def soak(scheme, seconds, rotate):
    samples, lines, torn = [], 0, 0
    with Nginx(scheme, workers=2) as nginx, Tracer(nginx.pid) as tracer:
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            steady = pool.submit(wrk, nginx.url(), round(seconds), 16, threads=1)
            churn = pool.submit(wrk, nginx.url(), round(seconds), 16, threads=1, one_shot=True)
            number, began = 0, time.monotonic()
            while not (steady.done() and churn.done()):
                time.sleep(rotate)
                number += 1
                lines, torn = add(rotated(tracer, number), lines, torn)
                samples.append(sample(tracer, time.monotonic() - began))
            requests = steady.result()["requests"] + churn.result()["requests"]
        tracer.settle(60)
        nginx.stop()
        ledger = tracer.stop()
        lines, torn = add(tracer.records, lines, torn)
    case = growth(samples) | {
        "requests": requests, "lines": lines, "torn": torn, "samples": samples, "balanced": ledger.balanced,
        "lines_as_counted": lines == ledger.get("records", "written: json") and not torn,
        "incomplete": ledger.get("records", "incomplete"), "lost_events": ledger.total("events", "lost"),
        "ledger": ledger.plain(),
    }
    return case | {"good": case["flat"] and case["balanced"] and case["lines_as_counted"]}


def rotated(tracer, number):
    """Moves the output away and tells the tracer, as logrotate does; the old file once nothing more comes to it."""
    old = tracer.records.with_suffix(f".{number}")
    os.rename(tracer.records, old)
    os.kill(tracer.pid, signal.SIGHUP)
    deadline = time.monotonic() + 10
    while not tracer.records.exists() and time.monotonic() < deadline:
        time.sleep(0.005)
    time.sleep(0.2)
    return old


def add(path, lines, torn):
    """Counts the lines of a file that is over, and whether its last one is whole; then it is not needed any more."""
    end = b"\n"
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            lines, end = lines + block.count(b"\n"), block[-1:]
    if path.suffix != ".jsonl":
        path.unlink()
    return lines, torn + (end != b"\n")


def sample(tracer, when):
    return {
        "at_s": when, "rss_kb": status_kb(tracer.pid, "VmRSS"), "files": open_files(tracer.pid),
        "entries": sum(bpf.entries(tracer.pid).values()),
    }


def growth(samples):
    """Whether it is flat: the second half against the first, after the first minute where it took longer than that."""
    settled = [each for each in samples if each["at_s"] >= 60] or samples
    middle, late = settled[: max(1, len(settled) // 2)], settled[len(settled) // 2:]
    grown = {key: max(each[key] for each in late) - max(each[key] for each in middle) for key in ("rss_kb", "files", "entries")}
    flat = grown["rss_kb"] <= SLACK_KB and grown["files"] <= 0 and grown["entries"] <= SLACK_ENTRIES
    return {"growth": grown, "flat": flat, "peak_kb": max(each["rss_kb"] for each in samples)}


def show(cases):
    rows = [
        [name, case["requests"], case["lines"], case["torn"], "yes" if case["lines_as_counted"] else "NO",
         case["incomplete"], case["lost_events"], f"{case['peak_kb'] / 1024:.1f}", f"{case['growth']['rss_kb']:+d}",
         f"{case['growth']['files']:+d}", f"{case['growth']['entries']:+d}", "yes" if case["balanced"] else "NO",
         "yes" if case["good"] else "NO"]
        for name, case in cases.items()
    ]
    table(["case", "requests", "lines", "torn", "as counted", "incomplete", "lost events", "peak MB", "RSS kB", "files",
           "map entries", "ledger", "good"], rows)
