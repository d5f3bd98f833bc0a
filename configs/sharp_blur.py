"""Second step of the recommended model: to read blur by itself, while all else stays as it is.

Command:  python main.py --config=configs/sharp_blur.py --config.init_from=MODEL --workdir=DIR

MODEL is the workdir of a training of sharp.py. Only the layers of `linlatent.separated.Blur` learn,
and nothing is decoded: 9 minutes on two CPU cores (AMD EPYC, Zen 4). What the network makes of an
image that it is told the blur of stays the same; the steps of its latent space become more even.
"""

import ml_collections

from configs import sharp


def get_config() -> ml_collections.ConfigDict:
    """Whole stacks, whose planes have all levels of blur equally often."""
    config = sharp.get_config()
    config.objective = "separated_blur"
    config.batching = "stack"
    config.batch_size = 6
    config.whole_every = 1
    config.num_steps = 3000
    config.validate_every_steps = 1000
    return config
