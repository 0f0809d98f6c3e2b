"""Updates: weight, gradient and state in one pass, and the global norm of all gradients.

The arithmetic is PyTorch's (torch.optim), so that a recipe tuned there gives the same run here. Each step
multiplies the gradient by control.gradient_scale as it reads it: clipping costs no pass of its own.
Parallel over flat chunks of CHUNK elements: elements are independent.
"""

from libc.math cimport isfinite, pow, sqrt
from libc.stdint cimport int64_t

from cconv.kernels.core.control cimport Control
from cconv.kernels.core.simd cimport real
from cconv.kernels.core.step cimport NOT_FINITE, OK, Step

cdef extern from *:
    """
    #ifdef CCONV_FLOAT64
    #define SQRT sqrt
    #else
    #define SQRT sqrtf
    #endif
    """
    real SQRT(real x) nogil

cdef enum:
    # Sums kept side by side, so that the compiler may vectorise without reordering any: four vectors of them and more,
    # since one waits for its last addition (AVX-512, 74,000 elements, with 8 sums 13.4 us, 16 6.7, 32 6.4).
    LANES = 32

# Elements of a chunk: few enough that threads have equal shares of a small network's weights, too (48,000 on 2 threads, with
# 32,768 elements 38 us, 8,192 29).
cdef Py_ssize_t CHUNK = 8192


cdef class Flat(Step):
    """Base of steps over `size` independent elements.

    Raises:
        ValueError: a negative size.
    """


    cdef Py_ssize_t size

    def __init__(self, Py_ssize_t size):
        if size < 0:
            raise ValueError(f"{type(self).__name__}: size >= 0; found {size}")
        self.size = size
        self.chunks = (size + CHUNK - 1) // CHUNK

    cdef int run(self) noexcept nogil:
        self.parallel(0, self.chunks)
        return OK


cdef class Sgd(Flat):
    """Stochastic gradient descent, as torch.optim.SGD with dampening 0.

        g = gradient + weight_decay * weight
        v = momentum * v + g                              (with momentum)
        weight -= learning_rate * (g + momentum * v  with Nesterov;  v  with momentum;  else g)

    Operands: gradient, control, weight, v; v is absent without momentum, and starts as zeros.

    Raises:
        ValueError: Nesterov without momentum.
    """

    cdef double momentum, weight_decay
    cdef bint nesterov

    def __init__(self, Py_ssize_t size, double momentum=0, double weight_decay=0, bint nesterov=False):
        super().__init__(size)
        if nesterov and momentum <= 0:
            raise ValueError("Sgd: Nesterov's step needs momentum > 0")
        self.operands = 4
        self.momentum = momentum
        self.weight_decay = weight_decay
        self.nesterov = nesterov

    cdef void chunk(self, int phase, Py_ssize_t i, int thread) noexcept nogil:
        cdef Py_ssize_t start = i * CHUNK, n = min(CHUNK, self.size - start), j
        cdef const real* gradient = <real*>self.operand[0] + start
        cdef Control* control = <Control*>self.operand[1]
        cdef real* weight = <real*>self.operand[2] + start
        cdef real* v
        cdef real scale = <real>control.gradient_scale, rate = <real>control.learning_rate
        cdef real decay = <real>self.weight_decay, momentum = <real>self.momentum
        cdef real g
        if self.operand[3] == NULL:
            for j in range(n):
                weight[j] -= rate * (scale * gradient[j] + decay * weight[j])
            return
        v = <real*>self.operand[3] + start
        if self.nesterov:
            for j in range(n):
                g = scale * gradient[j] + decay * weight[j]
                v[j] = momentum * v[j] + g
                weight[j] -= rate * (g + momentum * v[j])
        else:
            for j in range(n):
                v[j] = momentum * v[j] + (scale * gradient[j] + decay * weight[j])
                weight[j] -= rate * v[j]


cdef class Adam(Flat):
    """Adam (Kingma and Ba, 2015, algorithm 1) and AdamW (Loshchilov and Hutter, 2019, algorithm 2), as
    torch.optim has them, with t = control.step + 1.

        g = gradient + weight_decay * weight              (Adam)
        weight -= learning_rate * weight_decay * weight   (AdamW: decoupled)
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g^2
        weight -= learning_rate / (1 - beta1^t) * m / (sqrt(v / (1 - beta2^t)) + eps)

    Operands: gradient, control, weight, m, v; m and v start as zeros.
    """

    cdef double beta1, beta2, eps, weight_decay
    cdef bint decoupled
    cdef real rate, shrink, correction    # set at every run, from the step's number

    def __init__(self, Py_ssize_t size, double beta1, double beta2, double eps, double weight_decay=0,
                 bint decoupled=False):
        super().__init__(size)
        self.operands = 5
        self.beta1 = beta1
        self.beta2 = beta2
        self.eps = eps
        self.weight_decay = weight_decay
        self.decoupled = decoupled

    cdef int run(self) noexcept nogil:
        cdef Control* control = <Control*>self.operand[1]
        cdef double t = <double>(control.step + 1)
        self.rate = <real>(control.learning_rate / (1 - pow(self.beta1, t)))
        self.correction = <real>(1 / sqrt(1 - pow(self.beta2, t)))
        self.shrink = <real>(control.learning_rate * self.weight_decay) if self.decoupled else <real>0
        self.parallel(0, self.chunks)
        return OK

    cdef void chunk(self, int phase, Py_ssize_t i, int thread) noexcept nogil:
        cdef Py_ssize_t start = i * CHUNK, n = min(CHUNK, self.size - start), j
        cdef const real* gradient = <real*>self.operand[0] + start
        cdef Control* control = <Control*>self.operand[1]
        cdef real* weight = <real*>self.operand[2] + start
        cdef real* m = <real*>self.operand[3] + start
        cdef real* v = <real*>self.operand[4] + start
        cdef real scale = <real>control.gradient_scale
        cdef real decay = <real>0 if self.decoupled else <real>self.weight_decay
        cdef real shrink = self.shrink, rate = self.rate, correction = self.correction, eps = <real>self.eps
        # 1 - beta in double: float 1 - 0.999f is off by 5e-5 of itself.
        cdef real beta2 = <real>self.beta2, rest1 = <real>(1 - self.beta1), rest2 = <real>(1 - self.beta2)
        cdef real g, w
        for j in range(n):
            w = weight[j]
            g = scale * gradient[j] + decay * w
            w -= shrink * w
            m[j] += rest1 * (g - m[j])
            v[j] = beta2 * v[j] + rest2 * g * g
            weight[j] = w - rate * m[j] / (SQRT(v[j]) * correction + eps)


cdef class SquareSum(Flat):
    """partial[offset + i] = sum of x^2 over chunk i, in double. Operands: x, partial.

    Many of these, one a weight, fill pieces of one array for ClipByNorm to add.
    """

    cdef Py_ssize_t offset

    def __init__(self, Py_ssize_t size, Py_ssize_t offset=0):
        super().__init__(size)
        self.operands = 2
        self.offset = offset

    cdef void chunk(self, int phase, Py_ssize_t i, int thread) noexcept nogil:
        cdef Py_ssize_t start = i * CHUNK, n = min(CHUNK, self.size - start), j, k
        cdef const real* x = <real*>self.operand[0] + start
        cdef double* partial = <double*>self.operand[1]
        cdef double sums[LANES]
        cdef double total = 0
        for k in range(LANES):
            sums[k] = 0
        for j in range(n // LANES):
            for k in range(LANES):
                sums[k] += <double>x[j * LANES + k] * <double>x[j * LANES + k]
        for j in range(n // LANES * LANES, n):
            total += <double>x[j] * <double>x[j]
        for k in range(LANES):
            total += sums[k]
        partial[self.offset + i] = total


cdef class ClipByNorm(Step):
    """control.gradient_scale = min(1, max_norm / (norm + 1e-6)), norm = sqrt(sum of the partial sums).

    As torch.nn.utils.clip_grad_norm_. Status NOT_FINITE if the norm is NaN or infinite: no factor makes such
    gradients fit for use, and no weight has changed yet.

    Operands: partial (count,) double, control.
    """

    cdef Py_ssize_t count
    cdef double max_norm

    def __init__(self, Py_ssize_t count, double max_norm):
        self.operands = 2
        self.count = count
        self.max_norm = max_norm

    cdef int run(self) noexcept nogil:
        cdef const double* partial = <double*>self.operand[0]
        cdef Control* control = <Control*>self.operand[1]
        cdef double total = 0, factor
        cdef Py_ssize_t i
        for i in range(self.count):
            total += partial[i]
        if not isfinite(total):
            return NOT_FINITE
        factor = self.max_norm / (sqrt(total) + 1e-6)
        control.gradient_scale = factor if factor < 1 else 1
        return OK


cdef class Advance(Step):
    """control.step += 1, and the count that outlives the plan gets the same. Last step of an update, so that
    the count tells exactly which updates are done, wherever a run is interrupted.

    Operands: control, count (1,) int64.
    """

    def __init__(self):
        self.operands = 2

    cdef int run(self) noexcept nogil:
        cdef Control* control = <Control*>self.operand[0]
        control.step += 1
        (<int64_t*>self.operand[1])[0] = control.step
        return OK
