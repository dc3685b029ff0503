"""The wire: everything between a socket and a whole message.

- `handshake`: from the first byte to an open connection, or an HTTP answer
- `http`: the answers to plain HTTP requests, the console page among them
- `origins`: which web pages may connect
- `server`: frames to messages and back, closing, slow readers

Only this package and the runner know the engine (picows, aiofastnet, uvloop).
"""
