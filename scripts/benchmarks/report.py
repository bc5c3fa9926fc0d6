"""Results: as a table for people, as JSON in target/bench for programs."""

import datetime
import json
import os
import platform
import statistics
import subprocess

from .tracing import ROOT

# Where results go.
FOLDER = ROOT / "target/bench"


class Results:
    """What one kind of benchmark has found, by case. A case that is measured again replaces what was there."""

    def __init__(self, kind):
        self.path = FOLDER / f"{kind}.json"
        self.cases = json.loads(self.path.read_text())["cases"] if self.path.exists() else {}
        self.measured = []

    def add(self, name, case):
        """Keeps a case at once: what was measured so far survives an interruption."""
        now = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
        self.cases[name] = {**case, "measured": now}
        self.measured.append(name)
        FOLDER.mkdir(parents=True, exist_ok=True)
        self.path.write_text(json.dumps({"machine": machine(), "cases": self.cases}, indent=1) + "\n")

    def new(self):
        """The cases of this run."""
        return {name: self.cases[name] for name in self.measured}


def machine():
    """What figures depend on."""
    with open("/proc/cpuinfo") as file:
        models = [line.split(":", 1)[1].strip() for line in file if line.startswith("model name")]
    return {
        "kernel": platform.release(),
        "processor": models[0] if models else platform.machine(),
        "cpus": os.cpu_count(),
        "nginx": version(["nginx", "-v"]),
        "openssl": version(["openssl", "version"]),
        "commit": version(["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"]),
    }


def version(command):
    """What a program says of itself, if it is there."""
    try:
        output = subprocess.run(command, capture_output=True, text=True)
    except OSError:
        return None
    return (output.stdout + output.stderr).strip() or None


def spread(values):
    """Median with the least and the most."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def table(header, rows):
    """Prints rows in aligned columns: text to the left, the rest to the right."""
    cells = [[str(cell) for cell in row] for row in (header, *rows)]
    widths = [max(map(len, column)) for column in zip(*cells)]
    left = [all(isinstance(row[index], str) and not row[index][:1].isdigit() for row in rows) for index in range(len(header))]
    print()
    for row in cells:
        parts = (cell.ljust(width) if flag else cell.rjust(width) for cell, width, flag in zip(row, widths, left))
        print("  ".join(parts).rstrip())
    print(flush=True)
