"""The recommended model: content and blur apart, trained to deblur, on the embedded data.

Command:  python main.py --config=configs/sharp.py --workdir=DIR --mode=train_and_evaluate
On a GPU: python scripts/train_in_memory.py --config=configs/sharp.py --workdir=DIR

57 minutes on two CPU cores (AMD EPYC, Zen 4), and then 41.7 dB on the embedded test slides where it
is told the blur; the untouched input has 34.2 dB. sharp_blur.py goes on from there, and then
sharp_pair.py, 81 minutes in all. `w1-sharp` was made with --config.num_steps=15000: 0.3 dB more.
docs/ablation.md has more figures.
"""

import ml_collections

from configs import default


def get_config() -> ml_collections.ConfigDict:
    """The separated network on the triplets that deblurring meets, in random crops."""
    config = default.get_config()
    config.model.network = "separated"
    config.model.widths = (32, 48, 64, 96, 128)
    config.objective = "separated"
    config.criterion = "log"
    config.triplets = "spanning"
    config.batch_size = 12
    config.whole_every = 6
    config.learning_rate = 1e-3
    config.schedule = "cosine"
    config.num_steps = 9000
    config.validate_every_steps = 1000
    config.data.crops = "random"
    config.data.normalisation = "stack"
    config.data.synthetic.config = "w1_varied"
    return config
