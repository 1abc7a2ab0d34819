"""The entry for OpenModelDB: what its validation asks for (src/lib/model-props.ts there), and facts of the weights."""

from __future__ import annotations

import copy
import datetime
import hashlib
import json
import re
from pathlib import Path

import pytest

import liif_fast
from liif_fast.weights import describe, pretrained, state_dicts

FOLDER = Path(__file__).parents[2] / "integrations" / "openmodeldb"
FILE = FOLDER / "4x-EDSR-baseline-LIIF.json"
# of the database's tags those that may suit
TAGS = {"general-upscaler", "photo", "research", "pretrained", "restoration", "anime", "cartoon", "faces"}
ID = re.compile(r"\d+x-[a-zA-Z0-9]+(?:-[a-zA-Z0-9]+)*")
USER = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*")
TEXTS = ("name", "author", "license", "description", "date", "architecture")
NUMBERS = {"scale": 16, "inputChannels": 4, "outputChannels": 4}  # and the largest
COUNTS = ("trainingIterations", "trainingEpochs", "trainingBatchSize", "datasetSize")  # may be missing
PLATFORMS = {"pth": "pytorch", "safetensors": "pytorch", "onnx": "onnx"}


@pytest.fixture(scope="module")
def entry() -> dict:
    return json.loads(FILE.read_text(encoding="utf-8"))


def whole(value: object, most: float = float("inf")) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= most


def faults(name: str, entry: dict, architectures: dict, users: dict) -> list[str]:
    """What the database would refuse."""
    known = {*TEXTS, *NUMBERS, *COUNTS, "tags", "size", "resources", "images", "dataset"}
    bad = [key for key in entry if key not in known]
    bad += [key for key in TEXTS if not isinstance(entry.get(key), str) or entry[key] != entry[key].strip()]
    bad += [key for key, most in NUMBERS.items() if not whole(entry.get(key), most)]
    bad += [key for key in COUNTS if key in entry and not whole(entry[key])]
    if not ID.fullmatch(name) or not name.startswith(f"{entry.get('scale')}x-"):
        bad.append("id")
    if entry.get("author") not in users or not USER.fullmatch(entry["author"]):
        bad.append("author")
    if entry.get("architecture") not in architectures:
        bad.append("architecture")
    for key in ("tags", "size"):
        texts = entry.get(key)
        if not isinstance(texts, list) or not texts or not all(isinstance(t, str) and t for t in texts):
            bad.append(key)
    if not set(entry.get("tags", ())) <= TAGS:
        bad.append("tags")
    if not isinstance(entry.get("images"), list):
        bad.append("images")
    if not re.fullmatch(r"\d{4}-\d{2}-\d{2}", str(entry.get("date"))):
        bad.append("date")
    resources = entry.get("resources")
    return bad + ["resources"] * (not isinstance(resources, list) or not resources or not all(map(usable, resources)))


def usable(resource: dict) -> bool:
    return (
        set(resource) == {"platform", "type", "size", "sha256", "urls"}
        and PLATFORMS.get(resource["type"]) == resource["platform"]
        and whole(resource["size"])
        and bool(re.fullmatch("[0-9a-f]{64}", resource["sha256"]))
        and isinstance(resource["urls"], list)
        and len(resource["urls"]) > 0
        and all(url.startswith("https://") for url in resource["urls"])
    )


def beside(name: str) -> dict:
    return json.loads((FOLDER / name).read_text(encoding="utf-8"))


def test_the_database_would_take_it(entry):
    assert faults(FILE.stem, entry, beside("architectures.json"), beside("users.json")) == []
    datetime.date.fromisoformat(entry["date"])
    for architecture in beside("architectures.json").values():
        assert set(architecture) == {"name", "input", "compatiblePlatforms"}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("scale", 2.5), ("scale", 17), ("author", "nobody"), ("tags", []), ("tags", ["free"]), ("date", "2020"),
        ("description", " x"), ("license", None), ("architecture", "edsr"), ("resources", []), ("more", 1),
        ("trainingEpochs", 0), ("images", None), ("resources", [{"type": "pth"}]),
    ],
)  # fmt: skip
def test_faults_are_seen(entry, key, value):
    changed = copy.deepcopy(entry) | {key: value}
    assert faults(FILE.stem, changed, beside("architectures.json"), beside("users.json"))


def test_the_file_is_the_one_that_liif_fast_fetches(entry):
    (resource,) = entry["resources"]
    source = pretrained._SOURCES["edsr-baseline-liif"]
    assert resource["sha256"] == source.sha256[0]
    assert entry["license"] == source.licence.partition(",")[0]


def test_facts_are_those_of_the_weights(entry, data_dir):
    """Of the same weights; their file here is without the optimizer's state, so that its size and hash are others."""
    path = data_dir / "weights" / "edsr-baseline-liif.pth"
    data = path.read_bytes()
    assert hashlib.sha256(data).hexdigest() in pretrained._SOURCES["edsr-baseline-liif"].sha256
    (resource,) = entry["resources"]
    facts = describe.describe(path)
    optimizer = 2 * 4 * facts["parameters"]  # Adam's two averages, which the published file has as well
    assert abs(resource["size"] - len(data) - optimizer) < 100_000
    assert facts["class"] == "LIIF"
    encoder = state_dicts.infer_spec(liif_fast.load(path).state_dict())["args"]["encoder_spec"]
    assert encoder["name"] == "edsr-baseline"
    assert entry["size"] == [f"{encoder['args']['n_feats']}nf", f"{encoder['args']['n_resblocks']}nb"]
    assert entry["outputChannels"] == facts["imnet"][-1] == entry["inputChannels"]
    assert facts["training"].get("epoch", entry["trainingEpochs"]) == entry["trainingEpochs"]
