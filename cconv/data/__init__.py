"""Data: what there is to train on.

    Arrays    examples and targets in memory: in batches, shuffled, split, a few of each class
    digits    UCI's optical digits, 1,797 images of 8x8, embedded

The protocols that a dataset, sampler, transform or loader of your own follows, and the plain loader, are in
cconv/train/dataset.py; they can be imported from here.
"""

from cconv.data.digits import digits
from cconv.train.dataset import Arrays, Batches, Dataset, Field, InOrder, Loader, Sampler, Shuffled, Transform

__all__ = [
    "Arrays", "Batches", "Dataset", "Field", "InOrder", "Loader", "Sampler", "Shuffled", "Transform", "digits",
]  # fmt: skip
