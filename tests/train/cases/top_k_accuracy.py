import numpy as np

from cconv.metrics import TopKAccuracy
from train.cases.case import MetricCase

OUTPUT = np.array([[0.1, 0.9, 0.5, 0.3], [0.8, 0.2, 0.1, 0.0], [0.3, 0.3, 0.3, 0.7]], np.float32)
MAP = OUTPUT.T.reshape(1, 4, 3)  # one example of three pixels

CASES = [
    MetricCase(TopKAccuracy(k=2), [(OUTPUT, np.array([2, 2, 0])), (OUTPUT, np.array([0, 0, 3]))], 4 / 6),
    MetricCase(TopKAccuracy(k=1), [(OUTPUT, np.array([1, 0, 0]))], 2 / 3),
    MetricCase(TopKAccuracy(k=4), [(OUTPUT, np.array([0, 3, 2]))], 1.0),
    MetricCase(TopKAccuracy(), [(OUTPUT, np.array([0, 3, 2]))], 1.0),
    MetricCase(TopKAccuracy(k=2, ignore_index=-1), [(OUTPUT, np.array([-1, 2, 0]))], 1 / 2),
    MetricCase(TopKAccuracy(k=2, ignore_index=0), [(OUTPUT, np.array([0, 0, 0]))], None),
    MetricCase(TopKAccuracy(k=2), [(MAP, np.array([[2, 2, 0]]))], 2 / 3),
    MetricCase(TopKAccuracy(k=2), [(np.full((2, 3), np.nan, np.float32), np.array([0, 1]))], 0.0),
]
