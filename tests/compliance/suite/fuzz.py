"""Run cases of the ported test suite against a server: `fuzz.py URL CASE ...`.

Prints one JSON object a line, one for each case that ended.
"""

import json
import sys
from contextlib import redirect_stdout
from os import devnull

import txaio
from autobahntestsuite.fuzzing import FuzzingClientFactory
from twisted.internet import reactor

KEYS = (
    *("id", "behavior", "behaviorClose", "result", "resultClose", "expectation", "expected"),
    *("received", "remoteCloseCode", "remoteCloseReason", "duration", "wirelog"),
)


def main(url, *cases):
    txaio.use_twisted()
    results = sys.stdout

    class Client(FuzzingClientFactory):
        def logCase(self, result):
            print(json.dumps({key: result[key] for key in KEYS}), file=results, flush=True)

        def createReports(self):
            """Make none: what is printed is the report."""

    with open(devnull, "w") as nowhere, redirect_stdout(nowhere):
        # The reactor keeps the client, which connects at once and stops it after the last case.
        Client({"servers": [{"agent": "fws_server", "url": url}], "cases": cases})
        reactor.run()


if __name__ == "__main__":
    main(*sys.argv[1:])
