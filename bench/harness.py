"""What all benchmarks share: servers in processes of their own, on a core of their own."""

import json
import os
import random
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path

BENCH = Path(__file__).parent
BUILD = BENCH.parent / "build" / "bench"
CORES = sorted(os.sched_getaffinity(0)) if sys.platform == "linux" else [0]
SERVER_CORE, CLIENT_CORE = CORES[0], CORES[min(1, len(CORES) - 1)]


def fws_server(*options):
    """Return the command of a server with `options`, less the port, its last word."""
    program = Path(sys.executable).with_name("fws_server")
    return [program, "--log_level", "warning", *options, "-p"]


BROADCAST = fws_server("-f", "filtered_websocket.filters.broadcast_messages")


def compiled(name, *flags):
    source, program = BENCH / f"{name}.c", BUILD / "".join((name, *flags))
    if program.exists() and program.stat().st_mtime > source.stat().st_mtime:
        return program
    if not shutil.which("gcc"):
        sys.exit(f"the benchmark needs gcc, to compile {source}")
    BUILD.mkdir(parents=True, exist_ok=True)
    command = ["gcc", "-O3", "-march=native", "-o", program, source, *flags]
    if subprocess.run(command).returncode:
        needs = "; it needs zlib and its header (zlib1g-dev)" if "-lz" in flags else ""
        sys.exit(f"{source} cannot be compiled{needs}")
    return program


def run_benchmark(main):
    """Run a program where it can measure; Ctrl-C and SIGTERM end it, and what it has started."""
    if sys.platform != "linux":
        sys.exit("the benchmarks need Linux: they are built on epoll and read /proc")
    if len(CORES) < 2:
        sys.exit("the benchmarks need two cores: one for the server, one for the clients")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)


def positive(text):
    """Return the number that an option was given. Raises ValueError for 0 and less."""
    number = int(text)
    if number < 1:
        raise ValueError
    return number


def raise_descriptor_limit():
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


class RunFailed(SystemExit):
    """A run lost or reordered something, or stalled; ends the benchmark unless it is caught."""


def run_wsload(mode, pid, port, *arguments):
    """Return what `wsload` has measured on a server."""
    flags = ("-DDEFLATE", "-lz") if "--deflate" in arguments else ()
    command = [compiled("wsload", *flags), mode, *map(str, arguments)]
    command += ["--port", str(port), "--server-pid", str(pid)]
    run = subprocess.run(command, capture_output=True, text=True)
    if run.returncode:
        raise RunFailed(f"{' '.join(map(str, command))} failed:\n{run.stderr}{run.stdout}")
    return json.loads(run.stdout)


def cpu_seconds(pid):
    """Return the CPU time of a process, more exactly than /proc tells it."""
    return time.clock_gettime(~pid << 3 | 2)  # clock_getcpuclockid(3), which Python lacks


def make_certificate(folder):
    """Return a file with a certificate for localhost and its key; needs `openssl`."""
    pem = Path(folder) / "both.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
            *("-nodes", "-days", "1", "-subj", "/CN=localhost", "-keyout", pem, "-out", pem),
        ],
        check=True,
        stderr=subprocess.DEVNULL,
    )
    return pem


def pin(core):
    """Bind this process, and with it those it starts from now on, to `core`."""
    os.sched_setaffinity(0, {core})


@contextmanager
def server(*command, core=SERVER_CORE):
    """Run a server on `core` while the block runs; `command` takes a port as its last word.

    The block itself is bound to the core of the clients.
    """
    port = free_port()
    pin(core)
    process = subprocess.Popen([*command, str(port)], stdout=subprocess.DEVNULL)
    pin(CLIENT_CORE)
    try:
        wait_until_it_listens(process, port)
        yield process.pid, port
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def free_port():
    """Return a port below those that the kernel gives to clients, lest one of them takes it."""
    while True:
        with suppress(OSError):
            with socket.create_server(("127.0.0.1", random.randrange(20_000, 32_000))) as listener:
                return listener.getsockname()[1]


def wait_until_it_listens(process, port):
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return
        except ConnectionRefusedError:
            pass
        try:
            sys.exit(f"{process.args[0]} ended with status {process.wait(0.05)}")
        except subprocess.TimeoutExpired:
            pass
    sys.exit(f"{process.args[0]} does not listen on port {port}")
