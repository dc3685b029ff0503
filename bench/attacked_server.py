"""Run `fws_server` with TLS on one port and without on the next, for the attack race.

So clients without TLS see what an attack on TLS does to the event loop that both share.
"""

import sys
from argparse import Namespace
from contextlib import asynccontextmanager

from filtered_websocket import runner
from filtered_websocket.cli import main
from filtered_websocket.client_port import client_port


@asynccontextmanager
async def both_ports(factory, options, certificate, readiness, activated):
    plain = Namespace(**vars(options) | {"port": options.port + 1})
    async with (
        client_port(factory, plain, None, readiness, []),
        client_port(factory, options, certificate, readiness, activated) as sockets,
    ):
        yield sockets


runner.client_port = both_ports
sys.exit(main())
