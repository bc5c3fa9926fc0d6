"""Waits for a file, imports ssl only then, and asks an HTTPS server three times at once: file, port, seconds between."""
import os, sys, time

while not os.path.exists(sys.argv[1]):
    time.sleep(0.01)
import http.client, ssl

time.sleep(float(sys.argv[3]))
connection = http.client.HTTPSConnection("127.0.0.1", int(sys.argv[2]), context=ssl._create_unverified_context())
for number in range(3):
    connection.request("GET", f"/small.txt?id={number}")
    assert connection.getresponse().read() == b"Hello, tracer\n"
connection.close()
time.sleep(1)
