"""nginx, asked by curl and by a client that pipelines."""
import json
import socket

from .process import Server, make_certificate, run, unused_port

CONFIGURATION = """
daemon off; master_process off; user root; pid {dir}/pid; error_log {dir}/error.log;
events {{ worker_connections 64; }}
http {{
  access_log off; client_body_temp_path {dir}/body; proxy_temp_path {dir}/p; fastcgi_temp_path {dir}/f;
  uwsgi_temp_path {dir}/u; scgi_temp_path {dir}/s; types {{ text/plain txt; }}
  gzip on; gzip_types text/plain; gzip_min_length 100; {tls}
  server {{
    listen 127.0.0.1:{port}{options}; root {dir}/files;
    location /upload/ {{ dav_methods PUT; }} location /moved {{ return 301 /small.txt; }}
  }}
}}
"""

REQUESTS = [
    ("GET", "/small.txt", []),
    ("GET", "/text.txt", []),
    ("GET", "/text.txt", ["--compressed"]),
    ("HEAD", "/text.txt", ["--head"]),
    ("GET", "/missing", []),
    ("GET", "/moved", []),
    ("PUT", "/upload/file", ["-T", "UPLOAD"]),
    ("PUT", "/upload/chunks", ["-T", "UPLOAD", "-H", "Transfer-Encoding: chunked"]),
    ("OPTIONS", "/small.txt", ["-X", "OPTIONS"]),
    ("GET", "/small.txt", ["-H", "If-Modified-Since: Fri, 31 Dec 2100 00:00:00 GMT"]),
]

# Bytes of a file that is sent.
UPLOADED = 3000

# What curl itself says of each transfer.
SAYS = json.dumps({"status": "%{http_code}", "method": "%{method}", "url": "%{url}", "received": "%{size_download}",
                   "sent": "%{size_upload}", "port": "%{local_port}", "version": "%{http_version}"})


def nginx(directory, options, tls=False):
    files = directory / "files"
    (files / "upload").mkdir(parents=True)
    (files / "small.txt").write_text("Hello, tracer\n")
    (files / "text.txt").write_text("".join(f"this is line {number:5}\n" for number in range(200)))
    (directory / "UPLOAD").write_text("u" * UPLOADED)
    certificate = ""
    if tls:
        make_certificate(directory)
        certificate = f"ssl_certificate {directory}/cert.pem; ssl_certificate_key {directory}/key.pem;"
    port = unused_port()
    text = CONFIGURATION.format(dir=directory, port=port, options=options, tls=certificate)
    (directory / "nginx.conf").write_text(text)
    command = ["nginx", "-p", str(directory), "-e", "error.log", "-c", str(directory / "nginx.conf")]
    return Server(command, port).wait_for_port()


def curl(directory, base, common, together=True):
    """All requests on one connection, or on one each."""
    commands = []
    for number, (method, path, options) in enumerate(REQUESTS):
        options = [str(directory / word) if word == "UPLOAD" else word for word in options]
        words = ["-s", "-k", "-o", "/dev/null", "-w", SAYS + "\\n", *common, *options, f"{base}{path}?id={number}"]
        if together and commands:
            commands[0] += ["--next", *words]
        else:
            commands.append(["curl", *words])
    return [entry for command in commands for entry in known(run(command))]


def known(output):
    entries = []
    for line in output.splitlines():
        said = json.loads(line)
        target = "/" + said["url"].split("/", 3)[3]
        entries.append({
            "protocol": "http",
            "connection": {"remote": {"port": int(said["port"])}},
            "request": {"method": said["method"], "target": target, "version": said["version"],
                        "body_bytes": int(said["sent"])},
            "response": {"status": int(said["status"]), "version": said["version"]},
        })
        if "chunks" in target:
            # curl counts the framing of the chunks, too.
            entries[-1]["request"]["body_bytes"] = UPLOADED
        if said["method"] != "HEAD":
            entries[-1]["response"]["body_bytes"] = int(said["received"])
    return entries


def http1(directory):
    server = nginx(directory, "")
    yield server
    base = f"http://localhost:{server.port}"
    entries = curl(directory, base, ["--http1.1", "--ipv4"])
    for entry in curl(directory, base, ["--http1.0", "--ipv4"]):
        # curl tells the version of the response only; of chunks, HTTP/1.0 has none.
        entry["request"]["version"] = "1.0"
        entries.append(entry)
    entries += pipelined(server.port)
    yield entries


def pipelined(port):
    client = socket.create_connection(("127.0.0.1", port))
    requests = [f"GET /small.txt?pipelined={number} HTTP/1.1\r\nHost: here\r\n\r\n".encode() for number in range(10)]
    client.sendall(b"".join(requests))
    file = client.makefile("rb")
    entries = []
    for number, request in enumerate(requests):
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += file.readline()
        assert head.startswith(b"HTTP/1.1 200 ") and file.read(14) == b"Hello, tracer\n"
        entries.append({
            "protocol": "http",
            "connection": {"remote": {"port": client.getsockname()[1]}},
            "request": {"method": "GET", "target": f"/small.txt?pipelined={number}", "bytes": len(request)},
            "response": {"status": 200, "bytes": len(head) + 14, "body_bytes": 14},
        })
    client.close()
    return entries


def parallel(base):
    """Many requests at once on one connection. nghttp says of each: id, times, status, size, path."""
    paths = [f"{('/small.txt', '/text.txt', '/missing')[number % 3]}?parallel={number}" for number in range(20)]
    entries = []
    for line in run(["nghttp", "-ns", "--no-dep", *(base + path for path in paths)]).splitlines():
        words = line.split()
        if len(words) == 7 and words[6] in paths:
            entries.append({
                "protocol": "http",
                "request": {"method": "GET", "target": words[6], "version": "2", "stream_id": int(words[0])},
                "response": {"status": int(words[4]), "version": "2"},
            })
    assert len(entries) == len(paths)
    return entries


def http2(directory):
    server = nginx(directory, " http2")
    yield server
    base = f"http://localhost:{server.port}"
    common = ["--http2-prior-knowledge", "--ipv4"]
    # curl 7.88 fails at the second request of a connection with prior knowledge.
    yield curl(directory, base, common, together=False) + parallel(base)


def https(directory):
    server = nginx(directory, " ssl http2", tls=True)
    yield server
    base = f"https://localhost:{server.port}"
    entries = curl(directory, base, ["--http1.1", "--ipv4"]) + curl(directory, base, ["--http2", "--ipv4"])
    for entry in entries:
        entry["connection"]["tls"] = {"library": "openssl"}
    yield entries
