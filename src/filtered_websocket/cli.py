"""The command `fws_server`: from arguments to an exit code.

What belongs here: the order of a start, and how errors of it look. What does not: running the
server (`runner`), the log (`operation.logs`).
"""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from .config import ConfigError, Resolved, resolve
from .importer import ModuleError, add_storage_options, import_filters, import_storage
from .new_filter import NewFilterError, write_filter
from .operation.explain import explain
from .operation.hints import hints
from .operation.logs import set_up
from .options import default_parser
from .runner import StartError, check, run

__all__ = ["main"]

WRONG_USAGE = 2
CANNOT_START = 1
INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the server until it is told to stop; return the exit code.

    0 is a clean stop, 1 means that it could not start, 2 that it was told to do what it cannot.
    """
    _open_standard_streams()
    _make_current_directory_importable()
    _ignore_what_is_for_running_servers()
    try:
        storage_class = import_storage(os.environ.get("STORAGE_OBJECT_MODULE"))
        parser = default_parser()
        add_storage_options(storage_class, parser)
        given = parser, sys.argv[1:] if arguments is None else arguments, os.environ
        resolved = resolve(*given)
        options, warnings = resolved.options, resolved.warnings
        if "new_filter" in options:
            print(write_filter(options.new_filter, Path()), end="")
            return 0
        set_up(options.log_level, options.log_format, sys.stderr)
        _print_at_once()
        warnings += import_filters(options.filters)
        if options.explain or options.check:
            return _look(resolved, storage_class)
        for warning in warnings:
            logging.getLogger(__name__).warning(warning)
        return run(options, storage_class, lambda: resolve(*given).options)
    except (ConfigError, ModuleError, NewFilterError) as error:
        return _complain(error, WRONG_USAGE)
    except StartError as error:
        return _complain(error, CANNOT_START)
    except KeyboardInterrupt:  # before the server handles signals itself
        return INTERRUPTED
    finally:
        _give_up_what_cannot_be_printed()


def _look(resolved: Resolved, storage_class: Any) -> int:
    """Tell what would be started (`--explain`), or only what is wrong with it (`--check`)."""
    storage = check(resolved.options, storage_class)
    resolved.warnings.extend(hints(storage))
    if resolved.options.explain:
        try:
            print(explain(resolved, storage, os.environ))
        except BrokenPipeError:  # who reads it has seen enough
            pass
        except OSError as error:
            raise StartError(f"cannot print what would start: {error.strerror}") from None
    else:
        with suppress(OSError):
            for warning in resolved.warnings:
                print(f"fws_server: warning: {warning}", file=sys.stderr)
    return 0


def _open_standard_streams() -> None:
    """Let what would be printed to closed streams vanish, instead of into some socket."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free descriptor: this one
    sys.stdout = sys.stdout or open(1, "w", closefd=False)
    sys.stderr = sys.stderr or open(2, "w", closefd=False)


def _make_current_directory_importable() -> None:
    # Last, also for `python -m`: a file of the user must not hide a module that we or Python need.
    with suppress(FileNotFoundError):  # the directory is gone
        here = os.getcwd()
        sys.path[:] = [path for path in sys.path if path not in ("", here)] + [here]


def _ignore_what_is_for_running_servers() -> None:
    # `pkill -USR1 fws_server` also reaches one that is about to start, and would end it.
    for number in (signal.SIGUSR1, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


def _give_up_what_cannot_be_printed() -> None:
    # What a full disk or a closed pipe has not taken, Python would try again, and fail with.
    for name in ("stdout", "stderr"):
        try:
            getattr(sys, name).flush()
        except (OSError, ValueError):
            setattr(sys, name, open(os.devnull, "w"))


def _complain(error: Exception, exit_code: int) -> int:
    # One line, whatever an author's exception has in it.
    with suppress(OSError):  # a full disk, or a closed pipe
        print("fws_server:", " ".join(str(error).split()), file=sys.stderr)
    return exit_code


def _print_at_once() -> None:
    if hasattr(sys.stdout, "reconfigure"):
        # What a filter prints is there at once, also in a pipe, and a terminal that cannot show a
        # character does not fail the filter.
        sys.stdout.reconfigure(errors="backslashreplace", line_buffering=True)
