"""Loops of the losses; loss.pyx gives the formulas and the operands."""

from libc.math cimport log
from libc.stdint cimport int64_t, uintptr_t

from cconv.kernels.core.simd cimport VL, real, vf, vload, vload_n, vset, vstore, vstore_n, vsum, vzero
from cconv.kernels.loss.loss cimport CHUNK, RECIPROCAL, cross_entropy_arguments, elementwise_arguments
from cconv.kernels.reduce.largest cimport largest

cdef extern from "vmath.h" nogil:
    vf vexp(vf x)

cdef extern from "elementwise_loss.h" nogil:
    ctypedef double (*elementwise_loss_loop)(const real* output, const real* target, real* gradient, Py_ssize_t n,
                                             double reciprocal, double a, double b) noexcept nogil
    ctypedef struct elementwise_loss:
        const char* name
        elementwise_loss_loop loop
    const elementwise_loss elementwise_losses[1]
    const int elementwise_loss_count

cdef enum:
    PART = 32   # vectors that are summed in `real` before the sum goes to a double


cdef double exponentials(const real* x, real* e, Py_ssize_t n, real m) noexcept nogil:
    """The sum of e[c] = exp(x[c] - m); e may be NULL."""
    cdef vf part, v, shift = vset(m)
    cdef double total = 0
    cdef Py_ssize_t i = 0, stop
    while i < n:
        part = vzero()
        stop = min(i + PART * VL, n)
        while i < stop:
            if n - i >= VL:
                v = vexp(vload(x + i) - shift)
                if e != NULL:
                    vstore(e + i, v)
            else:
                v = vexp(vload_n(x + i, n - i) - shift)
                v = vload_n(<real*>&v, n - i)  # the missing lanes hold exp(0 - m), which must not be summed
                if e != NULL:
                    vstore_n(e + i, v, n - i)
            part += v
            i += VL
        total += vsum(part)
    return total


cdef double row_loss(const cross_entropy_arguments* s, const real* x, Py_ssize_t t, const real* weights,
                     double weight_sum, double reciprocal, real* gradient) noexcept nogil:
    """The loss of one row, not divided by the batch's weight; and its gradient, divided.

    weight_sum: of all classes; used with label smoothing only.
    reciprocal: of the batch's weight.
    """
    cdef Py_ssize_t classes = s.classes, c
    cdef real m = largest(x, classes), scale, shift
    cdef double total = exponentials(x, gradient, classes, m)
    cdef double log_total = log(total), loss, weighted
    cdef double hard = (1 - s.smoothing) * (<double>1 if weights == NULL else weights[t])
    cdef double soft = s.smoothing / classes
    # -log p[c] = log_total - (x[c] - m). The largest logit is subtracted from both, so that large ones do not cancel.
    loss = hard * (log_total - (<double>x[t] - m))
    if soft > 0:
        weighted = 0
        for c in range(classes):
            weighted += (<double>1 if weights == NULL else weights[c]) * (log_total - (<double>x[c] - m))
        loss += soft * weighted
    if gradient != NULL:
        # dl/dx[c] = p[c] (hard + soft sum(w)) - soft w[c] - hard [c == t]
        scale = <real>((hard + soft * weight_sum) * reciprocal / total)
        for c in range(classes):
            gradient[c] *= scale
        if soft > 0:
            shift = <real>(soft * reciprocal)
            for c in range(classes):
                gradient[c] -= shift if weights == NULL else shift * weights[c]
        gradient[t] -= <real>(hard * reciprocal)
    return loss


cdef void target_weights(const void* arguments, char** operand, Py_ssize_t i, char* scratch) noexcept nogil:
    """partial = the sum of the targets' weights, -1 if a target is no class."""
    cdef const cross_entropy_arguments* s = <const cross_entropy_arguments*>arguments
    cdef const int64_t* target = <const int64_t*>operand[0]
    cdef const real* weights = <const real*>operand[1]
    cdef double* partial = <double*>operand[2]
    cdef double result = 0
    cdef Py_ssize_t row
    for row in range(i * s.per_chunk, min((i + 1) * s.per_chunk, s.rows)):
        if target[row] == s.ignore_index:
            continue
        if target[row] < 0 or target[row] >= s.classes:
            result = -1
            break
        result += <double>1 if weights == NULL else weights[target[row]]
    partial[i] = result


cdef void cross_entropy(const void* arguments, char** operand, Py_ssize_t i, char* scratch) noexcept nogil:
    """partial = the sum of the rows' losses; their gradients."""
    cdef const cross_entropy_arguments* s = <const cross_entropy_arguments*>arguments
    cdef const real* logits = <const real*>operand[0]
    cdef const int64_t* target = <const int64_t*>operand[1]
    cdef const real* weights = <const real*>operand[2]
    cdef double reciprocal = (<const double*>operand[3])[RECIPROCAL]
    cdef double* partial = <double*>operand[4]
    cdef real* gradient = <real*>operand[5]
    cdef Py_ssize_t classes = s.classes, row, c
    cdef double result = 0, weight_sum = 0
    if s.smoothing > 0:
        for c in range(classes):
            weight_sum += <double>1 if weights == NULL else weights[c]
    for row in range(i * s.per_chunk, min((i + 1) * s.per_chunk, s.rows)):
        if target[row] == s.ignore_index or reciprocal == 0:
            if gradient != NULL:
                for c in range(classes):
                    gradient[row * classes + c] = 0
        else:
            result += row_loss(s, logits + row * classes, target[row], weights, weight_sum, reciprocal,
                               NULL if gradient == NULL else gradient + row * classes)
    partial[i] = result


cdef void elementwise(const void* arguments, char** operand, Py_ssize_t i, char* scratch) noexcept nogil:
    """partial = the sum of the elements' losses; their gradients."""
    cdef const elementwise_arguments* s = <const elementwise_arguments*>arguments
    cdef Py_ssize_t start = i * CHUNK, n = min(<Py_ssize_t>CHUNK, s.size - start)
    cdef double reciprocal = (<const double*>operand[2])[RECIPROCAL]
    cdef real* gradient = NULL if operand[4] == NULL else <real*>operand[4] + start
    (<double*>operand[3])[i] = (<elementwise_loss_loop>s.loop)(
        <const real*>operand[0] + start, <const real*>operand[1] + start, gradient, n, reciprocal, s.a, s.b)


LOOPS = {
    "target_weights": <uintptr_t>target_weights,
    "cross_entropy": <uintptr_t>cross_entropy,
    "elementwise": <uintptr_t>elementwise,
}
ELEMENTWISE_LOSSES = {
    elementwise_losses[i].name.decode(): <uintptr_t>elementwise_losses[i].loop for i in range(elementwise_loss_count)
}
