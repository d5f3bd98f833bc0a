"""The script that trains with all slides in the memory of one accelerator."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from linlatent import inference
from linlatent.data import Triplet, open_source


@pytest.fixture(scope="module")
def script(load_script):
    return load_script("train_in_memory")


@pytest.fixture(scope="module")
def config(tiny_config):
    return tiny_config({"data.crops": "random", "schedule": "cosine", "num_steps": 100})


def test_crops_lie_anywhere_in_their_triplets(script):
    """Every pixel knows its slide, level and place."""
    levels, rows, columns = (np.arange(n) for n in (5, 20, 24))
    plane = 24 * rows[:, None] + columns
    stacks = np.stack([10_000 * slide + 1000 * levels[:, None, None] + plane for slide in (0, 1)])
    low, high = jnp.zeros((2, 5)), jnp.ones((2, 5))
    triplets = (Triplet(0, 1, 4), Triplet(1, 2, 3))
    draw = jax.jit(
        lambda key: script.draw_batch(
            key, jnp.array(stacks), low, high, triplets=triplets, size=8, count=64
        )
    )
    batch = draw(jax.random.key(0))
    planes = np.asarray(batch["planes"])
    assert (planes.shape, planes.dtype) == ((64, 3, 8, 8, 1), np.float32)
    slides, found, places = planes // 10_000, planes % 10_000 // 1000, planes % 1000
    assert set(slides.ravel()) == {0, 1}
    assert {tuple(each[:, 0, 0, 0].astype(int)) for each in found} == set(triplets)
    for each, alpha in zip(found, np.asarray(batch["alpha"]), strict=True):
        assert alpha == pytest.approx([Triplet(*each[:, 0, 0, 0]).alpha])
    assert np.all(places == places[:, :1])  # The same place in all three planes.
    steps = {tuple(np.diff(crop[0, :2, :2, 0].ravel()[[0, 1]])) for crop in places}
    assert steps == {(1,), (-1,), (24,), (-24,)}
    assert len(np.unique(places[:, 0, 0, 0])) > 30
    again, other = draw(jax.random.key(0)), draw(jax.random.key(1))
    np.testing.assert_array_equal(again["planes"], planes)
    assert np.any(np.asarray(other["planes"]) != planes)


def test_it_trains_a_model_as_main_does(script, config, tmp_path, capsys):
    source = open_source(config.data.source, **config.data[config.data.source])
    model = script.train(config, source)
    assert model.step == 100
    inference.save(model, tmp_path / "w")
    loaded = inference.load(tmp_path / "w")
    jax.tree.map(np.testing.assert_array_equal, model.params, loaded.params)
    stack = source.read_stack(source.slide_ids["train"][0]).astype(np.float32)
    x = jnp.array(stack[:1, :32, :32, None] / stack.max())
    error = jnp.abs(inference.decode(model.params, inference.encode(model.params, x)) - x).mean()
    assert error < 0.9 * jnp.abs(x - x.mean()).mean()
    losses = [float(text[:6]) for text in capsys.readouterr().err.split("loss=")[1:]]
    assert losses
    assert all(np.isfinite(losses))


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("data.crops", "ten", r"config.data.crops is 'ten', expected 'random' here"),
        ("batching", "stack", r"config.batching is 'stack', expected 'triplet' here"),
        ("num_models", 2, r"config.num_models is 2, expected 1 here"),
        ("accumulate", 4, r"config.accumulate is 4, expected 1 here"),
        ("init_from", "w", r"config.init_from is 'w', expected None here"),
        ("data.normalisation", "plane-8bit", r"'plane-8bit', expected another one here"),
        ("objective", "separated_blur", "is 'separated_blur', expected another one here"),
        ("num_steps", 150, r"config.num_steps is 150, expected a multiple of 100"),
    ],
)
def test_what_it_cannot_do_is_named(script, config, field, value, message):
    other = config.copy_and_resolve_references()
    other.update_from_flattened_dict({field: value})
    with pytest.raises(ValueError, match=message):
        script.train(other, None)
