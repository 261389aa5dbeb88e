"""When packets are decoded; the rest of writing is tested in `tests/commands/test_upscale_video.py`."""

from itertools import pairwise

import pytest

from aesop.video.mux import decoding_times


@pytest.mark.parametrize(
    ("shown", "decoded"),
    [
        ([0, 1, 2, 3], [0, 1, 2, 3]),
        ([5], [5]),
        ([0, 40, 20, 80, 60], [-20, 0, 20, 40, 60]),  # one B-frame
        ([0, 40, 20, 10, 30], [-20, -10, 0, 10, 20]),  # B-frames that others refer to
        ([0, 2, 1, 100, 102, 101], [-1, 0, 1, 2, 100, 101]),  # two parts, with a pause
    ],
)
def test_packets_are_decoded_in_order_and_not_after_they_are_shown(shown, decoded):
    times = decoding_times(shown)
    assert times == decoded
    assert all(a < b for a, b in pairwise(times))
    assert all(dts <= pts for dts, pts in zip(times, shown, strict=True))
