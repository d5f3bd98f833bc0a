"""The paper's direct regularisation: the interpolated latent must also match the latent between.

Command:  python main.py --config=configs/direct.py --workdir=DIR
"""

import ml_collections

from configs import default


def get_config() -> ml_collections.ConfigDict:
    """The default with the direct objective."""
    config = default.get_config()
    config.objective = "direct"
    return config
