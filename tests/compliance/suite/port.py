"""Port the installed Autobahn test suite, which is for Python 2, to the Python that runs this.

Only the fuzzing client and its cases are ported. No case's literals, expectations, close codes or
timeouts change. Each edit below tells its reason, and one that does not find exactly what it
expects ends the port: then the package is not the one in `requirements.txt`.
"""

import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

HERE = Path(__file__).parent
SITE_PACKAGES = Path(sysconfig.get_path("purelib"))
SUITE = SITE_PACKAGES / "autobahntestsuite"
CASES = 517
PY2STR = "from autobahntestsuite import py2str as binascii"


def main():
    escape_octets()
    convert_syntax()
    shutil.copy(HERE / "py2str.py", SUITE)
    edit_package()
    edit_cases()
    edit_client()
    edit_library()
    check()


def escape_octets():
    """Write octets beyond ASCII as \\xNN, which is what Python 2 takes them for in a literal."""
    for path in SUITE.rglob("*.py"):
        source = path.read_bytes().replace(b"\r\n", b"\n")
        path.write_bytes(re.sub(rb"[\x80-\xff]", lambda octet: b"\\x%02x" % octet[0][0], source))


def convert_syntax():
    """Let the successor of 2to3 do what can be done by rule: imports, print, dicts."""
    # Upstream does not list case 9.9.1 either, and it does not work on Python 3.
    (SUITE / "case" / "case9_9_1.py").unlink()
    sources = [SUITE / "case", SUITE / "caseset.py", SUITE / "fuzzing.py"]
    command = [sys.executable, "-m", "fissix", "--write", "--nobackups", "--no-diffs"]
    done = subprocess.run(command + sources, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(done.stderr)


def edit_package():
    # It imports every tool of the suite; we have ported one.
    (SUITE / "__init__.py").write_text("from ._version import __version__ as version\n")


def edit_cases():
    cases = SUITE / "case"
    edit(cases / "__init__.py", (r"^from case9_9_1 import \*\n", "", 1))

    # Every class is an object now, and naming `object` before its child is an error.
    for name, count in ("6_x_x", 1), ("7_7_X", 1), ("7_9_X", 1), ("9_7_X", 1), ("12_x_x", 2):
        edit(cases / f"case{name}.py", (r"\(object, Case, \)", "(Case,)", count))

    # Hexadecimal digits of strings.
    for name in "6_2_1 6_2_2 6_2_3 6_2_4 6_3_1 6_3_2 6_4_1 6_4_2 6_4_3 6_4_4 7_5_1".split():
        edit(cases / f"case{name}.py", (r"^import binascii$", PY2STR, 1))
    edit(cases / "case6_x_x.py", (r"^import binascii$", PY2STR, 2))

    # The validator that decides which prefixes of 6.x are valid wants octets.
    edit(
        cases / "case6_x_x.py",
        (r"v\.validate\((vss\[:i\])\)", r"v.validate(binascii.octets(\1))", 1),
    )

    # A count of frames, which / does not give any more.
    edit(cases / "case10_1_1.py", (r"len\(self\.payload\) / self", "len(self.payload) // self", 1))

    edit(
        cases / "case12_x_x.py",
        # setuptools has lost pkg_resources.
        (r"^(import copy, os), pkg_resources, (hashlib), binascii$", rf"\1, \2\n{PY2STR}", 1),
        (
            r'pkg_resources\.resource_filename\("autobahntestsuite", "testdata/%s" % (.+)\)$',
            r'os.path.join(os.path.dirname(__file__), "..", "testdata", \1)',
            3,
        ),
        # These cases hash and decode what they get, so they work on octets.
        (r"^(def onMessage\(self, msg, binary\):)$", r"\1\n   msg = binascii.octets(msg)", 1),
        (r"^      msg = ''$", "      msg = b'' if self.TESTDATA['binary'] else ''", 1),
    )


def edit_client():
    edit(
        SUITE / "fuzzing.py",
        (
            r"^(import os, json), binascii, (time, textwrap), pkg_resources$",
            rf"\1, \2\n{PY2STR}",
            1,
        ),
        # Nobody makes HTML reports here, and they would need one more package.
        (r"^from \.report import (.*\\\n)+.*\n", "", 1),
        # What cases send ...
        (r"^(   MAX_WIRE_LOG_DATA = 256\n)", rf"\1{TO_THE_WIRE}", 1),
        # ... and get.
        (r"\.onPong\(payload\)$", ".onPong(binascii.chars(payload))", 1),
        (
            r"runCase\.onMessage\(msg, binary\)$",
            "runCase.onMessage(binascii.chars(msg), binary)",
            1,
        ),
        # The log shows UTF-8 as text and anything else in hexadecimal digits.
        (r"^(def asciiLogData\(.*\):)$", r"\1\n   data = binascii.octets(data)", 1),
        (r"(dd = data\[:maxlen\] \+) ellipses", r"\1 ellipses.encode()", 1),
        (r"''\.join\(payload\)", "b''.join(payload)", 1),
    )


def edit_library():
    # A count of repetitions, as above.
    edit(
        SITE_PACKAGES / "autobahn" / "websocket" / "protocol.py",
        (r"range\(payload_len / len\(payload\)\)", "range(payload_len // len(payload))", 1),
    )


TO_THE_WIRE = """
   def sendFrame(self, opcode, payload = b"", **kw):
      super().sendFrame(opcode, binascii.octets(payload), **kw)

   def sendMessage(self, payload, *args, **kw):
      super().sendMessage(binascii.octets(payload), *args, **kw)

   def sendMessageFrameData(self, payload, *args, **kw):
      return super().sendMessageFrameData(binascii.octets(payload), *args, **kw)

   def sendCloseFrame(self, code = None, reasonUtf8 = None, isReply = False):
      super().sendCloseFrame(code, binascii.octets(reasonUtf8), isReply)
"""


def edit(path, *edits):
    """Replace regular expressions; each must be found as often as its edit says."""
    source = path.read_text()
    for pattern, replacement, expected in edits:
        source, count = re.subn(pattern, replacement, source, flags=re.MULTILINE)
        if count != expected:
            sys.exit(f"{path}: expected {pattern} {expected} times, found it {count} times")
    path.write_text(source)


def check():
    """Tell when cases are lost, or when strings of octets are not what they were."""
    from autobahntestsuite.case import Cases
    from autobahntestsuite.case.case6_x_x import createUtf8TestSequences

    if len({case.__name__ for case in Cases}) != CASES:
        sys.exit(f"the suite has {len(Cases)} cases, not {CASES}")
    for _, sequences in createUtf8TestSequences():
        for is_valid, string in sequences:
            try:
                string.encode("latin-1").decode()
            except UnicodeDecodeError:
                if is_valid:
                    sys.exit(f"the suite takes {string!r} for UTF-8, Python does not")
            else:
                if not is_valid:
                    sys.exit(f"Python takes {string!r} for UTF-8, the suite does not")


if __name__ == "__main__":
    main()
