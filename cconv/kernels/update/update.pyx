"""Updates: weight, gradient and state in one pass, and the global norm of all gradients.

The rules are the lines of a table, update.h. An optimizer is such a line and a class in cconv/train/optim. Each step
multiplies the gradient by control.gradient_scale as it reads it: clipping costs no pass of its own.
Parallel over flat chunks of UPDATE_CHUNK elements: elements are independent.
"""

from libc.math cimport isfinite, sqrt
from libc.stdint cimport int64_t, uintptr_t

from cconv.kernels.core.build cimport Build, ceil_div
from cconv.kernels.core.control cimport Control
from cconv.kernels.core.step cimport NOT_FINITE, OK, Step
from cconv.kernels.update.update cimport (
    MOST_CONSTANTS, UPDATE_CHUNK, square_arguments, update_arguments, update_prepare,
)


def rules(Build build):
    """Names of the rules of update.h, with the number of slots of each."""
    return {name: row[0] for name, row in build.table("update", "RULES").items()}


cdef class Update(Step):
    """A step that moves a weight along its gradient by a rule of update.h.

    Args:
        build: whose loops run.
        rule: its name, such as "adam".
        size: elements of the weight.
        options: numbers that the rule reads, in its order.

    Operands: gradient (size,), control, learning rate (1,) double, weight (size,), and the rule's slots (size,).

    Raises:
        ValueError: no such rule, a negative size, too many options.
    """

    cdef update_arguments sizes
    cdef update_prepare prepare
    cdef double options[MOST_CONSTANTS]

    def __init__(self, Build build, str rule, Py_ssize_t size, options=()):
        table = build.table("update", "RULES")
        if rule not in table:
            raise ValueError(f"no rule {rule!r}; there are {', '.join(table)}")
        if size < 0:
            raise ValueError(f"Update: size >= 0; found {size}")
        if len(options) > MOST_CONSTANTS:
            raise ValueError(f"Update: at most {MOST_CONSTANTS} options; found {len(options)}")
        slots, prepare, loop = table[rule]
        self.operands = 4 + slots
        self.loop = build.loop("update", "update")
        self.arguments = &self.sizes
        self.chunks = ceil_div(size, UPDATE_CHUNK)
        self.sizes.size, self.sizes.slots = size, slots
        self.sizes.loop = <void*><uintptr_t>loop
        self.prepare = <update_prepare><uintptr_t>prepare
        for i, option in enumerate(options):
            self.options[i] = option

    cdef int run(self) noexcept nogil:
        cdef Control* control = <Control*>self.operand[1]
        cdef double rate = (<double*>self.operand[2])[0]
        self.prepare(self.options, rate, <double>(control.step + 1), self.sizes.constants)
        self.sizes.factor = control.gradient_scale
        self.run_chunks(self.loop, self.chunks)
        return OK


cdef class SquareSum(Step):
    """partial[offset + i] = sum of x^2 over chunk i, in double. Operands: x (size,), partial.

    One for each weight fills its piece of one array, which ClipByNorm adds up.

    Raises:
        ValueError: a negative size.
    """

    cdef square_arguments sizes

    def __init__(self, Build build, Py_ssize_t size, Py_ssize_t offset=0):
        if size < 0:
            raise ValueError(f"SquareSum: size >= 0; found {size}")
        self.operands = 2
        self.loop = build.loop("update", "square_sum")
        self.arguments = &self.sizes
        self.chunks = ceil_div(size, UPDATE_CHUNK)
        self.sizes.size, self.sizes.offset = size, offset


cdef class ClipByNorm(Step):
    """control.gradient_scale = min(1, max_norm / (norm + 1e-6)), norm = sqrt(sum of the partial sums).

    As torch.nn.utils.clip_grad_norm_. Status NOT_FINITE if the norm is NaN or infinite: no factor makes such gradients
    usable, and no weight has changed yet.

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
    """control.step += 1, and the count that outlives the plan gets the same value. It is the last step of an update, so
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
