"""Losses: their value added to control.loss, their gradient written in the same sweep.

Every loss here is a mean, so its gradient needs the total to divide by before the sweep starts. Partial sums
go to one double per chunk and are added in the order of the chunks. Values are accumulated in double: a batch
has millions of terms in segmentation, and a float sum of them would lose what early stopping looks at.
"""

from libc.math cimport isfinite, log
from libc.stdint cimport int64_t

from cconv.kernels.core.control cimport Control
from cconv.kernels.core.simd cimport VL, real, vf, vload, vload_n, vmax, vset, vstore, vstore_n, vsum, vzero
from cconv.kernels.core.step cimport NOT_FINITE, OK, OUT_OF_RANGE, Step

cdef extern from "vmath.h" nogil:
    vf vexp(vf x)
    real vtop(vf v)

# Elements that a chunk should at least handle: some tens of microseconds.
cdef Py_ssize_t CHUNK = 8192


cdef enum:
    WEIGH = 0   # phases
    SWEEP = 1
    RUN = 32    # vectors that are added in real before their sum is added in double


cdef real largest(const real* x, Py_ssize_t n) noexcept nogil:
    """The largest of n >= 1 numbers. Subtracted from each before exp; a NaN among them shows there."""
    cdef real m = x[0]
    cdef vf top = vset(m)
    cdef Py_ssize_t i
    for i in range(n // VL):
        top = vmax(vload(x + i * VL), top)
    m = vtop(top)
    for i in range(n - n % VL, n):
        m = x[i] if x[i] > m else m
    return m


cdef double exponentials(const real* x, real* e, Py_ssize_t n, real m) noexcept nogil:
    """The sum of e[c] = exp(x[c] - m); e may be NULL."""
    cdef vf part, v, shift = vset(m)
    cdef double total = 0
    cdef Py_ssize_t i = 0, stop
    while i < n:
        part = vzero()
        stop = min(i + RUN * VL, n)
        while i < stop:
            if n - i >= VL:
                v = vexp(vload(x + i) - shift)
                if e != NULL:
                    vstore(e + i, v)
            else:
                v = vexp(vload_n(x + i, n - i) - shift)
                v = vload_n(<real*>&v, n - i)  # lanes that are not there must not be summed
                if e != NULL:
                    vstore_n(e + i, v, n - i)
            part += v
            i += VL
        total += vsum(part)
    return total


cdef class SoftmaxCrossEntropy(Step):
    """Mean cross-entropy of logits against class indices, with class weights and label smoothing.

    With p = softmax(x), K classes, class weights w, smoothing s and target t, one row costs

        l = -(1 - s) w[t] log p[t] - s / K * sum_c w[c] log p[c]

    and the loss is sum(l) / sum(w[t]) over the rows whose target is not ignore_index: what PyTorch's
    CrossEntropyLoss computes with reduction="mean" (the smoothed part, too, is divided by the targets'
    weights; ATen/native/LossNLL.cpp, cross_entropy_loss_label_smoothing). Where the weights of all targets
    add to nothing, as when all are ignored, the loss and its gradient are 0; PyTorch gives NaN there.

    Args:
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
        gradient (rows, classes) real, or absent where nobody needs it

    Status OUT_OF_RANGE, and nothing written, if a target is no class.

    Raises:
        ValueError: no classes, or a negative number of rows.
    """


    cdef Py_ssize_t rows, classes, per_chunk
    cdef int64_t ignore_index
    cdef double smoothing
    cdef double weight_sum    # of all classes
    cdef double inverse       # 1 / weight of all targets, 0 where that is 0

    def __init__(self, Py_ssize_t rows, Py_ssize_t classes, int64_t ignore_index=-100,
                 double label_smoothing=0):
        if rows < 0 or classes < 1:
            raise ValueError(f"SoftmaxCrossEntropy: rows >= 0 and classes >= 1; found {rows} and {classes}")
        self.operands = 6
        self.rows = rows
        self.classes = classes
        self.ignore_index = ignore_index
        self.smoothing = label_smoothing
        self.per_chunk = max(1, CHUNK // classes)
        self.chunks = (rows + self.per_chunk - 1) // self.per_chunk

    cdef int run(self) noexcept nogil:
        cdef const real* weights = <real*>self.operand[2]
        cdef Control* control = <Control*>self.operand[3]
        cdef double* partial = <double*>self.operand[4]
        cdef double total = 0, loss = 0
        cdef Py_ssize_t i
        self.weight_sum = 0
        for i in range(self.classes):
            self.weight_sum += <double>1 if weights == NULL else weights[i]
        # A small pass over the targets alone: the sweep must know what to divide by.
        self.parallel(WEIGH, self.chunks)
        for i in range(self.chunks):
            if partial[i] < 0:
                return OUT_OF_RANGE
            total += partial[i]
        self.inverse = 1 / total if total > 0 else 0
        self.parallel(SWEEP, self.chunks)
        for i in range(self.chunks):
            loss += partial[i]
        control.loss += loss * self.inverse
        return OK

    cdef void chunk(self, int phase, Py_ssize_t i, int thread) noexcept nogil:
        # Parallel over blocks of rows: rows are independent.
        cdef const real* logits = <real*>self.operand[0]
        cdef const int64_t* target = <int64_t*>self.operand[1]
        cdef const real* weights = <real*>self.operand[2]
        cdef double* partial = <double*>self.operand[4]
        cdef real* gradient = <real*>self.operand[5]
        cdef double result = 0
        cdef Py_ssize_t row, c
        for row in range(i * self.per_chunk, min((i + 1) * self.per_chunk, self.rows)):
            if phase == WEIGH:
                if target[row] == self.ignore_index:
                    continue
                if target[row] < 0 or target[row] >= self.classes:
                    result = -1
                    break
                result += <double>1 if weights == NULL else weights[target[row]]
            elif target[row] == self.ignore_index or self.inverse == 0:
                if gradient != NULL:
                    for c in range(self.classes):
                        gradient[row * self.classes + c] = 0
            else:
                result += self.row(logits + row * self.classes, target[row], weights,
                                   NULL if gradient == NULL else gradient + row * self.classes)
        partial[i] = result

    cdef double row(self, const real* x, Py_ssize_t t, const real* weights, real* gradient) noexcept nogil:
        """The loss of one row, not yet divided; its gradient."""
        cdef real m = largest(x, self.classes), scale, shift
        cdef double total = exponentials(x, gradient, self.classes, m)
        cdef double log_total = log(total), loss, weighted
        cdef double hard = (1 - self.smoothing) * (<double>1 if weights == NULL else weights[t])
        cdef double soft = self.smoothing / self.classes
        cdef Py_ssize_t c
        # -log p[c] = log_total - (x[c] - m): the largest logit is taken off both, so large ones do not cancel.
        loss = hard * (log_total - (<double>x[t] - m))
        if soft > 0:
            weighted = 0
            for c in range(self.classes):
                weighted += (<double>1 if weights == NULL else weights[c]) * (log_total - (<double>x[c] - m))
            loss += soft * weighted
        if gradient != NULL:
            # dl/dx[c] = p[c] (hard + soft sum(w)) - soft w[c] - hard [c == t]
            scale = <real>((hard + soft * self.weight_sum) * self.inverse / total)
            for c in range(self.classes):
                gradient[c] *= scale
            if soft > 0:
                shift = <real>(soft * self.inverse)
                for c in range(self.classes):
                    gradient[c] -= shift if weights == NULL else shift * weights[c]
            gradient[t] -= <real>(hard * self.inverse)
        return loss


cdef class MeanSquaredError(Step):
    """Mean over all elements of (x - target)^2; gradient 2 (x - target) / size.

    Operands:
        x (size,) real
        target (size,) real
        control
        partial sums (chunks,) double, own memory of this step
        gradient (size,) real, or absent where nobody needs it

    Raises:
        ValueError: a negative size.
    """


    cdef Py_ssize_t size

    def __init__(self, Py_ssize_t size):
        if size < 0:
            raise ValueError(f"MeanSquaredError: size >= 0; found {size}")
        self.operands = 5
        self.size = size
        self.chunks = (size + CHUNK - 1) // CHUNK

    cdef int run(self) noexcept nogil:
        cdef Control* control = <Control*>self.operand[2]
        cdef double* partial = <double*>self.operand[3]
        cdef double loss = 0
        cdef Py_ssize_t i
        self.parallel(SWEEP, self.chunks)
        for i in range(self.chunks):
            loss += partial[i]
        if self.size > 0:
            control.loss += loss / self.size
        return OK

    cdef void chunk(self, int phase, Py_ssize_t i, int thread) noexcept nogil:
        # Parallel over flat blocks: elements are independent.
        cdef Py_ssize_t start = i * CHUNK, n = min(CHUNK, self.size - start), j
        cdef const real* x = <real*>self.operand[0] + start
        cdef const real* target = <real*>self.operand[1] + start
        cdef double* partial = <double*>self.operand[3]
        cdef real* gradient = <real*>self.operand[4]
        cdef real scale = <real>(<double>2 / self.size)
        cdef double difference, result = 0
        for j in range(n):
            difference = <double>x[j] - target[j]
            result += difference * difference
        partial[i] = result
        if gradient != NULL:
            for j in range(n):
                gradient[j + start] = scale * (x[j] - target[j])


cdef class CheckFinite(Step):
    """Status NOT_FINITE if control.loss is NaN or infinite. Runs after all losses were added, so that the
    program stops before a weight has changed. Operand: control."""

    def __init__(self):
        self.operands = 1

    cdef int run(self) noexcept nogil:
        return OK if isfinite((<Control*>self.operand[0]).loss) else NOT_FINITE
