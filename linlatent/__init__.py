"""linlatent: defocus blur synthesis and deblurring in a latent space that is linear in blur."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from linlatent.inference import (
        Model,
        deblur,
        deblur_frame,
        deblur_single,
        decode,
        encode,
        encode_between,
        interpolate,
        load,
        synthesize,
    )

__all__ = [
    "Model",
    "deblur",
    "deblur_frame",
    "deblur_single",
    "decode",
    "encode",
    "encode_between",
    "interpolate",
    "load",
    "synthesize",
]
_HOMES = dict.fromkeys(__all__, "linlatent.inference")
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Imports a public name when it is first used (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
