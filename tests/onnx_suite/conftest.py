"""The count at the end of a test run."""

from collections import Counter


def pytest_terminal_summary(terminalreporter):
    reports = [report for kind in ("passed", "failed") for report in terminalreporter.getreports(kind)]
    tried = [report for report in reports if "onnx_suite/test_suite.py::test_case[" in report.nodeid]
    results = {report.nodeid: report.outcome for report in tried}
    if not results:
        return
    from onnx_suite.suite import CASES, IN_SCOPE

    kinds = Counter(case.kind for case in CASES)
    passed = Counter(name.split("[")[1].split("-")[0] for name, outcome in results.items() if outcome == "passed")
    terminalreporter.write_sep("-", "ONNX's test suite")
    terminalreporter.write_line(
        f"{sum(passed.values()):,} passed / {len(IN_SCOPE):,} in scope / {len(CASES) - len(IN_SCOPE):,} left out "
        f"(left_out.py); node cases: {passed['node']:,} of {kinds['node']:,} passed"
    )
