from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give rights away")
@pytest.mark.parametrize("kept", [True, False])
def test_a_program_below_a_closed_folder_can_still_be_imported_after_the_rights_are_gone(tmp_path, kept):
    inner = tmp_path / "closed" / "lib"
    (inner / "loaded" / "later").mkdir(parents=True)
    (inner / "loaded" / "__init__.py").touch()
    (inner / "loaded" / "later" / "__init__.py").write_text("SECRET = 7\n")
    (inner / "fresh.py").write_text("SECRET = 35\n")
    for folder in (inner / "loaded" / "later", inner / "loaded", inner):
        folder.chmod(0o755)
    (tmp_path / "closed").chmod(0o700)
    story = textwrap.dedent(
        f"""
        import sys
        sys.path[:0] = [{str(inner)!r}, {str(ROOT)!r}]
        import loaded
        from controller.kernel import drop_privileges
        from controller.proxy.reach import keep_within_reach
        if {kept}:
            assert {str(inner)!r} in keep_within_reach(64999, 64999)
        drop_privileges(64999, 64999)
        try:
            open({str(inner / "fresh.py")!r})
        except PermissionError:
            pass
        else:
            raise SystemExit("the folder is not closed")
        import fresh, loaded.later
        print(fresh.SECRET + loaded.later.SECRET)
        """
    )
    found = subprocess.run([sys.executable, "-c", story], capture_output=True, text=True, timeout=30, check=False)
    if kept:
        assert found.stdout == "42\n", found.stderr
    else:
        assert found.returncode != 0
