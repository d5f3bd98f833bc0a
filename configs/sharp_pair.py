"""Third step of the recommended model: to see c beside b, while all else stays as it is.

Command:  python main.py --config=configs/sharp_pair.py --config.init_from=MODEL --workdir=DIR

MODEL is the workdir of a training of sharp_blur.py. Only the layers of `linlatent.pair` learn, from
what the encoder knows: 16 minutes on two CPU cores (AMD EPYC, Zen 4). What the network makes of
single images stays the same. `w1-sharp` was made with --config.num_steps=6000.
"""

import ml_collections

from configs import sharp


def get_config() -> ml_collections.ConfigDict:
    """Planes b of all levels, each beside the blurriest one of its stack."""
    config = sharp.get_config()
    config.model.network = "paired"
    config.objective = "separated_pair"
    config.whole_every = 1
    config.learning_rate = 5e-4
    config.num_steps = 3000
    return config
