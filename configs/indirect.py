"""The paper's indirect regularisation: the decoded interpolation must match the plane between.

As printed:    python main.py --config=configs/indirect.py --workdir=DIR
As published:  python main.py --config=configs/indirect.py:published --workdir=DIR
"""

import ml_collections

from configs import default


def get_config(recipe: str = "printed") -> ml_collections.ConfigDict:
    """The default with the indirect objective."""
    config = default.get_config(recipe)
    config.objective = "indirect"
    return config
