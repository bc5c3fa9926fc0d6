"""Load by wrk, which prints what it saw as JSON."""

import json
import subprocess
import tempfile

from .processes import Failure

DONE = """
function done(summary, latency, requests)
  local e = summary.errors
  io.write(string.format(
    '\\nRESULT {"requests":%d,"duration_us":%d,"p50_us":%d,"p99_us":%d,"failed":%d,"errors":%d,"timeouts":%d}\\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
    e.status, e.connect + e.read + e.write, e.timeout))
end
"""

# Each request carries an id of its own: the thread's number and a counter.
NUMBERED = """
local thread, count = 0, 0
function setup(t) t:set("name", thread); thread = thread + 1 end
function request() count = count + 1; return wrk.format(nil, wrk.path .. "?id=" .. prefix .. name .. "-" .. count) end
"""

ONE_SHOT = 'wrk.headers["Connection"] = "close"\n'


def wrk(url, seconds, connections=16, threads=2, numbered=None, one_shot=False, delay=None):
    """Runs wrk to its end. `numbered`: a prefix for the ids of the requests; `delay`: milliseconds that each connection
    waits before a request. Errors of connections are left to the caller; responses other than 2xx and 3xx are not."""
    script = DONE
    if one_shot:
        script = ONE_SHOT + script
    if delay is not None:
        script = f"function delay() return {delay} end\n" + script
    if numbered is not None:
        script = f'prefix = "{numbered}"\n' + NUMBERED + script
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as file:
        file.write(script)
        file.flush()
        command = ["wrk", f"-t{min(threads, connections)}", f"-c{connections}", f"-d{seconds}s", "-s", file.name]
        command += ["--timeout", "30s", url]
        output = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 120)
    lines = [line for line in output.stdout.splitlines() if line.startswith("RESULT ")]
    if output.returncode or not lines:
        raise Failure(f"wrk failed: {output.stdout}{output.stderr}")
    result = json.loads(lines[0].removeprefix("RESULT "))
    if result["failed"]:
        raise Failure(f"{result['failed']} requests were answered with an error")
    result["rate"] = result["requests"] * 1e6 / result["duration_us"]
    return result
