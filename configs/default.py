"""The paper's training; every other experiment changes a few fields of it.

As printed:    python main.py --config=configs/default.py --workdir=DIR
As published:  python main.py --config=configs/default.py:published --workdir=DIR
"""

import ml_collections

from linlatent import config as configuration


def get_config(recipe: str = "printed") -> ml_collections.ConfigDict:
    """A recipe of ``linlatent/config.py``, which explains all fields.

    Any of them can be set as ``--config.FIELD=VALUE``.
    """
    return configuration.of_recipe(recipe)
