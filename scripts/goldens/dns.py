"""dnsmasq, asked by dig."""
import re

from .process import Server, run, unused_port

NAMES = [("host.test", "A"), ("host.test", "AAAA"), ("alias.test", "A"), ("missing.test", "A"), ("text.test", "TXT"),
         ("mail.test", "MX"), ("_http._tcp.test", "SRV"), ("elsewhere.example", "A")]


def serve(directory):
    port = unused_port()
    server = Server(
        ["dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--no-hosts", "--pid-file=",
         "--user=root", "--log-facility=/dev/null", "--bind-interfaces", "--listen-address=127.0.0.1", f"--port={port}",
         "--local=/test/", "--host-record=host.test,192.0.2.1,2001:db8::1", "--cname=alias.test,host.test",
         "--txt-record=text.test,hello tracer", "--mx-host=mail.test,host.test,10",
         "--srv-host=_http._tcp.test,host.test,8080,1,2"], port).wait_for_port()
    yield server
    yield [ask(port, name, kind, way) for way in ("+notcp", "+tcp") for name, kind in NAMES]


def ask(port, name, kind, way):
    output = run(["dig", "@127.0.0.1", "-p", str(port), "+qr", "+tries=1", "+noall", "+comments", "+stats", "+answer",
                  way, name, kind])
    framing = 2 if way == "+tcp" else 0

    def last(pattern):
        return re.findall(pattern, output)[-1]

    return {
        "protocol": "dns",
        "connection": {"transport": "tcp" if framing else "udp"},
        "request": {"id": int(last(r" id: (\d+)")), "questions": [{"name": name, "type": kind, "class": "IN"}],
                    "bytes": int(last(r"QUERY SIZE: (\d+)")) + framing},
        "response": {"rcode": last(r"status: (\w+)"), "bytes": int(last(r"MSG SIZE  rcvd: (\d+)")) + framing},
    }
