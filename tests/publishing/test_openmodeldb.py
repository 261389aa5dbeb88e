"""The schema of OpenModelDB's entries, by the rules of its repository."""

import json

import pytest
from pydantic import ValidationError

from aesop.publishing.entry import architecture_id, model_id, user_ids
from aesop.publishing.openmodeldb import Entry

RESOURCE = {
    "platform": "pytorch",
    "type": "safetensors",
    "size": 2257246,
    "sha256": "5A" * 32,
    "urls": ["https://example.org/4x-Faces.safetensors"],
}
ENTRY = {
    "name": "Faces",
    "author": ["jane-doe", "bob"],
    "license": "CC-BY-4.0",
    "tags": ["photo", "faces"],
    "description": "For faces.\n\nNot for text.",
    "date": "2026-11-30",
    "architecture": "esrgan+",
    "size": ["64nf", "23nb"],
    "scale": 4,
    "inputChannels": 3,
    "outputChannels": 3,
    "resources": [RESOURCE],
    "trainingOTF": False,
    "pretrainedModelG": "4x-PSNR",
    "images": [
        {"type": "paired", "LR": "https://example.org/lr.png", "SR": "https://example.org/sr.png", "caption": "a face"},
        {"type": "standalone", "url": "https://example.org/both.png"},
    ],
}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"license": None, "size": None, "images": []},
        {"author": "jane"},
        {"resources": [RESOURCE | {"platform": "onnx", "type": "onnx"}]},
        {"Datasize": 3},  # entries with fields of no meaning exist
    ],
)
def test_good_entries_keep_their_content(changes):
    entry = Entry.model_validate_json(json.dumps(ENTRY | changes))
    assert json.loads(entry.to_json()) == {name: value for name, value in (ENTRY | changes).items() if name != "Datasize"}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", ""),
        ("author", []),
        ("author", "Jane Doe"),
        ("license", ""),
        ("tags", []),
        ("tags", ["photos"]),
        ("description", " padded "),
        ("date", "30-11-2026"),
        ("date", "2026-02-30"),
        ("date", "2026-11-30T12:00:00Z"),
        ("architecture", "ESRGAN"),
        ("size", []),
        ("scale", 17),
        ("scale", 4.5),
        ("scale", "4"),
        ("inputChannels", 0),
        ("outputChannels", 5),
        ("resources", []),
        ("resources", [RESOURCE | {"type": "pt"}]),
        ("resources", [RESOURCE | {"size": None}]),
        ("resources", [RESOURCE | {"sha256": "5a"}]),
        ("resources", [RESOURCE | {"urls": []}]),
        ("resources", [RESOURCE | {"urls": ["https://cdn.discordapp.com/x.pth"]}]),
        ("trainingIterations", 0),
        ("trainingBatchSize", "16"),
        ("trainingOTF", "yes"),
        ("pretrainedModelG", "PSNR"),
        ("images", [{"type": "paired", "LR": "https://example.org/lr.png"}]),
        ("images", [{"type": "slider", "url": "https://example.org/lr.png"}]),
    ],
)
def test_broken_entries_are_refused(field, value):
    with pytest.raises(ValidationError, match=field):
        Entry.model_validate_json(json.dumps(ENTRY | {field: value}))


@pytest.mark.parametrize("field", ["name", "author", "tags", "description", "date", "scale", "resources", "images"])
def test_required_fields(field):
    with pytest.raises(ValidationError, match=field):
        Entry.model_validate_json(json.dumps({name: value for name, value in ENTRY.items() if name != field}))


@pytest.mark.parametrize(
    ("title", "scale", "expected"),
    [
        ("Faces", 4, "4x-Faces"),
        ("4x-Faces", 4, "4x-Faces"),
        ("4xFaces v2", 4, "4x-Faces-v2"),
        ("aesop_compact_x4", 4, "4x-aesop-compact"),
        ("x2 Faces (x4)", 4, "4x-x2-Faces"),
        ("experiments/run", 2, "2x-experiments-run"),
    ],
)
def test_ids_of_models(title, scale, expected):
    assert model_id(title, scale) == expected


def test_other_ids():
    assert user_ids("Jane Doe") == "jane-doe"
    assert user_ids("Jane Doe, Bob") == ["jane-doe", "bob"]
    assert [architecture_id(name) for name in ("RRDBNet", "SwinIR", "SRVGGNetCompact")] == ["esrgan", "swinir", "compact"]
