"""Run the server with `python -m filtered_websocket`."""

import sys

from .cli import main

sys.exit(main())
