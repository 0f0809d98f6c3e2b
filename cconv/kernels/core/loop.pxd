# What a kernel's class (compiled once) and its loops (compiled once per build) agree on.

# The work of one chunk. `arguments` is the kernel's struct of sizes, `operand` the addresses of its operands, `scratch` the
# memory of the thread that runs the chunk. A chunk writes nothing that another chunk of the same loop reads or writes.
ctypedef void (*chunk_loop)(const void* arguments, char** operand, Py_ssize_t chunk, char* scratch) noexcept nogil
