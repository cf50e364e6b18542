"""The wheel holds what the package needs at run time."""

import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_the_wheel_has_roles_policies_migrations_and_types(tmp_path: Path) -> None:
    """Built here, without the network, and looked into."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    names = zipfile.ZipFile(next(tmp_path.glob("*.whl"))).namelist()
    for kind in ("roles", "policies"):
        for source in (ROOT / kind).glob("*.yaml"):
            assert f"crew_guard/shipped/{kind}/{source.name}" in names
    packaged = [path for path in (ROOT / "crew_guard").rglob("*") if path.suffix in (".sql", ".typed", ".txt")]
    assert packaged
    for path in packaged:
        assert str(path.relative_to(ROOT)) in names
    assert not [name for name in names if name.startswith(("tests/", "examples/"))]
