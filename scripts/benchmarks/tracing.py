"""The tracer under test, and the programs that do nothing."""

import pathlib
import re
import signal
import subprocess
import tempfile
import time

from .processes import Child, Failure, cpu_ns, status_kb, wait_for

ROOT = pathlib.Path(__file__).resolve().parents[2]


def program(name):
    """A program that `cargo build --release` made."""
    path = ROOT / "target/release" / name
    if not path.exists():
        raise Failure(f"no {path}: build it (scripts/bench --build)")
    return path


def build():
    """Builds what is measured."""
    command = ["cargo", "build", "--release", "--package", "tracer", "--bin", "tracer"]
    examples = ["--example", "empty_probes"]
    subprocess.run(command + examples, cwd=ROOT, check=True)


class Tracer:
    """A running tracer that writes JSON to a file."""

    def __init__(self, pid, *options, stdout=None, prefix=()):
        self.directory = tempfile.TemporaryDirectory(prefix="bench-tracer-")
        path = pathlib.Path(self.directory.name)
        self.records, self.stderr = path / "records.jsonl", path / "stderr"
        if stdout is None:
            options = ("--output", self.records, *options)
        command = [*prefix, program("tracer"), "--pid", pid, "--format", "json", *options]
        with open(self.stderr, "w") as stderr:
            self.child = Child(command, signal.SIGINT, stdout=stdout or subprocess.DEVNULL, stderr=stderr)
        self.pid = self.child.pid
        self.peak_kb = 0
        try:
            wait_for("the tracer attaches", self._is_ready, 60)
        except BaseException:
            self.__exit__()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.child.__exit__()
        self.directory.cleanup()

    def _is_ready(self):
        text = self.stderr.read_text()
        if not self.child.alive():
            raise Failure("the tracer did not start: " + text)
        return "tracer: ready" in text

    def cpu_ns(self):
        return cpu_ns(self.pid)

    def settle(self, seconds=20):
        """Waits until it has nothing left to do; how long that took."""
        began = time.monotonic()

        def idle():
            before, then = self.cpu_ns(), time.monotonic_ns()
            time.sleep(0.05)
            return (self.cpu_ns() - before) / (time.monotonic_ns() - then) < 0.03

        wait_for("the tracer comes to rest", idle, seconds)
        return time.monotonic() - began

    def stop(self):
        """Ends it as Ctrl-C does; gives its ledger."""
        self.peak_kb = status_kb(self.pid, "VmHWM")
        self.child.process.send_signal(signal.SIGINT)
        code = self.child.process.wait(60)
        text = self.stderr.read_text()
        ledger = Ledger(text)
        if code != 0:
            raise Failure(f"the tracer ended with {code}: {text}")
        return ledger

    def lines(self):
        """How many records it has written."""
        with open(self.records, "rb") as file:
            return sum(block.count(b"\n") for block in iter(lambda: file.read(1 << 20), b""))


class Ledger(dict):
    """The counters that the tracer prints at its end: `ledger["records", "http"]`."""

    ROW = re.compile(r"^(\w+)  +(\S.*?)  +(\d+)$")

    def __init__(self, text):
        super().__init__()
        for row in filter(None, map(self.ROW.match, text.splitlines())):
            self[row[1], row[2]] = int(row[3])
        self.balanced = "everything is accounted for" in text
        self.imbalances = [line for line in text.splitlines() if line.startswith("UNACCOUNTED")]
        if not self:
            raise Failure("the tracer printed no ledger: " + text)

    def get(self, *key):
        return super().get(key, 0)

    def total(self, group, prefix):
        return sum(value for (of, name), value in self.items() if of == group and name.startswith(prefix))

    def plain(self):
        """As it goes into JSON."""
        return {f"{group} {name}": value for (group, name), value in self.items()} | {"balanced": self.balanced}


class EmptyProbes:
    """Programs that do nothing, at what the tracer attaches to."""

    def __init__(self, pids, at, hook):
        command = [program("examples/empty_probes"), "--pid", ",".join(map(str, pids)), "--at", at, "--hook", hook]
        self.child = Child(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        line = self.child.process.stdout.readline()
        if not line.startswith("ready"):
            self.child.__exit__()
            raise Failure("the empty programs could not be attached")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.child.__exit__()
