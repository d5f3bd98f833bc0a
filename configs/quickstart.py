"""The recommended model, trained for minutes on the embedded data: what `make demo` shows.

Command:  python main.py --config=configs/quickstart.py --workdir=DIR --mode=train_and_evaluate
"""

import ml_collections

from configs import sharp


def get_config() -> ml_collections.ConfigDict:
    """A ninth of the steps of sharp.py, on slides of one preparation."""
    config = sharp.get_config()
    config.num_steps = 1000
    config.validate_every_steps = 100
    config.data.synthetic.config = "w1"
    return config
