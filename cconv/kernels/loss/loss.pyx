"""Losses: each adds its value to control.loss and writes its gradient in the same sweep over the data.

Every loss here is a mean, so its gradient needs the divisor before the sweep starts. Partial sums go to one double per
chunk and are added in the order of the chunks. They are accumulated in double: in segmentation a batch has millions of
terms, and a float sum of them would lose the digits that early stopping compares.

Parallel over blocks of rows or of elements, which are independent. Loops of one chunk compute the divisor and the value
that is added to control.loss.
"""

from libc.math cimport isfinite
from libc.stdint cimport int64_t

from cconv.kernels.core.build cimport Build, ceil_div
from cconv.kernels.core.control cimport Control
from cconv.kernels.core.loop cimport chunk_loop
from cconv.kernels.core.step cimport NOT_FINITE, OK, OUT_OF_RANGE, Step, per_chunk
from cconv.kernels.loss.loss cimport CHUNK, cross_entropy_arguments, squared_error_arguments


cdef class SoftmaxCrossEntropy(Step):
    """Mean cross-entropy of logits against class indices, with class weights and label smoothing.

    With p = softmax(x), K classes, class weights w, smoothing s and target t, the loss of one row is

        l = -(1 - s) w[t] log p[t] - s / K * sum_c w[c] log p[c]

    and the loss is sum(l) / sum(w[t]) over the rows whose target is not ignore_index. PyTorch's CrossEntropyLoss with
    reduction="mean" computes the same. It, too, divides the smoothed part by the targets' weights
    (ATen/native/LossNLL.cpp, cross_entropy_loss_label_smoothing). If the weights of all targets sum to 0, as when all
    targets are ignored, the loss and its gradient are 0. PyTorch gives NaN there.

    Args:
        build: whose loops run.
        rows: examples, or pixels in segmentation.
        classes: logits of a row; they lie side by side.
        ignore_index: target of the rows that do not count; their gradient is 0.
        label_smoothing: s, 0 <= s <= 1.

    Operands:
        logits (rows, classes) real
        target (rows,) int64
        class weights (classes,) real, none negative; or absent
        control
        partial sums (chunks,) double, own memory of this step
        gradient (rows, classes) real, or absent where no step needs it

    Status OUT_OF_RANGE, and neither loss nor gradient written, if a target is no class.

    Raises:
        ValueError: no classes, or a negative number of rows.
    """

    cdef cross_entropy_arguments sizes
    cdef chunk_loop weigh, find_divisor, add

    def __init__(self, Build build, Py_ssize_t rows, Py_ssize_t classes, int64_t ignore_index=-100,
                 double label_smoothing=0):
        if rows < 0 or classes < 1:
            raise ValueError(f"SoftmaxCrossEntropy: rows >= 0 and classes >= 1; found {rows} and {classes}")
        self.operands = 6
        self.weigh = build.loop("loss", "cross_entropy_weights")
        self.find_divisor = build.loop("loss", "cross_entropy_divisor")
        self.loop = build.loop("loss", "cross_entropy")
        self.add = build.loop("loss", "add_cross_entropy")
        cdef cross_entropy_arguments* s = &self.sizes
        self.arguments = s
        s.rows, s.classes = rows, classes
        s.ignore_index, s.smoothing = ignore_index, label_smoothing
        s.per_chunk = per_chunk(classes, CHUNK)
        self.chunks = s.chunks = ceil_div(rows, s.per_chunk)

    cdef int run(self) noexcept nogil:
        # A short pass over the targets alone: the sweep needs the divisor.
        self.run_chunks(self.weigh, self.chunks)
        self.run_chunks(self.find_divisor, 1)
        if self.sizes.out_of_range:
            return OUT_OF_RANGE
        self.run_chunks(self.loop, self.chunks)
        self.run_chunks(self.add, 1)
        return OK


cdef class MeanSquaredError(Step):
    """Mean over all elements of (x - target)^2; gradient 2 (x - target) / size.

    Args:
        build: whose loops run.
        size: elements.

    Operands:
        x (size,) real
        target (size,) real
        control
        partial sums (chunks,) double, own memory of this step
        gradient (size,) real, or absent where no step needs it

    Raises:
        ValueError: a negative size.
    """

    cdef squared_error_arguments sizes
    cdef chunk_loop add

    def __init__(self, Build build, Py_ssize_t size):
        if size < 0:
            raise ValueError(f"MeanSquaredError: size >= 0; found {size}")
        self.operands = 5
        self.loop = build.loop("loss", "squared_error")
        self.add = build.loop("loss", "add_squared_error")
        self.arguments = &self.sizes
        self.chunks = ceil_div(size, CHUNK)
        self.sizes.size, self.sizes.chunks = size, self.chunks

    cdef int run(self) noexcept nogil:
        self.run_chunks(self.loop, self.chunks)
        if self.sizes.size > 0:
            self.run_chunks(self.add, 1)
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
