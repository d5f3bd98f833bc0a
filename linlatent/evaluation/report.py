"""One HTML file that holds all of an evaluation: pictures inlined, nothing fetched."""

from __future__ import annotations

import base64
import html
import string
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from linlatent.evaluation import deblurring, tables
from linlatent.evaluation.layout import Table

_PAGE = string.Template(
    """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<style>
body { font: 16px/1.5 system-ui, sans-serif; color: #222; max-width: 70rem; margin: 2rem auto;
  padding: 0 1rem; }
h1 { font-size: 1.7rem; } h2 { font-size: 1.25rem; margin-top: 2.5rem; }
p { max-width: 46rem; }
table { border-collapse: collapse; font-size: .85rem; margin: 1rem 0;
  font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .7rem; border-bottom: 1px solid #ddd; text-align: right; }
th { vertical-align: bottom; background: #f5f5f5; }
td { white-space: nowrap; }
td:first-child, th:first-child { text-align: left; }
.conditions td { text-align: left; }
caption { text-align: left; color: #555; padding-bottom: .4rem; }
.scroll { overflow-x: auto; }
img { max-width: 100%; height: auto; display: block; margin: 1rem 0; }
</style>
</head>
<body>
<h1>$title</h1>
$body
</body>
</html>
"""
)


class _Section(NamedTuple):
    """A heading, how to read what follows, beginnings of pictures' names, and titles of tables."""

    heading: str
    text: str
    pictures: Sequence[str]
    tables: Sequence[str]


_SECTIONS = (
    _Section(
        "Members of the ensemble",
        "Several networks were trained together, on the same batches, from other initial weights."
        " The deviation tells how far another training of this kind may lie from one of them. Every"
        " other number and curve of this page is a mean over the members, and ± the mean of their"
        " standard errors; images and latent paths are those of member 0.",
        (),
        ("Spread over initialisations",),
    ),
    _Section(
        "Deblurring",
        "A plane b, out of focus, and the blurriest plane c of the same slide are encoded, and"
        " their latents extrapolated to the plane in focus (Eq. 2). “Anchored”, what that changes"
        " in the model's own picture of b is changed in b; “b alone” does without c, and “b and its"
        " blur” is told how far out of focus b is instead. Curves show what is gained over the"
        " “untouched input”, which is b itself against the same truth; the model's are thick. It is"
        " worth its cost where it lies above that, above “pixel extrapolation”, the same equation"
        " without a network, and above the classical restorations. Those “with true PSF” know more"
        " than the network does: how the microscope blurs. Nuclei are what Otsu's threshold and a"
        " watershed find; in a channel that shows other things, read “bright objects”. In the error"
        " maps red is too bright, blue too dark, white right; all maps of a figure share one scale."
        " Of the classical restorations they show the best by PSNR.",
        ("psnr_of_deblurring", "deblurring_"),
        tuple(deblurring.title(quantity) for quantity, _ in deblurring.MEASURES),
    ),
    _Section(
        deblurring.SETTINGS,
        "Classical restorations depend on settings, for which the best were taken, from a range"
        " that holds them, on slides that are not among those of this page.",
        (),
        (deblurring.SETTINGS,),
    ),
    _Section(
        "Reconstruction and blur synthesis",
        "Reconstruction encodes and decodes each plane by itself: it shows what the network loses"
        " before any step in the latent space. Blur synthesis sees only the sharpest and the"
        " blurriest plane and makes the levels between them by interpolating the latents (Eq. 1)."
        " The closer its curve to that of the reconstruction, the more linear the latent space is"
        " in blur.",
        ("psnr_of_synthesis", "synthesis_"),
        ("Reconstruction and blur synthesis",),
    ),
    _Section(
        "The paper's values",
        "What the paper reports, beside the same quantities of this model, where the data are the"
        " paper's. Its Table 1 follows under three definitions of PSNR, since numbers can only be"
        " compared within one. Only deblurring from an interior level is a task; its baselines"
        " stand in the last lines. At the two end points synthesis is plain reconstruction, which"
        " means over all levels include, as published; interior levels alone tell how well blur is"
        " synthesised.",
        (),
        ("The paper's values", "The four PSNRs of the paper's Table 1, under each definition"),
    ),
    _Section(
        "Latent space",
        "Each point is the latent of one plane, projected on the two directions in which the"
        " latents of that slide vary most. On a perfectly linear latent space the points lie on the"
        " dashed line at equal distances.",
        ("latent_paths",),
        ("Linearity of the latent space",),
    ),
)


def to_html(results: dict[str, Any], pictures: Mapping[str, bytes]) -> str:
    """Renders the report.

    Args:
      results: What `evaluate` returns, or a ``metrics.json`` of it.
      pictures: The figures as PNG by file name, as `evaluate` writes them.

    Returns:
      An HTML page that needs no other file.
    """
    conditions = results["conditions"]
    by_title = {table.title: table for table in tables.tables_of(results)}
    parts = [
        f"<p>Every number is a mean over {conditions['slides']} slides, each seen once through its"
        " centre crop, ± the standard error of that mean over slides. The conditions stand at the"
        " end.</p>",
    ]
    for section in _SECTIONS:
        if not by_title.keys() >= set(section.tables):  # Not every evaluation has all of them.
            continue
        parts += [
            f"<h2>{html.escape(section.heading)}</h2>",
            f"<p>{html.escape(section.text)}</p>",
            *(
                _image(name, png)
                for beginning in section.pictures
                for name, png in pictures.items()
                if name.startswith(beginning)
            ),
            *(_table(by_title[title]) for title in section.tables),
        ]
    parts += ["<h2>Conditions</h2>", _conditions_table(conditions)]
    title = f"Evaluation of the {conditions['objective']} model on {conditions['data']}"
    return _PAGE.substitute(title=html.escape(title), body="\n".join(parts))


def _conditions_table(conditions: Mapping[str, Any]) -> str:
    lines = [
        f"<tr><td>{html.escape(name)}</td><td>{html.escape(value)}</td></tr>"
        for name, value in tables.readable(conditions)
    ]
    return f'<table class="conditions">{"".join(lines)}</table>'


def _table(table: Table) -> str:
    head = "".join(f'<th scope="col">{html.escape(text)}</th>' for text in table.header)
    body = "".join(
        "<tr>" + "".join(f"<td>{html.escape(text)}</td>" for text in line) + "</tr>"
        for line in table.cells
    )
    return (
        f'<div class="scroll"><table><caption>{html.escape(table.caption)}</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _image(name: str, png: bytes) -> str:
    alternative = html.escape(name.removesuffix(".png").replace("_", " "))
    inlined = base64.b64encode(png).decode("ascii")
    return f'<img alt="{alternative}" src="data:image/png;base64,{inlined}">'
