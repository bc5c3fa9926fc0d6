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
        wake = wake_up(options, folder)
    results = Results("model")
    results.add("calls", figures)
    model = derive(figures, sizes) | {"wake_up_ns": wake}
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

    def __init__(self, kind, size, count, folder):
        command = [sys.executable, pathlib.Path(__file__).with_name("victim.py"), kind, size, count, folder]
        self.child = Child(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.pid = self.child.pid
        self.child.process.stdout.readline()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.child.__exit__()

    def run(self):
        self.child.process.stdin.write("go\n")
        self.child.process.stdin.flush()
        return json.loads(self.child.process.stdout.readline())


def measure(sizes, options, folder):
    """The least median of each call, for each kind and size in each series. What disturbs only ever adds."""
    hook = hook_in_use()
    with contextlib.ExitStack() as stack:
        victims = {
            f"{kind} {size}": stack.enter_context(Victim(kind, size, options.count, folder))
            for kind in KINDS for size in sizes
        }
        other = stack.enter_context(Victim("tcp", 64, 1, folder))
        for victim in victims.values():
            victim.run()
        figures = {case: {name: {} for name in SERIES} for case in victims}
        for _ in range(options.rounds):
            for name in SERIES:
                with attached(name, [victim.pid for victim in victims.values()], other.pid, hook):
                    for case, victim in victims.items():
                        keep_least(figures[case][name], victim.run())
    return figures


def keep_least(least, run):
    for call, value in run.items():
        least[call] = min(value["median"], least.get(call, value["median"]))


def attached(name, pids, other, hook):
    if name == "empty":
        return EmptyProbes(pids, "sites", hook)
    if name == "untraced":
        return contextlib.nullcontext()
    return Tracer(",".join(map(str, pids)) if name == "tracer" else other)


def wake_up(options, folder):
    """What waking the tracer adds to a call: the same calls with a ring that is so small that it happens often.
    Means, not medians: few calls wake it. None: too few wake-ups to say."""
    means, wakes = {}, {}
    with Victim("tcp", 4096, options.count, folder) as victim:
        for ring in ("64K", "16M"):
            with Tracer(victim.pid, "--ring-size", ring, "--no-shed") as tracer:
                victim.run()
                before = switches(tracer.pid)
                means[ring] = victim.run()["write"]["mean"]
                wakes[ring] = switches(tracer.pid) - before
    more = wakes["64K"] - wakes["16M"]
    # Each exchange ships its response twice, as it is written and as it is read; a wake-up falls to either.
    return (means["64K"] - means["16M"]) * options.count * 2 / more if more > options.count / 10 else None


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
    return {"predicted_us": predicted / 1000, "measured_us": series["tracer"]["added_us"]}


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
