"""Trains a network on focal stacks, evaluates it, or both.

python main.py --config=configs/indirect.py --workdir=DIR
python main.py --config=configs/indirect.py:published --workdir=DIR
python main.py --workdir=DIR --mode=evaluate

Several processes train together where each is given --coordinator_address=HOST:PORT of the first,
--num_processes=N and --process_id=0 to N - 1, or --distributed, which finds these in the
environment of a TPU pod, SLURM, Open MPI or an indexed Kubernetes job. They need the same workdir.
"""

import logging
import re
from typing import Any

from absl import app, flags
from ml_collections import config_flags

from linlatent import config as configuration
from linlatent import devices, program

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
_COORDINATOR = flags.DEFINE_string(
    "coordinator_address", None, "HOST:PORT of the first of several processes."
)
_NUM_PROCESSES = flags.DEFINE_integer(
    "num_processes", None, "How many processes train together.", lower_bound=1
)
_PROCESS_ID = flags.DEFINE_integer(
    "process_id", None, "Number of this process, from 0.", lower_bound=0
)
_DISTRIBUTED = flags.DEFINE_bool(
    "distributed",
    False,
    "Find the other processes in the environment of a TPU pod, SLURM, Open MPI or Kubernetes.",
)
flags.mark_flag_as_required("workdir")


@flags.multi_flags_validator(
    ["coordinator_address", "num_processes", "process_id", "distributed", "mode"]
)
def _check_processes(values: dict[str, Any]) -> bool:
    named = [values[flag] for flag in ("coordinator_address", "num_processes", "process_id")]
    given = sum(value is not None for value in named)
    if not given and not values["distributed"]:
        return True
    if given != (0 if values["distributed"] else 3):
        raise flags.ValidationError(
            "several processes need --coordinator_address, --num_processes and --process_id, all"
            " three, or --distributed alone"
        )
    address, count, number = named
    if address is not None and not re.fullmatch(r".+:\d+", address):
        raise flags.ValidationError("--coordinator_address must be HOST:PORT")
    if number is not None and number >= count:
        raise flags.ValidationError("--process_id counts from 0 and is less than --num_processes")
    if values["mode"] != "train":
        raise flags.ValidationError("several processes only train; evaluate with one, afterwards")
    return True


def main() -> None:
    """Runs the mode."""
    if _CONFIG.value is None and _MODE.value != "evaluate":
        raise app.UsageError("training needs a --config, such as --config=configs/indirect.py")
    if _CONFIG.value is not None:
        configuration.validate(_CONFIG.value)  # Before the slow imports.
    if _DISTRIBUTED.value or _COORDINATOR.value is not None:
        devices.connect(_COORDINATOR.value, _NUM_PROCESSES.value, _PROCESS_ID.value)
        if not devices.is_first_process():
            logging.getLogger("linlatent").setLevel(logging.WARNING)
    if _MODE.value != "evaluate":
        from linlatent.training import train

        train(_CONFIG.value, _WORKDIR.value)
    if _MODE.value != "train":
        from linlatent.evaluation import evaluate, format_table

        results = evaluate(_WORKDIR.value, _CONFIG.value)
        print(format_table(results))
        print(f"report: {_WORKDIR.value}/evaluation/report.html")


if __name__ == "__main__":
    program.run(main)
