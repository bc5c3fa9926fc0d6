"""The servers and clients of scripts/golden, one module a protocol.

A case is a generator: it starts its server and yields it, then makes its requests and yields what is known of them.
"""
