"""An HTTPS server, or a proxy to another HTTPS server: certificate, key, [upstream's port].

Prints its port, then a line for each request: target, client's port, and for a proxy its own port towards upstream.
"""
import asyncio, ssl, sys

context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
context.load_cert_chain(sys.argv[1], sys.argv[2])
upstream = int(sys.argv[3]) if len(sys.argv) > 3 else None


async def head(reader):
    try:
        return await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None


async def ask(request):
    reader, writer = await asyncio.open_connection("127.0.0.1", upstream, ssl=ssl._create_unverified_context())
    writer.write(request)
    response = await head(reader)
    length = int(response.lower().split(b"content-length:")[1].split()[0])
    body = await reader.readexactly(length)
    port = writer.get_extra_info("sockname")[1]
    writer.close()
    return response + body, port


async def serve(reader, writer):
    while request := await head(reader):
        line = [request.split()[1].decode(), str(writer.get_extra_info("peername")[1])]
        response = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok\n"
        if upstream:
            response, port = await ask(request)
            line.append(str(port))
        print(*line, flush=True)
        writer.write(response)
        await writer.drain()
    writer.close()


async def main():
    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


asyncio.run(main())
