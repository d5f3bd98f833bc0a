"""The pictures of an evaluation, after the paper's figures; each function returns a figure.

Figures are drawn without pyplot, so nothing depends on a display or on global state.
"""

from __future__ import annotations

import io
import textwrap
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from linlatent import metrics
from linlatent.evaluation import paper
from linlatent.evaluation.rows import RANGE_1, Row, is_of_network, select, sharp_estimates

_DPI = 110
_INCHES_PER_IMAGE = 1.3
_LINE = 17
"""Characters that fit along an image."""
_COLOURS = (
    *("#888888", "#d08a1d", "#1f6fb4", "#8b4fa3", "#3b9b57", "#c0392b"),
    *("#17a2b8", "#7a5230", "#111111", "#e05fa8", "#9bbf26"),
)
_MARKERS = "so^vD*PX<>h"


class Example(NamedTuple):
    """One slide with everything that was made of it; images are ``(levels, S, S)`` in [0, 1].

    Attributes:
      slide_id: Its name.
      level_spacing_um: Distance of neighbouring blur levels in µm, None if not known.
      planes: The true planes of all L levels.
      latents: Their latents as vectors, ``(L, features)``.
      reconstructions: D(E(x_b)) of all levels.
      synthesised: D(z_b') of all levels.
      deblurred: The network's estimates of level 0 from the L - 2 interior levels, by name.
      baselines: Other estimates of level 0 from the interior levels, by name.
    """

    slide_id: str
    level_spacing_um: float | None
    planes: np.ndarray
    latents: np.ndarray
    reconstructions: np.ndarray
    synthesised: np.ndarray
    deblurred: Mapping[str, np.ndarray]
    baselines: Mapping[str, np.ndarray]


def to_png(figure: Figure) -> bytes:
    """Renders a figure to the bytes of a PNG file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=_DPI)
    return buffer.getvalue()


def latent_paths(examples: Sequence[Example]) -> Figure:
    """The latents of slides over blur level, on their first two principal components.

    Each slide has its own components. The line between the end points is where the latents would
    lie if they were linear in blur.
    """
    figure = Figure(figsize=(4.6 * len(examples) + 0.8, 3.8), layout="constrained")
    axes = figure.subplots(1, len(examples), squeeze=False)[0]
    norm = Normalize(0, len(examples[0].planes) - 1)
    for ax, example in zip(axes, examples, strict=True):
        points, shares = _principal_components(example.latents)
        ax.plot(*points[[0, -1]].T, "--", color="black", lw=1, label="straight line", zorder=1)
        ax.plot(*points.T, "-", color="0.6", lw=1, label="path of the latents", zorder=2)
        levels = range(len(points))
        ax.scatter(
            *points.T, c=levels, cmap="viridis", norm=norm, s=130, edgecolors="white", zorder=3
        )
        for level, point in enumerate(points):
            ink = "white" if norm(level) < 0.6 else "black"  # on the dark and the bright end
            ax.text(*point, str(level), ha="center", va="center", color=ink, fontsize=7, zorder=4)
        ax.set_xlabel(f"principal component 1 ({shares[0]:.0%} of variance)")
        ax.set_ylabel(f"principal component 2 ({shares[1]:.0%} of variance)")
        ax.set_title(f"slide {example.slide_id}", fontsize=10)
        # Equal units: what bends in the picture bends in the latent space.
        ax.set_aspect("equal", adjustable="datalim")
        ax.margins(0.15)
    axes[0].legend(fontsize=8, loc="best", frameon=False)
    colours = ScalarMappable(norm, "viridis")
    figure.colorbar(
        colours, ax=list(axes), label="blur level (0 = in focus)", shrink=0.8, ticks=levels
    )
    return figure


def synthesis_strip(example: Example) -> Figure:
    """Truth, reconstruction and synthesised blur of every level, with the error of the last."""
    rows = {
        "truth": example.planes,
        "reconstruction\n(own latent)": example.reconstructions,
        "synthesised\n(end points only)": example.synthesised,
    }
    error_rows = {
        "error of\nreconstruction": example.reconstructions - example.planes,
        "error of\nsynthesised": example.synthesised - example.planes,
    }
    heads = [level_name(level, example.level_spacing_um) for level in range(len(example.planes))]
    return _strip(
        f"Blur synthesis, slide {example.slide_id}", heads, rows, error_rows, example.planes
    )


def deblurring_strip(example: Example) -> Figure:
    """Inputs b, their estimates of the sharp plane, the truth, and the errors against it."""
    interior = len(example.planes) - 2
    truth = np.broadcast_to(example.planes[:1], (interior, *example.planes.shape[1:]))
    estimates = {
        textwrap.fill(name, _LINE): images
        for name, images in {**example.baselines, **example.deblurred}.items()
    }
    error_rows = {f"error of\n{name}": images - truth for name, images in estimates.items()}
    heads = [
        "from " + level_name(level, example.level_spacing_um) for level in range(1, interior + 1)
    ]
    title = f"Deblurring, slide {example.slide_id}"
    return _strip(title, heads, {**estimates, "sharp truth": truth}, error_rows, truth)


def psnr_of_deblurring(rows: Sequence[Row], level_spacing_um: float | None) -> Figure:
    """What every estimate of the sharp plane gains over the input in PSNR, by its blur level.

    Thick curves are the network's. How well its own latent shows the sharp plane, a limit to all
    that passes through a latent, is drawn where it is not above all of them.
    """
    chosen = select(rows, section="deblurring", reference="ground truth")
    levels, untouched, _ = _psnr(select(chosen, estimate="untouched input"))
    figure, ax = _axes_over_levels(levels, "blur level of the input", level_spacing_um)
    for index, name in enumerate(sharp_estimates(rows)):
        gain = _psnr(select(chosen, estimate=name))[1] - untouched
        width = 2.4 if is_of_network(name) else 1.1
        ax.plot(levels, gain, marker=_MARKERS[index], color=_COLOURS[index], lw=width, label=name)
    limit = _psnr(select(rows, section="reconstruction", levels="0"))[1] - untouched
    bottom, top = ax.get_ylim()
    if np.any(limit < top):
        label = "reconstruction of the sharp\nplane from its own latent"
        ax.plot(levels, limit, ls="--", lw=1, color="black", label=label)
        ax.set_ylim(min(bottom, np.nanmin(limit)), top)
    ax.set_ylabel("PSNR gained over the untouched input (dB)")
    ax.set_title(f"Deblurring (mean of {chosen[0].n} slides)", fontsize=10)
    figure.legend(loc="outside right upper", fontsize=8, frameon=False)
    return figure


def psnr_of_synthesis(rows: Sequence[Row], level_spacing_um: float | None) -> Figure:
    """PSNR of reconstruction and of synthesised blur over the blur level."""
    reconstruction = select(rows, section="reconstruction")
    synthesis = select(rows, section="blur synthesis")
    curves = {
        "reconstruction vs truth": reconstruction,
        "synthesised vs reconstruction": select(synthesis, reference="reconstruction"),
        "synthesised vs truth": select(synthesis, reference="ground truth"),
    }
    figure, ax = _axes_over_levels(_psnr(reconstruction)[0], "blur level", level_spacing_um)
    for index, (name, of_curve) in enumerate(curves.items()):
        colour = _COLOURS[index]
        levels, means, errors = _psnr(of_curve)
        ax.plot(levels, means, marker=_MARKERS[index], color=colour, label=name)
        ax.fill_between(levels, means - errors, means + errors, color=colour, alpha=0.25, lw=0)
    ax.set_ylabel("PSNR per image, range 1 (dB)")
    n = reconstruction[0].n
    ax.set_title(
        f"Reconstruction and blur synthesis (mean ± standard error, n = {n} slides)", fontsize=10
    )
    figure.legend(loc="outside right upper", fontsize=8, frameon=False)
    return figure


def linearity_of_objectives(rows: Mapping[str, Mapping[str, Sequence[Row]]]) -> Figure:
    """LDS and APD of the paper's objectives, beside the paper's values as hollow markers.

    Args:
      rows: By `paper.Quantity.name` of LDS and APD, then by channel, one row for each of
        `paper.OBJECTIVES`.
    """
    figure = Figure(figsize=(9.6, 4.4), layout="constrained")
    panels = (
        (paper.LDS, 1, "LDS: how straight is the path?\n(1 is a straight line, higher is better)"),
        (paper.APD, None, "APD: how uneven are its steps?\n(0 is equal steps, lower is better)"),
    )
    for ax, (quantity, top, title) in zip(figure.subplots(1, 2), panels, strict=True):
        for index, (channel, measured) in enumerate(rows[quantity.name].items()):
            look = {"color": _COLOURS[1 + index], "marker": _MARKERS[index]}
            # Side by side, so that nothing covers anything: ours left, the paper's right.
            places = np.arange(len(paper.OBJECTIVES)) + (index - 0.5) * 0.36
            means, errors = np.array(
                [(row.mean, row.standard_error or 0.0) for row in measured], float
            ).T
            name = f"{channel} ({paper.CHANNELS[channel]})"
            label = f"{name}, measured here, ± standard error, n = {measured[0].n} slides"
            ax.errorbar(places - 0.06, means, errors, ls="", capsize=4, label=label, **look)
            theirs = [quantity.values[channel][objective] for objective in paper.OBJECTIVES]
            label = f"{name}, paper (BBBC006)"
            ax.plot(places + 0.06, theirs, ls="", mfc="none", label=label, **look)
        ax.set_xticks(range(len(paper.OBJECTIVES)), paper.OBJECTIVES)
        ax.set_xlim(-0.5, len(paper.OBJECTIVES) - 0.5)
        ax.set_ylim(0, top)
        ax.set_title(title, fontsize=10)
        ax.set_ylabel(f"{quantity.name}, as the published code computes it")
        ax.grid(axis="y", alpha=0.3)
    handles, labels = ax.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, fontsize=9, frameon=False)
    figure.suptitle("The path of a slide's latents over blur level", fontsize=11)
    return figure


def level_name(level: int, spacing_um: float | None) -> str:
    """``level 3``, and the distance from focus where it is known."""
    return f"level {level}" if spacing_um is None else f"level {level}\n{level * spacing_um:g} µm"


def _strip(
    title: str,
    heads: Sequence[str],
    rows: Mapping[str, np.ndarray],
    error_rows: Mapping[str, np.ndarray],
    truth: np.ndarray,
) -> Figure:
    """A grid of images, one column per blur level: grey ones, then errors around white.

    All grey images share one scale, which holds the first row and the truth, and all errors
    another, which holds those of the first row: of deblurring the untouched input, so that a faint
    error is a small part of the blur. PSNR stands below what was estimated.
    """
    columns = len(heads)
    size = truth.shape[-1]
    figure = Figure(
        figsize=(
            _INCHES_PER_IMAGE * columns + 2.4,
            (_INCHES_PER_IMAGE + 0.16) * (len(rows) + len(error_rows)) + 0.9,
        ),
        layout=ConstrainedLayoutEngine(w_pad=0.015, h_pad=0.02, wspace=0, hspace=0),
    )
    figure.suptitle(f"{title} (centre crop, {size} × {size} pixels)", fontsize=11)
    axes = figure.subplots(len(rows) + len(error_rows), columns, squeeze=False)
    given = next(iter(rows.values()))
    grey = Normalize(0, max(float(given.max()), float(truth.max())))
    limit = float(np.percentile(np.abs(next(iter(error_rows.values()))), 99.5))
    signed = Normalize(-limit, limit)
    for column, head in enumerate(heads):
        axes[0, column].set_title(head, fontsize=9)
    for line, (name, images) in enumerate(rows.items()):
        for column, image in enumerate(images):
            axes[line, column].imshow(image, cmap="gray", norm=grey, interpolation="nearest")
            _caption(axes[line, column], _psnr_caption(image, truth[column]))
        axes[line, 0].set_ylabel(name, fontsize=9)
    for line, (name, errors) in enumerate(error_rows.items(), start=len(rows)):
        for column, error in enumerate(errors):
            axes[line, column].imshow(error, cmap="RdBu_r", norm=signed, interpolation="nearest")
            _caption(axes[line, column], "")
        axes[line, 0].set_ylabel(name, fontsize=9)
    for mappable, lines, label, extend in (
        (ScalarMappable(grey, "gray"), axes[: len(rows)], "normalised intensity", "max"),
        (ScalarMappable(signed, "RdBu_r"), axes[len(rows) :], "estimate − truth", "both"),
    ):
        bar = figure.colorbar(
            mappable, ax=list(lines.flat), label=label, extend=extend, aspect=25, pad=0.01
        )
        bar.ax.tick_params(labelsize=8)
    return figure


def _caption(ax: Axes, text: str) -> None:
    """Removes the ticks of an image and writes a line below it."""
    ax.set_xticks([])
    ax.set_yticks([])
    ax.set_xlabel(text, fontsize=8, labelpad=2)


def _psnr_caption(image: np.ndarray, truth: np.ndarray) -> str:
    psnr = float(metrics.psnr(image[..., None], truth[..., None], data_range=1.0))
    return f"{psnr:.1f} dB" if np.isfinite(psnr) else ""


def _psnr(rows: Sequence[Row]) -> np.ndarray:
    """Blur levels, PSNR and its standard error, ``(3, levels)``; NaN where it is infinite."""
    return np.array(
        [
            (int(row.levels), np.nan if row.mean is None else row.mean, row.standard_error or 0.0)
            for row in select(rows, quantity="PSNR", definition=RANGE_1)
            if row.levels.isdigit()
        ]
    ).T


def _axes_over_levels(
    levels: np.ndarray, label: str, spacing_um: float | None
) -> tuple[Figure, Axes]:
    """Axes for curves over blur level; title and legend are left to the caller."""
    figure = Figure(figsize=(9.6, 4.2), layout="constrained")
    ax = figure.subplots()
    names = [level_name(int(level), spacing_um).removeprefix("level ") for level in levels]
    ax.set_xticks(levels, names)
    ax.set_xlabel(label if spacing_um is None else f"{label} (and its distance from level 0)")
    ax.grid(alpha=0.3)
    return figure, ax


def _principal_components(vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates ``(n, 2)`` on the first two components and their shares of the variance.

    Signs, which are arbitrary, are chosen so that a path runs to the right and bends downwards.
    """
    centred = np.asarray(vectors, np.float64) - np.mean(vectors, axis=0)
    left, singular, _ = np.linalg.svd(centred, full_matrices=False)
    shares = singular**2 / max(np.sum(singular**2), np.finfo(float).tiny)
    points = left[:, :2] * singular[:2]
    runs_right = points[-1, 0] >= points[0, 0]
    bends_down = points[1:-1, 1].mean() <= points[[0, -1], 1].mean()
    return points * np.where([runs_right, bends_down], 1, -1), shares[:2]
