"""Broadcast on picows with nothing else: python picows_server.py PORT.

What one turn of the event loop brings is joined, and written once to each client. There are no
limits, no fragments, and no check of UTF-8.
"""

import asyncio
import sys
from collections import defaultdict
from itertools import accumulate

import uvloop
from picows import WSListener, WSMsgType, ws_create_server

transports = {}
batch = []
sent_by = defaultdict(list)  # indices of batch


class Client(WSListener):
    def on_ws_connected(self, transport):
        transports[self] = transport.underlying_transport

    def on_ws_disconnected(self, transport):
        transports.pop(self, None)

    def on_ws_frame(self, transport, frame):
        if frame.msg_type == WSMsgType.CLOSE:
            transport.disconnect()
            return
        if not batch:
            asyncio.get_running_loop().call_soon(flush)
        sent_by[self].append(len(batch))
        batch.append(text_frame(frame.get_payload_as_bytes()))


def text_frame(payload):
    length = len(payload)
    if length < 126:
        return bytes((0x81, length)) + payload
    return b"\x81\x7e" + length.to_bytes(2, "big") + payload


def flush():
    joined = b"".join(batch)
    for client, transport in transports.items():
        if client not in sent_by:
            transport.write(joined)
    view = memoryview(joined)
    ends = [0, *accumulate(map(len, batch))]
    for client, own in sent_by.items():
        if client in transports:
            starts = [0, *(ends[index + 1] for index in own)]
            stops = [*(ends[index] for index in own), len(joined)]
            others = [view[a:b] for a, b in zip(starts, stops, strict=True) if a < b]
            transports[client].writelines(others)
    batch.clear()
    sent_by.clear()


async def main(port):
    server = await ws_create_server(lambda request: Client(), "127.0.0.1", port)
    await server.serve_forever()


uvloop.run(main(int(sys.argv[1])))
