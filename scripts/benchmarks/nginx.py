"""nginx as the traced server."""

import os
import pathlib
import signal
import subprocess
import tempfile

from .processes import Child, Failure, answers, children, unused_ports, wait_for

# What accuracy is measured against: one line a request, written by the server itself.
LOG_FORMAT = (
    '{"uri":"$request_uri","method":"$request_method","status":$status,"bytes_sent":$bytes_sent,'
    '"request_length":$request_length,"request_time":$request_time,"remote_port":$remote_port,'
    '"server_port":$server_port,"connection":$connection,"pid":$pid,"completion":"$request_completion","msec":$msec}'
)


class Nginx:
    """A running nginx that serves files of given sizes: `/1024` is 1024 bytes."""

    def __init__(self, scheme, workers=1, sizes=(1024,), log=False, connections=4096):
        self.scheme, self.log = scheme, log
        self.directory = tempfile.TemporaryDirectory(prefix="bench-nginx-")
        self.path = pathlib.Path(self.directory.name)
        (self.port,) = unused_ports(1)
        self._write_files(sizes)
        (self.path / "nginx.conf").write_text(self._configuration(workers, connections))
        command = ["nginx", "-p", self.path, "-e", self.path / "error.log", "-c", self.path / "nginx.conf"]
        self.child = Child(command, signal.SIGTERM)
        try:
            wait_for("nginx serves", lambda: self._serves(workers))
        except BaseException:
            self.__exit__()
            raise
        self.pid = self.child.pid
        self.workers = children(self.pid)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.child.__exit__()
        self.directory.cleanup()

    def url(self, path="/1024"):
        return f"{'https' if self.scheme == 'tls' else 'http'}://127.0.0.1:{self.port}{path}"

    def stop(self):
        """Ends it: after that its log is complete."""
        self.child.__exit__()

    def access_log(self):
        return (self.path / "access.log").read_text().splitlines()

    def _serves(self, workers):
        if not self.child.alive():
            raise Failure("nginx did not start: " + (self.path / "error.log").read_text())
        return answers(self.port) and len(children(self.child.pid)) == workers

    def _write_files(self, sizes):
        os.chmod(self.path, 0o755)
        root = self.path / "files"
        root.mkdir()
        for size in sizes:
            with open(root / str(size), "wb") as file:
                # A big one is sparse: nobody looks at what is in it.
                file.write((b"tracer!\n" * 128)[: min(size, 1024)])
                file.truncate(size)
        if self.scheme == "tls":
            certificate(self.path)

    def _configuration(self, workers, connections):
        ssl = f"ssl_certificate {self.path}/cert.pem; ssl_certificate_key {self.path}/key.pem;"
        log = f"log_format bench escape=json '{LOG_FORMAT}'; access_log {self.path}/access.log bench buffer=64k;"
        temporary = "".join(
            f"{kind}_temp_path {self.path}/{kind}; " for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        return f"""
daemon off; user root; worker_processes {workers}; pid {self.path}/pid; worker_rlimit_nofile {connections + 512};
events {{ worker_connections {connections + 256}; }}
http {{
  {f'add_header X-Id $arg_id always; {log}' if self.log else "access_log off;"} {temporary}
  default_type application/octet-stream; sendfile on; keepalive_requests 1000000000; keepalive_timeout 600s;
  {ssl if self.scheme == "tls" else ""}
  server {{
    listen 127.0.0.1:{self.port} {"ssl" if self.scheme == "tls" else ""} backlog=8192; root {self.path}/files;
    location /missing {{ return 404 "no such thing\n"; }}
    location /slow/ {{ alias {self.path}/files/; limit_rate 2m; }}
  }}
}}
"""


def certificate(path):
    """Writes a self-signed certificate for localhost: `key.pem` and `cert.pem`."""
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-days", "2", "-subj", "/CN=localhost", "-keyout", path / "key.pem", "-out", path / "cert.pem"]
    subprocess.run(command, check=True, capture_output=True)
