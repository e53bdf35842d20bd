"""A study in parts that processes on any machines do: what comes before the models, each model, each share of samples.

Every part is one command, `medi run STUDY --out RUN --part NAME`, which goes on where it was killed. The last part is
the whole study: it finds the work of the others done, and does what is left.
"""

from collections.abc import Iterator
from pathlib import Path

from medi.core.errors import MediError, did_you_mean
from medi.core.files import safe_name
from medi.core.locks import locked, part_of
from medi.core.progress import Advance, Show
from medi.core.sharding import Shard
from medi.study.context import Study
from medi.study.settings import StudySettings
from medi.study.stages import Ahead, Run, Stage, usable
from medi.study.study import check, opened, road

PREPARE, MEASURE = "prepare", "measure"  # the first part and the last


def prepared(s: StudySettings) -> list[Stage[Study]]:
    """The stages that read nothing of what other processes make."""
    found, later = [], set[str]()
    for stage in road(s):
        if stage.ahead is not None or later & set(stage.reads):
            later.add(stage.name)
        else:
            found.append(stage)
    return found


def shared(s: StudySettings) -> Iterator[tuple[str, Stage[Study], str]]:
    """The parts that several processes do: name, stage, and item of the stage."""
    for stage in road(s):
        for item in stage.ahead.items if stage.ahead else ():
            yield "/".join(filter(None, (stage.name, item))), stage, item


def prepare(settings: StudySettings, out: Path, show: Show, redo: bool = False) -> None:
    """The first part: all stages that need no model."""
    check(settings)
    with locked(usable(out)):
        run = opened(settings, out, show, redo)
        study = Study(settings, out, show)
        for stage in prepared(settings):
            run.do(stage, study)
        for stage in (stage for stage in road(settings) if stage.ahead is not None):
            run.begin(stage)


def do_part(settings: StudySettings, out: Path, name: str, shard: Shard, advance: Advance, show: Show) -> None:
    """One of the shared parts, or a share of it. MediError for a name that is none, and before the first part is done.

    What needs another part, such as samples the model, says so where that is missing.
    """
    known = {part: (stage, item) for part, stage, item in shared(settings)}
    if name not in known:
        names = [PREPARE, *known, MEASURE]
        raise MediError(f"--part {name}: is no part; known: {', '.join(names)}{did_you_mean(name, names)}")
    stage, item = known[name]
    if not stage.ahead or (shard[1] > 1 and not stage.ahead.is_cut):
        raise MediError(f"--part {name} is not cut into shards; leave --shard out")
    run = opened(settings, usable(out), show, redo=False)
    if missing := [one.name for one in prepared(settings) if not run.is_done(one)]:
        raise MediError(f"{out}: {missing[0]} is not done; first run the same command with --part {PREPARE}")
    if run.is_done(stage):
        return
    with locked(out, f"{safe_name(name)}-{part_of(shard)}"):
        _work(stage.ahead, out, item, shard, advance)


def _work(ahead: Ahead, out: Path, item: str, shard: Shard, advance: Advance) -> None:
    cut = (shard,) if ahead.is_cut else ()
    ahead.worker(out, item, advance, *cut)


def done_parts(settings: StudySettings, run: Run) -> list[str]:
    """The names of the parts that have nothing to do."""
    first = [PREPARE] if all(run.is_done(stage) for stage in prepared(settings)) else []
    return first + [part for part, stage, _ in shared(settings) if run.is_done(stage)]
