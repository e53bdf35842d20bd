"""Two nodes that see one folder through a slow mount, and remember for seconds what they saw (P3, P4, P15).

`make test-mount` runs them. A node is a process under a host name of its own, on a mount of its own.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from medi.core.files import file_hash, read_json
from medi.core.tensors import header_of
from small_cohorts import write_cohorts, write_model

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif("MEDI_MOUNT" not in os.environ, reason="no part of `make test`; `make test-mount` runs it"),
]
DELAY, STALE = 0.005, 3.0  # seconds before every call, and for which names are remembered
STUDY = {
    "title": "on a slow mount",
    "cohort": {"size": 32, "patches": 200},
    "holdout": {"rate": 0.3, "min_patients": 1},
    "network": {"size": 32, "fold": 4, "channels": [16, 16], "layers": 1},
    "training": {"images": 320, "batch": 16, "save_every": 160},
    "plan": {"to": 8, "minimum": 8},
    "sampling": {"steps": 2, "batch": 32},
    "evaluation": {"patches": 10, "patches_per_slide": 5, "distance_images": 8, "arms": ["none"]},
}
IN_TURN = """
import sys, time
from pathlib import Path
from medi.core.errors import MediError
from medi.core.locks import locked

def wait(moment):
    while time.time() < moment:
        time.sleep(0.0005)

for i in range(int(sys.argv[3])):
    folder, moment = Path(sys.argv[1]) / str(i), float(sys.argv[2]) + 5 * i
    wait(moment - 0.5)
    assert not any((folder / name).exists() for name in (".medi-lock", ".medi-lock-0-of-2"))  # remembered from now on
    wait(moment)
    try:
        with locked(folder, sys.argv[4]):
            time.sleep(4)
            print("had", i)
    except MediError as error:
        print("refused" if "is in use by" in str(error) else str(error), i)
"""


@dataclass(frozen=True)
class Node:
    """A host name, and where this host sees the shared folder."""

    name: str
    home: Path

    def begin(self, *command: object) -> "subprocess.Popen[str]":
        """Run Python with these arguments on this node."""
        named = ["unshare", "--uts", "sh", "-c", f'hostname {self.name} && exec "$@"', "sh", sys.executable]
        words = [*named, *map(str, command)]
        return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=self.home)

    def medi(self, *arguments: object) -> "subprocess.Popen[str]":
        return self.begin("-m", "medi.cli", *arguments)


def said(process: "subprocess.Popen[str]", code: int = 0) -> str:
    shown = process.communicate(timeout=600)[0]
    assert process.returncode == code, shown
    return shown


def until(reached: Callable[[], object], seconds: float = 120) -> None:
    limit = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < limit, "waited for too long"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder itself, on the local disk."""
    return tmp_path_factory.mktemp("shared")


@pytest.fixture(scope="module")
def nodes(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Node, Node]]:
    pytest.importorskip("mfusepy", reason="FUSE is not installed (Debian: fuse3)", exc_type=(ImportError, OSError))
    if not os.access("/dev/fuse", os.W_OK) or os.geteuid() or shutil.which("unshare") is None:
        pytest.skip("this machine lets no test mount a folder, or rename a host")
    made = [Node(f"node-{letter}", tmp_path_factory.mktemp(letter)) for letter in "ab"]
    script = Path(__file__).with_name("delayed.py")
    times = ("--delay", str(DELAY), "--stale", str(STALE))
    mounts = [subprocess.Popen([sys.executable, script, shared, node.home, *times]) for node in made]
    until(lambda: all(os.path.ismount(node.home) for node in made))
    yield made[0], made[1]
    for node, mount in zip(made, mounts):
        subprocess.run(["umount", "--lazy", node.home], check=True)
        mount.wait(60)


def test_a_node_remembers_what_it_saw(nodes: tuple[Node, Node]) -> None:
    """The mounts are as bad as they should be."""
    first, second = nodes
    began = time.monotonic()
    assert not (second.home / "new").exists()
    (first.home / "new").write_text("x")
    assert not (second.home / "new").exists(), "though it is there"
    until(lambda: (second.home / "new").exists(), 3 * STALE)
    assert time.monotonic() - began > STALE


def at_once(nodes: tuple[Node, Node], folder: Path, parts: tuple[str, str], count: int = 8) -> list[set[str]]:
    """What both nodes said of each of these folders, which they lock at the same moment, whole or in part."""
    for i in range(count):
        (folder / str(i)).mkdir(parents=True)
    start = time.time() + 8  # both processes have started by then
    homes = [node.home / folder.name for node in nodes]
    both = [node.begin("-c", IN_TURN, home, start, count, part) for node, home, part in zip(nodes, homes, parts)]
    lines = [said(process).splitlines() for process in both]
    assert [line.split()[-1] for line in lines[0]] == [line.split()[-1] for line in lines[1]]
    return [{line.split()[0] for line in pair} for pair in zip(*lines)]


def test_of_two_nodes_that_lock_a_folder_at_once_one_has_it(nodes: tuple[Node, Node], shared: Path) -> None:
    found = at_once(nodes, shared / "locks", ("", ""))
    assert found == [{"had", "refused"}] * 8


def test_of_the_whole_and_a_part_at_once_not_both_are_had(nodes: tuple[Node, Node], shared: Path) -> None:
    found = at_once(nodes, shared / "parts", ("", "0-of-2"))
    assert {"had"} not in found
    assert len(found) == 8


def test_shards_of_two_nodes_are_the_images_of_one(nodes: tuple[Node, Node], shared: Path, tmp_path: Path) -> None:
    write_model(shared / "m")
    (shared / "plan.csv").write_text("class,site,n\nLUAD,NA,20\nLUSC,X,20\n")
    command = ("sample", "m", "plan.csv", "--steps", 2, "--batch", 8, "--out")
    both = [node.medi(*command, "s", "--shard", f"{i}/2") for i, node in enumerate(nodes)]
    for process in both:
        said(process)
    time.sleep(STALE)
    assert "sampled: 40 images" in said(nodes[1].medi(*command, "s"))
    assert "sampled: 40 images" in said(Node("node-c", shared).medi(*command, tmp_path / "whole"))
    assert file_hash(shared / "s" / "pixels.npy") == file_hash(tmp_path / "whole" / "pixels.npy")


def test_a_killed_training_goes_on_at_its_node_and_not_at_another(nodes: tuple[Node, Node], shared: Path) -> None:
    """P4, P15. From the other node a lock that was renewed in the last ten minutes looks alive."""
    write_cohorts(shared / "cohorts")
    command = ("train", "cohorts/real", "--preset", "tiny", "--images", 3200, "--out")
    running = nodes[0].medi(*command, "t")
    state = shared / "t" / "state.safetensors"
    until(lambda: state.exists() and header_of(state)["images"] > 0)
    running.send_signal(signal.SIGKILL)
    running.communicate()
    assert header_of(state)["images"] < 3200
    assert "is in use by process" in said(nodes[1].medi(*command, "t"), 2)
    said(nodes[0].medi(*command, "t"))
    said(Node("node-c", shared).medi(*command, "u"))
    assert file_hash(shared / "t" / "model.safetensors") == file_hash(shared / "u" / "model.safetensors")


def test_a_study_has_the_results_of_a_local_disk(nodes: tuple[Node, Node], shared: Path) -> None:
    (shared / "study.yaml").write_text(yaml.safe_dump(STUDY))
    for node, name in ((nodes[0], "run"), (Node("node-c", shared), "plain")):
        began = time.monotonic()
        said(node.medi("run", "study.yaml", "--out", name))
        print(f"{name}: {time.monotonic() - began:.0f} s")
    assert read_json(shared / "run" / "results.json") == read_json(shared / "plain" / "results.json")
