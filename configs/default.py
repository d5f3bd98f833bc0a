"""The paper's training, as printed; every other experiment changes a few fields of it.

Command:  python main.py --config=configs/default.py --workdir=DIR
"""

import ml_collections

from linlatent import config


def get_config() -> ml_collections.ConfigDict:
    """The default; `linlatent.config.default` explains its fields, set by ``--config.FIELD=``."""
    return config.default()
