"""`aesop test` and what validation shares with it: sets without HR, metrics without reference, tables of both kinds."""

import csv
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console

from aesop.archs import build_network
from aesop.archs.autoencoder import AutoEncoder
from aesop.commands.test import test
from aesop.data.measured_pairs import MeasuredPairs
from aesop.evaluation.measure import averages, measure
from aesop.evaluation.methods import predict
from aesop.evaluation.result_files import described, summary_table
from aesop.evaluation.results import Results
from aesop.images.read import ImageFile
from aesop.images.resize import mod_crop
from aesop.images.tensors import to_array, to_tensor
from aesop.images.write import write_image
from aesop.inference.tiling import SMALLEST_TILE, check_tiling
from aesop.metrics import METRICS, MetricInfo
from aesop.metrics.ae_psnr import ae_psnr
from aesop.metrics.build import check_metrics, check_sizes, entry_info, is_better, make_metrics, without_reference
from aesop.metrics.lr_psnr import lr_psnr
from aesop.metrics.niqe import NIQE
from aesop.options.config import TestConfig
from aesop.options.datasets import PairedDataset
from aesop.options.validation import MetricOptions, ValOptions
from aesop.system.distributed import World
from aesop.weights import pretrained
from aesop.weights.read import read_state_dict
from aesop.weights.save import save_weights

test.__test__ = False  # it is `aesop test`, and no test
CPU = torch.device("cpu")
GENERATOR = {"type": "RRDBNet", "num_feat": 16, "num_block": 1, "num_grow_ch": 4, "scale": 4}
AUTOENCODER = {"type": "AutoEncoder_RRDBNet", "scale": 4, "dec_opt": GENERATOR}


def noise(seed: int, height: int, width: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.fixture
def root(tmp_path, monkeypatch) -> Path:
    """HR/ with a pair's HR (104x196), alone/ with two images without HR; no weights but made-up ones of NIQE."""
    monkeypatch.setattr(pretrained, "find_spec", lambda package: None)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("AESOP_WEIGHTS", str(tmp_path / "weights"))
    (tmp_path / "weights").mkdir()
    np.savez(tmp_path / "weights" / "niqe_pris_params.npz", mu_pris_param=np.ones(36), cov_pris_param=np.eye(36))
    write_image(tmp_path / "HR" / "pair.png", noise(0, 106, 197))
    write_image(tmp_path / "alone" / "a.png", noise(1, 25, 50))
    write_image(tmp_path / "alone" / "below" / "b.png", noise(2, 49, 27))
    return tmp_path


def config(root: Path, metrics: dict, network: dict = GENERATOR, save_img: bool = True, **sets: dict) -> TestConfig:
    """A test with a network of random weights, which is written first."""
    file = root / "net.safetensors"
    torch.manual_seed(0)
    save_weights(file, build_network(network).state_dict(), {})
    return TestConfig.model_validate(
        {
            "name": "run", "scale": 4, "device": "cpu", "network_g": network, "datasets": sets,
            "path": {"pretrain_network_g": str(file), "results_root": str(root / "results")},
            "val": {"metrics": metrics, "save_img": save_img},
        }
    )  # fmt: skip


def paired(root: Path) -> dict:
    return {"name": "Pairs", "dataroot_gt": str(root / "HR")}


def single(root: Path, folder: str = "alone") -> dict:
    return {"name": "Alone", "type": "SingleImageDataset", "dataroot_lq": str(root / folder)}


def run(options: TestConfig) -> tuple[Results, str]:
    console = Console(record=True, width=120)
    return test(options, console), console.export_text()


def rows_of(results: Results, name: str) -> list[dict]:
    """The tested network's values on a set."""
    return [{"image": image, **values} for image, values in results.methods[-1].values[name].items()]


# Aesop test.


def test_sets_with_and_without_hr_side_by_side(root):
    metrics = {"psnr": {}, "niqe": {"crop_border": 2}, "ssim": {}}
    results, output = run(config(root, metrics, test_1=paired(root), test_2=single(root)))
    assert [row.keys() for row in rows_of(results, "Pairs")] == [{"image", "psnr", "niqe", "ssim"}]
    assert [(row["image"], len(row)) for row in rows_of(results, "Alone")] == [("a", 2), ("below/b", 2)]
    assert "Alone: psnr, ssim skipped: the set has no HR images" in output
    assert output.count("skipped") == 1
    folder = root / "results" / "run"
    niqe = NIQE.from_weights()
    sizes = {"a": (100, 200, 3), "below/b": (196, 108, 3)}
    for row in rows_of(results, "Alone"):
        image = ImageFile.at(folder / "images" / "test_2" / f"{row['image']}.png").read()
        assert image.shape == sizes[row["image"]]
        assert row["niqe"] == pytest.approx(niqe(to_tensor(image), crop_border=2).item(), rel=1e-6)
    # The table: a line for each set, nothing where nothing was measured.
    lines = [[cell.strip() for cell in line.split("│")[1:-1]] for line in output.splitlines() if line.startswith("│")]
    mean = averages(rows_of(results, "Alone"))["niqe"]
    assert lines[1] == ["Alone", "", f"{mean:.2f}", ""]
    assert all(lines[0])
    assert mean == pytest.approx(np.mean([row["niqe"] for row in rows_of(results, "Alone")]))
    with open(folder / "values.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["set"], row["method"], row["image"]) for row in rows] == [
        ("Pairs", "net", "pair"), ("Alone", "net", "a"), ("Alone", "net", "below/b"),
    ]  # fmt: skip
    assert [row["psnr"] for row in rows[1:]] == ["", ""]
    assert float(rows[2]["niqe"]) == rows_of(results, "Alone")[1]["niqe"]
    assert Results.from_json((folder / "results.json").read_text()) == results
    assert results.protocol["sets"]["Alone"]["lr"] == "files"
    assert not results.missing


def test_an_autoencoder_gets_the_image_itself(root):
    # As the published test file of the auto-encoder: images alone, saved, and its metrics (the default) left out.
    options = config(root, {"psnr": {}}, AUTOENCODER, test_1=single(root))
    results, output = run(options)
    assert rows_of(results, "Alone") == [{"image": "a"}, {"image": "below/b"}]
    assert "Alone: psnr skipped" in output
    assert "↑" not in output  # no table
    net = build_network(AUTOENCODER)
    assert isinstance(net, AutoEncoder)
    net.load_state_dict(read_state_dict(root / "net.safetensors")[0])
    for name in ("a", "below/b"):
        image = mod_crop(ImageFile.at(root / "alone" / f"{name}.png").read(), 4)
        with torch.inference_mode():
            expected = to_array(net.eval()(to_tensor(image)[None])[0])
        np.testing.assert_array_equal(ImageFile.at(root / "results/run/images/test_1" / f"{name}.png").read(), expected)
        assert expected.shape == image.shape
    assert (root / "results" / "run" / "results.json").is_file()


def test_metrics_that_are_left_out_need_no_weights(root):
    options = config(root, {"lpips": {}, "niqe": {}}, test_1=single(root))
    assert list(averages(rows_of(run(options)[0], "Alone"))) == ["niqe"]
    with pytest.raises(ValueError, match=r"val\.metrics\.lpips: no weights for alexnet"):
        run(config(root, {"lpips": {}}, test_1=single(root), test_2=paired(root)))


def test_mistakes_are_named_before_anything_is_written(root):
    write_image(root / "small" / "c.png", noise(3, 23, 48))
    with pytest.raises(ValueError, match=r"small/c\.png: NIQE needs two blocks of 96x96: .* found 192x92\. Leave"):
        run(config(root, {"niqe": {}}, test_1=single(root), test_2=single(root, "small")))
    with pytest.raises(ValueError, match=r"alone/a\.png: NIQE needs .* found 48x24\."):
        run(config(root, {"niqe": {}}, AUTOENCODER, test_1=single(root)))
    with pytest.raises(ValueError, match=r"HR/pair\.png: NIQE needs .* found 176x84\."):
        run(config(root, {"n": {"type": "calculate_niqe", "crop_border": 10}}, test_1=paired(root)))
    with pytest.raises(ValueError, match=r"val: nothing to do"):
        run(config(root, {"psnr": {}}, save_img=False, test_1=single(root)))
    with pytest.raises(ValueError, match=r"val\.metrics\.nique: there is no metric 'nique'; known: psnr, .*niqe"):
        run(config(root, {"nique": {}}, test_1=paired(root)))
    assert not (root / "results").exists()


# Measuring.


def test_measuring_without_hr_calls_what_needs_none(root):
    pairs = MeasuredPairs.find(PairedDataset.model_validate(single(root)), "val", 4)
    metrics = make_metrics({"psnr": MetricOptions(), "niqe": MetricOptions()}, 4, CPU)
    seen = []

    def answer(lq: np.ndarray, gt: np.ndarray | None) -> np.ndarray:
        seen.append((lq.shape, gt))
        return lq.repeat(8, 0).repeat(8, 1)

    rows = measure(answer, pairs, metrics, World())
    assert seen == [((25, 50, 3), None), ((49, 27, 3), None)]
    assert [list(row) for row in rows] == [["image", "niqe"]] * 2
    with pytest.raises(ValueError, match=r"alone/a\.png: NIQE needs two blocks"):
        measure(lambda lq, gt: lq, pairs, metrics, World())


def test_an_image_too_small_for_the_network_is_named(root):
    write_image(root / "small" / "c.png", noise(3, 3, 48))
    with pytest.raises(ValueError, match=r"small/c\.png: an image of 3x48 is too small for scale 4"):
        run(config(root, {}, AUTOENCODER, test_1=single(root, "small")))


def test_a_generator_answers_the_same_with_and_without_hr():
    torch.manual_seed(0)
    net = build_network(GENERATOR).eval()
    lq = noise(0, 8, 12)
    np.testing.assert_array_equal(predict(net, lq, None, 4, CPU), predict(net, lq, noise(1, 32, 48), 4, CPU))


def test_tiles_change_nothing_that_a_network_does_not_see_across_them():
    class Sharpen(torch.nn.Module):
        """A receptive field of 3x3 LR pixels, which the overlap covers; remembers the largest side that it saw."""

        largest = 0

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.largest = max(self.largest, *x.shape[-2:])
            blurred = torch.nn.functional.avg_pool2d(x, 3, 1, 1, count_include_pad=False)
            return (2 * x - blurred).repeat_interleave(4, -1).repeat_interleave(4, -2)

    lq = noise(0, 50, 90)
    whole, tiled = Sharpen(), Sharpen()
    expected = predict(whole, lq, None, 4, CPU)
    difference = np.abs(predict(tiled, lq, None, 4, CPU, tile=32).astype(int) - expected)
    assert (whole.largest, tiled.largest) == (90, 32)
    assert difference.max() <= 1  # the blending rounds
    assert (difference > 0).mean() < 0.01
    torch.manual_seed(0)
    net = build_network(AUTOENCODER).eval()
    image = noise(1, 40, 48)
    np.testing.assert_array_equal(predict(net, image, image, 4, CPU, tile=32), predict(net, image, image, 4, CPU))


@pytest.mark.parametrize("tile", [0, SMALLEST_TILE, 200, "2e2"])
def test_tiles_are_as_for_upscaling(tile):
    side = ValOptions(tile=tile).tile
    assert side == int(float(tile))
    check_tiling(side, 16)


def test_tiles_too_small_are_refused_with_the_option(root):
    with pytest.raises(ValueError, match=rf"tile\n.*0 \(whole images\) or at least {SMALLEST_TILE}"):
        ValOptions(tile=SMALLEST_TILE - 1)
    with pytest.raises(ValueError, match="tile"):
        check_tiling(SMALLEST_TILE - 1, 16)


def test_sizes_of_training_pairs_are_checked_alike(root):
    sets = [MeasuredPairs.find(PairedDataset(dataroot_gt=str(root / "HR")), "val", 4)]
    check_sizes({"psnr": MetricOptions(crop_border=90), "niqe": MetricOptions(crop_border=2)}, sets, 4)
    with pytest.raises(ValueError, match=r"pair\.png: NIQE needs .* found 186x94"):
        check_sizes({"niqe": MetricOptions(crop_border=5)}, sets, 4)


def test_lpips_of_both_trunks(root):
    """Random trunks and heads, found by name: each metric type takes its own."""
    from aesop.metrics.lpips import LPIPS

    torch.manual_seed(0)
    for net, trunk_file in (("alex", "alexnet"), ("vgg", "vgg16")):
        metric = LPIPS(net)
        names = {name: torch.rand_like(value) * 0.1 for name, value in metric.trunk.state_dict().items()}
        save_weights(root / "weights" / f"{trunk_file}_features.safetensors", names, {})
        heads = {f"lin{k}.model.1.weight": torch.rand_like(head) for k, head in enumerate(metric.heads)}
        save_weights(root / "weights" / f"lpips_lin_{net}.safetensors", heads, {})
    sr, hr = torch.rand(2, 1, 3, 64, 64)
    metrics = make_metrics({"lpips": MetricOptions(), "v": MetricOptions(type="lpips_vgg", crop_border=3)}, 4, CPU)
    assert metrics["lpips"](sr, hr).item() == LPIPS.from_weights("alex")(sr, hr).item()
    assert metrics["v"](sr, hr).item() == LPIPS.from_weights("vgg")(sr, hr, 3).item() > 0


# The options.


def test_which_metric_an_entry_means(monkeypatch):
    monkeypatch.setattr("aesop.metrics.pyiqa_info", lambda name: METRICS["psnr"] if name == "musiq" else None)
    for name, type_ in (("niqe", None), ("n", "niqe"), ("n", "calculate_niqe")):
        assert entry_info(name, MetricOptions(type=type_)) is METRICS["niqe"]
    for name, type_ in (("musiq", None), ("m", "pyiqa:musiq")):
        assert entry_info(name, MetricOptions(type=type_)) is METRICS["psnr"]
    alone = without_reference({"a": MetricOptions(type="calculate_niqe"), "psnr": MetricOptions()})
    assert list(alone) == ["a"]


def test_faults_of_a_section_are_all_named(root):
    faults = check_metrics(
        {
            "psnr": MetricOptions(test_y_channel=False),  # fine
            "niqe": MetricOptions(test_y_channel=False),
            "dists": MetricOptions(test_y_channel=True),
            "lpips_vgg": MetricOptions(test_y_channel=False),
            "foo": MetricOptions(type="pnsr"),
            "aepsnr": MetricOptions(),
        },
        has_autoencoder=False,
    )
    assert faults[0] == "val.metrics.niqe.test_y_channel: NIQE is measured on luma; leave it out"
    assert faults[1] == "val.metrics.dists.test_y_channel: DISTS is measured in colour; leave it out"
    assert faults[2].startswith("val.metrics.lpips_vgg: no weights for vgg16 on this machine")
    assert faults[3].startswith("val.metrics.foo: there is no metric 'pnsr'; known: psnr, ssim")
    assert faults[4].startswith("val.metrics.aepsnr.autoencoder: give the weight file")
    assert len(faults) == 5
    (root / "weights" / "niqe_pris_params.npz").unlink()
    (fault,) = check_metrics({"niqe": MetricOptions()}, has_autoencoder=False)
    assert fault.startswith("val.metrics.niqe: no weights for niqe on this machine")


def test_the_better_of_two_figures(monkeypatch):
    options = {"p": MetricOptions(type="psnr"), "niqe": MetricOptions(), "musiq": MetricOptions()}
    facts = {"pyiqa:musiq": MetricInfo("MUSIQ", build=lambda setting: lr_psnr, needs_reference=False)}
    monkeypatch.setattr("aesop.metrics.build.metric_info", lambda kind: facts.get(kind) or METRICS[kind])
    for name, higher in (("p", True), ("niqe", False), ("musiq", True)):
        assert is_better(options, name, 2.0, 1.0) is higher
        assert is_better(options, name, 1.0, 2.0) is not higher
        assert is_better(options, name, 1.0, None)
        assert not is_better(options, name, math.nan, None)


# Tables.


def test_what_is_no_number_is_named_and_stays_valid_json(root, monkeypatch):
    write_image(root / "alone" / "flat.png", np.full((60, 60, 3), 7, np.uint8))
    monkeypatch.setattr(NIQE, "of_plane", lambda niqe, plane: torch.tensor(math.nan if plane.std() < 0.5 else 3.0))
    monkeypatch.setattr(
        "aesop.evaluation.methods.upscale_image", lambda net, image, *_, **__: image.repeat(4, 0).repeat(4, 1)
    )
    results, output = run(config(root, {"niqe": {}}, test_1=single(root)))
    assert results.missing == ("Alone, flat, net: niqe is no number (NaN)",)
    assert "partial results, 1 missing:\n  Alone, flat, net: niqe is no number (NaN)" in output
    text = (root / "results" / "run" / "results.json").read_text()
    assert json.loads(text, parse_constant=pytest.fail)["methods"][0]["values"]["Alone"]["flat"] == {"niqe": None}
    values = Results.from_json(text).methods[0].values["Alone"]
    assert math.isnan(values["flat"]["niqe"])
    assert values["a"]["niqe"] == 3.0


def test_columns_of_one_metric_go_by_their_names():
    options = {
        "psnr": MetricOptions(), "rgb": MetricOptions(type="psnr", test_y_channel=False), "niqe": MetricOptions()
    }  # fmt: skip
    table = summary_table({"one": {"psnr": 1.0, "rgb": 2.0}, "two": {}}.items(), described(options))
    assert [column.header for column in table.columns] == ["", "psnr ↑", "rgb ↑", "NIQE ↓"]
    assert [[str(cell) for cell in column.cells] for column in table.columns] == [
        ["one", "two"],
        ["1.00", ""],
        ["2.00", ""],
        ["", ""],
    ]


@pytest.mark.parametrize(("border", "luma"), [(0, False), (2, True), (4, False)])
def test_border_and_channel_of_an_entry_reach_the_metrics_that_compare_after_a_change(border, luma):
    torch.manual_seed(0)
    sr, hr = torch.rand(2, 1, 3, 64, 64)
    judge = build_network({"type": "AutoEncoder_RRDBNet", "dec_opt": {"type": "RRDBNet", "num_feat": 16, "num_block": 1}})
    entry = MetricOptions(crop_border=border, test_y_channel=luma)
    metrics = make_metrics({"aepsnr": entry, "lrpsnr": entry}, 4, torch.device("cpu"), judge.eval())
    with torch.no_grad():
        assert metrics["aepsnr"](sr, hr).item() == ae_psnr(sr, hr, judge, border, luma).item()
        assert metrics["lrpsnr"](sr, hr).item() == lr_psnr(sr, hr, 4, border, luma).item()
        assert metrics["aepsnr"](sr, hr).item() != ae_psnr(sr, hr, judge, border + 1, luma).item()
        assert metrics["lrpsnr"](sr, hr).item() != lr_psnr(sr, hr, 4, border, not luma).item()
