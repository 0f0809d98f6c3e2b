"""Loops of the losses; loss.pyx gives the formulas and the operands."""

from libc.math cimport log
from libc.stdint cimport int64_t, uintptr_t

from cconv.kernels.core.control cimport Control
from cconv.kernels.core.simd cimport VL, real, vf, vload, vload_n, vset, vstore, vstore_n, vsum, vzero
from cconv.kernels.loss.loss cimport CHUNK, cross_entropy_arguments, squared_error_arguments
from cconv.kernels.reduce.largest cimport largest

cdef extern from "vmath.h" nogil:
    vf vexp(vf x)

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
                     real* gradient) noexcept nogil:
    """The loss of one row, not yet divided by the targets' weights; its gradient, divided."""
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
        scale = <real>((hard + soft * s.weight_sum) * s.inverse / total)
        for c in range(classes):
            gradient[c] *= scale
        if soft > 0:
            shift = <real>(soft * s.inverse)
            for c in range(classes):
                gradient[c] -= shift if weights == NULL else shift * weights[c]
        gradient[t] -= <real>(hard * s.inverse)
    return loss


cdef void cross_entropy_weights(const void* arguments, char** operand, Py_ssize_t i, char* scratch) noexcept nogil:
    """partial = the sum of the targets' weights, -1 if a target is no class."""
    cdef const cross_entropy_arguments* s = <const cross_entropy_arguments*>arguments
    cdef const int64_t* target = <const int64_t*>operand[1]
    cdef const real* weights = <const real*>operand[2]
    cdef double* partial = <double*>operand[4]
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


cdef void cross_entropy_divisor(const void* arguments, char** operand, Py_ssize_t i, char* scratch) noexcept nogil:
    """One chunk: what the sweep divides by, out of all partial sums."""
    cdef cross_entropy_arguments* s = <cross_entropy_arguments*>arguments
    cdef const real* weights = <const real*>operand[2]
    cdef const double* partial = <const double*>operand[4]
    cdef double weight_sum = 0, total = 0
    cdef Py_ssize_t c, chunk
    for c in range(s.classes):
        weight_sum += <double>1 if weights == NULL else weights[c]
    s.weight_sum = weight_sum
    s.out_of_range = False
    for chunk in range(s.chunks):
        if partial[chunk] < 0:
            s.out_of_range = True
            return
        total += partial[chunk]
    s.inverse = 1 / total if total > 0 else 0


cdef void cross_entropy(const void* arguments, char** operand, Py_ssize_t i, char* scratch) noexcept nogil:
    """partial = the sum of the rows' losses; their gradients."""
    cdef const cross_entropy_arguments* s = <const cross_entropy_arguments*>arguments
    cdef const real* logits = <const real*>operand[0]
    cdef const int64_t* target = <const int64_t*>operand[1]
    cdef const real* weights = <const real*>operand[2]
    cdef double* partial = <double*>operand[4]
    cdef real* gradient = <real*>operand[5]
    cdef Py_ssize_t classes = s.classes, row, c
    cdef double result = 0
    for row in range(i * s.per_chunk, min((i + 1) * s.per_chunk, s.rows)):
        if target[row] == s.ignore_index or s.inverse == 0:
            if gradient != NULL:
                for c in range(classes):
                    gradient[row * classes + c] = 0
        else:
            result += row_loss(s, logits + row * classes, target[row], weights,
                               NULL if gradient == NULL else gradient + row * classes)
    partial[i] = result


cdef void add_cross_entropy(const void* arguments, char** operand, Py_ssize_t i, char* scratch) noexcept nogil:
    """One chunk: the partial sums, divided, to control.loss."""
    cdef const cross_entropy_arguments* s = <const cross_entropy_arguments*>arguments
    cdef Control* control = <Control*>operand[3]
    cdef const double* partial = <const double*>operand[4]
    cdef double loss = 0
    cdef Py_ssize_t chunk
    for chunk in range(s.chunks):
        loss += partial[chunk]
    control.loss += loss * s.inverse


cdef void squared_error(const void* arguments, char** operand, Py_ssize_t i, char* scratch) noexcept nogil:
    """partial = the sum of the elements' squared errors; their gradients."""
    cdef const squared_error_arguments* s = <const squared_error_arguments*>arguments
    cdef Py_ssize_t start = i * CHUNK, n = min(<Py_ssize_t>CHUNK, s.size - start), j
    cdef const real* x = <const real*>operand[0] + start
    cdef const real* target = <const real*>operand[1] + start
    cdef double* partial = <double*>operand[3]
    cdef real* gradient = <real*>operand[4]
    cdef real scale = <real>(<double>2 / s.size)
    cdef double difference, result = 0
    for j in range(n):
        difference = <double>x[j] - target[j]
        result += difference * difference
    partial[i] = result
    if gradient != NULL:
        for j in range(n):
            gradient[j + start] = scale * (x[j] - target[j])


cdef void add_squared_error(const void* arguments, char** operand, Py_ssize_t i, char* scratch) noexcept nogil:
    """One chunk: the partial sums, divided, to control.loss."""
    cdef const squared_error_arguments* s = <const squared_error_arguments*>arguments
    cdef Control* control = <Control*>operand[2]
    cdef const double* partial = <const double*>operand[3]
    cdef double loss = 0
    cdef Py_ssize_t chunk
    for chunk in range(s.chunks):
        loss += partial[chunk]
    control.loss += loss / s.size


LOOPS = {
    "cross_entropy_weights": <uintptr_t>cross_entropy_weights,
    "cross_entropy_divisor": <uintptr_t>cross_entropy_divisor,
    "cross_entropy": <uintptr_t>cross_entropy,
    "add_cross_entropy": <uintptr_t>add_cross_entropy,
    "squared_error": <uintptr_t>squared_error,
    "add_squared_error": <uintptr_t>add_squared_error,
}
