"""What training and evaluation open is the file's picture, never its thumbnail."""

from __future__ import annotations

import pytest
import training_files as files
from PIL import Image
from tiff_trees import LARGE, SMALL, trees, wrote

from liif_fast import data
from liif_fast.quality import pairs
from liif_fast.quality.evaluate import evaluate

PREVIEWS = {
    "thumbnail first": trees("<", ((SMALL, {254: 1}), []), ((LARGE, {254: 0}), [])),
    "smaller one first": trees(">", ((SMALL, {}), []), ((LARGE, {}), [])),
    "picture below a thumbnail": trees("<", ((SMALL, {254: 1}), [(LARGE, {254: 0})])),
}


@pytest.mark.parametrize("kind", PREVIEWS)
def test_a_thumbnail_is_refused_with_the_files_name(tmp_path, kind):
    wrote(tmp_path, PREVIEWS[kind])
    spec = {"name": "image-folder", "args": {"root_path": str(tmp_path)}}
    with pytest.raises(data.DataError, match=r"x\.tif"):
        data.make(spec)
    with pytest.raises(ValueError, match=r"x\.tif"):
        pairs.find(tmp_path, 2)
    with pytest.raises(ValueError, match=r"x\.tif"):
        evaluate(lambda image, size: pytest.fail("measured"), tmp_path, 2)


def test_pages_after_the_picture_do_no_harm(tmp_path):
    wrote(tmp_path, trees("<", ((LARGE, {}), [(SMALL, {254: 1})]), ((SMALL, {254: 1}), [])))
    assert pairs.find(tmp_path, 2)[0].size == LARGE.shape
    images = files.make_images(tmp_path / "images")
    first = sorted(images.iterdir())[0]
    with Image.open(first) as image:
        image.save(first.with_suffix(".tif"))
    assert len(data.make({"name": "image-folder", "args": {"root_path": str(images)}})) > 0
