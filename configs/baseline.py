"""The paper's baseline: reconstruction alone, no regularisation of the latent space.

Command:  python main.py --config=configs/baseline.py --workdir=DIR
"""

import ml_collections

from configs import default


def get_config() -> ml_collections.ConfigDict:
    """The default with the baseline objective."""
    config = default.get_config()
    config.objective = "baseline"
    return config
