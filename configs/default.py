"""The paper's training, as printed; every other experiment changes a few fields of it.

Command:  python main.py --config=configs/default.py --workdir=DIR
"""

import ml_collections

from linlatent import config as configuration


def get_config() -> ml_collections.ConfigDict:
    """The default, where all fields are explained; any can be set as ``--config.FIELD=VALUE``."""
    return configuration.default()
