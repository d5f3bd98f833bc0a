"""What is measured: who competes in what, on which data and how often."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from benchmarks.flops import training_flops
from benchmarks.workload import WARM_UPS

_RUNS = WARM_UPS + 1
"""Those of a repeat, with the ones that do not count."""

TRIPLETS = "linlatent, triplets"
STACKS = "linlatent, stacks"
TRIPLETS_SMALL_PAGES = "linlatent, triplets, small pages"
LINEN = "plain linen"
TORCH_F32 = {
    "PyTorch": {"channels_last": False, "compiled": False},
    "PyTorch, channels_last": {"channels_last": True, "compiled": False},
    "PyTorch, compiled": {"channels_last": True, "compiled": True},
}
TORCH_F32_HUGE_PAGES = {
    f"{name}, huge pages": TORCH_F32[name]
    for name in ("PyTorch, channels_last", "PyTorch, compiled")
}
"""The fastest of these in training and in deblurring, with the pages that linlatent asks for."""
TORCH_BF16 = {  # Compiling takes long, and made these slower.
    f"{name}, bfloat16": ways for name, ways in TORCH_F32.items() if not ways["compiled"]
}

NUM_LEVELS = 9
NUM_TRIPLETS = 16
"""Those of a stack of nine levels (`linlatent.data.midpoint_triplets`)."""

PASSES = {
    "indirect": {"encoded": 2, "decoded": 3},
    "direct": {"encoded": 3, "decoded": 3, "decoded_only": 1},
}
"""Planes that a triplet sends through each half of the network, see `training_flops`."""


@dataclasses.dataclass(frozen=True)
class Scale:
    """Sizes and numbers of repeats.

    Attributes:
      widths: Channels after each encoder layer.
      crop: Height and width of the crops, in pixels.
      frame: Height and width of a frame, in pixels, both multiples of the network's stride.
      num_crops: Crops that are deblurred at once.
      repeats: For each batch size, in triplets, how often a step is measured.
      linen_repeats: The same of plain linen, which takes its time.
      other_repeats: How often everything else is measured.
      matrix_sides: Rows and columns of the matrices whose product is the peak.
      data: Configuration of the embedded data.
      streamed_triplets: Triplets that the pipeline makes in one repeat, an epoch of the data.
    """

    widths: tuple[int, ...]
    crop: int
    frame: tuple[int, int]
    num_crops: int
    repeats: Mapping[int, int]
    linen_repeats: int
    other_repeats: int
    matrix_sides: tuple[int, ...]
    data: str
    streamed_triplets: int


FULL = Scale(
    widths=(64, 128, 256, 512, 1024),
    crop=128,
    frame=(544, 704),  # 520x696, padded
    num_crops=16,
    repeats={10: 3, 40: 3},
    linen_repeats=1,
    other_repeats=9,
    matrix_sides=(2048, 3072, 4096),
    data="w1",
    streamed_triplets=44 * 10 * NUM_TRIPLETS,
)
QUICK = Scale(
    widths=(8, 16),
    crop=32,
    frame=(132, 176),
    num_crops=2,
    repeats={4: 2},
    linen_repeats=1,
    other_repeats=2,
    matrix_sides=(256,),
    data="w1_tiny",
    streamed_triplets=4 * 10 * NUM_TRIPLETS,
)


@dataclasses.dataclass(frozen=True)
class Job:
    """One competitor at one task.

    Attributes:
      row: What its row in the results begins with.
      module: Where the competitor lives, ``benchmarks.<module>``.
      function: What makes its `Workload` there.
      arguments: Of that function.
      repeats: How often it is measured.
      seconds: About how long a repeat takes, to tell how much is left to do.
      seconds_to_ready: About how long it takes to be ready.
      huge_pages: Whether its process asks for them, see `linlatent.devices.use_huge_pages`.
    """

    row: Mapping[str, Any]
    module: str
    function: str
    arguments: Mapping[str, Any]
    repeats: int
    seconds: float
    seconds_to_ready: float
    huge_pages: bool = False


def title(row: Mapping[str, Any]) -> str:
    """Names a row: its section, its task and the competitor."""
    task = [str(row[key]) for key in ("objective", "batch", "images") if key in row]
    return ", ".join([row["section"], *task, row["competitor"]])


def groups(scale: Scale, *, data_dir: str | None) -> list[list[Job]]:
    """Lists all jobs; those of a group take turns.

    Args:
      scale: Sizes and numbers of repeats.
      data_dir: Folder of the embedded data, None for the one of TFDS.

    Returns:
      The groups, in their order.
    """
    height, width = scale.frame
    frame = {"count": 1, "height": height, "width": width}
    crops = {"count": scale.num_crops, "height": scale.crop, "width": scale.crop}
    larger = max(scale.repeats)
    return [
        *(
            training(scale, objective, batch)
            # The peak belongs to the run that is compared with it.
            + (products(scale) if (objective, batch) == ("indirect", larger) else [])
            for objective in ("indirect", "direct")
            for batch in scale.repeats
        ),
        deblurring(scale, f"frame of {height}x{width}", frame),
        deblurring(scale, f"{scale.num_crops} crops of {scale.crop}x{scale.crop}", crops),
        pipelines(scale, data_dir),
    ]


def training(scale: Scale, objective: str, batch: int) -> list[Job]:
    """Training steps on `batch` triplets, or on stacks that take as much work."""
    passes = PASSES[objective]
    per_stack = {"encoded": NUM_LEVELS, "decoded": NUM_LEVELS + NUM_TRIPLETS}
    stacks = stacks_for(batch)

    def job(
        name: str, module: str, seconds_to_ready: float, huge_pages: bool = False, **extra: Any
    ) -> Job:
        stacked = name == STACKS
        examples = stacks if stacked else batch
        per_example = per_stack if stacked else passes
        flops = examples * training_flops(scale.widths, scale.crop, **per_example)
        row = {
            "section": "training",
            "competitor": name,
            "objective": objective,
            "batch": batch,
            "triplets": examples * (NUM_TRIPLETS if stacked else 1),
            "patches": examples * (NUM_LEVELS if stacked else 3),
            "flops": flops,
        }
        arguments = {
            **{"objective": objective, "batch": examples},
            **{"widths": scale.widths, "size": scale.crop},
            **extra,
        }
        slowness = 7.0 if name == LINEN else 0.4 if name in TORCH_BF16 else 1.0
        seconds = slowness * flops / 7.5e10
        if name == LINEN:  # without steps that do not count
            return Job(row, module, "train", arguments, scale.linen_repeats, seconds, 15)
        return Job(
            *(row, module, "train", arguments, scale.repeats[batch]),
            seconds=_RUNS * seconds,
            seconds_to_ready=seconds_to_ready + seconds,
            huge_pages=huge_pages,
        )

    # What takes long keeps to the smaller batch where no ratio asks for the larger one.
    in_full = objective == "indirect" or batch == min(scale.repeats)
    return [
        job(TRIPLETS, "ours", 30, huge_pages=True, batching="triplet"),
        job(STACKS, "ours", 30, huge_pages=True, batching="stack"),
        job(TRIPLETS_SMALL_PAGES, "ours", 30, batching="triplet"),
        *(
            job(name, "torch_model", 45 if ways["compiled"] else 4, **ways, bfloat16=bfloat16)
            for ways_of, bfloat16 in ((TORCH_F32, False), (TORCH_BF16, True))
            for name, ways in ways_of.items()
            if in_full or not ways["compiled"]
        ),
        *(
            job(name, "torch_model", 4, huge_pages=True, **ways, bfloat16=False)
            for name, ways in TORCH_F32_HUGE_PAGES.items()
            if not ways["compiled"]
        ),
        *([job(LINEN, "linen_model", 15)] if in_full else []),
    ]


def stacks_for(batch: int) -> int:
    """Stacks that take about as many passes as triplets of the indirect objective.

    A triplet takes five passes through half a network, a stack 9 + 9 + 16. Of the numbers of stacks
    that take at least as many passes as the triplets, this is the smallest.
    """
    per_stack = 2 * NUM_LEVELS + NUM_TRIPLETS
    return math.ceil(sum(PASSES["indirect"].values()) * batch / per_stack)


def products(scale: Scale) -> list[Job]:
    """Matrix products."""
    return [
        Job(
            row={"section": "matrix product", "competitor": f"side {side}", "flops": 2 * side**3},
            module="machine",
            function="product",
            arguments={"side": side},
            repeats=scale.other_repeats,
            seconds=_RUNS * 2 * side**3 / 1.5e11,
            seconds_to_ready=3,
        )
        for side in scale.matrix_sides
    ]


def deblurring(scale: Scale, what: str, images: Mapping[str, int]) -> list[Job]:
    """Encoding b and c, extrapolating and decoding."""

    def job(
        name: str, module: str, seconds_to_ready: float, huge_pages: bool = False, **extra: Any
    ) -> Job:
        return Job(
            row={"section": "deblurring", "competitor": name, "images": what},
            module=module,
            function="deblur",
            arguments={**images, "widths": scale.widths, **extra},
            repeats=scale.other_repeats,
            seconds=_RUNS * 0.5,
            seconds_to_ready=seconds_to_ready,
            huge_pages=huge_pages,
        )

    return [
        job("linlatent", "ours", 8, huge_pages=True),
        *(
            job(name, "torch_model", 25 if ways["compiled"] else 4, huge_pages, **ways)
            for all_ways, huge_pages in ((TORCH_F32, False), (TORCH_F32_HUGE_PAGES, True))
            for name, ways in all_ways.items()
        ),
    ]


def pipelines(scale: Scale, data_dir: str | None) -> list[Job]:
    """The input pipeline without training, an epoch of batches of either kind."""
    larger = max(scale.repeats)
    stacks = stacks_for(larger)

    def job(name: str, batching: str, batch: int, num_batches: int, patches: int) -> Job:
        arguments = {
            **{"batching": batching, "batch": batch, "num_batches": num_batches},
            **{"size": scale.crop, "config": scale.data, "data_dir": data_dir},
        }
        return Job(
            row={"section": "pipeline", "competitor": name, "patches": num_batches * patches},
            module="pipeline",
            function="stream",
            arguments=arguments,
            repeats=scale.other_repeats,
            seconds=2.5,
            seconds_to_ready=10,
        )

    triplets, per_epoch = scale.streamed_triplets, scale.streamed_triplets // NUM_TRIPLETS
    return [
        job(TRIPLETS, "triplet", larger, triplets // larger, 3 * larger),
        job(STACKS, "stack", stacks, per_epoch // stacks, NUM_LEVELS * stacks),
    ]


def first_step(scale: Scale) -> Job:
    """A new process until the end of its first step, on the smaller batch of triplets."""
    batch = min(scale.repeats)
    job = training(scale, "indirect", batch)[0]
    row = {"section": "first step", "batch": batch}
    return dataclasses.replace(job, row=row, repeats=min(scale.other_repeats, 3))
