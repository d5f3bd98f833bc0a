"""Evaluation of a trained workdir: `evaluate` measures and writes, `format_table` prints."""

from linlatent.evaluation.evaluate import evaluate
from linlatent.evaluation.tables import format_table

__all__ = ["evaluate", "format_table"]
