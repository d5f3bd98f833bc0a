"""docs/fidelity.md names the tests behind its claims; they must be there."""

import pathlib
import re

ROOT = pathlib.Path(__file__).parents[1]
TEXT = (ROOT / "docs" / "fidelity.md").read_text()


def test_every_test_it_names_exists():
    named = re.findall(r"`(test_\w+\.py)?(?:::(test_\w+))?`", TEXT)
    file = None
    for name, function in named:
        file = name or file  # A function without a file is of the file named before.
        if function or name:
            code = (ROOT / "tests" / file).read_text()
            assert f"def {function}" in code, (file, function)
    assert sum(bool(function) for _, function in named) > 10


def test_every_field_it_names_exists():
    from linlatent import config

    in_tables = re.findall(r"^\| [^|]*\(`([\w.]+)`", TEXT, flags=re.MULTILINE)
    assert len(in_tables) > 5
    for field in in_tables + re.findall(r"--config\.([\w.]+)=", TEXT):
        node = config.default()
        for part in field.split("."):
            assert part in node, field
            node = node[part]
