r"""The recommended model on your own focal stacks: a folder of slides, each a folder of planes.

Command:  python main.py --config=configs/folder.py --config.data.folder.path=FOLDER \
              --workdir=DIR --mode=train_and_evaluate
"""

import ml_collections

from configs import quickstart


def get_config() -> ml_collections.ConfigDict:
    """The quickstart on a folder; ``linlatent/data/folder.py`` explains the folder's options."""
    config = quickstart.get_config()
    config.data.source = "folder"
    return config
