"""The strings of Python 2 for the cases of the suite, which are written for it.

In a case a string is a string of octets. Here it is a `str` with the characters 0 to 255, one for
each octet, and becomes bytes only where it meets the wire or the standard library.

`port.py` puts this module into the package, where some modules import it as their `binascii`.
"""

import binascii


def octets(string):
    """Return what goes to the wire."""
    return string.encode("latin-1") if isinstance(string, str) else string


def chars(data):
    """Return what a case gets from the wire."""
    return data.decode("latin-1") if isinstance(data, bytes | bytearray) else data


def b2a_hex(string):
    return binascii.b2a_hex(octets(string)).decode("ascii")


hexlify = b2a_hex
