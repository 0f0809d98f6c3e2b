"""Data: arrays to train on, and the handwritten digits that come with cconv.

    Arrays    images and labels in memory, in batches, shuffled, split, a few of each class
    digits    UCI's optical digits, 1,797 images of 8x8, embedded
"""

from cconv.data.arrays import Arrays
from cconv.data.digits import digits

__all__ = ["Arrays", "digits"]
