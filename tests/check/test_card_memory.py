"""Which batch fits on which card, counted without one."""

from pathlib import Path

import pytest
from tiny_runs import options

from aesop.check import card_memory
from aesop.check.card_memory import CardMemory, memory_by_stage
from aesop.options.read import build_config, load_train_config


def counted(tmp_path, batch: int, **train) -> CardMemory:
    raw = options("adversarial", tmp_path, tmp_path, 4, **train)
    raw["datasets"]["train"] |= {"batch_size_per_gpu": batch, "gt_size": 64}
    return card_memory.card_memory(build_config(raw, "test")[0])


def test_memory_grows_with_the_images_of_a_part(tmp_path):
    six, eighteen, in_parts = counted(tmp_path, 6), counted(tmp_path, 18), counted(tmp_path, 18, accumulate=3)
    predicted = six.kept + (six.peak - six.kept) * 3  # what does not grow within a step is small
    assert predicted * 0.95 < eighteen.peak <= predicted
    assert in_parts.images == 6
    assert six.peak < in_parts.peak < (six.peak + eighteen.peak) / 2  # the images of the whole batch are held


def test_the_largest_batch_that_fits_in_closed_form():
    memory = CardMemory(images=4, peak=5 * 2**30, kept=1 * 2**30)  # a GiB for each image
    assert [memory.fitting(card) for card in (0.6, 8, 24)] == [0, 5, 20]  # (8 - 0.6) * 0.9 - 1 = 5.66; 20.06


def test_every_stage_is_described(tmp_path, monkeypatch):
    def count(config, autoencoder):
        if config.stage == "psnr":
            raise ValueError("network_g: no such network")
        assert autoencoder is not None
        assert autoencoder["type"] == "AutoEncoder_RRDBNet"
        return CardMemory(2, 3 * 10**9, 10**6)

    monkeypatch.setattr(card_memory, "card_memory", count)
    stages = {
        name: build_config(options(name, tmp_path, tmp_path, 4, accumulate=2), "test")[0] for name in ("psnr", "autoencoder")
    }
    found = dict(memory_by_stage({**stages, "adversarial": tmp_path / "net.pth"}))
    assert found["psnr"] == "not known: network_g: no such network"
    assert found["autoencoder"].startswith(
        "3.0 GB for a batch of 4 in 2 parts, counted without a GPU; batches that fit: 8 GB: 8, "
    )
    assert set(found) == {"psnr", "autoencoder"}


CONFIGS = Path(__file__).resolve().parents[2] / "configs"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["aesop_rrdb", "aesop_swinir", "aesop_drct", "realworld_aesop", "autoencoder_rrdb"])
def test_the_shipped_configurations_fit_on_a_card(name):
    config = load_train_config(CONFIGS / f"{name}.yml")[0]
    memory = card_memory.card_memory(config)
    assert memory.fitting(80) >= config.datasets.train.batch_size_per_gpu
