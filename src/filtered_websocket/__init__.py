"""A ready WebSocket server that you program like a UNIX pipeline.

A map of the package, from the command to the wire:

- `cli`, `options`, `config`, `importer`: what the command line, the environment and the file say
- `migration`: what programs for 0.4.1 do not find any more
- `runner`: the life of a server: start, serve, drain, stop
- `client_port`, `sockets`, `tls`, `listener`: where it listens, and how it accepts
- `operation`: what operators look at: logs, metrics, traces, readiness, the drain
- `server`: one connection and the server it belongs to; which event runs which chain
- `filters`: the chains (`filters.base`) and the bundled filters, one file each
- `users`: who is connected, and how what is sent leaves in one write per loop turn
- `server_protocol`: handshake, frames, close codes; the only place that knows the engine
- `storage_objects`: what filters remember about clients
- `counters`: what is counted, as plain integers
- `frames`, `typing`: the vocabulary of all of them
- `testing`: pipelines in memory, for the tests of filters
"""

from .typing import DropMessage, Message, RejectHandshake, Request

__version__ = "1.0.0.dev0"

__all__ = ["DropMessage", "Message", "RejectHandshake", "Request", "__version__"]
