"""What tracing costs the traced process, and the tracer itself."""

import contextlib
import json
import subprocess
import time

from .load import wrk
from .nginx import Nginx
from .processes import cpu_ns
from .report import Results, spread, table
from .tracing import EmptyProbes, Tracer, program

HELP = "requests per second, latency and processor time: untraced, under empty probes, under the tracer"
SIZES = (1024, 102400)
CONNECTIONS = (16, 256)
SMOKE = (["--only", "tls", "--size", "1024", "--connections", "16", "--series", "untraced,sites,tracer"],)
SERIES = ("untraced", "symbols", "sites", "tracer", "bystander untraced", "bystander")


def arguments(parser):
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each series, interleaved [%(default)s]")
    parser.add_argument("--seconds", type=int, default=4, help="length of each run [%(default)s]")
    parser.add_argument("--only", default="tls,plain", help="schemes [%(default)s]")
    parser.add_argument("--size", type=int, action="append", help=f"bytes of a response {SIZES}")
    parser.add_argument("--connections", type=int, action="append", help=f"connections of wrk {CONNECTIONS}")
    parser.add_argument("--series", default=",".join(SERIES), help="what to compare [%(default)s]")
    parser.add_argument("--tracer-option", action="append", default=[], help="passed on to the tracer")


def run(options):
    if options.quick:
        options.rounds, options.seconds = 3, 2
        options.size, options.connections = options.size or [1024], options.connections or [16]
    if options.smoke:
        options.rounds, options.seconds = 1, 1
    hook = hook_in_use()
    results = Results("cost")
    for scheme in options.only.split(","):
        for size in options.size or SIZES:
            for connections in options.connections or CONNECTIONS:
                case = Case(scheme, size, connections, hook, options)
                results.add(f"{scheme} {size} B c{connections}", case.measure())
                show(f"{scheme}, {size} B, {connections} connections", results.new()[results.measured[-1]])
    return all(case["series"].get("tracer", {}).get("balanced", True) for case in results.new().values())


class Case:
    """One server under one load, with each series in turn."""

    def __init__(self, scheme, size, connections, hook, options):
        self.scheme, self.size, self.connections, self.hook, self.options = scheme, size, connections, hook, options

    def measure(self):
        wanted = self.options.series.split(",")
        rounds = {name: [] for name in wanted}
        with self._nginx() as self.traced, self._nginx() as self.other:
            self._load(self.traced, 1)
            for number in range(self.options.rounds):
                # Every other round backwards, so that a drift of the machine does not favour one.
                for name in wanted if number % 2 == 0 else reversed(wanted):
                    rounds[name].append(self._series(name))
        series = {name: summary(runs) for name, runs in rounds.items()}
        compare(series, rounds)
        return {"rounds": rounds, "series": series}

    def _nginx(self):
        return Nginx(self.scheme, sizes=[self.size], connections=self.connections)

    def _load(self, nginx, seconds):
        return loaded_worker(nginx, self.size, seconds, self.connections)

    def _series(self, name):
        seconds = self.options.seconds
        # Freed pages and closed sockets of the last run are not this one's.
        time.sleep(0.2)
        if name in ("symbols", "sites"):
            with EmptyProbes(self.traced.workers, name, self.hook):
                return self._load(self.traced, seconds)
        if name == "tracer":
            return self._under_tracer(seconds)
        if name == "bystander":
            with Tracer(self.traced.pid, *self.options.tracer_option):
                return self._load(self.other, seconds)
        return self._load(self.traced if name == "untraced" else self.other, seconds)

    def _under_tracer(self, seconds):
        with Tracer(self.traced.pid, *self.options.tracer_option) as tracer:
            before = tracer.cpu_ns()
            result = self._load(self.traced, seconds)
            result["behind_s"] = tracer.settle(120)
            result["tracer_us"] = (tracer.cpu_ns() - before) / 1000 / result["requests"]
            ledger = tracer.stop()
            result["tracer_mb"] = tracer.peak_kb / 1024
            # wrk ends in the middle of some requests, which the server may have served.
            result["reported"] = min(1.0, ledger.get("records", "http") / result["requests"])
            result["incomplete"] = ledger.get("records", "incomplete") / max(1, ledger.get("records", "http"))
            result["lost"] = ledger.total("events", "lost")
            with contextlib.suppress(KeyError):
                result["written"] = ledger["records", "written: json"] == tracer.lines()
            result["shed"] = ledger.get("connections", "shed")
            result["balanced"] = ledger.balanced
            for name in ("tls_enter", "socket_send", "socket_receive"):
                result[f"{name}_hits"] = ledger.get("hook", name) / result["requests"]
            result["events"] = ledger.get("events", "emitted") / result["requests"]
            result["captured_kib"] = ledger.get("bytes", "captured") / 1024 / result["requests"]
        return result


def loaded_worker(nginx, size, seconds, connections, delay=None):
    """Runs wrk, and says what processor time nginx has used for each request."""
    began = sum(map(cpu_ns, nginx.workers))
    result = wrk(nginx.url(f"/{size}"), seconds, connections, delay=delay)
    result["nginx_us"] = (sum(map(cpu_ns, nginx.workers)) - began) / 1000 / result["requests"]
    return result


def hook_in_use():
    """The source of socket transfers that the tracer uses here."""
    output = subprocess.run([program("tracer"), "doctor", "--format", "json"], capture_output=True).stdout
    return json.loads(output)["hook"]


def summary(runs):
    """Medians of the rounds, with min and max."""
    numbers = {key for run in runs for key, value in run.items() if not isinstance(value, bool)}
    result = {key: spread([run[key] for run in runs]) for key in sorted(numbers)}
    result |= {key: all(run[key] for run in runs) for run in runs for key, value in run.items() if isinstance(value, bool)}
    return result


def compare(series, rounds):
    """Adds what only shows beside another series: of the same round, as the machine's speed drifts over the rounds."""
    for name, figures in series.items():
        base = rounds.get("bystander untraced" if name.startswith("bystander") else "untraced")
        if base:
            pairs = list(zip(rounds[name], base))
            figures["keeps"] = spread([run["rate"] / other["rate"] for run, other in pairs])
            figures["added_us"] = spread([run["nginx_us"] - other["nginx_us"] for run, other in pairs])
    if "sites" in series and "tracer" in series and (floor := series["sites"].get("added_us")) and floor["median"] > 0:
        series["tracer"]["over_floor"] = series["tracer"]["added_us"]["median"] / floor["median"]


def show(title, case):
    def pick(figures, key, form):
        value = figures.get(key)
        value = value["median"] if isinstance(value, dict) else value
        return "" if value is None else form.format(value)

    rows = []
    for name, figures in case["series"].items():
        rate = figures["rate"]
        rows.append([
            name, f"{rate['median']:.0f}", f"({rate['min']:.0f}..{rate['max']:.0f})", pick(figures, "keeps", "{:.1%}"),
            pick(figures, "p50_us", "{:.0f}"), pick(figures, "p99_us", "{:.0f}"), pick(figures, "nginx_us", "{:.2f}"),
            pick(figures, "added_us", "{:+.2f}"), pick(figures, "over_floor", "{:.2f}x"),
            pick(figures, "tracer_us", "{:.2f}"), pick(figures, "tracer_mb", "{:.1f}"),
            pick(figures, "reported", "{:.2%}"), pick(figures, "incomplete", "{:.2%}"),
        ])
    print(title)
    table(["series", "req/s", "(min..max)", "keeps", "p50 us", "p99 us", "nginx us/req", "added", "of floor",
           "tracer us/req", "MB", "reported", "incomplete"], rows)
