"""The Autobahn test suite against `fws_server`; `make compliance` runs it.

- `__main__` starts the server (with the filter `echo`), runs the cases and compares the results.
- `expectations` reads, compares and writes `expectations.json`.
- `suite` has a Python environment of its own, in `build/autobahn`: `requirements.txt` is what goes
  there, `port.py` brings the suite to Python 3, `fuzz.py` runs cases.
"""
