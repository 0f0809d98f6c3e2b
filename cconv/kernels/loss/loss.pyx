"""Losses: the sum over a batch and its gradient, the weight of a batch, and the steps that divide the one by the other.

A loss is sum / weight. For the mean squared error the weight is the number of elements; for cross-entropy it is the sum
of the targets' class weights. The gradient is divided, too, so the weight must be known before the sweep over the
logits starts. These steps run one after the other:

    TargetWeights    partial sums of the weight, from the targets alone (losses of constant weight do without)
    Denominator      the weight and its reciprocal
    a loss           partial sums of the loss, and the gradient divided by the weight
    AddMean          control.loss += sum / weight
    CheckFinite      once, after all losses

Because the denominator is an operand, several batches can share one. Partial sums are one double for each chunk and are
added in the order of the chunks. They are accumulated in double: in segmentation a batch has millions of terms, and a
float32 sum of them would lose the digits that early stopping compares.

The loss sweeps are parallel over blocks of rows or of elements, which are independent.
"""

from libc.math cimport isfinite
from libc.stdint cimport int64_t, uintptr_t

from cconv.kernels.core.build cimport Build, ceil_div
from cconv.kernels.core.control cimport Control
from cconv.kernels.core.step cimport NOT_FINITE, OK, OUT_OF_RANGE, Step, per_chunk
from cconv.kernels.loss.loss cimport CHUNK, RECIPROCAL, WEIGHT, cross_entropy_arguments, elementwise_arguments


cdef class TargetWeights(Step):
    """Partial sums of the weight of a batch of class indices: the class weights of all targets that are not ignored.

    A partial sum is negative if one of its targets is no class; Denominator then stops the program.

    Args:
        build: whose loops run.
        rows: examples, or pixels in segmentation.
        classes: number of classes.
        ignore_index: target of the rows that do not count.

    Operands:
        target (rows,) int64
        class weights (classes,) real, none negative; or absent, then each weight is 1
        partial sums (chunks,) double

    Raises:
        ValueError: no classes, or a negative number of rows.
    """

    cdef cross_entropy_arguments sizes

    def __init__(self, Build build, Py_ssize_t rows, Py_ssize_t classes, int64_t ignore_index=-100):
        check_rows("TargetWeights", rows, classes)
        self.operands = 3
        self.loop = build.loop("loss", "target_weights")
        self.arguments = &self.sizes
        self.sizes.rows, self.sizes.classes, self.sizes.ignore_index = rows, classes, ignore_index
        self.sizes.per_chunk = per_chunk(classes, CHUNK)
        self.chunks = ceil_div(rows, self.sizes.per_chunk)


cdef class Denominator(Step):
    """The weight of a batch from its partial sums, and the reciprocal of the weight.

    Args:
        count: number of partial sums.

    Operands:
        partial sums (count,) double
        denominator (2,) double: the weight, and 1 / weight, or 0 if the weight is 0

    Status OUT_OF_RANGE, and nothing written, if a partial sum is negative: a target is no class.
    """

    cdef Py_ssize_t count

    def __init__(self, Py_ssize_t count):
        self.operands = 2
        self.count = count

    cdef int run(self) noexcept nogil:
        cdef const double* partial = <double*>self.operand[0]
        cdef double* denominator = <double*>self.operand[1]
        cdef double weight = 0
        cdef Py_ssize_t i
        for i in range(self.count):
            if partial[i] < 0:
                return OUT_OF_RANGE
            weight += partial[i]
        denominator[WEIGHT] = weight
        denominator[RECIPROCAL] = 1 / weight if weight > 0 else 0
        return OK


cdef class SoftmaxCrossEntropy(Step):
    """Partial sums of the cross-entropy of logits against class indices, with class weights and label smoothing.

    With p = softmax(x), K classes, class weights w, smoothing s and target t, the loss of one row is

        l = -(1 - s) w[t] log p[t] - s / K * sum_c w[c] log p[c]

    and the loss is sum(l) / sum(w[t]) over the rows whose target is not ignore_index. PyTorch's CrossEntropyLoss with
    reduction="mean" computes the same: it also divides the smoothed part by the targets' weights
    (ATen/native/LossNLL.cpp, cross_entropy_loss_label_smoothing). If the weights of all targets sum to 0, for example
    because all targets are ignored, the loss and its gradient are 0. PyTorch gives NaN there.

    Args:
        build: whose loops run.
        rows: examples, or pixels in segmentation.
        classes: logits of a row; they lie side by side.
        ignore_index: target of the rows that do not count; their gradient is 0.
        label_smoothing: s, 0 <= s <= 1.

    Operands:
        logits (rows, classes) real
        target (rows,) int64, each a class or ignore_index, as Denominator has checked
        class weights (classes,) real, none negative; or absent
        denominator (2,) double, see Denominator
        partial sums (chunks,) double
        gradient (rows, classes) real, divided by the weight; or absent if no step needs it

    Raises:
        ValueError: no classes, or a negative number of rows.
    """

    cdef cross_entropy_arguments sizes

    def __init__(self, Build build, Py_ssize_t rows, Py_ssize_t classes, int64_t ignore_index=-100,
                 double label_smoothing=0):
        check_rows("SoftmaxCrossEntropy", rows, classes)
        self.operands = 6
        self.loop = build.loop("loss", "cross_entropy")
        cdef cross_entropy_arguments* s = &self.sizes
        self.arguments = s
        s.rows, s.classes = rows, classes
        s.ignore_index, s.smoothing = ignore_index, label_smoothing
        s.per_chunk = per_chunk(classes, CHUNK)
        self.chunks = ceil_div(rows, s.per_chunk)


cdef class ElementwiseLoss(Step):
    """Partial sums of a loss that compares each output element with a target element; its gradient.

    Args:
        build: whose loops run.
        loss: a name in elementwise_loss.h, such as "squared_error".
        size: elements.
        a, b: parameters of the loss.

    Operands:
        output (size,) real
        target (size,) real
        denominator (2,) double, see Denominator
        partial sums (chunks,) double
        gradient (size,) real, divided by the weight; or absent if no step needs it

    Raises:
        ValueError: no such loss, or a negative size.
    """

    cdef elementwise_arguments sizes

    def __init__(self, Build build, str loss, Py_ssize_t size, double a=0, double b=0):
        table = build.table("loss", "ELEMENTWISE_LOSSES")
        if loss not in table:
            raise ValueError(f"ElementwiseLoss: no loss {loss!r}; there are {', '.join(table)}")
        if size < 0:
            raise ValueError(f"ElementwiseLoss: size >= 0; found {size}")
        self.operands = 5
        self.loop = build.loop("loss", "elementwise")
        self.arguments = &self.sizes
        self.chunks = ceil_div(size, CHUNK)
        self.sizes.size, self.sizes.a, self.sizes.b = size, a, b
        self.sizes.loop = <void*><uintptr_t>table[loss]


cdef class AddMean(Step):
    """control.loss += sum of the partial sums / weight; adds nothing if the weight is 0.

    Args:
        count: number of partial sums.
        by_reciprocal: multiply by the rounded reciprocal, as the gradient does, instead of dividing by the weight. The
            two differ in the last bit of a double.

    Operands:
        partial sums (count,) double
        denominator (2,) double, see Denominator
        control
    """

    cdef Py_ssize_t count
    cdef bint by_reciprocal

    def __init__(self, Py_ssize_t count, bint by_reciprocal=False):
        self.operands = 3
        self.count, self.by_reciprocal = count, by_reciprocal

    cdef int run(self) noexcept nogil:
        cdef const double* partial = <double*>self.operand[0]
        cdef const double* denominator = <double*>self.operand[1]
        cdef Control* control = <Control*>self.operand[2]
        cdef double total = 0
        cdef Py_ssize_t i
        for i in range(self.count):
            total += partial[i]
        if self.by_reciprocal:
            control.loss += total * denominator[RECIPROCAL]
        elif denominator[WEIGHT] > 0:
            control.loss += total / denominator[WEIGHT]
        return OK


cdef class CheckFinite(Step):
    """Status NOT_FINITE if control.loss is NaN or infinite.

    Runs after all losses were added, so that the program stops before a weight has changed. It has no loop and takes no
    build.

    Operands: control.
    """

    def __init__(self):
        self.operands = 1

    cdef int run(self) noexcept nogil:
        return OK if isfinite((<Control*>self.operand[0]).loss) else NOT_FINITE


cdef check_rows(str place, Py_ssize_t rows, Py_ssize_t classes):
    if rows < 0 or classes < 1:
        raise ValueError(f"{place}: rows >= 0 and classes >= 1; found {rows} and {classes}")
