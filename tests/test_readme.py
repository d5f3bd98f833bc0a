"""What the README shows is run as it stands there."""

import pathlib
import re
import subprocess

import numpy as np

from linlatent import images

ROOT = pathlib.Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def test_the_python_of_the_readme_runs(tmp_path, monkeypatch):
    blocks = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    assert len(blocks) == 2
    rng = np.random.default_rng(0)
    for name in ("b.tif", "c.tif"):
        images.write_image(tmp_path / name, rng.integers(100, 4000, (520, 696), np.uint16))
    monkeypatch.chdir(tmp_path)
    exec(compile("".join(blocks), "README.md", "exec"), {})
    assert images.read_image("a.tif").shape == (520, 696)


def test_what_the_readme_names_exists():
    for name in re.findall(r"`(\w+\.py)`", README):
        assert (ROOT / "configs" / name).exists(), name
    for path in re.findall(r"\]\(([^)#:]+)\)", README) + re.findall(r"`(configs/\w+\.py)`", README):
        assert (ROOT / path).exists(), path
    targets = re.findall(r"^    make (\w+)", README, flags=re.MULTILINE)
    assert targets
    for target in targets:
        subprocess.run(["make", "--dry-run", target], cwd=ROOT, check=True, capture_output=True)


def test_every_field_that_the_readme_sets_exists():
    from configs import default

    config = default.get_config()
    fields = re.findall(r"--config\.([\w.]+)=", README)
    assert fields
    for field in fields:
        node = config
        for name in field.split("."):
            assert name in node, field
            node = node[name]
