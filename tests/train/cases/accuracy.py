import numpy as np

from cconv.metrics import Accuracy
from train.cases.case import MetricCase

OUTPUT = np.array([[0.1, 0.9], [0.8, 0.2], [0.3, 0.7]], np.float32)
PIXELS = np.arange(2 * 3 * 4, dtype=np.float32).reshape(2, 3, 4)  # class 2 is the largest everywhere

CASES = [
    MetricCase(Accuracy(), [(OUTPUT, np.array([1, 1, 1])), (OUTPUT, np.array([1, 0, 0]))], 4 / 6),
    MetricCase(Accuracy(ignore_index=1), [(OUTPUT, np.array([1, 0, 0]))], 1 / 2),
    MetricCase(Accuracy(ignore_index=1), [(OUTPUT, np.array([1, 1, 1]))], None),
    MetricCase(Accuracy(), [(PIXELS, np.array([[2, 2, 0, 1], [2, 2, 2, 0]]))], 5 / 8),
]
