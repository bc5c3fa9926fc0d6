"""Servers that end with the script."""
import pathlib
import signal
import socket
import subprocess
import time

REPO = pathlib.Path(__file__).resolve().parent.parent.parent
PYTHON = str(REPO / "target/python/bin/python")


def unused_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Server:
    """A process that serves on a port."""

    def __init__(self, command, port, ending=signal.SIGTERM, **options):
        self.port = port
        self.ending = ending
        self.process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", "--", *command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **options)
        self.pid = self.process.pid

    def wait(self, ready):
        deadline = time.monotonic() + 20
        while not ready():
            if time.monotonic() > deadline or self.process.poll() is not None:
                self.stop()
                raise RuntimeError(f"{self.process.args}: does not get ready")
            time.sleep(0.02)
        return self

    def wait_for_port(self):
        return self.wait(lambda: accepts(self.port))

    def stop(self):
        self.process.send_signal(self.ending)
        self.process.wait(30)


def accepts(port):
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def run(command, **options):
    return subprocess.run(command, check=True, capture_output=True, text=True, **options).stdout


def make_certificate(directory):
    run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1",
         "-keyout", f"{directory}/key.pem", "-out", f"{directory}/cert.pem"])
