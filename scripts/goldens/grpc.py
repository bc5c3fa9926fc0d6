"""A gRPC service in Python, and its client, which writes down its calls."""
import json

from .process import PYTHON, REPO, Server, run, unused_port


def serve(directory):
    port = unused_port()
    script = str(REPO / "scripts/goldens/programs/grpc_service.py")
    server = Server([PYTHON, script, "serve", str(port)], port).wait_for_port()
    yield server
    yield [entry(json.loads(line)) for line in run([PYTHON, script, "ask", str(port)]).splitlines()]


def entry(call):
    method, sent, received, status, message = call
    known = {
        "protocol": "grpc",
        "request": {"service": "test.v1.Service", "method": method, "version": "2"},
        "response": {"status": 200, "grpc_status": status, "messages": received},
    }
    if status == 4:
        # Server and client both see the time pass: which of them says so first differs.
        del known["response"]
        return known
    known["request"]["messages"] = sent
    if message:
        known["response"]["grpc_message"] = message
    return known
