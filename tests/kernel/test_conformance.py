"""The community's conformance tests of a Jupyter kernel, for what these kernels implement."""

from __future__ import annotations

import os
import unittest

import pytest
from jupyter_kernel_test import IopubWelcomeTests, KernelTests, validate_message


@pytest.fixture(autouse=True, scope="module")
def _local_runtime() -> object:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(os.environ, "AGENTBAY_BACKEND", "local")
        yield


# What JavaScript has no counterpart of. Named here, so that no skip hides a failure.
NOT_IN_JAVASCRIPT = ("test_pager",)


class _OnLocalRuntime(KernelTests):  # type: ignore[misc]
    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        # The first cell has an output more than others: it says where it runs.
        cls.kc.execute_interactive("1", timeout=60)

    def flush_channels(self) -> None:
        """Read what is left of earlier requests; theirs waits for 0.2 s each time."""
        asked = self.kc.kernel_info()
        for get, last in (
            (self.kc.get_shell_msg, "kernel_info_reply"),
            (self.kc.get_iopub_msg, "idle"),
        ):
            ended = False
            while not ended:
                message = get(timeout=60)
                validate_message(message)
                kinds = (message["msg_type"], message["content"].get("execution_state"))
                ended = message["parent_header"].get("msg_id") == asked and last in kinds


class TestAgentBayPython(_OnLocalRuntime, unittest.TestCase):
    """kernelspec/agentbay-python."""

    kernel_name = "agentbay-python"
    language_name = "python"
    file_extension = ".py"
    code_hello_world = "print('hello, world')"
    code_stderr = "import sys; print('test', file=sys.stderr)"
    complete_code_samples = ["1", "print('hello')", "def f(x):\n  return x*2\n\n"]
    incomplete_code_samples = ["print('''hello", "def f(x):\n  x*2", "for i in range(3):"]
    invalid_code_samples = ["import = 7q"]
    code_generate_error = "raise ValueError('on purpose')"
    completion_samples = [
        {"text": "import zipi", "matches": {"zipimport"}},
        {"text": "from unittest.mo", "matches": {"unittest.mock"}},
    ]
    code_inspect_sample = "print"
    code_page_something = "print?"
    code_clear_output = "from IPython.display import clear_output; clear_output()"
    code_history_pattern = "1?2*"
    supported_history_operations = ("tail", "range", "search")
    code_execute_result = [
        {"code": "1+2+3", "result": "6", "mime": "text/plain"},
        {"code": "[n*n for n in range(1, 4)]", "result": "[1, 4, 9]", "mime": "text/plain"},
    ]
    code_display_data = [
        {
            "code": "from IPython.display import HTML, display; display(HTML('<b>test</b>'))",
            "mime": "text/html",
        },
        {
            "code": "from IPython.display import Math, display; display(Math('\\\\frac{1}{2}'))",
            "mime": "text/latex",
        },
    ]


class TestAgentBayPythonWelcome(IopubWelcomeTests, unittest.TestCase):  # type: ignore[misc]
    """The welcome message of the iopub channel."""

    kernel_name = "agentbay-python"
    support_iopub_welcome = True


class TestAgentBayJavaScript(_OnLocalRuntime, unittest.TestCase):
    """kernelspec/agentbay-javascript."""

    kernel_name = "agentbay-javascript"
    language_name = "javascript"
    file_extension = ".js"
    code_hello_world = "console.log('hello, world')"
    code_stderr = "console.error('test')"
    complete_code_samples = ["1", "console.log('hello')", "function f(x) {\n  return x*2\n}"]
    incomplete_code_samples = ["f(", "function f(x) {", "const text = `hello"]
    invalid_code_samples = ["let = = 7", "1 ) 2"]
    code_generate_error = "throw new TypeError('on purpose')"
    code_execute_result = [
        {"code": "1+2+3", "result": "6", "mime": "text/plain"},
        {"code": "[1, 2, 3].map(n => n*n)", "result": "[ 1, 4, 9 ]", "mime": "text/plain"},
    ]
    completion_samples = [
        {"text": "JSON.pars", "matches": {"parse"}},
        {"text": "const path = require('path/pos", "matches": {"path/posix"}},
    ]
    code_inspect_sample = "structuredClone"
    code_clear_output = "display.clear()"
    code_history_pattern = "1?2*"
    supported_history_operations = ("tail", "range", "search")
    code_display_data = [
        {"code": "display.html('<b>test</b>')", "mime": "text/html"},
        {"code": "display({'text/latex': '$x$'}, {raw: true})", "mime": "text/latex"},
    ]


for _name in NOT_IN_JAVASCRIPT:
    setattr(TestAgentBayJavaScript, _name, None)

# The base classes are no tests themselves.
del KernelTests, IopubWelcomeTests, _OnLocalRuntime, _name
