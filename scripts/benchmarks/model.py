"""The kernel cost model: nanoseconds that each hook adds to a call, and what that predicts for nginx."""

import contextlib
import json
import pathlib
import subprocess
import sys
import tempfile

from .cost import hook_in_use
from .nginx import certificate
from .processes import Child, status_kb
from .report import Results, table
from .svg import chart
from .tracing import EmptyProbes, Tracer

HELP = "nanoseconds that hooks add to a call: entry, return, copy by size, socket hook, wake-up"
SMOKE = (["--count", "200", "--size", "64"],)
SIZES = (64, 256, 1024, 4096, 16384)
KINDS = ("memory", "tls", "tcp")
CROWD = 8
SERIES = ("untraced", "empty", "tracer", "bystander")


def arguments(parser):
    parser.add_argument("--count", type=int, default=2000, help="exchanges of each run [%(default)s]")
    parser.add_argument("--rounds", type=int, default=3, help="interleaved rounds; the least counts [%(default)s]")
    parser.add_argument("--size", type=int, action="append", help=f"bytes of a response {SIZES}")


def run(options):
    if options.quick or options.smoke:
        options.rounds = 1
    sizes = options.size or SIZES
    with tempfile.TemporaryDirectory() as folder:
        certificate(pathlib.Path(folder))
        figures = measure(sizes, options, folder)
        wake, crowd = wake_up(options, folder), crowded(options, folder)
    results = Results("model")
    results.add("calls", figures)
    model = derive(figures, sizes) | {"wake_up_ns": wake, "tls_call_each_other_process_ns": crowd}
    results.add("model", model)
    show(figures, model)
    predictions = {name: predict(name, case["series"], model) for name, case in Results("cost").cases.items()
                   if "events" in case["series"].get("tracer", {}) and "copy_ns_per_kib" in model}
    if predictions:
        results.add("predictions", predictions)
        table(["nginx", "predicted us", "measured us"],
              [[name, f"{each['predicted_us']:.2f}", f"{each['measured_us']:.2f}"] for name, each in predictions.items()])
    if len(sizes) > 1:
        draw(figures, sizes)
    return True


class Victim:
    """A process that makes calls; see victim.py."""

    def __init__(self, folder):
        command = [sys.executable, pathlib.Path(__file__).with_name("victim.py"), folder]
        self.child = Child(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.pid = self.child.pid
        self.child.process.stdout.readline()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.child.__exit__()

    def run(self, kind, size, count):
        self.child.process.stdin.write(f"{kind} {size} {count}\n")
        self.child.process.stdin.flush()
        return json.loads(self.child.process.stdout.readline())


def measure(sizes, options, folder):
    """The least median of each call, for each kind and size in each series. What disturbs only ever adds.

    All in one process: the kernel goes through the probes of every traced process at each hit."""
    hook = hook_in_use()
    cases = [(kind, size) for kind in KINDS for size in sizes]
    figures = {f"{kind} {size}": {name: {} for name in SERIES} for kind, size in cases}
    with Victim(folder) as victim, Victim(folder) as other:
        for _ in range(options.rounds):
            for name in SERIES:
                with attached(name, victim.pid, other.pid, hook):
                    for kind, size in cases:
                        victim.run(kind, size, options.count // 10)
                        keep_least(figures[f"{kind} {size}"][name], victim.run(kind, size, options.count))
    return figures


def keep_least(least, run):
    for call, value in run.items():
        least[call] = min(value["median"], least.get(call, value["median"]))


def attached(name, victim, other, hook):
    if name == "empty":
        return EmptyProbes([victim], "sites", hook)
    if name == "untraced":
        return contextlib.nullcontext()
    return Tracer(victim if name == "tracer" else other)


def wake_up(options, folder):
    """What waking the tracer adds to a call: the same calls with a ring that is so small that it happens often.
    Means, not medians: few calls wake it. None: too few wake-ups to say."""
    means, wakes = {}, {}
    with Victim(folder) as victim:
        for ring in ("64K", "16M"):
            with Tracer(victim.pid, "--ring-size", ring, "--no-shed") as tracer:
                victim.run("tcp", 4096, options.count)
                before = switches(tracer.pid)
                means[ring] = victim.run("tcp", 4096, options.count)["write"]["mean"]
                wakes[ring] = switches(tracer.pid) - before
    more = wakes["64K"] - wakes["16M"]
    # Each exchange ships its response twice, as it is written and as it is read; a wake-up falls to either.
    return (means["64K"] - means["16M"]) * options.count * 2 / more if more > options.count / 10 else None


def crowded(options, folder):
    """What each other traced process adds to a TLS call: the kernel asks all the probes at a place whether they want
    this process."""
    hook, least = hook_in_use(), {"alone": {}, "crowd": {}}
    with contextlib.ExitStack() as stack:
        victim, *others = [stack.enter_context(Victim(folder)) for _ in range(1 + CROWD)]
        for _ in range(options.rounds):
            for name, pids in (("alone", [victim.pid]), ("crowd", [each.pid for each in (victim, *others)])):
                with EmptyProbes(pids, "sites", hook):
                    keep_least(least[name], victim.run("memory", 64, options.count))
    return (least["crowd"]["nothing"] - least["alone"]["nothing"]) / CROWD


def switches(pid):
    text = pathlib.Path(f"/proc/{pid}/status").read_text()
    return int(text.split("\nvoluntary_ctxt_switches:")[1].split()[0])


def derive(figures, sizes):
    """What one hook adds, from what calls with several of them add."""

    def added(case, series, call, base="untraced"):
        return figures[case][series][call] - figures[case][base][call]

    small, large = f"memory {sizes[0]}", f"memory {sizes[-1]}"
    tcp = f"tcp {sizes[0]}"
    model = {
        # Two probes with nothing behind them.
        "tls_call_empty_ns": added(small, "empty", "nothing"),
        # With the tracer's programs: a call that moves nothing, and what shipping adds.
        "tls_call_ns": added(small, "tracer", "nothing"),
        "tls_ship_ns": added(small, "tracer", "write") - added(small, "tracer", "nothing"),
        "tls_bystander_ns": added(small, "bystander", "write"),
        # The socket hook: with nothing behind it, where nothing moved, with shipping, and for who is not traced.
        "socket_empty_ns": added(tcp, "empty", "nothing"),
        "socket_nothing_ns": added(tcp, "tracer", "nothing"),
        "socket_ship_ns": added(tcp, "tracer", "write"),
        "socket_bystander_ns": added(tcp, "bystander", "write"),
        # Inside of a TLS call it ships nothing. Over sockets, a TLS call that finds nothing makes one call on its socket.
        "socket_nested_ns": added(f"tls {sizes[0]}", "tracer", "nothing") - added(small, "tracer", "nothing"),
    }
    if len(sizes) > 1:
        kilobytes = (sizes[-1] - sizes[0]) / 1024
        model["copy_ns_per_kib"] = (added(large, "tracer", "write") - added(small, "tracer", "write")) / kilobytes
    return model


def predict(name, series, model):
    """What the model says that tracing adds to a request of nginx, from how often each hook ran in it."""
    figures = {key: value["median"] for key, value in series["tracer"].items() if isinstance(value, dict)}
    sockets = figures["socket_send_hits"] + figures["socket_receive_hits"]
    copied = figures["captured_kib"] * model["copy_ns_per_kib"]
    if name.startswith("tls"):
        calls = figures["tls_enter_hits"] * model["tls_call_ns"] + figures["events"] * model["tls_ship_ns"]
        predicted = calls + sockets * model["socket_nested_ns"] + copied
    else:
        ships = min(figures["events"], sockets)
        predicted = ships * model["socket_ship_ns"] + (sockets - ships) * model["socket_nothing_ns"] + copied
    return {"predicted_us": predicted / 1000, "measured_us": figures["added_us"]}


def show(figures, model):
    rows = []
    for case, series in figures.items():
        for call, base in series["untraced"].items():
            rows.append([case, call, f"{base:.0f}", *(f"{series[name][call] - base:+.0f}" for name in SERIES[1:])])
    table(["calls, bytes", "call", "untraced ns", *SERIES[1:]], rows)
    table(["model", "ns"], [[name, "-" if value is None else f"{value:.0f}"] for name, value in model.items()])


def draw(figures, sizes):
    lines = {
        f"{kind}: {call}": [(size, figures[f"{kind} {size}"]["tracer"][call] - figures[f"{kind} {size}"]["untraced"][call])
                            for size in sizes]
        for kind in ("memory", "tcp") for call in ("write", "read")
    }
    chart("model-copy", "What tracing adds to a call, by its bytes", "bytes", "ns", lines, logarithmic=True)
