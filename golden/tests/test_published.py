"""The vectors as packages: Python, npm, Go. Each holds the manifest's files, byte for byte."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

GOLDEN = Path(__file__).resolve().parents[1]
MANIFEST = json.loads((GOLDEN / "MANIFEST.json").read_bytes())

READER = """package main

import (
\t"archive/tar"
\t"os"

\t"fractal-lba.example/golden"
)

func main() {
\tout := tar.NewWriter(os.Stdout)
\tif err := out.AddFS(golden.Files); err != nil {
\t\tos.Exit(1)
\t}
\tif err := out.Close(); err != nil {
\t\tos.Exit(1)
\t}
}
"""


def run(*command: str, cwd: Path) -> bytes:
    program = shutil.which(command[0])
    assert program, f"{command[0]} is missing; `nox -s golden` installs it"
    done = subprocess.run([program, *command[1:]], cwd=cwd, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def check(files: dict[str, bytes]) -> None:
    """Hold what a package contains to the manifest, and its manifest to ours."""
    assert json.loads(files["MANIFEST.json"]) == MANIFEST
    found = {name.removeprefix("vectors/") for name in files if name.startswith("vectors/")}
    assert found == set(MANIFEST["files"])
    for name, facts in MANIFEST["files"].items():
        assert hashlib.sha256(files[f"vectors/{name}"]).hexdigest() == facts["sha256"]


def of_tar(data: bytes, prefix: str) -> dict[str, bytes]:
    files = {}
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        for member in archive:
            content = archive.extractfile(member)
            if content is not None:
                files[member.name.removeprefix(prefix)] = content.read()
    return files


def test_the_versions_agree() -> None:
    version = MANIFEST["version"]
    assert json.loads((GOLDEN / "package.json").read_bytes())["version"] == version
    assert f'version = "{version}"' in (GOLDEN / "pyproject.toml").read_text("utf-8")


def test_the_python_package_holds_the_suite(tmp_path: Path) -> None:
    build = ("-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(GOLDEN))
    run(sys.executable, *build, cwd=tmp_path)
    (wheel,) = tmp_path.glob("fractal_lba_vectors-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if name.startswith("fractal_lba_vectors/")]
        check({name.removeprefix("fractal_lba_vectors/"): archive.read(name) for name in names})


def test_the_npm_package_holds_the_suite(tmp_path: Path) -> None:
    run("npm", "pack", "--silent", "--pack-destination", str(tmp_path), cwd=GOLDEN)
    (packed,) = tmp_path.glob("*.tgz")
    check(of_tar(packed.read_bytes(), "package/"))


def test_the_go_module_holds_the_suite(tmp_path: Path) -> None:
    name = "fractal-lba.example/golden"
    module = f"module reader\n\ngo 1.26\n\nrequire {name} v0.0.0\n\nreplace {name} => {GOLDEN}\n"
    (tmp_path / "go.mod").write_text(module)
    (tmp_path / "main.go").write_text(READER)
    check(of_tar(run("go", "run", ".", cwd=tmp_path), ""))


def test_a_changed_file_is_noticed() -> None:
    files = {"MANIFEST.json": (GOLDEN / "MANIFEST.json").read_bytes()}
    for name in MANIFEST["files"]:
        files[f"vectors/{name}"] = (GOLDEN / "vectors" / name).read_bytes()
    check(files)
    name = f"vectors/{next(iter(MANIFEST['files']))}"
    files[name] = files[name].replace(b"5", b"6", 1)
    with pytest.raises(AssertionError):
        check(files)
