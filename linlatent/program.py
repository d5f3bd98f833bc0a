"""What the programs have in common: how they read their flags, what they say, and how they end."""

from __future__ import annotations

import functools
import logging
import os
import re
import sys
from collections.abc import Callable

from absl import app, flags
from absl import logging as absl_logging

from linlatent import devices

# TensorFlow only reads data here; without this it greets everyone with a remark on rounding.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")


def run(program: Callable[[], None]) -> None:
    """Runs a program whose flags are defined, as the whole of this process.

    A user's mistake ends in one line, or with --verbosity=1 in a traceback.

    Args:
      program: Does the work. Its ValueError, OSError and ArithmeticError are mistakes of the user.
    """
    app.run(functools.partial(_main, program), flags_parser=_parse_flags)


def _main(program: Callable[[], None], arguments: list[str]) -> None:
    if len(arguments) > 1:
        raise app.UsageError(f"unexpected arguments: {' '.join(arguments[1:])}")
    devices.use_huge_pages()
    _show_own_messages()
    devices.keep_compiled()
    try:
        program()
    except (ValueError, OSError, ArithmeticError) as error:
        if absl_logging.level_debug():
            raise
        sys.exit(f"error: {error}")


def _parse_flags(arguments: list[str]) -> list[str]:
    try:
        return flags.FLAGS(arguments)
    except AttributeError as error:  # How ml_collections reports a field that does not exist.
        sys.exit(f"error: a --config.FIELD names no field of the configuration: {error.args[0]}")
    except (flags.Error, OSError) as error:
        sys.exit(f"error: {_without_traceback(str(error))}")


def _without_traceback(message: str) -> str:
    """Shortens what ml_collections says where ``get_config`` refuses what follows the colon."""
    traceback = r"Error whilst parsing config file:.*\n"
    message = re.sub(
        traceback + r"TypeError: get_config\(\) takes 0 positional arguments.*",
        "this configuration takes no recipe after a colon",
        message,
        flags=re.DOTALL,
    )
    return re.sub(traceback + "ValueError: ", "", message, flags=re.DOTALL).rstrip()


def _show_own_messages() -> None:
    """Prints what linlatent says; what the libraries say takes --verbosity=0 or 1."""
    if not flags.FLAGS["verbosity"].present:
        absl_logging.set_verbosity(absl_logging.WARNING)
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    logger = logging.getLogger("linlatent")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
