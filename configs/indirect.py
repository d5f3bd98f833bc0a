"""The paper's indirect regularisation: the decoded interpolation must match the plane between.

Command:  python main.py --config=configs/indirect.py --workdir=DIR
"""

import ml_collections

from configs import default


def get_config() -> ml_collections.ConfigDict:
    """The default with the indirect objective."""
    config = default.get_config()
    config.objective = "indirect"
    return config
