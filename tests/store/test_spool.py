"""Where rows wait that are imported: on disk, and without a name that a killed import would leave behind."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

_FILL = """
import os
from store.spool import Row, Spool

with Spool() as spool:
    for n in range(20_000):
        assert spool.add(Row(f"EV-{n}", n, n, "x" * 1000, None, None))
    open_files = [os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd") if int(fd) > 2
                  and os.path.lexists(f"/proc/self/fd/{fd}")]
    print(os.listdir(os.environ["TMPDIR"]), [name for name in open_files if name.endswith(" (deleted)")])
    assert [row.number for page in spool.pages(7_000) for row in page] == list(range(20_000))
"""


def test_rows_wait_in_a_file_of_tmpdir_that_has_no_name(tmp_path: Path) -> None:
    root = Path(__file__).resolve().parents[2]

    done = subprocess.run(
        [sys.executable, "-c", _FILL], env={"TMPDIR": str(tmp_path), "PYTHONPATH": str(root)}, cwd=root,
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"[] ['{tmp_path}/")
