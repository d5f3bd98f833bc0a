"""Evaluation of a trained workdir: `evaluate` measures and writes, `format_table` prints.

`paper` holds the numbers of the paper, `grid` puts evaluations of its six networks side by side.
"""

from linlatent.evaluation import grid, paper
from linlatent.evaluation.evaluate import evaluate, read_results
from linlatent.evaluation.tables import format_table

__all__ = ["evaluate", "format_table", "grid", "paper", "read_results"]
