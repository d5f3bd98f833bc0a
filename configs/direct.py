"""The paper's direct regularisation: the interpolated latent must also match the latent between.

As printed:    python main.py --config=configs/direct.py --workdir=DIR
As published:  python main.py --config=configs/direct.py:published --workdir=DIR
"""

import ml_collections

from configs import default


def get_config(recipe: str = "printed") -> ml_collections.ConfigDict:
    """The default with the direct objective."""
    config = default.get_config(recipe)
    config.objective = "direct"
    return config
