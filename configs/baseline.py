"""The paper's baseline: reconstruction alone, no regularisation of the latent space.

As printed:    python main.py --config=configs/baseline.py --workdir=DIR
As published:  python main.py --config=configs/baseline.py:published --workdir=DIR
"""

import ml_collections

from configs import default


def get_config(recipe: str = "printed") -> ml_collections.ConfigDict:
    """The default with the baseline objective."""
    config = default.get_config(recipe)
    config.objective = "baseline"
    return config
