"""The packages as they are built: what they hold, what they need, and that they start.

`nox -s tests` builds them and says where they are; the wheel of the SDK is built from its sdist.
"""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from email.parser import Parser
from importlib.metadata import version
from pathlib import Path

import pytest

from tools.tests.installed import program

ROOT = Path(__file__).resolve().parents[2]
ABSENT = "nox -s tests builds the packages and sets FLK_DIST"


def built(pattern: str) -> Path:
    dist = os.environ.get("FLK_DIST")
    if not dist:
        pytest.skip(ABSENT)
    (found,) = Path(dist).glob(pattern)
    return found


def names(wheel: Path) -> set[str]:
    return set(zipfile.ZipFile(wheel).namelist())


def metadata(wheel: Path) -> dict[str, list[str]]:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [n for n in archive.namelist() if n.endswith(".dist-info/METADATA")]
        message = Parser().parsestr(archive.read(name).decode())
    return {key.lower(): message.get_all(key) or [] for key in message}


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a folder that holds the wheel of the SDK and nothing else."""
    folder = tmp_path_factory.mktemp("wheel")
    zipfile.ZipFile(built("fractal_lba-*.whl")).extractall(folder)
    return folder


def alone(folder: Path, code: str) -> subprocess.CompletedProcess[str]:
    """Run Python with the standard library and one folder: no site, no environment."""
    start = f"import sys; sys.path.insert(0, {str(folder)!r}); "
    return subprocess.run(
        [sys.executable, "-I", "-S", "-c", start + code],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.mark.parametrize(
    ("pattern", "source"),
    [
        ("fractal_lba-*.whl", "sdk-python/src/fractal_lba"),
        ("fractal_lba_server-*.whl", "reference-server/src/fractal_lba_server"),
    ],
)
def test_wheel_holds_every_module_types_and_licence_and_no_test(pattern: str, source: str) -> None:
    held = names(built(pattern))
    package = source.rpartition("/")[2]
    modules = {
        f"{package}/{path.relative_to(ROOT / source).as_posix()}"
        for path in (ROOT / source).rglob("*.py")
    }
    assert modules == {name for name in held if name.endswith(".py")}
    assert f"{package}/py.typed" in held
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in held)
    assert not [name for name in held if "test_" in name or "/tests/" in name]
    assert not [name for name in held if name.endswith((".pyc", ".hex", ".key"))]


def test_server_wheel_carries_the_whole_contract() -> None:
    wheel = zipfile.ZipFile(built("fractal_lba_server-*.whl"))
    held = {n.partition("/spec/")[2]: wheel.read(n) for n in wheel.namelist() if "/spec/" in n}
    kept = {
        path.relative_to(ROOT / "spec").as_posix(): path.read_bytes()
        for path in (ROOT / "spec").rglob("*")
        if path.is_file() and path.relative_to(ROOT / "spec").parts[0] not in {"claims", "tests"}
    }
    assert held == kept


def test_wheel_of_the_simulator_carries_the_claims_and_the_scenarios() -> None:
    held = names(built("fractal_lba_sim-*.whl"))
    for folder, kept in (("spec/claims", "spec/claims"), ("simulator/scenarios", "scenarios")):
        found = {path.relative_to(ROOT / folder) for path in (ROOT / folder).rglob("*.yaml")}
        assert found
        assert {f"fractal_lba_sim/{kept}/{path.as_posix()}" for path in found} <= held


def test_sdist_holds_what_builds_and_tests_it() -> None:
    with tarfile.open(built("fractal_lba-*.tar.gz")) as archive:
        held = {name.partition("/")[2] for name in archive.getnames()}
    assert {"pyproject.toml", "README.md", "LICENSE", "PKG-INFO"} <= held
    assert "src/fractal_lba/py.typed" in held
    assert any(name.startswith("tests/test_") for name in held)


def test_metadata_states_python_licence_and_that_nothing_is_needed() -> None:
    stated = metadata(built("fractal_lba-*.whl"))
    assert stated["requires-python"] == [">=3.11"]
    assert stated["license-expression"] == ["MIT"]
    assert stated["version"] == [version("fractal-lba")]
    assert all("extra ==" in requirement for requirement in stated.get("requires-dist", []))


def test_server_needs_the_sdk_of_its_own_version() -> None:
    stated = metadata(built("fractal_lba_server-*.whl"))
    (sdk,) = [r for r in stated["requires-dist"] if r.startswith("fractal-lba")]
    assert sdk.endswith(f"=={version('fractal-lba')}")
    assert stated["version"] == [version("fractal-lba-server")]


@pytest.mark.parametrize("package", ["fractal_lba", "fractal_lba_server"])
def test_what_is_tested_is_what_is_installed(package: str) -> None:
    built("fractal_lba-*.whl")
    done = subprocess.run(
        [sys.executable, "-c", f"import {package}; print({package}.__file__)"],
        capture_output=True,
        text=True,
        check=True,
        cwd=sys.prefix,
    )
    assert Path(done.stdout.strip()).is_relative_to(sysconfig.get_path("purelib"))


def test_every_public_name_is_there_without_any_other_package(unpacked: Path) -> None:
    done = alone(
        unpacked,
        "import fractal_lba;"
        "values = [getattr(fractal_lba, name) for name in fractal_lba.__all__];"
        "others = {name.partition('.')[0] for name in sys.modules} - sys.stdlib_module_names;"
        "print(len(values), sorted(others - {'__main__'}))",
    )
    assert done.returncode == 0, done.stderr
    count, _, others = done.stdout.strip().partition(" ")
    assert int(count) > 0
    assert others == "['fractal_lba']"


def test_record_is_signed_and_verified_without_any_other_package(unpacked: Path) -> None:
    sample = (ROOT / "sdk-python" / "samples" / "submit.py").read_text(encoding="utf-8")
    done = alone(
        unpacked,
        f"exec(compile({sample!r}, 'submit.py', 'exec'), scope := {{'__name__': 'sample'}});"
        "from fractal_lba import HmacSigner, Key, keyring, sign_record, verify;"
        "signer = HmacSigner(bytes(range(32)), kid='k');"
        "signed = sign_record(scope['make_record'](1), signer, tenant='t');"
        "print(bool(verify(signed.body, keyring([Key('k', 'HMAC', bytes(range(32)), 't')]))))",
    )
    assert done.stdout.strip() == "True", done.stderr


def test_missing_extra_is_named_in_one_sentence(unpacked: Path) -> None:
    done = alone(unpacked, "from fractal_lba.cli import main; sys.exit(main())")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "pip install 'fractal-lba[cli]'" in done.stderr


@pytest.mark.parametrize("command", ["flk", "flk-server"])
def test_command_shows_its_help_and_version(command: str) -> None:
    for option, expected in (("--help", "Usage:"), ("--version", version("fractal-lba"))):
        done = subprocess.run(
            [program(command), option], capture_output=True, text=True, check=False, timeout=60
        )
        assert done.returncode == 0, done.stderr
        assert expected in done.stdout
