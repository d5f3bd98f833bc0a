"""Checkpoint files, read and written with torch; and PyTorch's own network beside ours."""

import argparse
import itertools
import os

import jax
import numpy as np
import pytest
from published import assert_deblurs_as_published, assert_same, images

import linlatent
from linlatent import torch_weights

torch = pytest.importorskip("torch", reason="torch is not installed (the extra 'torch')")

WIDTHS = (4, 8, 16, 16, 32)


@pytest.fixture(scope="module")
def tensors(state_dict):
    return {name: torch.tensor(array) for name, array in state_dict.items()}


@pytest.fixture(scope="module")
def imported(tensors, tmp_path_factory):
    folder = tmp_path_factory.mktemp("imported")
    torch.save(tensors, folder / "w.pt")
    torch_weights.import_torch(folder / "w.pt", folder / "workdir", objective="direct")
    return folder / "workdir"


def published_network(widths):
    """The architecture as PyTorch builds it, which is what gives the names."""
    nn = torch.nn

    def block(convolution, width):
        return (convolution, nn.BatchNorm2d(width), nn.LeakyReLU())

    def down(inputs, width):
        return block(nn.Conv2d(inputs, width, 3, stride=2, padding=1), width)

    def up(inputs, width):
        convolution = nn.ConvTranspose2d(inputs, width, 3, stride=2, padding=1, output_padding=1)
        return block(convolution, width)

    mirrored = widths[::-1]
    encoder = [nn.Sequential(*down(*pair)) for pair in zip((1, *widths), widths, strict=False)]
    decoder = [nn.Sequential(*up(*pair)) for pair in itertools.pairwise(mirrored)]
    final_layer = nn.Sequential(
        *up(widths[0], widths[0]), nn.Conv2d(widths[0], 1, 3, padding=1), nn.Sigmoid()
    )
    return nn.ModuleDict(
        {
            "encoder": nn.Sequential(*encoder),
            "decoder": nn.Sequential(*decoder),
            "final_layer": final_layer,
        }
    ).eval()


def test_a_lightning_checkpoint_deblurs_as_the_published_code(tensors, reference, tmp_path):
    content = {
        "epoch": 3,
        "global_step": 40,
        "pytorch-lightning_version": "1.9.0",
        "state_dict": {f"model.{name}": tensor for name, tensor in tensors.items()},
        "optimizer_states": [{"state": {0: {"step": torch.tensor(40.0)}}, "param_groups": []}],
        "hyper_parameters": {"learning_rate": 1e-3},
    }
    torch.save(content, tmp_path / "w.ckpt")
    torch_weights.import_torch(tmp_path / "w.ckpt", tmp_path / "w", objective="indirect")
    assert_deblurs_as_published(linlatent.load(tmp_path / "w").params, reference)


def test_a_plain_state_dict_is_read_bit_by_bit(tensors, state_dict, tmp_path):
    torch.save(tensors, tmp_path / "w.pt")
    assert_same(torch_weights.read_state_dict(tmp_path / "w.pt"), state_dict)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision_is_widened(tmp_path, dtype):
    values = torch.tensor([1.5, -0.25, 3.0])
    torch.save({"w": values.to(dtype)}, tmp_path / "w.pt")
    assert_same(torch_weights.read_state_dict(tmp_path / "w.pt"), {"w": values.numpy()})


@pytest.mark.parametrize("widths", [(3,), (2, 5), WIDTHS])
def test_pytorch_itself_gives_the_same_outputs(random_network, widths):
    variables = random_network(widths, seed=1)
    network = published_network(widths)
    arrays = torch_weights.to_state_dict(variables)
    network.load_state_dict(
        {name: torch.from_numpy(array) for name, array in arrays.items()}, strict=True
    )
    assert list(network.state_dict()) == list(arrays)
    x = np.random.default_rng(0).random((2, 32, 64, 1), np.float32)
    with torch.no_grad():
        theirs_z = network["encoder"](torch.from_numpy(x.transpose(0, 3, 1, 2).copy()))
        theirs = network["final_layer"](network["decoder"](theirs_z))
    z = jax.jit(linlatent.encode)(variables, x)
    ours = jax.jit(linlatent.decode)(variables, z)
    np.testing.assert_allclose(z, images(theirs_z.numpy()), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(ours, images(theirs.numpy()), atol=1e-5)


def test_an_exported_workdir_comes_back_bit_by_bit(imported, state_dict, tmp_path):
    torch_weights.export_torch(imported, tmp_path / "w.pt")
    content = torch.load(tmp_path / "w.pt", weights_only=True)
    assert_same({name: tensor.numpy() for name, tensor in content.items()}, state_dict)
    assert published_network(WIDTHS).load_state_dict(content, strict=True)

    torch_weights.import_torch(tmp_path / "w.pt", tmp_path / "again", objective="direct")
    first, again = linlatent.load(imported), linlatent.load(tmp_path / "again")
    assert_same(again.params, first.params)
    assert again.config.to_dict() == first.config.to_dict()


def test_an_export_replaces_no_file(imported, tmp_path):
    (tmp_path / "w.pt").write_text("mine")
    with pytest.raises(FileExistsError, match=r"w\.pt"):
        torch_weights.export_torch(imported, tmp_path / "w.pt")
    assert (tmp_path / "w.pt").read_text() == "mine"


class Hostile:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder):
        self.folder = str(folder)

    def __reduce__(self):
        return os.mkdir, (self.folder,)


@pytest.mark.parametrize("in_lightning", [True, False])
def test_a_hostile_file_is_refused_and_runs_nothing(tensors, tmp_path, in_lightning):
    hostile, file = Hostile(tmp_path / "harm"), tmp_path / "w.ckpt"
    torch.save({"state_dict": tensors, "callbacks": hostile} if in_lightning else hostile, file)
    with pytest.raises(ValueError, match=r"w\.ckpt: cannot be read .*\(it holds posix.mkdir\)"):
        torch_weights.import_torch(file, tmp_path / "w", objective="direct")
    assert [path.name for path in tmp_path.iterdir()] == ["w.ckpt"]
    # Lest the file be harmless to anyone.
    torch.load(file, weights_only=False)
    assert (tmp_path / "harm").is_dir()


def test_hyperparameters_of_other_types_are_named(tensors, tmp_path):
    content = {"state_dict": tensors, "hyper_parameters": argparse.Namespace(lr=1e-3)}
    torch.save(content, tmp_path / "w.ckpt")
    with pytest.raises(
        ValueError, match=r"it holds argparse.Namespace.* save the state dict alone"
    ):
        torch_weights.read_state_dict(tmp_path / "w.ckpt")


@pytest.mark.parametrize("damage", ["empty", "junk", "truncated"])
def test_a_damaged_file_is_named(tensors, tmp_path, damage):
    file = tmp_path / "w.ckpt"
    torch.save(tensors, file)
    contents = {"empty": b"", "junk": b"junk" * 100, "truncated": file.read_bytes()[:900]}
    file.write_bytes(contents[damage])
    with pytest.raises(ValueError, match=r"w\.ckpt: cannot be read as tensors.*Error in torch"):
        torch_weights.read_state_dict(file)


@pytest.mark.parametrize("content", [[1, 2], {"epoch": 3}, {"state_dict": 3}])
def test_a_file_without_state_dict_is_named(tmp_path, content):
    torch.save(content, tmp_path / "w.ckpt")
    with pytest.raises(
        ValueError, match=r"w\.ckpt: no state dict; expected a dictionary of tensors"
    ):
        torch_weights.read_state_dict(tmp_path / "w.ckpt")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere\.ckpt"):
        torch_weights.read_state_dict(tmp_path / "nowhere.ckpt")
