"""joblib's tasks in sandboxes: scikit-learn's scores come home, models are refused by name."""

from __future__ import annotations

import os
from typing import Any

import joblib
import numpy
import pytest
from sklearn.datasets import load_iris
from sklearn.model_selection import cross_val_score, cross_validate
from sklearn.tree import DecisionTreeClassifier

from agentbay_kernel.errors import UnsupportedValueError
from agentbay_kernel.executor import SandboxExecutor
from agentbay_kernel.service import AgentBay


def model() -> Any:
    return DecisionTreeClassifier(random_state=0)


def test_cross_val_score_gives_the_same_scores(pool: SandboxExecutor) -> None:
    data, target = load_iris(return_X_y=True)
    here = cross_val_score(model(), data, target, cv=4)
    with joblib.parallel_config(backend="agentbay", executor=pool):
        there = cross_val_score(model(), data, target, cv=4)
        with pytest.raises(UnsupportedValueError, match=r"\['estimator'\] is a .*DecisionTree"):
            cross_validate(model(), data, target, cv=2, return_estimator=True)
        # The pool goes on.
        again = cross_val_score(model(), data, target, cv=4)
    assert numpy.array_equal(here, there) and numpy.array_equal(here, again)


@pytest.mark.parametrize("n_jobs", [None, 1, 2, -1])
def test_no_task_runs_here(pool: SandboxExecutor, n_jobs: int | None) -> None:
    # joblib itself runs a single job in this process.
    with joblib.parallel_config(backend="agentbay", executor=pool, n_jobs=n_jobs):
        pids = joblib.Parallel()(joblib.delayed(os.getpid)() for _ in range(6))
    assert os.getpid() not in pids and len(pids) == 6


def test_errors_and_order_are_as_usual(pool: SandboxExecutor) -> None:
    with joblib.parallel_config(backend="agentbay", executor=pool):
        with pytest.raises(ZeroDivisionError):
            joblib.Parallel()(joblib.delayed(lambda n: 1 // n)(n) for n in (1, 0, 2))
        rows = joblib.Parallel(n_jobs=2)(joblib.delayed(pow)(n, 2) for n in range(200))
        assert rows == [n * n for n in range(200)]
        later = joblib.Parallel(return_as="generator")(joblib.delayed(abs)(-n) for n in range(20))
        assert list(later) == list(range(20))


def test_a_call_without_a_pool_has_its_own_and_ends_it(service: AgentBay) -> None:
    before = len(list(service.list_all()))
    with joblib.parallel_config(backend="agentbay", n_jobs=1):
        assert joblib.Parallel()(joblib.delayed(abs)(n) for n in (-1, -2)) == [1, 2]
        with pytest.raises(ZeroDivisionError):
            joblib.Parallel()(joblib.delayed(divmod)(1, n) for n in (1, 0))
    assert len(list(service.list_all())) == before
