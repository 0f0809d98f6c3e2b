# The interface between a kernel's class (compiled once) and its loops (compiled once per build).

# A compiled loop is a function that does the work of one chunk. `arguments` is the kernel's struct of sizes, `operand`
# the addresses of its operands, `scratch` the scratch memory of the thread that runs the chunk. A chunk must not write
# memory that another chunk of the same loop reads or writes.
ctypedef void (*chunk_loop)(const void* arguments, char** operand, Py_ssize_t chunk, char* scratch) noexcept nogil
