"""Every test runs on four CPU devices, and no shape is promoted without being asked to."""

import importlib.util
import logging
import logging.handlers
import os
import pathlib
import sys
import types

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import jax
import numpy as np
import pytest
from published import load_reference, under

# The programs that tests start do not fill the cache of whoever runs the tests.
os.environ["JAX_COMPILATION_CACHE_DIR"] = ""

jax.config.update("jax_num_cpu_devices", 4)
jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture(scope="session")
def load_script():
    """Imports a program of the folder of scripts, by name, without running it."""

    def load(name):
        path = pathlib.Path(__file__).parents[1] / "scripts" / f"{name}.py"
        spec = importlib.util.spec_from_file_location(name, path)
        module = importlib.util.module_from_spec(spec)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "path", [*sys.path])
            patch.setitem(sys.modules, name, module)  # Dataclasses look their module up.
            spec.loader.exec_module(module)
        return module

    return load


@pytest.fixture(scope="session")
def reference():
    """Numbers of the published PyTorch code, by key."""
    return load_reference()


@pytest.fixture(scope="session")
def state_dict(reference):
    """Weights and statistics of its network, by their published names."""
    return under(reference, "state_dict")


@pytest.fixture(scope="session")
def random_network():
    """Draws weights and statistics of any widths, faster than `model.init` is compiled."""
    from linlatent import model

    def draw(widths, seed=0):
        rng = np.random.default_rng(seed)

        def leaf(path, shape):
            if path[-1].key in ("var", "scale"):
                values = rng.uniform(0.5, 1.5, shape.shape)
            else:
                values = rng.normal(0, 0.3, shape.shape)
            return jax.device_put(values.astype(shape.dtype))

        shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), widths))
        return jax.tree.map_with_path(leaf, shapes)

    return draw


@pytest.fixture(scope="session")
def random_separated():
    """Draws a tiny network in which nothing is zero, and all images are read to be out of focus."""
    from linlatent import networks

    def draw(network):
        init = jax.jit(lambda key: networks.init(key, network=network, widths=(4, 4, 6, 8)))
        rng = np.random.default_rng(0)
        params = jax.tree.map(
            lambda leaf: leaf + rng.normal(0, 0.1, leaf.shape).astype(np.float32),
            init(jax.random.key(0)),
        )
        params["params"]["encoder"]["blur"]["estimates"]["bias"] += 1  # Half of the blurriest.
        return params

    return draw


@pytest.fixture(scope="session")
def tiny_config(tmp_path_factory):
    """Makes configurations of a tiny training on a folder; takes fields as ``{"data.x": value}``.

    Four slides of five levels, two of them to train on: 80 examples and 4 steps an epoch.
    """
    import tifffile
    from scipy import ndimage

    from configs import default

    folder = tmp_path_factory.mktemp("slides")
    for number in range(4):
        points = np.random.default_rng(number).random((40, 44)) > 0.95
        sharp = ndimage.gaussian_filter(points.astype(float), 1.0)
        levels = [ndimage.gaussian_filter(sharp, sigma) for sigma in range(5)]
        pages = (100 + 10000 * np.stack(levels)).astype(np.uint16)
        tifffile.imwrite(folder / f"slide_{number}.tif", pages, photometric="minisblack")

    def make(fields=None):
        config = default.get_config()
        tiny = {
            "model.widths": (4, 8),
            "learning_rate": 1e-2,
            "batch_size": 20,
            "num_steps": 6,
            "log_every_steps": 3,
            "data.source": "folder",
            "data.crop_size": 32,
            "data.folder.path": str(folder),
            "data.folder.in_focus": 0,
            "data.folder.direction": "above",
            "data.folder.split": (0.5, 0.25, 0.25),
        }
        config.update_from_flattened_dict(tiny | (fields or {}))
        return config

    return make


@pytest.fixture(scope="session")
def trained(tiny_config, tmp_path_factory):
    """An epoch and a half of it: ``workdir``, ``config``, ``state`` and what it ``compiled``."""
    from linlatent.training import train

    workdir, config = tmp_path_factory.mktemp("trained"), tiny_config()
    messages = logging.handlers.BufferingHandler(capacity=100_000)
    logger = logging.getLogger("jax._src.interpreters.pxla")
    logger.addHandler(messages)
    with jax.log_compiles():
        state = train(config, workdir)
    logger.removeHandler(messages)
    compiled = [record.getMessage() for record in messages.buffer]
    return types.SimpleNamespace(workdir=workdir, config=config, state=state, compiled=compiled)
