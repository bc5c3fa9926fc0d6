"""`serve PORT`: a service without generated code, whose messages are bytes. `ask PORT`: calls it, and prints each call
as [method, messages sent, messages received, status, message]. Runs in target/python."""
import concurrent.futures
import json
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


def serve(port):
    methods = {
        "Echo": grpc.unary_unary_rpc_method_handler(lambda request, context: request),
        "Refuse": grpc.unary_unary_rpc_method_handler(refuse),
        "Sleep": grpc.unary_unary_rpc_method_handler(sleep),
        "Count": grpc.unary_stream_rpc_method_handler(count),
        "Join": grpc.stream_unary_rpc_method_handler(lambda requests, context: b",".join(requests)),
        "Talk": grpc.stream_stream_rpc_method_handler(lambda requests, context: requests),
    }
    server = grpc.server(concurrent.futures.ThreadPoolExecutor(max_workers=8))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.v1.Service", methods),))
    server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    server.wait_for_termination()


def ask(port):
    def note(method, sent, received, code, message=None):
        print(json.dumps([method, sent, received, code.value[0], message]))

    def path(method):
        return "/test.v1.Service/" + method

    def unary(method, message, timeout=20):
        try:
            channel.unary_unary(path(method))(message, timeout=timeout)
            note(method, 1, 1, grpc.StatusCode.OK)
        except grpc.RpcError as error:
            note(method, 1, 0, error.code(), error.details())

    channel = grpc.insecure_channel(f"127.0.0.1:{port}")
    for size in (0, 1, 100, 20000):
        unary("Echo", b"x" * size)
    unary("Refuse", b"please")
    unary("Missing", b"anyone")
    note("Count", 1, len(list(channel.unary_stream(path("Count"))(b"5"))), grpc.StatusCode.OK)
    channel.stream_unary(path("Join"))(iter([b"a", b"b", b"c", b"d"]))
    note("Join", 4, 1, grpc.StatusCode.OK)
    note("Talk", 3, len(list(channel.stream_stream(path("Talk"))(iter([b"one", b"two", b"three"])))), grpc.StatusCode.OK)
    unary("Sleep", b"too long", timeout=0.3)
    futures = [channel.unary_unary(path("Echo")).future(b"call %d" % number) for number in range(10)]
    for future in futures:
        future.result()
        note("Echo", 1, 1, grpc.StatusCode.OK)
    channel.close()


{"serve": serve, "ask": ask}[sys.argv[1]](int(sys.argv[2]))
