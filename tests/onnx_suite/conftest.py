"""The count at the end of a test run, by kind, and how long it took."""

from collections import Counter


def pytest_terminal_summary(terminalreporter):
    reports = [report for kind in ("passed", "failed") for report in terminalreporter.getreports(kind)]
    ours = [report for report in reports if "onnx_suite/test_suite.py::" in report.nodeid]
    if not any("::test_case[" in report.nodeid for report in ours):
        return
    from onnx_suite.suite import CASES, IN_SCOPE, PREVIEW

    passed = Counter(
        report.nodeid.split("[")[1].rstrip("]") for report in ours if report.passed and "::test_case[" in report.nodeid
    )
    write = terminalreporter.write_line
    terminalreporter.write_sep("-", "ONNX's test suite")
    for kind in dict.fromkeys(case.kind for case in CASES):
        scope = [case for case in IN_SCOPE if case.kind == kind]
        total = sum(case.kind == kind for case in CASES)
        count = sum(case.id in passed for case in scope)
        write(f"{kind}: {count:,} passed / {len(scope):,} in scope / {total - len(scope):,} left out")
    training = [case for case in CASES if case.trains]
    scope = [case for case in training if case.left_out is None]
    write(f"of these, {PREVIEW}: {sum(case.id in passed for case in scope)} passed / {len(training)}")
    light = [report for report in ours if "::test_light_model[" in report.nodeid]
    write(f"light: {sum(report.passed for report in light)} passed / {len(light)} in scope / 0 left out")
    write(
        f"all: {len(passed) + sum(report.passed for report in light):,} passed / {len(IN_SCOPE) + len(light):,} in "
        f"scope / {len(CASES) - len(IN_SCOPE):,} left out (left_out.py), in {sum(r.duration for r in ours):.0f} s"
    )
