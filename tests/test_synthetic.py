import concurrent.futures
import json
import subprocess
import sys

import numpy as np
import pytest
import tensorflow_datasets as tfds
from scipy import ndimage

from linlatent import optics
from linlatent.data.stack import SPLITS
from linlatent.data.synthetic import open_source, slides
from linlatent.data.synthetic.canvas import Canvas
from linlatent.data.synthetic.cells import HEIGHTS_UM, place_cells
from linlatent.data.synthetic.synthetic import Synthetic
from linlatent.data.synthetic.variety import Variety, magnified, vary

SIZE = {"height": 144, "width": 160}


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("synthetic")


@pytest.fixture(scope="module")
def source(data_dir):
    return open_source(config="w1_tiny", data_dir=str(data_dir))


def test_source_keeps_the_contract(source):
    assert source.name == "synthetic/w1_tiny 1.0.0"
    assert source.num_levels == 9
    assert source.level_spacing_um == 4.0
    assert {split: len(source.slide_ids[split]) for split in SPLITS} == {
        "train": 4,
        "validation": 2,
        "test": 2,
    }
    ids = [slide_id for split in SPLITS for slide_id in source.slide_ids[split]]
    assert len(set(ids)) == len(ids)
    for slide_id in ids:
        stack = source.read_stack(slide_id)
        assert stack.shape == (9, 144, 160)
        assert stack.dtype == np.uint16


def test_a_slide_depends_on_its_id_alone(source):
    # Rendered on its own, not in the order of the data set.
    for split in reversed(SPLITS):
        for slide_id in reversed(source.slide_ids[split]):
            alone = slides.render_slide(slide_id, channel="w1", **SIZE)
            np.testing.assert_array_equal(source.read_stack(slide_id), alone)


def test_slides_and_seeds_and_channels_differ():
    stack = slides.render_slide("s000", channel="w1", **SIZE)
    for other in (
        slides.render_slide("s001", channel="w1", **SIZE),
        slides.render_slide("s000", channel="w1", seed=1, **SIZE),
        slides.render_slide("s000", channel="w2", **SIZE),
    ):
        assert np.mean(stack[0] != other[0]) > 0.5


def test_varied_slides_are_further_ones_to_train_on():
    usual, varied = (Synthetic.builder_configs[name] for name in ("w1", "w1_varied"))
    train = varied.slide_ids("train")
    assert train[:44] == usual.slide_ids("train")
    assert len(set(train)) == 160
    for split in ("validation", "test"):
        assert varied.slide_ids(split) == usual.slide_ids(split)


def test_a_varied_slide_differs_and_keeps_the_order_of_its_levels():
    spread = []
    for number in range(6):
        name = f"v{number:03d}_w1"
        usual = slides.render_slide(name, channel="w1", **SIZE)
        varied = slides.render_slide(name, channel="w1", **SIZE, varied=True)
        assert np.mean(usual[0] != varied[0]) > 0.5
        assert np.all(np.diff(varied.astype(float).var(axis=(1, 2))) < 0)
        spread.append(varied[0].mean() / usual[0].mean())
    assert max(spread) > 1.5 * min(spread)


def test_variety_changes_what_it_says():
    rng = np.random.default_rng(0)
    canvas = Canvas((64, 64))
    canvas.layers[2, 20:40, 20:40] = 100.0
    canvas.layers[3, 30, 30] = 300.0
    vary(canvas, Variety(gamma=2.0, light=0.5), rng, brightness_counts=100.0)
    assert canvas.layers[2, 20, 20] == pytest.approx(0.5 * 100)  # the brightness gamma leaves
    assert canvas.layers[:, 30, 30].sum() == pytest.approx(0.5 * 400 * 4)
    before = canvas.layers.copy()
    all_soft = ndimage.gaussian_filter(before, (0, 1, 1))
    vary(canvas, Variety(softness_pixels=1.0), rng, brightness_counts=100.0)
    assert canvas.layers.sum() == pytest.approx(before.sum(), rel=1e-5)  # light moves
    share = (canvas.layers - before)[:, 30, 30].sum() / (all_soft - before)[:, 30, 30].sum()
    assert 0.1 < share < 1  # softness differs by place
    assert canvas.layers.min() >= 0
    cells = place_cells(np.random.default_rng(0), (200, 200))
    larger = magnified(cells, 1.5)
    assert larger[0].semi_axes[0] == pytest.approx(1.5 * cells[0].semi_axes[0])
    assert larger[0].centre[1] == pytest.approx(1.5 * cells[0].centre[1])


def test_softness_and_grain_differ_by_place():
    def contrast(**variety):
        canvas = Canvas((256, 256))
        canvas.layers[2:4] = np.indices((256, 256)).sum(axis=0) // 8 % 2  # a chequerboard
        vary(canvas, Variety(**variety), np.random.default_rng(0), brightness_counts=2.0)
        assert np.all(canvas.layers[[0, 1, 4, 5, 6]] == 0)
        np.testing.assert_array_equal(canvas.layers[2], canvas.layers[3])
        patches = canvas.layers[2].reshape(8, 32, 8, 32).transpose(0, 2, 1, 3).reshape(64, 1024)
        assert canvas.layers[2].mean() == pytest.approx(0.5, rel=0.05)  # no light is lost
        return patches.std(axis=1)

    usual, soft, grained = contrast(), contrast(softness_pixels=2.5), contrast(grain=0.8)
    np.testing.assert_allclose(usual, 0.5, rtol=1e-3)
    assert soft.max() < 0.5
    assert soft.min() < 0.7 * soft.max()
    assert np.median(grained) < 0.6 < grained.max()


def test_reading_from_several_threads_gives_the_same(source):
    ids = [slide_id for split in SPLITS for slide_id in source.slide_ids[split]] * 8
    with concurrent.futures.ThreadPoolExecutor(4) as threads:
        stacks = list(threads.map(source.read_stack, ids))
    for slide_id, stack in zip(ids, stacks, strict=True):
        np.testing.assert_array_equal(stack, source.read_stack(slide_id))


@pytest.mark.parametrize("channel", slides.CHANNELS)
def test_blur_grows_over_the_levels_and_keeps_the_light(channel):
    for number in range(3):
        stack = slides.render_slide(f"s{number:03d}", channel=channel, height=260, width=348)
        levels = stack.astype(np.float64)
        assert np.all(np.diff(levels.var(axis=(1, 2))) < 0)
        means = levels.mean(axis=(1, 2))
        light = means - optics.Camera().offset_counts
        np.testing.assert_allclose(light, light[0], rtol=0.1)


def test_counts_look_like_a_camera_frame():
    # Ranges seen in the sharp frames of BBBC006 (docs/embedded_data.md).
    for number in range(4):
        sharp = slides.render_slide(f"s{number:03d}_w1", channel="w1", height=520, width=696)[0]
        assert 110 < np.percentile(sharp, 1) < 130
        assert 400 < np.percentile(sharp, 99.9) < 4000
        assert sharp.max() < 16000


def test_objects_sit_at_different_heights():
    spreads_um = []
    for seed in range(8):
        cells = place_cells(np.random.default_rng(seed), (648, 824))
        spreads_um.append(HEIGHTS_UM[[cell.height for cell in cells]].std())
    assert 1 < np.mean(spreads_um) < 4


def test_no_centre_crop_is_empty():
    for number in range(24):
        cells = place_cells(np.random.default_rng(number), (272, 288))
        distances = [np.hypot(cell.centre[0] - 136, cell.centre[1] - 144) for cell in cells]
        assert min(distances) < 90


def test_unknown_names_are_refused_with_the_choices(data_dir):
    with pytest.raises(ValueError, match=r"'w3'.* known are w1, w1_varied, w1_tiny, w2,"):
        open_source(config="w3", data_dir=str(data_dir))
    with pytest.raises(ValueError, match="'w3'; known are w1, w2"):
        slides.render_slide("s000", channel="w3", **SIZE)


def test_a_second_opening_generates_nothing(source, data_dir, monkeypatch):
    def fail(*args, **kwargs):
        raise AssertionError("generated again")

    monkeypatch.setattr(slides, "render_slide", fail)
    again = open_source(config="w1_tiny", data_dir=str(data_dir))
    assert again.slide_ids == source.slide_ids


def test_an_interrupted_generation_leaves_no_broken_data_set(tmp_path, monkeypatch):
    render = slides.render_slide
    made = []

    def interrupted(slide_id, **options):
        made.append(slide_id)
        if len(made) == 6:
            raise KeyboardInterrupt
        return render(slide_id, **options)

    monkeypatch.setattr(slides, "render_slide", interrupted)
    with pytest.raises(KeyboardInterrupt):
        open_source(config="w2_tiny", data_dir=str(tmp_path))
    monkeypatch.setattr(slides, "render_slide", render)
    source = open_source(config="w2_tiny", data_dir=str(tmp_path))
    for split in SPLITS:
        for slide_id in source.slide_ids[split]:
            expected = slides.render_slide(slide_id, channel="w2", **SIZE)
            np.testing.assert_array_equal(source.read_stack(slide_id), expected)


def test_the_slower_of_two_generations_opens_the_result_of_the_faster(tmp_path, monkeypatch):
    render = slides.render_slide

    def overtaken(slide_id, **options):
        monkeypatch.setattr(slides, "render_slide", render)
        open_source(config="w1_tiny", data_dir=str(tmp_path))
        return render(slide_id, **options)

    monkeypatch.setattr(slides, "render_slide", overtaken)
    source = open_source(config="w1_tiny", data_dir=str(tmp_path))
    stack = source.read_stack("s003_w1")
    np.testing.assert_array_equal(stack, render("s003_w1", channel="w1", **SIZE))


def test_it_is_an_ordinary_tfds_builder(source, data_dir):
    builder = tfds.builder_cls("synthetic")(
        config="w1_tiny", data_dir=str(data_dir), file_format="array_record"
    )
    assert isinstance(builder, Synthetic)
    assert builder.info.features["stack"].shape == (9, 144, 160)
    assert builder.info.splits["train"].num_examples == 4
    stored = [example["slide_id"].decode() for example in builder.as_data_source("test")]
    assert stored == source.slide_ids["test"]


def test_default_configs_have_the_sizes_of_the_real_frames():
    for name in ("w1", "w2"):
        config = Synthetic.builder_configs[name]
        assert (config.height, config.width) == (520, 696)
        assert config.num_slides == {"train": 44, "validation": 8, "test": 12}
        ids = [slide_id for split in SPLITS for slide_id in config.slide_ids(split)]
        assert ids == [f"s{n:03d}_{name}" for n in range(64)]


def test_importing_the_door_loads_no_tensorflow():
    program = (
        "import json, sys; import linlatent.data.synthetic;"
        "print(json.dumps([m for m in sys.modules if m.startswith('tensorflow')]))"
    )
    output = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert json.loads(output.stdout) == []
