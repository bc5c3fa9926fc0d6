"""Processes that end with the benchmark, and what the kernel says of them."""

import contextlib
import os
import pathlib
import signal
import socket
import subprocess
import time


class Failure(Exception):
    """Something that the benchmark needs is missing or does not work."""


class Child:
    """A process that is ended when the benchmark ends, however that happens."""

    def __init__(self, command, ending=signal.SIGTERM, **streams):
        streams.setdefault("stdin", subprocess.DEVNULL)
        # setpriv has the kernel kill it when this process dies, and then executes it under the same pid.
        command = ["setpriv", "--pdeathsig", "KILL", "--", *map(str, command)]
        self.process = subprocess.Popen(command, start_new_session=True, **streams)
        self.pid = self.process.pid
        self.ending = ending

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.send_signal(self.ending)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(10)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self.process.wait()

    def alive(self):
        return self.process.poll() is None


def wait_for(what, condition, seconds=20):
    """Waits until a condition holds, and gives what it gave."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(0.01)
    raise Failure(f"waited {seconds} s in vain: {what}")


def children(pid):
    """The children of a process."""
    return [int(child) for child in pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def cpu_ns(pid):
    """Nanoseconds of processor time that a process has used, by its own clock (clock_getcpuclockid(3))."""
    return time.clock_gettime_ns(~pid << 3 | 2)


def status_kb(pid, field):
    """A size from /proc/PID/status: VmHWM is the peak of the resident memory."""
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1])
    raise Failure(f"process {pid} has no {field}")


def open_files(pid):
    """How many file descriptors a process has."""
    return len(os.listdir(f"/proc/{pid}/fd"))


def unused_ports(count):
    """TCP ports of the loopback interface that nobody listens on."""
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [listener.getsockname()[1] for listener in held]
    for listener in held:
        listener.close()
    return ports


def answers(port):
    """Whether somebody listens."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False
