"""The house keeps its floors (read off the imports), its doors, and its light public face."""

import ast
import json
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]
PACKAGE = ROOT / "linlatent"

FLOORS = (
    ("main", "cli"),
    ("program",),
    ("training", "evaluation", "torch_weights"),
    ("inference",),
    ("checkpoints", "config", "shipped"),
    ("data",),
    ("alpha",),
    ("networks",),
    ("pair",),
    ("separated",),
    ("model",),
    ("losses", "unet", "bands"),
    ("convolution", "normalisation"),
    ("images", "metrics", "optics", "latent", "devices", "products", "winograd", "windows"),
)
"""From the top floor down; a module imports only from floors below its own, or its own room."""

LEVEL = {room: level for level, rooms in enumerate(reversed(FLOORS)) for room in rooms}
FILES = [ROOT / "main.py", *sorted(PACKAGE.rglob("*.py"))]
ROOMS = sorted({path.parent.name for path in PACKAGE.glob("*/__init__.py")})
HEAVY = ("tensorflow", "torch", "optax", "orbax", "matplotlib")


def name_of(path):
    return str(path.relative_to(ROOT))


def room_of(path):
    """Of ``linlatent/data/stack.py`` the room is data, of ``linlatent/model.py`` it is model."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return parts[1] if parts[0] == "linlatent" else parts[0]


def imports_of(path):
    """All that a file imports, wherever in it: dotted names down to what is taken from a module."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name_of(path)}: relative imports hide the floors"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def own_imports_of(path):
    """The imports from linlatent, as lists of names below it."""
    dotted = (name.split(".") for name in imports_of(path))
    return [names[1:] for names in dotted if names[0] == "linlatent" and len(names) > 1]


def test_every_room_has_a_floor():
    assert {room_of(path) for path in FILES} - {"__init__"} <= LEVEL.keys()
    assert ROOMS == ["data", "evaluation", "training"]


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_imports_point_downwards(path):
    here = room_of(path)
    if here == "__init__":
        pytest.skip("the public names may come from anywhere")
    for names in own_imports_of(path):
        assert names[0] == here or LEVEL[names[0]] < LEVEL[here], f"{here} imports {names[0]}"


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_rooms_are_entered_by_their_doors(path):
    """What others may use of a room is what its ``__init__`` names."""
    for names in own_imports_of(path):
        if len(names) > 1 and names[0] in ROOMS and names[0] != room_of(path):
            door = (PACKAGE / names[0] / "__init__.py").read_text()
            assert len(names) == 2, f"reaches into linlatent.{'.'.join(names)}"
            assert f'"{names[1]}"' in door, f"linlatent.{names[0]} does not offer {names[1]}"


def test_the_reader_of_imports_finds_them():
    """Lest the tests above pass because nothing was found."""
    loop = own_imports_of(PACKAGE / "training" / "loop.py")
    assert ["data", "open_source"] in loop
    assert ["networks"] in loop
    # Even those inside functions.
    assert ["checkpoints"] in own_imports_of(PACKAGE / "inference.py")


@pytest.mark.parametrize("path", sorted((PACKAGE / "evaluation").glob("*.py")), ids=name_of)
def test_evaluation_knows_no_training(path):
    for name in imports_of(path):
        assert name.split(".")[0] != "optax"
        assert not name.startswith("linlatent.training")


def test_losses_know_no_model():
    assert ["model"] not in own_imports_of(PACKAGE / "losses.py")


def test_files_are_short_and_have_names_that_say_something():
    assert not [name_of(path) for path in FILES if path.stem in ("utils", "helpers", "misc")]
    lengths = {name_of(path): len(path.read_text().splitlines()) for path in FILES}
    assert {name: length for name, length in lengths.items() if length > 350} == {}


def test_the_public_names_load_fast_and_light():
    program = """
import json, sys, time
import jax, flax.linen
start = time.perf_counter()
import linlatent
linlatent.deblur
seconds = time.perf_counter() - start
print(json.dumps([seconds, sorted({name.partition(".")[0] for name in sys.modules})]))
"""
    output = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    seconds, loaded = json.loads(output)
    assert "linlatent" in loaded
    assert set(HEAVY) & set(loaded) == set()
    assert seconds < 1.5
