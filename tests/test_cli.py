"""The command `linlatent`: its subcommands do what they say, and mistakes end in one message."""

import importlib
import pathlib
import sys
import tomllib

import jax
import numpy as np
import pytest

import linlatent
from linlatent import cli, devices, images, shipped, torch_weights


def failure_of(*arguments):
    with pytest.raises(SystemExit) as caught:
        cli.main(arguments)
    return caught.value.code


def test_the_installed_program_is_this_one():
    project = tomllib.loads((pathlib.Path(cli.__file__).parents[1] / "pyproject.toml").read_text())
    module, _, function = project["project"]["scripts"]["linlatent"].partition(":")
    assert getattr(importlib.import_module(module), function) is cli.main


def test_help_tells_of_every_subcommand(capsys):
    assert failure_of("--help") == 0
    text = capsys.readouterr().out
    for name, command in cli.COMMANDS.items():
        assert name in text
        assert failure_of(name, "--help") == 0
        assert command.summary in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "COMMAND"),
        (["sharpen"], "invalid choice: 'sharpen'"),
        (["import-torch", "w.ckpt", "--out", "w"], "required: --objective"),
        (
            ["import-torch", "w.ckpt", "--out", "w", "--objective", "sharp"],
            "--objective: invalid choice: 'sharp'",
        ),
        (["export-torch", "w"], "required: --out"),
        (["unpack", "w1-blunt", "--out", "w"], "w1-sharp"),
    ],
)
def test_wrong_usage_is_explained(capsys, arguments, message):
    assert failure_of(*arguments) == 2
    assert message in capsys.readouterr().err


def test_an_image_is_deblurred_alone_or_with_a_blurrier_one(tmp_path, capsys, monkeypatch):
    kept = []
    monkeypatch.setattr(devices, "keep_compiled", lambda: kept.append(True))
    rng = np.random.default_rng(0)
    b, c, out, both = (str(tmp_path / name) for name in ("b.tif", "c.png", "out.tif", "both.png"))
    frames = [(100 + 500 * rng.random((40, 70))).astype(np.uint16) for _ in range(2)]
    for path, frame in zip((b, c), frames, strict=True):
        images.write_image(path, frame)
    cli.main(["deblur", "w1-sharp", b, "--out", out])
    assert capsys.readouterr().out == f"{out}: {b}, deblurred\n"
    assert kept == [True]
    model = linlatent.load("w1-sharp")
    np.testing.assert_array_equal(images.read_image(out), linlatent.deblur_frame(model, frames[0]))
    told = str(tmp_path / "told.tif")
    cli.main(["deblur", "w1-sharp", b, "--blur", "6", "--out", told])
    expected = linlatent.deblur_frame(model, frames[0], blur=6.0)
    np.testing.assert_array_equal(images.read_image(told), expected)
    thorough = str(tmp_path / "thorough.tif")
    cli.main(["deblur", "w1-sharp", b, "--thorough", "--out", thorough])
    expected = linlatent.deblur_frame(model, frames[0], thorough=True)
    np.testing.assert_array_equal(images.read_image(thorough), expected)
    cli.main(["deblur", "w1-sharp", b, "--blurrier", c, "--alpha", "1", "--out", both])
    np.testing.assert_array_equal(images.read_image(both), frames[0])
    assert failure_of("deblur", "w1-sharp", b, "--out", out).startswith("error: ")
    pages = str(tmp_path / "pages.tif")
    images.write_image(pages, np.stack(frames))
    expected = f"error: {pages} has 2 pages; expected a single image"
    assert failure_of("deblur", "w1-sharp", pages, "--out", str(tmp_path / "x.tif")) == expected


def test_several_images_are_deblurred_into_a_folder(tmp_path, capsys):
    rng = np.random.default_rng(0)
    paths = [str(tmp_path / name) for name in ("b.tif", "c.png")]
    frames = [(100 + 500 * rng.random((40, 70))).astype(np.uint16) for _ in paths]
    for path, frame in zip(paths, frames, strict=True):
        images.write_image(path, frame)
    out = tmp_path / "sharp" / "w1"
    cli.main(["deblur", "w1-sharp", *paths, "--blur", "6", "--out", str(out)])
    assert capsys.readouterr().out == f"{out}: 2 images, deblurred\n"
    model = linlatent.load("w1-sharp")
    for name, frame in zip(("b.tif", "c.png"), frames, strict=True):
        expected = linlatent.deblur_frame(model, frame, blur=6.0)
        np.testing.assert_array_equal(images.read_image(out / name), expected)


def test_of_several_images_none_is_made_if_one_cannot_be(tmp_path):
    frame = np.zeros((40, 70), np.uint16)
    (tmp_path / "other").mkdir()
    (tmp_path / "full").mkdir()
    names = ("b.tif", "c.tif", "other/b.tif", "full/c.tif")
    b, c, same_name, there = (str(tmp_path / name) for name in names)
    for path in (b, c, same_name, there):
        images.write_image(path, frame)
    pages, missing = str(tmp_path / "pages.tif"), str(tmp_path / "missing.tif")
    images.write_image(pages, np.stack([frame, frame]))
    full, new = str(tmp_path / "full"), str(tmp_path / "new")
    for arguments, message in (
        ([b, c, "--out", full], f"{there} exists already; choose another folder"),
        ([b, same_name, "--out", new], "several images are called b.tif: deblur them one by one"),
        ([b, c, "--out", "a.tif"], "2 images: --out must be a folder for them; got a.tif"),
        ([b, pages, "--out", new], f"{pages} has 2 pages; expected a single image"),
        ([b, missing, "--out", new], f"there is no file {missing}"),
        ([b, c, "--blurrier", c, "--alpha", "1", "--out", new], "--blurrier goes with a single"),
    ):
        assert failure_of("deblur", "w1-sharp", *arguments).startswith(f"error: {message}")
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["c.tif"]
    assert not (tmp_path / "new").exists()


def test_a_network_that_comes_along_is_unpacked(tmp_path, capsys):
    name, workdir = shipped.names()[0], str(tmp_path / "w")
    cli.main(["unpack", name, "--out", workdir])
    assert capsys.readouterr().out.startswith(f"{workdir}: {name}")
    there, here = linlatent.load(name), linlatent.load(workdir)
    jax.tree.map(np.testing.assert_array_equal, there.params, here.params)
    assert (there.step, there.config.to_dict()) == (here.step, here.config.to_dict())
    assert failure_of("unpack", name, "--out", workdir).startswith(f"error: {workdir}: exists")


def test_import_makes_a_workdir(state_dict, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(torch_weights, "read_state_dict", {"w.ckpt": state_dict}.__getitem__)
    workdir = str(tmp_path / "w")
    arguments = ["import-torch", "w.ckpt", "--out", workdir, "--objective", "baseline"]
    cli.main([*arguments, "--normalisation", "stack"])
    assert capsys.readouterr().out.startswith(f"{workdir}: a network of widths (4, 8, 16, 16, 32)")
    config = linlatent.load(workdir).config
    assert (config.objective, config.data.normalisation) == ("baseline", "stack")
    assert failure_of(*arguments) == f"error: {workdir}: exists already; expected a new folder"


def test_export_writes_a_file(state_dict, tmp_path, monkeypatch, capsys):
    torch = pytest.importorskip("torch", reason="torch is not installed (the extra 'torch')")
    monkeypatch.setattr(torch_weights, "read_state_dict", lambda path: state_dict)
    workdir, file = str(tmp_path / "w"), str(tmp_path / "w.pt")
    cli.main(["import-torch", "w.ckpt", "--out", workdir, "--objective", "direct"])
    cli.main(["export-torch", workdir, "--out", file])
    assert capsys.readouterr().out.splitlines()[1].startswith(f"{file}: a state dict")
    assert list(torch.load(file, weights_only=True)) == list(state_dict)


def test_a_mistake_ends_in_one_message(tmp_path):
    pytest.importorskip("torch", reason="torch is not installed (the extra 'torch')")
    nowhere = str(tmp_path / "nowhere")
    assert failure_of("export-torch", nowhere, "--out", str(tmp_path / "w.pt")).startswith(
        f"error: {nowhere}: no such folder"
    )
    assert "a network 'separated' is unknown to the published code" in failure_of(
        "export-torch", "w1-sharp", "--out", str(tmp_path / "w.pt")
    )
    assert not (tmp_path / "w.pt").exists()
    assert nowhere in failure_of(
        "import-torch", nowhere, "--out", str(tmp_path / "w"), "--objective", "direct"
    )


def test_without_torch_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    message = failure_of("export-torch", str(tmp_path), "--out", str(tmp_path / "w.pt"))
    assert message.startswith("error: PyTorch checkpoints need torch")
