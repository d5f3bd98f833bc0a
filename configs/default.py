"""The paper's training, as printed; every other experiment changes a few fields of it.

Command:  python main.py --config=configs/default.py --workdir=DIR
"""

import ml_collections
from ml_collections import config_dict


def get_config() -> ml_collections.ConfigDict:
    """Makes the configuration; any field can be set as ``--config.FIELD=VALUE``."""
    config = ml_collections.ConfigDict()
    config.seed = 0

    # Objective: baseline | indirect | direct, with l1 (the paper) or mse (its published code).
    config.objective = "indirect"
    config.criterion = "l1"
    config.latent_weight = 1.0

    # Training. An example is one triplet, or with batching "stack" a crop of all planes.
    config.batching = "triplet"
    config.batch_size = 40
    config.learning_rate = 1e-4
    config.num_epochs = 40
    config.num_steps = config_dict.placeholder(int)  # instead of num_epochs
    config.init_from = config_dict.placeholder(str)  # a workdir whose weights to start from
    config.log_every_steps = 20
    config.tensorboard = False

    config.model = ml_collections.ConfigDict()
    config.model.widths = (64, 128, 256, 512, 1024)

    # Data: synthetic | folder; each source has its own options, see its open_source.
    config.data = ml_collections.ConfigDict()
    config.data.source = "synthetic"
    config.data.crop_size = 128
    config.data.normalisation = "plane"  # plane | plane-8bit (the published code) | stack

    config.data.synthetic = ml_collections.ConfigDict()
    config.data.synthetic.config = "w1"  # w1 | w2 | w1_tiny | w2_tiny
    config.data.synthetic.data_dir = config_dict.placeholder(str)  # None: TFDS's own folder

    config.data.folder = ml_collections.ConfigDict()
    config.data.folder.path = ""
    config.data.folder.in_focus = config_dict.placeholder(object)  # index or name; None: found
    config.data.folder.direction = "below"  # below | above the plane in focus
    config.data.folder.num_levels = config_dict.placeholder(int)  # None: all there are
    config.data.folder.level_step = 1
    config.data.folder.level_spacing_um = config_dict.placeholder(float)
    config.data.folder.field_pattern = config_dict.placeholder(str)
    config.data.folder.split = (0.7, 0.1, 0.2)
    config.data.folder.seed = 0
    return config
