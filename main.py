"""Trains a network on focal stacks, evaluates it, or both.

python main.py --config=configs/indirect.py --workdir=DIR
python main.py --workdir=DIR --mode=evaluate
"""

import logging
import os
import sys

from absl import app, flags
from absl import logging as absl_logging
from ml_collections import config_flags

from linlatent import config as configuration

# TensorFlow only reads data here; without this it greets everyone with a remark on rounding.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")

_CONFIG = config_flags.DEFINE_config_file(
    "config",
    None,
    "Configuration file, such as configs/indirect.py; its fields can be set as"
    " --config.FIELD=VALUE. Evaluation takes the workdir's own where this is not given.",
)
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the model, local or gs://.")
_MODE = flags.DEFINE_enum(
    "mode", "train", ["train", "evaluate", "train_and_evaluate"], "What to do."
)
flags.mark_flag_as_required("workdir")


def main(arguments: list[str]) -> None:
    """Runs the mode; a user's mistake ends in one line, or with --verbosity=1 in a traceback."""
    if len(arguments) > 1:
        raise app.UsageError(f"unexpected arguments: {' '.join(arguments[1:])}")
    if _CONFIG.value is None and _MODE.value != "evaluate":
        raise app.UsageError("training needs a --config, such as --config=configs/indirect.py")
    _show_own_messages()
    try:
        _run()
    except (ValueError, OSError, ArithmeticError) as error:
        if absl_logging.level_debug():
            raise
        sys.exit(f"error: {error}")


def _parse_flags(arguments: list[str]) -> list[str]:
    try:
        return app.parse_flags_with_usage(arguments)
    except AttributeError as error:  # How ml_collections reports a field that does not exist.
        sys.exit(f"error: a --config.FIELD names no field of the configuration: {error.args[0]}")


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


def _run() -> None:
    if _CONFIG.value is not None:
        configuration.validate(_CONFIG.value)  # Before the slow imports.
    if _MODE.value != "evaluate":
        from linlatent.training import train

        train(_CONFIG.value, _WORKDIR.value)
    if _MODE.value != "train":
        from linlatent.evaluation import evaluate, format_table

        results = evaluate(_WORKDIR.value, _CONFIG.value)
        print(format_table(results))
        print(f"report: {_WORKDIR.value}/evaluation/report.html")


if __name__ == "__main__":
    app.run(main, flags_parser=_parse_flags)
