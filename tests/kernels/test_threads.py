"""Threads, fork, the choice of a build."""

import os
import subprocess
import sys
import threading

import numpy as np
import pytest

import cconv
from cconv.functional import conv2d
from cconv.kernels import builds
from cconv.kernels.core.threads import available_processors, get_num_threads, has_openmp, set_num_threads


def data(seed=0):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((4, 16, 24, 24), dtype=np.float32)
    return x, rng.standard_normal((32, 16, 3, 3), dtype=np.float32)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
def test_forked_child_does_not_hang_and_gets_the_same_bits():
    """The child computes with one thread what the parent computed with two; a hang ends after 60 s."""
    code = """
import os, sys
import numpy as np
import cconv
from cconv.functional import conv2d
rng = np.random.default_rng(0)
x = rng.standard_normal((4, 16, 24, 24), dtype=np.float32)
w = rng.standard_normal((32, 16, 3, 3), dtype=np.float32)
cconv.set_num_threads(2)
expected = conv2d(x, w, padding=1)
child = os.fork()
if child == 0:
    os._exit(0 if np.array_equal(conv2d(x, w, padding=1), expected) else 3)
_, status = os.waitpid(child, 0)
sys.exit(os.waitstatus_to_exitcode(status))
"""
    assert subprocess.run([sys.executable, "-c", code], timeout=60, check=False).returncode == 0


def test_two_python_threads_at_once():
    expected = [conv2d(*data(seed), padding=1) for seed in range(4)]
    found: dict[int, bool] = {}

    def work(seed):
        same = all(np.array_equal(conv2d(*data(seed), padding=1), expected[seed]) for _ in range(20))
        found[seed] = same

    workers = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(timeout=60)
    assert found == dict.fromkeys(range(4), True)


def test_number_of_threads():
    before = get_num_threads()
    try:
        set_num_threads(3)
        assert cconv.get_num_threads() == (3 if has_openmp() else 1)
        for wrong in (0, -1, 1.5, True, "2"):
            with pytest.raises(ValueError, match="whole number >= 1"):
                set_num_threads(wrong)
    finally:
        set_num_threads(before)
    assert 1 <= available_processors() <= (os.cpu_count() or 1)


def in_new_process(code, **environment):
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("build", builds())
def test_build_can_be_chosen(build):
    done = in_new_process("import cconv.kernels; print(cconv.kernels.FLOAT32.name)", CCONV_ISA=build)
    assert done.stdout.strip() == build


def test_unknown_build_is_refused():
    done = in_new_process("import cconv.kernels", CCONV_ISA="avx1024")
    assert done.returncode != 0
    assert "'avx1024' is not one of the builds that run here" in done.stderr


def test_environment_sets_the_number_of_threads():
    done = in_new_process("import cconv; print(cconv.get_num_threads())", OMP_NUM_THREADS="5")
    assert done.stdout.strip() == ("5" if has_openmp() else "1")
