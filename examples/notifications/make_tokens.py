"""Print a page address with a token for each name: what your web application does after a login."""

import os
import sys
import time

import jwt

for name in sys.argv[1:]:
    claims = {"sub": name, "exp": int(time.time()) + 8 * 3600}
    print(
        f"{name}: http://localhost:8000/#{jwt.encode(claims, os.environ['SIGNING_KEY'], 'HS256')}"
    )
