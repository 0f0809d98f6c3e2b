"""Which algorithm runs: the built-in rule, tables, what is refused, and that threads have no say in it."""

import dataclasses
import json
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import cconv
from cconv import nn
from cconv.errors import CconvError, ScheduleError
from cconv.kernels import FLOAT32, FLOAT64
from cconv.kernels.schedule import algorithms, tuned
from cconv.kernels.schedule.algorithms import (
    MEASURED,
    PRECISIONS,
    ROLES,
    algorithm,
    builtin,
    candidates,
    implementation,
)
from convolutions import algorithms_of, geometry
from harness import ALL_BUILDS, THREADS

SQUARE = geometry(16, 64, 64, 1, (14, 14), (3, 3), pad=1)
DEPTHWISE = geometry(16, 48, 48, 48, (9, 9), (3, 3), pad=1)


def choice(role="forward", g=SQUARE, fast="conv_direct", direct="conv_direct"):
    return tuned.Choice(role, g, {"fast": fast, "direct": direct}, {fast: 1.0})


def table(*choices, build=FLOAT32.name):
    return tuned.Table("0.1.0", build, "a processor", 2, "2026-01-31", choices)


@pytest.fixture(autouse=True)
def afresh(monkeypatch):
    """Each test, and what comes after them, reads CCONV_SCHEDULE anew."""
    monkeypatch.delenv(algorithms.VARIABLE, raising=False)
    forget()
    yield
    monkeypatch.undo()
    forget()


def forget():
    algorithms.named_table.cache_clear()
    algorithms.in_force.cache_clear()


@pytest.fixture
def name(tmp_path, monkeypatch):
    """A function that names a table, or any text, in CCONV_SCHEDULE; returns the file."""

    def put(content):
        path = tmp_path / "schedule.json"
        path.write_bytes(content if isinstance(content, bytes) else tuned.to_json(content).encode())
        monkeypatch.setenv(algorithms.VARIABLE, str(path))
        forget()
        return path

    return put


# The built-in rule.


def test_rules():
    for role in ROLES:
        assert builtin(DEPTHWISE, role) == builtin(DEPTHWISE, role, "direct") == "conv_depthwise"
        assert builtin(SQUARE, role).startswith("conv_winograd")
        assert builtin(SQUARE, role, "direct") == algorithms.DIRECT[role]
    for other in (
        geometry(1, 32, 32, 1, (9, 9), (3, 3), stride=2, pad=1),
        geometry(1, 32, 32, 1, (9, 9), (3, 3), dilation=2, pad=2),
        geometry(1, 32, 32, 1, (9, 9), (5, 5), pad=2),
        geometry(1, 64, 64, 2, (9, 9), (3, 3), pad=1),
        geometry(1, 40, 32, 1, (9, 9), (3, 3), pad=1),  # not whole vectors on all builds
        geometry(16, 16, 64, 1, (9, 14), (3, 3), pad=1),  # few channels on a small map
        geometry(16, 32, 64, 1, (4, 4), (3, 3), pad=1),
        geometry(1, 512, 512, 1, (7, 7), (3, 3), pad=1),  # few tiles
        geometry(16, 128, 128, 1, (5, 5), (3, 3), pad=1),  # tiles half empty
    ):
        assert [builtin(other, role) for role in ROLES] == ["conv_direct", "conv_direct", "conv_weight"], other


def test_few_channels_are_scattered():
    """Of an input gradient, and more of them where the border is much of the map; see scatter_saves."""
    few = geometry(32, 6, 16, 1, (14, 14), (5, 5))
    for precision in PRECISIONS:
        assert [builtin(few, role, precision) for role in ROLES] == ["conv_direct", "conv_scatter", "conv_weight"]
    assert builtin(geometry(16, 64, 64, 1, (12, 12), (5, 5)), "input_gradient") == "conv_scatter"
    for other in (
        geometry(16, 64, 64, 1, (12, 12), (5, 5), pad=2),
        geometry(16, 8, 8, 1, (56, 56), (3, 3), pad=1),
        geometry(16, 32, 64, 1, (32, 32), (2, 2), 2),
        geometry(16, 6, 16, 1, (14, 14), (5, 5), dilation=2),
        geometry(2, 6, 16, 1, (9, 14, 14), (3, 5, 5)),
        geometry(0, 6, 16, 1, (14, 14), (1, 1)),
    ):
        assert builtin(other, "input_gradient") == "conv_direct", other


def test_few_outputs_are_computed_for_several_pixels_at_once():
    """Where a build's vectors have room for them, and the kernel is wide enough to pay for it."""
    few = geometry(4, 64, 3, 1, (64, 64), (3, 3), pad=1)
    for build in ALL_BUILDS:
        wide = "conv_abreast" if implementation("conv_abreast").saves(build, few) >= algorithms.ABREAST_PAYS else ""
        assert bool(wide) == (build.name in ("avx512", "avx2"))
        for precision in PRECISIONS:
            found = [builtin(few, role, precision, build) for role in ("forward", "weight_gradient")]
            assert found == [wide or "conv_direct", wide or "conv_weight"]
            for other in (
                geometry(4, 64, 3, 1, (64, 64), (1, 1)),
                geometry(4, 64, 3, 1, (61, 61), (3, 3), pad=1),
                geometry(4, 63, 3, 3, (64, 64), (3, 3), pad=1),
                geometry(4, 64, 3, 1, (64, 64), (3, 3), pad=2, dilation=2),
            ):
                assert builtin(other, "forward", precision, build) == "conv_direct", other


def test_without_a_table_the_rule_is_followed():
    for g in (SQUARE, DEPTHWISE):
        for role in ROLES:
            for precision in PRECISIONS:
                assert algorithm(g, role, precision) == builtin(g, role, precision)


@pytest.mark.parametrize("row", MEASURED, ids=lambda row: f"{row.processor}-{row.channels}-{row.size}")
def test_no_choice_costs_more_than_a_tenth(row):
    """Of what was measured."""
    g = geometry(16, row.channels, row.channels, 1, (row.size, row.size), (3, 3), pad=1)
    for role in ROLES:
        direct, winograd = row.weight_gradient if role == "weight_gradient" else row.forward
        taken = winograd if builtin(g, role) == algorithms.WINOGRAD[role] else direct
        assert taken <= 1.1 * min(direct, winograd), role


@given(
    st.sampled_from([(1, 1, 1), (3, 8, 1), (8, 8, 1), (16, 32, 1), (40, 48, 1), (32, 32, 2), (24, 24, 24), (6, 12, 6)]),
    st.sampled_from([(1, 1), (3, 3), (3, 1)]),
    st.sampled_from([(6, 6), (7, 16), (20, 5)]),
    st.sampled_from([1, 2]),
)
def test_candidates_can_compute(channels, kernel, size, stride):
    """Each is constructed by every build, and the built-in choice is among them."""
    c, k, groups = channels
    g = geometry(2, c, k, groups, size, kernel, stride, pad=1)
    for build in ALL_BUILDS:
        for role in ROLES:
            for precision in PRECISIONS:
                found = candidates(g, role, precision, build)
                assert builtin(g, role, precision, build) in found
                assert precision == "fast" or not any("winograd" in one for one in found)
                for one in found:
                    kernels = implementation(one)
                    if role == "weight_gradient":
                        kernels.WeightGradient(build, g)
                    else:
                        kernels.Pack(build, g, role)
                        kernels.Gather(build, g, role)


# Tables.


def test_a_table_is_followed(name):
    name(
        table(
            choice(),
            choice("weight_gradient", fast="conv_winograd_weight", direct="conv_weight"),
            choice("input_gradient", DEPTHWISE, "conv_direct", "conv_direct"),
        )
    )
    assert algorithm(SQUARE, "forward") == "conv_direct" != builtin(SQUARE, "forward")
    assert algorithm(SQUARE, "forward", "direct") == "conv_direct"
    assert algorithm(SQUARE, "weight_gradient", "direct") == "conv_weight"
    assert algorithm(DEPTHWISE, "input_gradient") == algorithm(DEPTHWISE, "input_gradient", "direct") == "conv_direct"
    # What it does not know, and what another build computes, follows the rule.
    assert algorithm(SQUARE, "input_gradient") == "conv_winograd"
    assert algorithm(dataclasses.replace(SQUARE, pad=(0, 0, 1)), "forward") == "conv_winograd"
    assert algorithm(SQUARE, "forward", build=FLOAT64) == "conv_winograd"


def test_a_choice_holds_for_batches_near_its_own():
    def at(n):
        return dataclasses.replace(SQUARE, batch=n)

    one = table(choice(g=at(16)))
    assert [n for n in range(80) if one.find(at(n), "forward")] == list(range(4, 65))
    assert one.find(at(16), "input_gradient") is None
    two = table(choice(g=at(32)), choice(g=at(8), fast="conv_winograd"))
    assert [two.find(at(n), "forward").geometry.batch for n in (2, 8, 15, 16, 17, 40)] == [8, 8, 8, 8, 32, 32]


def test_a_table_survives_the_file(name):
    before = table(choice(), choice("weight_gradient", DEPTHWISE, "conv_depthwise", "conv_weight"))
    path = name(before)
    assert tuned.read(path) == dataclasses.replace(before, choices=list(before.choices), path=str(path))
    empty = name(table())
    assert tuned.read(empty).choices == []


def test_a_table_is_read_once(name):
    path = name(table(choice()))
    assert algorithm(SQUARE, "forward") == "conv_direct"
    path.unlink()
    assert algorithm(SQUARE, "forward") == "conv_direct"


def damaged(**changes):
    """A table's text with some of its fields replaced; None: left out."""
    fields = {**json.loads(tuned.to_json(table(choice()))), **changes}
    return json.dumps({key: value for key, value in fields.items() if value is not None}).encode()


def choice_with(**changes):
    fields = {**json.loads(tuned.to_json(table(choice())))["choices"][0], **changes}
    return damaged(choices=[fields])


def geometry_with(**changes):
    fields = json.loads(tuned.to_json(table(choice())))["choices"][0]["geometry"]
    return choice_with(geometry={**fields, **changes})


BAD = {
    "empty": (b"", "must be JSON"),
    "cut off": (tuned.to_json(table(choice())).encode()[:-20], "must be JSON"),
    "not UTF-8": (b"\xff\xfe\x00", "must be JSON"),
    "nested beyond reason": (b"[" * 100_000, "must be JSON"),
    "another kind of file": (b"[1, 2]", "must have schema 1, .*; found schema None"),
    "another schema": (damaged(schema=2), "must have schema 1, .*; found schema 2"),
    "a field missing": (damaged(processor=None), "the table must have the fields schema, cconv"),
    "a field too many": (damaged(parameters={}), "the table must have the fields .*; found .*parameters"),
    "threads no number": (damaged(threads=True), "threads of the table must be of type int; found True"),
    "choices no list": (damaged(choices={}), "choices of the table must be of type list"),
    "a choice of another kind": (damaged(choices=[1]), "choice 0 must have the fields role.*; found int"),
    "a pass unknown": (choice_with(role="backward"), "a choice must be for forward, .*; found 'backward'"),
    "a precision missing": (choice_with(algorithms={"fast": "conv_direct"}), "with algorithms for fast and direct"),
    "algorithms no names": (choice_with(algorithms={"fast": 1, "direct": 2}), "algorithms of choice 0 must be names"),
    "ms no numbers": (choice_with(ms={"conv_direct": "1"}), "ms of choice 0 must be numbers"),
    "a size no number": (geometry_with(channels="64"), "channels of the geometry of choice 0 must be of type int"),
    "two axes": (geometry_with(pad=[1, 1]), "pad of the geometry of choice 0 must be three integers"),
    "groups that do not divide": (geometry_with(groups=7), "geometry of choice 0 must be a valid convolution"),
    "no batch": (geometry_with(batch=0), "must have a batch, channels and outputs of at least 1"),
    "an algorithm unknown": (choice_with(algorithms={"fast": "os", "direct": "conv_direct"}), "; found os"),
    "an algorithm of another pass": (
        choice_with(algorithms={"fast": "conv_weight", "direct": "conv_direct"}),
        r"the forward of ConvGeometry\(batch=16, .*, fast, can be computed by conv_direct or conv_winograd; "
        r"found conv_w",
    ),
    "Winograd where precision is direct": (
        choice_with(algorithms={"fast": "conv_winograd", "direct": "conv_winograd"}),
        "direct, can be computed by conv_direct; found conv_winograd",
    ),
    "Winograd for 5x5": (
        geometry_with(kernel=[1, 5, 5], pad=[0, 2, 2]).replace(b'"fast": "conv_direct"', b'"fast": "conv_winograd"'),
        "fast, can be computed by conv_direct; found conv_winograd",
    ),
    "Winograd where it is not accurate": (
        geometry_with(input=[1, 3, 3], output=[1, 3, 3]).replace(b'"fast": "conv_direct"', b'"fast": "conv_winograd"'),
        "fast, can be computed by conv_direct; found conv_winograd",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_no_table_is_refused(name, case):
    content, message = BAD[case]
    path = name(content)
    with pytest.raises(ScheduleError, match=message) as caught:
        algorithm(SQUARE, "forward")
    assert isinstance(caught.value, CconvError)
    assert str(caught.value).startswith(f"schedule '{path}': ")
    assert str(caught.value).endswith("Create the table again with tools/tune.py, or unset CCONV_SCHEDULE.")


def test_two_choices_for_one_pass_are_refused(name):
    fields = json.loads(tuned.to_json(table(choice())))
    name(json.dumps({**fields, "choices": 2 * fields["choices"]}).encode())
    with pytest.raises(ScheduleError, match="must have one choice for a pass; found two for the forward of ConvGeom"):
        algorithm(SQUARE, "forward")


@pytest.mark.parametrize("missing", ["nowhere.json", "."])
def test_a_file_that_cannot_be_read_is_refused(tmp_path, monkeypatch, missing):
    monkeypatch.setenv(algorithms.VARIABLE, str(tmp_path / missing))
    with pytest.raises(ScheduleError, match=r"must be a file that can be read; found (No such file|Is a directory)"):
        algorithm(SQUARE, "forward")


def test_the_first_plan_is_refused_until_the_table_is_mended(name):
    x, w = np.ones((1, 2, 5, 5), np.float32), np.ones((3, 2, 3, 3), np.float32)
    path = name(b"{")
    model = nn.Conv2d(2, 3, 3).build((2, 5, 5))
    for _ in range(2):
        with pytest.raises(ScheduleError):
            cconv.conv2d(x, w)
        with pytest.raises(ScheduleError):
            model.run(x)
    path.write_text(tuned.to_json(table()))
    assert cconv.conv2d(x, w).shape == model.run(x).shape == (1, 3, 3, 3)


def test_another_builds_table_is_left_aside_with_one_warning(name):
    path = name(table(choice(), build="another"))
    with pytest.warns(UserWarning, match=rf"'{path}': applies only to the build it was tuned for, .*; found another\."):
        assert algorithm(SQUARE, "forward") == "conv_winograd"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert algorithm(SQUARE, "forward") == "conv_winograd"
    assert algorithms.describe().startswith(f"built in, not {path}: 1 choices, another on a processor")


def test_show_versions_tells_the_schedule(name, capsys):
    def line():
        cconv.show_versions()
        return next(line for line in capsys.readouterr().out.splitlines() if line.startswith("schedule"))

    assert line().split(maxsplit=1)[1] == "built in"
    path = name(table(choice()))
    assert line().split(maxsplit=1)[1] == f"{path}: 1 choices, {FLOAT32.name} on a processor, 2026-01-31"
    name(b"{")
    assert f"none. schedule '{path}': must be JSON" in line()


# Whole networks.


def network():
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(),
        nn.Conv2d(32, 32, 3, padding=1, groups=32), nn.Conv2d(32, 32, 3, padding=1), nn.ReLU(),
        nn.GlobalAvgPool(), nn.Flatten(), nn.Linear(32, 4),
    ).build((3, 15, 14), seed=1)  # fmt: skip


def trained(threads):
    """All weights after two steps, and the algorithms of the plan's convolutions."""
    model = network()
    trainer = cconv.Trainer(model, threads=threads, seed=2)
    rng = np.random.default_rng(0)
    for _ in range(2):
        trainer.step(rng.standard_normal((6, 3, 15, 14), np.float32), rng.integers(0, 4, 6))
    plan = trainer._network.training({model.input_names[0]: (6, 3, 15, 14)})
    used = algorithms_of(type(step).__module__ for step in plan.memory.program.steps)
    return {name: array.copy() for name, array in model.weights.items()}, used


def other_table():
    """For each pass of the network the algorithm that the rule does not choose, where there is one."""
    found = []
    for c, k, groups in ((3, 16, 1), (16, 32, 1), (32, 32, 32), (32, 32, 1)):
        g = geometry(6, c, k, groups, (15, 14), (3, 3), pad=1)
        for role in ROLES:
            others = [one for one in candidates(g, role) if one != builtin(g, role)]
            if others:
                found.append(choice(role, g, others[0], candidates(g, role, "direct")[0]))
    return table(*found)


def test_same_choices_and_bits_at_any_number_of_threads(name):
    three = {"conv_winograd", "conv_winograd_weight", "conv_depthwise"}
    by_rule, used = trained(1)
    assert three <= set(used)
    for threads in THREADS[1:]:
        weights, same = trained(threads)
        assert same == used
        assert all(np.array_equal(weights[key], by_rule[key]) for key in weights)

    name(other_table())
    by_table, used = trained(1)
    assert not three & set(used)
    assert any(not np.array_equal(by_table[key], by_rule[key]) for key in by_rule)
    for threads in THREADS[1:]:
        weights, same = trained(threads)
        assert same == used
        assert all(np.array_equal(weights[key], by_table[key]) for key in weights)
