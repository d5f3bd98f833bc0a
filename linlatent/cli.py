"""The command ``linlatent``: what one does with a trained network, one subcommand each."""

from __future__ import annotations

import argparse
import functools
import pathlib
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from tqdm import tqdm

from linlatent import devices, images, inference, losses, shipped, torch_weights


class Command(NamedTuple):
    """A subcommand.

    Attributes:
      summary: One sentence for ``--help``.
      declare: Adds its arguments to a parser.
      run: Takes them, by name.
    """

    summary: str
    declare: Callable[[argparse.ArgumentParser], None]
    run: Callable[..., None]


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs a subcommand; a user's mistake ends in one message on stderr and exit status 1.

    Args:
      arguments: What follows the name of the program; None takes the command line.
    """
    parser = argparse.ArgumentParser(prog="linlatent", description=__doc__)
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, command in COMMANDS.items():
        command.declare(
            subparsers.add_parser(name, help=command.summary, description=command.summary)
        )
    given = vars(parser.parse_args(arguments))
    try:
        COMMANDS[given.pop("command")].run(**given)
    except (ValueError, OSError, ModuleNotFoundError) as error:
        sys.exit(f"error: {error}")


def _declare_import_torch(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "checkpoint", metavar="CKPT", help="a Lightning checkpoint or a state dict, of any widths"
    )
    parser.add_argument("--out", required=True, metavar="WORKDIR", help="a new folder, or gs://")
    parser.add_argument(
        "--objective",
        required=True,
        choices=losses.objectives_of("paper"),
        help="what it was trained for; the checkpoint does not tell",
    )
    parser.add_argument(
        "--normalisation",
        default="plane-8bit",
        choices=images.NORMALISATIONS,
        help="of the images it was trained on (default: plane-8bit, as published)",
    )


def _import_torch(checkpoint: str, out: str, objective: str, normalisation: str) -> None:
    config = torch_weights.import_torch(
        checkpoint, out, objective=objective, normalisation=normalisation
    )
    print(f"{out}: a network of widths {config.model.widths}, to be used like a trained one")


def _declare_export_torch(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("workdir", metavar="WORKDIR", help="a folder that training wrote")
    parser.add_argument("--out", required=True, metavar="FILE", help="a new file")
    parser.add_argument(
        "--member", type=int, default=0, metavar="I", help="of an ensemble (default: 0)"
    )


def _export_torch(workdir: str, out: str, member: int) -> None:
    torch_weights.export_torch(workdir, out, member=member)
    print(f"{out}: a state dict for torch.load(..., weights_only=True)")


def _declare_deblur(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "model",
        metavar="MODEL",
        help=f"a folder that training wrote, or one of {', '.join(shipped.names())}",
    )
    parser.add_argument(
        "frames", metavar="IMAGE", nargs="+", help="a grey TIFF or PNG, 8 or 16 bit"
    )
    parser.add_argument(
        "--out",
        required=True,
        metavar="FILE",
        help="a new TIFF or PNG; of several images a folder, in which they keep their names",
    )
    parser.add_argument(
        "--blur",
        type=float,
        metavar="B",
        help="how far out of focus the image is, if you know: from 0, in focus, to 8, the blurriest"
        " that MODEL was trained on (32 micrometres for those that come with linlatent); with"
        " --alpha it tells how far the blurrier one is, too",
    )
    parser.add_argument("--blurrier", metavar="IMAGE", help="the same field, further out of focus")
    parser.add_argument(
        "--alpha",
        type=float,
        metavar="A",
        help="with --blurrier, which is c micrometres from focus, the image being b: (c - b) / c",
    )
    parser.add_argument(
        "--thorough",
        action="store_true",
        help="take the mean over all eight orientations of the image: sharper, and eight times as"
        " slow",
    )


def _deblur(
    model: str,
    frames: Sequence[str],
    out: str,
    blur: float | None,
    blurrier: str | None,
    alpha: float | None,
    thorough: bool,
) -> None:
    several = len(frames) > 1
    if several and blurrier is not None:
        raise ValueError(f"--blurrier goes with a single image; got {len(frames)}: {frames}")
    for path in frames if blurrier is None else (*frames, blurrier):
        _check_single(path)
    targets = _new_files(frames, out) if several else [pathlib.Path(out)]
    deblur = functools.partial(
        inference.deblur_frame,
        inference.load(model),
        blur=blur,
        blurrier=None if blurrier is None else images.read_image(blurrier),
        alpha=alpha,
        thorough=thorough,
    )
    devices.keep_compiled()
    progress = tqdm(frames, desc="deblur", unit="image", disable=None if several else True)
    for frame, target in zip(progress, targets, strict=True):
        images.write_image(target, deblur(images.read_image(frame)))
    print(f"{out}: {f'{len(frames)} images' if several else frames[0]}, deblurred")


def _check_single(path: str) -> None:
    shape = images.read_header(path).shape
    if len(shape) != 2:
        raise ValueError(f"{path} has {shape[0]} pages; expected a single image")


def _new_files(frames: Sequence[str], folder: str) -> list[pathlib.Path]:
    """Where to put the sharper ones of several images: under their names in a folder."""
    if pathlib.Path(folder).suffix.lower() in images.SUFFIXES:
        raise ValueError(f"{len(frames)} images: --out must be a folder for them; got {folder}")
    targets = [pathlib.Path(folder) / pathlib.Path(frame).name for frame in frames]
    for target, count in Counter(targets).items():
        if count > 1:
            raise ValueError(f"several images are called {target.name}: deblur them one by one")
        if target.exists():
            raise FileExistsError(f"{target} exists already; choose another folder")
    pathlib.Path(folder).mkdir(parents=True, exist_ok=True)
    return targets


def _declare_unpack(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "name", choices=shipped.names(), metavar="NAME", help=", ".join(shipped.names())
    )
    parser.add_argument("--out", required=True, metavar="WORKDIR", help="a new folder, or gs://")


def _unpack(name: str, out: str) -> None:
    inference.save(inference.load(name), out)
    print(f"{out}: {name}, to be evaluated or trained on like a network of your own")


COMMANDS: Mapping[str, Command] = {
    "deblur": Command(
        "Make sharp images of blurred ones, alone or with a blurrier one of the same field.",
        _declare_deblur,
        _deblur,
    ),
    "unpack": Command(
        "Make a workdir of a network that comes with linlatent.", _declare_unpack, _unpack
    ),
    "import-torch": Command(
        "Make a workdir of weights that were trained with the published PyTorch code.",
        _declare_import_torch,
        _import_torch,
    ),
    "export-torch": Command(
        "Write a network as a state dict that the published PyTorch code can load.",
        _declare_export_torch,
        _export_torch,
    ),
}
