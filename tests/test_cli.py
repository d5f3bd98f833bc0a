"""The command `linlatent`: its subcommands do what they say, and mistakes end in one message."""

import importlib
import pathlib
import sys
import tomllib

import pytest

import linlatent
from linlatent import cli, torch_weights


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
    ],
)
def test_wrong_usage_is_explained(capsys, arguments, message):
    assert failure_of(*arguments) == 2
    assert message in capsys.readouterr().err


def test_import_makes_a_workdir(state_dict, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(torch_weights, "read_state_dict", {"w.ckpt": state_dict}.__getitem__)
    workdir = str(tmp_path / "w")
    arguments = ["import-torch", "w.ckpt", "--out", workdir, "--objective", "baseline"]
    cli.main([*arguments, "--normalisation", "stack"])
    assert capsys.readouterr().out.startswith(f"{workdir}: a network of widths (4, 8, 16, 16, 32)")
    config = linlatent.load(workdir).config
    assert (config.objective, config.data.normalisation) == ("baseline", "stack")
    assert (
        failure_of(*arguments) == f"error: {workdir}: exists already; expected a new folder to"
        " import into"
    )


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
