"""Exit statuses of the command."""

OK, FAILED, ERROR, INTERRUPTED, PIPE_CLOSED = 0, 1, 2, 130, 141
