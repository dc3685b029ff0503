"""Run `fws_server` with TLS on one port and without on the next, for the attack race.

So clients without TLS see what an attack on TLS does to the event loop that both share.
"""

import sys
from contextlib import contextmanager

from filtered_websocket import runner
from filtered_websocket.cli import main
from filtered_websocket.sockets import listening_sockets

accepting = runner._accepting


@contextmanager
def accepting_both(factory, options, sockets, certificate):
    with (
        listening_sockets(options.host, options.port + 1) as plain,
        accepting(factory, options, plain, None),
        accepting(factory, options, sockets, certificate),
    ):
        yield


runner._accepting = accepting_both
sys.exit(main())
