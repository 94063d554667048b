"""Grading: run submissions in sandboxes, and judge here what they return.

A file of checks is Python of the teacher's:

    from agentbay_kernel.grading import points, same

    @points(2)
    def check_median(submission):
        values = [submission.random.randint(-99, 99) for _ in range(5)]
        assert same(submission.call("median", values), sorted(values)[2])

A submission gets inputs and never the expected values. What it returns is data when it arrives
(`agentbay_kernel.exchange`), so no object of its own is compared with anything.
"""

from agentbay_kernel.grading.checks import Check, load_checks, points
from agentbay_kernel.grading.comparison import same
from agentbay_kernel.grading.grader import Grade, Grader, Verdict
from agentbay_kernel.grading.report import Report
from agentbay_kernel.grading.sources import Source, find_submissions
from agentbay_kernel.grading.submission import Submission, SubmissionError

__all__ = [
    "Check",
    "Grade",
    "Grader",
    "Report",
    "Source",
    "Submission",
    "SubmissionError",
    "Verdict",
    "find_submissions",
    "load_checks",
    "points",
    "same",
]
