"""The wire: everything between a socket and a whole message.

- `handshake`: from the first byte to an open connection, or an HTTP answer
- `request`: what the client asks for, and what RFC 6455 asks of it
- `http`: the answers to plain HTTP requests, the console page among them
- `origins`: which web pages may connect
- `forwarded`: who the client is behind trusted proxies
- `admission`: how many connections there may be
- `server`: frames to messages and back, closing, slow readers
- `parser`: bytes to frames, by the engine
- `deflate`: compressed messages
- `turns`: whose turn it is to read
- `keepalive`: pings, and the end of silent connections
- `pace`: how fast one client may send
- `limits`: all that bounds what peers may cost

Only this package and the runner know the engine (picows, aiofastnet, uvloop).
"""
