"""The command ``linlatent``: what one does with a trained network, one subcommand each."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from linlatent import images, losses, torch_weights


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
        choices=[name for name in losses.OBJECTIVES if name not in losses.SEPARATED],
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


COMMANDS: Mapping[str, Command] = {
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
