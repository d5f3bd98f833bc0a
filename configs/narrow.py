"""The paper's network in a quarter of its widths, on the embedded data: minutes on two CPU cores.

Command:  python main.py --config=configs/narrow.py --workdir=DIR --mode=train_and_evaluate

docs/results.md has what it comes to with each of the paper's three objectives.
"""

import ml_collections

from configs import indirect


def get_config() -> ml_collections.ConfigDict:
    """The indirect experiment, a sixteenth as large, on whole stacks and with larger steps."""
    config = indirect.get_config()
    config.model.widths = (16, 32, 64, 128, 256)
    config.batching = "stack"
    config.batch_size = 4
    config.learning_rate = 2e-3
    config.num_steps = 360
    config.validate_every_steps = 30
    return config
