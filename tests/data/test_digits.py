"""The embedded digits: what they hold, how they are split, and where they come from."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from cconv import data
from cconv.errors import ValueRangeError

ROOT = Path(__file__).parents[2]


def test_all_digits():
    x, y = data.digits(split=None)
    assert x.shape == (1797, 1, 8, 8)
    assert x.dtype == np.float32
    assert y.dtype == np.int64
    assert x.min() == 0
    assert x.max() == 1
    assert set(np.unique(x)) == {np.float32(i / 16) for i in range(17)}
    assert list(np.bincount(y)) == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]


def test_split_parts_every_class_alike():
    train, test, every = data.digits(), data.digits(split="test"), data.digits(split=None)
    assert len(train) + len(test) == len(every)
    share = np.bincount(train.y) / np.bincount(every.y)
    assert np.all(np.abs(share - 2 / 3) < 1 / 174)
    rows = {image.tobytes() for image in train.x}
    assert not rows.intersection(image.tobytes() for image in test.x)


def test_labels_are_positions_in_classes():
    every = data.digits()
    some = data.digits(classes=[7, 3])
    assert np.array_equal(some.x[some.y == 0], every.x[every.y == 7])
    assert np.array_equal(some.x[some.y == 1], every.x[every.y == 3])
    assert len(some) == np.isin(every.y, [3, 7]).sum()


@pytest.mark.parametrize("classes", [[], [10], [-1], [1, 1]])
def test_bad_classes(classes):
    with pytest.raises(ValueRangeError, match="different digits from 0 to 9"):
        data.digits(classes)


def test_bad_split():
    with pytest.raises(ValueRangeError, match="'train', 'test' or None; found 'valid'"):
        data.digits(split="valid")


def test_file_is_what_the_script_makes():
    pytest.importorskip("sklearn")
    spec = importlib.util.spec_from_file_location("make_digits", ROOT / "tools/make_digits.py")
    make_digits = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(make_digits)
    stored = (Path(data.__file__).parent / "digits.npz").read_bytes()
    assert make_digits.npz(make_digits.arrays()) == stored


def test_licence_lies_beside_the_file():
    text = (Path(data.__file__).parent / "LICENSE.digits").read_text()
    assert "CC BY 4.0" in text
    assert "Alpaydin" in text
