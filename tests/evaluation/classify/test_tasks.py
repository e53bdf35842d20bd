"""Tasks: the paper's by name, any choice of classes by their names."""

import pandas as pd
import pytest

from medi.core.errors import MediError
from medi.evaluation.classify.tasks import Task

TABLE = pd.DataFrame({"class": ["LUAD", "LUSC", "UCS", "LUAD"]})


def test_a_task_chooses_rows() -> None:
    assert Task.of("nsclc").rows(TABLE).tolist() == [True, True, False, True]
    assert Task.of("kidney").classes == ("KIRC", "KIRP", "KICH")
    assert Task.of(" UCS, LUAD,UCS").classes == ("UCS", "LUAD")
    assert Task.of("all").rows(TABLE).all()


def test_what_is_no_task_or_has_no_patch_is_refused() -> None:
    with pytest.raises(MediError, match="task 'LUAD': expected all, nsclc, uterine, kidney, or two classes or more"):
        Task.of("LUAD")
    with pytest.raises(MediError, match="task uterine: here has no patch of UCEC; its classes: LUAD, LUSC, UCS"):
        Task.of("uterine").check(TABLE, "here")
    Task.of("nsclc").check(TABLE, "here")
