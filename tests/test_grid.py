"""The six networks in one document, and the script that makes them."""

import itertools
import json
import pathlib
import subprocess
import sys
import types

import numpy as np
import pytest
from etils import epath

from configs import default
from linlatent import checkpoints, config, data, training
from linlatent.data import StackSource
from linlatent.evaluation import evaluate, grid, paper
from linlatent.evaluation.rows import EQ_7, POOLED, RANGE_1, make_row

ROOT = pathlib.Path(__file__).parents[1]
SCRIPT = ROOT / "scripts" / "reproduce_tables.py"
NETWORKS = list(itertools.product(("w1", "w2"), ("baseline", "indirect", "direct")))
TIME = grid.Training(steps=360, timed_steps=360, seconds=90.0, hardware="1 x cpu, 2 CPU cores")


def rows_of_network(*, lds=(0.5, 0.6, 0.7), apd=(0.3, 0.2, 0.1), gain=(1.0, 1.1, 1.2), number=0):
    """What the document needs of a network whose slides have these values; the rest is constant."""
    untouched = np.array([10.0, 20.0, 30.0])
    estimates = {"untouched input": untouched, "pixel extrapolation": untouched + 1}
    rows = [
        make_row("latent space", "latent path", "", "", "LDS", "published code", lds),
        make_row("latent space", "latent path", "", "", "LDS", "paper, Eq. 5", np.negative(lds)),
        make_row("latent space", "latent path", "", "", "APD", "published code", apd),
        make_row("latent space", "latent path", "", "", "APD", "paper, Eq. 6", np.negative(apd)),
    ]
    for name, values in {**estimates, "deblurred": untouched + gain}.items():
        rows.append(
            make_row("deblurring", name, "ground truth", "1-7", "PSNR", RANGE_1, values),
        )
    for index, (section, estimate, reference, levels) in enumerate(
        [
            ("blur synthesis", "synthesised", "reconstruction", "0-8"),
            ("blur synthesis", "synthesised", "ground truth", "0-8"),
            ("deblurring", "deblurred", "reconstruction", "1-7"),
            ("deblurring", "deblurred", "ground truth", "1-7"),
        ]
    ):
        kind = (section, estimate, reference)
        rows.append(make_row(*kind, levels, "PSNR", POOLED, [20 + index + number / 100]))
        rows.append(make_row(*kind, "1-7", "PSNR", EQ_7, [30 + index + number / 100] * 3))
    return rows


def run_of(channel, objective, *, paper_channel=None, time=TIME, **values):
    number = NETWORKS.index((channel, objective))
    told = {
        "data": f"memory/{channel}",
        "paper_channel": paper_channel,
        "split": "test",
        "slides": 3,
        "num_levels": 9,
        "level_spacing_um": 4.0,
        "objective": objective,
        "checkpoint_step": 340,
    }
    rows = [row._asdict() for row in rows_of_network(number=number, **values)]
    return grid.Run(channel, objective, {"conditions": told, "rows": rows}, time)


def document_of(*, changed=(), paper_channels=(None, None), **values):
    """The document where the networks in `changed` have the given values."""
    channels = dict(zip(("w1", "w2"), paper_channels, strict=True))
    runs = [
        run_of(
            channel,
            objective,
            paper_channel=channels[channel],
            **(values if (channel, objective) in changed else {}),
        )
        for channel, objective in NETWORKS
    ]
    return grid.to_markdown(runs, settings={"command": "`python x.py`"})


def cells(document, title):
    """Of the table below a heading: the first cell of each line, and the others by their head."""
    lines = document.split(f"## {title}\n")[1].split("\n## ")[0].splitlines()
    header, _, *body = (
        [cell.strip() for cell in line.strip("|").split("|")] for line in lines if line[:1] == "|"
    )
    return {line[0]: dict(zip(header[1:], line[1:], strict=True)) for line in body}


def line_of(document, beginning):
    (line,) = [line for line in document.splitlines() if line.startswith(beginning)]
    return line


def test_every_network_has_its_column():
    published = cells(document_of(), "In the definitions of the published code")
    assert list(published) == [quantity.name for quantity in paper.QUANTITIES]
    printed = cells(document_of(), "As the paper defines them")
    for number, network in enumerate(NETWORKS):
        name = " ".join(network)
        assert [line[name] for line in published.values()] == [
            "0.6000 ± 0.0577",
            "0.2000 ± 0.0577",
            *(f"{20 + index + number / 100:.2f}" for index in range(4)),
        ]
        assert [line[name] for line in printed.values()] == [
            "-0.6000 ± 0.0577",
            "-0.2000 ± 0.0577",
            *(f"{30 + index + number / 100:.2f} ± 0.00" for index in range(4)),
        ]


def test_the_paper_s_values_stand_only_beside_the_paper_s_data():
    document = document_of(paper_channels=("w1", None))
    table = cells(document, "In the definitions of the published code")
    assert table["LDS"]["w1, paper"] == "0.59 / 0.62 / 0.76"
    assert table["APD"]["w1, paper"] == "0.036 / 0.028 / 0.014"
    last = "PSNR of deblurring vs sharp ground truth (dB)"
    assert table[last]["w1, paper"] == "22.55 / 22.60 / 21.98"
    assert {line["w2, paper"] for line in table.values()} == {"other data: not comparable"}


@pytest.mark.parametrize(
    ("lds", "apd", "effects", "verdict"),
    [
        # All slides change alike: clear, however much they differ from each other.
        ((0.6, 0.7, 0.81), (0.25, 0.15, 0.04), ("raises", "lowers"), "claim holds"),
        ((0.6, 0.7, 0.81), (0.35, 0.25, 0.16), ("raises", "raises"), "claim does not hold"),
        ((0.4, 0.5, 0.59), (0.25, 0.15, 0.04), ("lowers", "lowers"), "claim does not hold"),
        ((0.7, 0.5, 0.7), (0.25, 0.15, 0.04), ("does not clearly change", "lowers"), "not decided"),
    ],
)
def test_the_claim_of_the_paper_is_tested_slide_by_slide(lds, apd, effects, verdict):
    document = document_of(changed=[("w2", "direct")], lds=lds, apd=apd)
    line = line_of(document, "- w2, as published: ")
    assert f"direct {effects[0]} LDS (" in line
    assert f" and {effects[1]} APD (" in line
    assert f"the paper's {verdict}" in line.replace("claim is not", "not")
    change = np.subtract(lds, (0.5, 0.6, 0.7))
    error = change.std(ddof=1) / np.sqrt(3)
    assert f": {change.mean():+.4f} ± {error:.4f})" in line
    unchanged = line_of(document, "- w1, as published: ")
    assert unchanged.count("does not clearly change") == 2


def test_the_claim_is_tested_in_the_paper_s_own_definition_too():
    document = document_of(changed=[("w1", "direct")], lds=(0.6, 0.7, 0.8), apd=(0.2, 0.1, 0.0))
    # The made-up values by Eq. 5 and 6 are the negative of those as published.
    line = line_of(document, "- w1, by Eq. 5 and 6: ")
    assert "direct lowers LDS (" in line
    assert "raises APD (" in line


def test_deblurring_is_compared_with_doing_without():
    document = document_of(changed=[("w2", "indirect")], gain=(-1.0, -1.2, -1.1))
    table = cells(document, "Is deblurring better than doing without a network?")
    assert list(table) == ["untouched input", "pixel extrapolation", "deblurred"]
    assert table["untouched input"]["w1 direct"] == "20.00 ± 5.77"
    assert table["deblurred"]["w1 direct"] == "21.10 ± 5.83"
    gains = cells(document, "By how much is it better?")
    assert gains["untouched input"]["w1 direct"] == "+1.10 ± 0.06"
    assert gains["pixel extrapolation"]["w1 direct"] == "+0.10 ± 0.06"
    assert gains["untouched input"]["w2 indirect"] == "-1.10 ± 0.06"
    for name, better in (("untouched input", 5), ("pixel extrapolation", 0)):
        line = line_of(document, f"- Against {name}: ")
        assert f"better in {better} of 6 networks, worse in 1," in line


def test_one_slide_decides_nothing():
    one = {"lds": (0.5,), "apd": (0.2,), "gain": (1.0,)}
    runs = [run_of(*network, **one) for network in NETWORKS]
    # The other estimates keep three slides: only linearity is looked at.
    assert "+0.0000); " in line_of(grid.to_markdown(runs, settings={}), "- w1, as published: ")


def test_the_time_says_what_it_is_the_time_of():
    partly = TIME._replace(timed_steps=120, seconds=30.0)
    runs = [run_of(*network, time=partly if network[0] == "w2" else TIME) for network in NETWORKS]
    table = cells(grid.to_markdown(runs, settings={}), "Training")
    assert table["w1 direct"] == {
        "steps": "360",
        "checkpoint": "340",
        "time": "1.5 min",
        "hardware": "1 x cpu, 2 CPU cores",
    }
    assert table["w2 direct"]["time"] == "0.5 min for 120 steps, the others were not timed"


# The script.


@pytest.fixture(scope="module")
def script(load_script):
    return load_script("reproduce_tables")


@pytest.fixture
def world(script, monkeypatch, random_network):
    """Data in memory, and a training that draws its network; keeps what was asked of them."""
    asked = types.SimpleNamespace(trained=[], evaluated=[])

    def open_source(name, *, config, data_dir):
        rng = np.random.default_rng(int(config[1]))
        stacks = {f"{n}_{config}": rng.integers(100, 900, (9, 20, 20), np.uint16) for n in range(3)}
        slide_ids = {"train": [], "validation": [], "test": list(stacks)}
        return StackSource(f"{name}/{config}", 9, slide_ids, stacks.__getitem__, 4.0)

    def train(settings, workdir):
        with checkpoints.Checkpoints(workdir) as store:
            before = store.latest_step() or 0
            if before < settings.num_steps:
                asked.trained.append((workdir.name, before, settings.num_steps))
                config.write(settings, workdir)
                network = random_network(settings.model.widths, seed=len(asked.trained))
                store.save(settings.num_steps, network, {"step": 0}, 1 / settings.num_steps)
        return types.SimpleNamespace(step=np.int32(max(before, settings.num_steps)))

    def evaluate_without_figures(workdir):
        asked.evaluated.append(workdir.name)
        return evaluate(workdir)

    from linlatent import evaluation

    # Training first: this loads its loop, which is to get the true source of data.
    monkeypatch.setattr(training, "train", train)
    monkeypatch.setattr(data, "open_source", open_source)
    monkeypatch.setattr(script, "open_source", open_source)
    monkeypatch.setattr(evaluation, "evaluate", evaluate_without_figures)
    monkeypatch.setattr(sys.modules[evaluate.__module__], "_draw", lambda rows, examples: {})
    clock = itertools.count(0, 60)
    monkeypatch.setattr(script, "time", types.SimpleNamespace(perf_counter=lambda: next(clock)))
    return asked


def settings_of(**fields):
    settings = default.get_config()
    tiny = {"model.widths": (4, 8), "num_steps": 20, "batch_size": 18, "data.crop_size": 16}
    settings.update_from_flattened_dict(tiny | {"data.synthetic.config": "w2_tiny"} | fields)
    return settings


def test_the_script_runs_the_grid_goes_on_and_reads_back(script, world, tmp_path, capsys):
    workdir = epath.Path(tmp_path) / "tables"
    names = [f"{channel}_tiny-{objective}" for channel, objective in NETWORKS]

    def reproduce(**fields):
        settings = settings_of(**fields)
        world.trained.clear()
        world.evaluated.clear()
        script.reproduce(settings, workdir, script.channels_of(settings))
        assert settings.to_json() == settings_of(**fields).to_json()  # as it was given
        return (workdir / "results.md").read_text()

    document = reproduce()
    assert document in capsys.readouterr().out
    assert world.trained == [(name, 0, 20) for name in names]
    assert world.evaluated == names
    for name, (channel, objective) in zip(names, NETWORKS, strict=True):
        written = config.read(workdir / name)
        assert (written.objective, written.data.synthetic.config) == (objective, f"{channel}_tiny")
        results = json.loads((workdir / name / "evaluation" / "metrics.json").read_text())
        lds = next(row for row in results["rows"] if row["definition"] == "published code")
        table = cells(document, "In the definitions of the published code")
        mean = table["LDS"][f"{channel} {objective}"].split(" ")[0]
        assert mean == f"{lds['mean']:.4f}"
    said = line_of(document, "- configuration: ").removeprefix("- configuration: ").split("; ")
    assert {"learning rate 0.0001", "num steps 20", "widths [4, 8]", "source synthetic"} <= {*said}
    assert not [field for field in said if field.startswith(("num epochs", "objective", "config"))]
    assert "synthetic/w1_tiny, 3 test slides; synthetic/w2_tiny, 3 test slides" in document
    assert (workdir / "linearity.png").read_bytes().startswith(b"\x89PNG")
    assert {line["time"] for line in cells(document, "Training").values()} == {"1.0 min"}

    assert reproduce() == document
    assert (world.trained, world.evaluated) == ([], [])

    # Further, after a session that was cut off when the last network had been trained.
    settings = settings_of(num_steps=30, objective="direct")
    training.train(settings, workdir / names[-1])
    further = reproduce(num_steps=30)
    assert world.trained == [(name, 20, 30) for name in names[:-1]]
    assert world.evaluated == names
    times = [line["time"] for line in cells(further, "Training").values()]
    assert times == ["2.0 min"] * 5 + ["1.0 min for 20 steps, the others were not timed"]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"data.source": "folder"}, "'folder', which has no channels w1 and w2; choose one of syn"),
        ({"data.synthetic.config": "nuclei"}, "synthetic.config is 'nuclei', expected w1 or w2"),
    ],
)
def test_data_without_channels_are_refused(script, fields, message):
    with pytest.raises(ValueError, match=message):
        script.channels_of(settings_of(**fields))


def test_both_sources_with_channels_are_known(script):
    assert script.channels_of(settings_of()) == {"w1": "w1_tiny", "w2": "w2_tiny"}
    settings = settings_of(**{"data.source": "bbbc006"})
    assert script.channels_of(settings) == {"w1": "w1", "w2": "w2"}


def run_script(*arguments):
    return subprocess.run(
        [sys.executable, SCRIPT, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


def test_mistakes_end_in_one_line():
    failed = run_script("--config=configs/folder.py", "--workdir=unused")
    assert failed.returncode == 1
    assert failed.stderr.splitlines() == [
        "error: config.data.source is 'folder', which has no channels w1 and w2; choose one of"
        " synthetic, bbbc006"
    ]
    assert not (ROOT / "unused").exists()


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_grid_is_trained_in_earnest(tmp_path):
    done = run_script(
        "--config=configs/indirect.py",
        f"--workdir={tmp_path / 'tables'}",
        "--config.model.widths=(4, 8)",
        "--config.data.crop_size=64",
        "--config.data.synthetic.config=w1_tiny",
        f"--config.data.synthetic.data_dir={tmp_path / 'data'}",
        "--config.num_steps=3",
        "--config.batch_size=4",
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == f"tables: {tmp_path / 'tables' / 'results.md'}"
    for channel, objective in NETWORKS:
        report = tmp_path / "tables" / f"{channel}_tiny-{objective}" / "evaluation" / "report.html"
        assert report.exists()
