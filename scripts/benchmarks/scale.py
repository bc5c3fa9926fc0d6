"""How cost grows: with connections, processes, bytes of a response, and the rate of requests."""

from .cost import loaded_worker
from .nginx import Nginx
from .processes import cpu_ns
from .report import Results, table
from .svg import chart
from .tracing import Tracer

HELP = "cost over connections, processes, size and rate, as a table and as SVG"
SMOKE = (["--only", "connections", "--seconds", "1", "--schemes", "plain"],)
POINTS = {
    "connections": (1, 4, 16, 64, 256, 1024),
    "processes": (1, 2, 4, 8),
    "size": (256, 1024, 4096, 16384, 65536, 262144, 1048576),
    # Requests per second of 100 connections that wait between them.
    "rate": (500, 1000, 2000, 5000, 10000, 20000),
}


def arguments(parser):
    parser.add_argument("--seconds", type=int, default=2, help="length of each run [%(default)s]")
    parser.add_argument("--only", default=",".join(POINTS), help="[%(default)s]")
    parser.add_argument("--schemes", default="tls,plain", help="[%(default)s]")


def run(options):
    results = Results("scale")
    for what in options.only.split(","):
        points = POINTS[what][::3] if options.quick or options.smoke else POINTS[what]
        lines = {}
        for scheme in options.schemes.split(","):
            measured = [measure(scheme, what, point, options.seconds) for point in points]
            results.add(f"{what} {scheme}", {"points": measured})
            show(what, scheme, measured)
            for key, name in (("added_us", "nginx"), ("tracer_us", "tracer")):
                lines[f"{scheme}: {name}"] = [(each["at"], each[key]) for each in measured]
        chart(f"scale-{what}", f"Processor time that tracing adds, by {what}", what, "us a request", lines, logarithmic=True)
    return True


def measure(scheme, what, point, seconds):
    """One point: untraced, then under the tracer."""
    size = point if what == "size" else 1024
    connections = {"connections": point, "rate": 100}.get(what, 16)
    workers = point if what == "processes" else 1
    # wrk waits this many milliseconds before each request; the requests themselves take little of them.
    delay = round(1000 * connections / point) if what == "rate" else None
    with Nginx(scheme, workers, [size], connections=connections) as nginx:
        loaded_worker(nginx, size, 1, connections, delay)
        untraced = loaded_worker(nginx, size, seconds, connections, delay)
        with Tracer(nginx.pid) as tracer:
            before = cpu_ns(tracer.pid)
            traced = loaded_worker(nginx, size, seconds, connections, delay)
            tracer.settle(60)
            used = cpu_ns(tracer.pid) - before
            ledger = tracer.stop()
    return {
        "at": point, "untraced_rate": untraced["rate"], "traced_rate": traced["rate"],
        "keeps": traced["rate"] / untraced["rate"], "nginx_us": untraced["nginx_us"],
        "added_us": traced["nginx_us"] - untraced["nginx_us"], "tracer_us": used / 1000 / traced["requests"],
        "tracer_mb": tracer.peak_kb / 1024, "reported": min(1, ledger.get("records", "http") / traced["requests"]),
        "balanced": ledger.balanced, "shed": ledger.get("connections", "shed"),
    }


def show(what, scheme, points):
    rows = [
        [each["at"], f"{each['untraced_rate']:.0f}", f"{each['traced_rate']:.0f}", f"{each['keeps']:.1%}",
         f"{each['nginx_us']:.2f}", f"{each['added_us']:+.2f}", f"{each['tracer_us']:.2f}", f"{each['tracer_mb']:.1f}",
         f"{each['reported']:.2%}", each["shed"]]
        for each in points
    ]
    print(f"{scheme}, by {what}")
    table([what, "untraced/s", "traced/s", "keeps", "nginx us", "added", "tracer us", "MB", "reported", "shed"], rows)
