"""What a step of training must know besides its arguments."""

from __future__ import annotations

import dataclasses

import optax

from linlatent.data import Triplet


@dataclasses.dataclass(frozen=True)
class Recipe:
    """What a step must know besides its arguments; hashable, hence static under jit.

    Attributes:
      objective: A key of `losses.OBJECTIVES`.
      criterion: A key of `losses.CRITERIA`.
      latent_weight: Weight of the latent term.
      learning_rate: Of Adam, or its largest.
      triplets: Table of triplets; a, b and c index the planes of a batch.
      whole_every: One example in so many is passed through the network whole, and of the others b
        alone; of a separated network.
      joint_statistics: Whether all planes of a pass share their BatchNorm moments.
      accumulate: Steps, each of one batch, whose mean gradient moves the weights once.
      dtype: Of `model.DTYPES`, what the network is computed in; all else is float32.
      decay_steps: Number of moves of the weights in which the learning rate rises and falls to
        nothing along a cosine, and the gradient's norm is clipped to 1; None keeps the rate.
    """

    objective: str
    criterion: str
    latent_weight: float
    learning_rate: float
    triplets: tuple[Triplet, ...]
    whole_every: int = 1
    joint_statistics: bool = False
    accumulate: int = 1
    dtype: str = "float32"
    decay_steps: int | None = None

    @property
    def optimiser(self) -> optax.GradientTransformation:
        """Adam, as in the paper; between its moves its state holds the gradients so far."""
        if self.decay_steps is None:
            adam = optax.adam(self.learning_rate)
        else:
            rate = optax.warmup_cosine_decay_schedule(
                0.0, self.learning_rate, min(100, self.decay_steps // 10), self.decay_steps
            )
            adam = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(rate))
        if self.accumulate == 1:
            return adam
        return optax.MultiSteps(adam, self.accumulate).gradient_transformation()

    @property
    def endpoints(self) -> tuple[int, ...]:
        """The planes that are endpoint a or c of some triplet, sharpest first."""
        return tuple(sorted({plane for a, _, c in self.triplets for plane in (a, c)}))

    @property
    def midpoints(self) -> tuple[int, ...]:
        """The planes that are only ever in the middle of a triplet."""
        return tuple(sorted({b for _, b, _ in self.triplets} - set(self.endpoints)))
