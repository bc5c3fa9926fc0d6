"""`serve PORT`: a service without generated code, whose messages are bytes. `ask PORT`: calls it, and writes down each
call as [method, messages sent, messages received, status, message]. Runs in target/python."""
import argparse
import concurrent.futures
import json
import pathlib
import sys
import time

import grpc


def refuse(request, context):
    context.abort(grpc.StatusCode.FAILED_PRECONDITION, "sold out: 100 %, für immer")


def sleep(request, context):
    time.sleep(1)
    return request


def count(request, context):
    for number in range(int(request)):
        yield b"message %d" % number


def talk(requests, context):
    yield from requests


def serve(options):
    methods = {
        "Echo": grpc.unary_unary_rpc_method_handler(lambda request, context: request),
        "Refuse": grpc.unary_unary_rpc_method_handler(refuse),
        "Sleep": grpc.unary_unary_rpc_method_handler(sleep),
        "Count": grpc.unary_stream_rpc_method_handler(count),
        "Join": grpc.stream_unary_rpc_method_handler(lambda requests, context: b",".join(requests)),
        "Talk": grpc.stream_stream_rpc_method_handler(talk),
    }
    server = grpc.server(concurrent.futures.ThreadPoolExecutor(max_workers=8))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.v1.Service", methods),))
    address = f"127.0.0.1:{options.port}"
    if options.tls:
        key, certificate = ((options.tls / name).read_bytes() for name in ("key.pem", "cert.pem"))
        server.add_secure_port(address, grpc.ssl_server_credentials([(key, certificate)]))
    else:
        server.add_insecure_port(address)
    server.start()
    server.wait_for_termination()


def connect(options):
    address = f"127.0.0.1:{options.port}"
    if options.tls:
        return grpc.secure_channel(address, grpc.ssl_channel_credentials((options.tls / "cert.pem").read_bytes()))
    return grpc.insecure_channel(address)


def ask(options):
    def note(method, sent, received, code, message=None):
        print(json.dumps([method, sent, received, code.value[0], message]), file=options.log)

    def path(method):
        return "/test.v1.Service/" + method

    def unary(method, message, timeout=20):
        try:
            assert channel.unary_unary(path(method))(message, timeout=timeout) == message
            note(method, 1, 1, grpc.StatusCode.OK)
        except grpc.RpcError as error:
            note(method, 1, 0, error.code(), error.details())

    if options.wait:
        print("ready", flush=True)
        sys.stdin.readline()
    channel = connect(options)
    for size in (0, 1, 100, options.size):
        unary("Echo", b"x" * size)
    unary("Refuse", b"please")
    unary("Missing", b"anyone")
    note("Count", 1, len(list(channel.unary_stream(path("Count"))(b"5"))), grpc.StatusCode.OK)
    channel.stream_unary(path("Join"))(iter([b"a", b"b", b"c", b"d"]))
    note("Join", 4, 1, grpc.StatusCode.OK)
    note("Talk", 3, len(list(channel.stream_stream(path("Talk"))(iter([b"one", b"two", b"three"])))), grpc.StatusCode.OK)
    unary("Sleep", b"too long", timeout=0.3)
    echo = channel.unary_unary(path("Echo"))
    for first in range(0, options.calls, options.at_once):
        numbers = range(first, min(first + options.at_once, options.calls))
        for future in [echo.future(b"call %d" % number) for number in numbers]:
            future.result()
            note("Echo", 1, 1, grpc.StatusCode.OK)
    channel.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["serve", "ask"])
    parser.add_argument("port", type=int)
    parser.add_argument("--tls", type=pathlib.Path, metavar="DIRECTORY", help="of cert.pem and key.pem")
    parser.add_argument("--log", type=argparse.FileType("w"), default=sys.stdout, help="for the calls")
    parser.add_argument("--size", type=int, default=20000, help="of the largest message")
    parser.add_argument("--calls", type=int, default=10, help="small ones, after all others")
    parser.add_argument("--at-once", type=int, default=10)
    parser.add_argument("--wait", action="store_true", help="to connect, until a line comes in")
    options = parser.parse_args()
    {"serve": serve, "ask": ask}[options.what](options)


main()
