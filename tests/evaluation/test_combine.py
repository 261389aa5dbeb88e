"""Several results as one, and parts of one."""

import pytest
from results_lib import METRICS, PROTOCOL, changed, method, results, without

from aesop.evaluation.combine import combine, join_seeds, read_results, select
from aesop.evaluation.protocol_text import caption


def protocol(**psnr) -> dict:
    return {**PROTOCOL, "metrics": {**PROTOCOL["metrics"], "psnr": {**PROTOCOL["metrics"]["psnr"], **psnr}}}


def test_methods_sets_and_metrics_of_all_files():
    whole = method("a")
    set5, set14 = (whole.model_copy(update={"values": {name: whole.values[name]}}) for name in ("Set5", "Set14"))
    b = method("b", sets={"Set5": 5})
    combined, warnings = combine(
        {"x.json": results(set5, name="x", missing=("c: no file",)), "y.json": results(set14, b, name="y", missing=("d",))}
    )
    assert combined.name == "x, y"
    assert [each.name for each in combined.methods] == ["a", "b"]
    assert combined.methods[0].values == {name: whole.values[name] for name in ("Set5", "Set14")}
    assert combined.missing == ("x.json: c: no file", "y.json: d")
    assert warnings == []


def test_one_file_stays_as_it_is():
    one = results(method("a"), missing=("b",))
    assert combine({"x": one}) == (one, [])


def test_metrics_of_one_method_from_two_files():
    a = method("a", sets={"S": 2})
    psnr = changed(changed(a, "S", "img_000", lpips=None), "S", "img_001", lpips=None)
    lpips = changed(changed(a, "S", "img_000", psnr=None), "S", "img_001", psnr=None)
    first, second = (results(each, metrics={key: METRICS[key]}) for each, key in ((psnr, "psnr"), (lpips, "lpips")))
    combined, _ = combine({"x": first, "y": second})
    assert combined.methods[0].values == a.values
    assert list(combined.metrics) == ["psnr", "lpips"]


def test_differing_protocols_are_named():
    first, second = results(method("a")), results(method("b"), protocol=protocol(crop_border=0, channels="RGB"))
    combined, warnings = combine({"x.json": first, "y.json": second})
    assert sorted(warnings) == [
        "protocols of x.json and y.json differ: metrics.psnr.channels: luma and RGB",
        "protocols of x.json and y.json differ: metrics.psnr.crop_border: 4 and 0",
    ]
    assert combined.protocol == PROTOCOL


def test_other_versions_and_other_sets_are_no_difference():
    second = PROTOCOL | {"versions": {"aesop": "0.2.0"}, "sets": {"Set14": {"images": 14}}}
    combined, warnings = combine(
        {"x": results(method("a"), protocol=PROTOCOL | {"sets": {"Set5": {}}}), "y": results(method("b"), protocol=second)}
    )
    assert warnings == []
    assert set(combined.protocol["sets"]) == {"Set5", "Set14"}
    assert combined.protocol["versions"] == {"aesop": "0.1.0, 0.2.0"}


def test_other_scales_and_directions_are_refused():
    with pytest.raises(ValueError, match="x is x4 and y is x2"):
        combine({"x": results(method("a")), "y": results(method("b"), scale=2)})
    turned = METRICS | {"psnr": METRICS["psnr"].model_copy(update={"best": "min"})}
    with pytest.raises(ValueError, match="x and y disagree on whether large or small values of psnr"):
        combine({"x": results(method("a")), "y": results(method("b"), metrics=turned)})


def test_one_name_for_two_methods_is_refused():
    a = method("a", sha256="1" * 64)
    with pytest.raises(ValueError, match="y: another 'a' than in the files before"):
        combine({"x": results(a), "y": results(a.model_copy(update={"sha256": "2" * 64}))})
    value = a.values["Set5"]["img_002"]["psnr"]
    combine({"x": results(a), "y": results(changed(a, "Set5", "img_002", psnr=value + 1e-5))})
    with pytest.raises(ValueError, match=r"y: .a. has other values .* psnr of img_002 on Set5"):
        combine({"x": results(a), "y": results(changed(a, "Set5", "img_002", psnr=value + 0.1))})
    with pytest.raises(ValueError, match="psnr of img_002 on Set5: nan"):
        combine({"x": results(a), "y": results(changed(a, "Set5", "img_002", psnr=float("nan")))})
    with pytest.raises(ValueError, match="x: two methods are called 'a'"):
        combine({"x": results(a, a)})


def test_trainings_with_other_seeds_are_joined():
    measured = results(method("a"), *(method(f"run{k}") for k in range(3)))
    joined = join_seeds(measured, {"ours": ["run2", "run0"]})
    assert [each.seed_of for each in joined.methods] == [None, "ours", None, "ours"]
    assert [each.values for each in joined.methods] == [each.values for each in measured.methods]
    assert join_seeds(measured, {"run0": ["run0", "run1"]}).methods[1].seed_of == "run0"
    assert join_seeds(measured, {}) == measured


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ({"ours": ["run0", "run7"]}, "seeds of ours: run7: there is none; there are a, run0, run1"),
        ({"ours": ["run0"]}, "seeds of ours: name two trainings or more, found run0"),
        ({"a": ["run0", "run1"]}, "seeds of a: another method is called a"),
        ({"x": ["run0", "run1"], "y": ["run1", "a"]}, "seeds of y: run1 is a training of x, too"),
    ],
)
def test_seeds_that_are_none_are_named(groups, message):
    with pytest.raises(ValueError, match=message):
        join_seeds(results(method("a"), method("run0"), method("run1")), groups)


def test_selection_keeps_the_order_asked_for():
    seeds = [method(f"run{k}", seed_of="ours") for k in range(2)]
    chosen = select(results(method("a"), *seeds, method("b")), ["b", "ours"], ["Set14", "Set5"], ["lpips"])
    assert [each.name for each in chosen.methods] == ["b", "run0", "run1"]
    assert [list(each.values) for each in chosen.methods] == [["Set14", "Set5"]] * 3
    assert list(chosen.metrics) == list(chosen.protocol["metrics"]) == ["lpips"]
    assert set(chosen.methods[0].values["Set5"]["img_000"]) == {"lpips"}


@pytest.mark.parametrize("kind", ["method", "set", "metric"])
def test_unknown_names_are_refused(kind):
    wanted = {"method": [], "set": [], "metric": [], kind: ["nothing"]}
    with pytest.raises(
        ValueError, match=f"--{kind} nothing: there is none; there are (a, b|Set5, Set14, Urban100|psnr, lpips)"
    ):
        select(results(method("a"), method("b")), *wanted.values())


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"name": "old", "sets": {}}', "\xff"])
def test_files_of_another_kind_are_named(tmp_path, text):
    (tmp_path / "old.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(ValueError, match=r"old.json: not a results.json of aesop measure or aesop test: ") as error:
        read_results(tmp_path / "old.json")
    assert "\n" not in str(error.value)


def test_a_folder_stands_for_the_results_in_it(tmp_path):
    with pytest.raises(ValueError, match=r"results.json does not exist: `aesop measure"):
        read_results(tmp_path)
    with pytest.raises(ValueError, match=r"nope.json does not exist: `aesop measure"):
        read_results(tmp_path / "nope.json")
    written = results(method("a"))
    (tmp_path / "results.json").write_text(written.to_json())
    assert read_results(tmp_path) == written


def test_results_are_read_as_they_were_written(tmp_path):
    written = results(without(method("a"), "Set5", "img_001"), missing=("b",))
    (tmp_path / "r.json").write_text(written.to_json())
    assert read_results(tmp_path / "r.json") == written


def test_the_caption_names_channels_and_border():
    assert (
        caption(PROTOCOL)
        .removeprefix("Scale 4. ")
        .startswith("PSNR on luma (Y of BT.601) without a border of 4 pixels; LPIPS on RGB; images rounded to 8 bits")
    )
    assert caption({}) == ""
