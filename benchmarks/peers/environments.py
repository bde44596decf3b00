"""The Python environment of each system, built once and kept."""

import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

REQUIREMENTS = Path(__file__).parent / "requirements"


class GapError(Exception):
    """A system cannot run here, and why."""


@dataclass(frozen=True)
class Environment:
    """What a system needs around it.

    Attributes:
        name: Of its file of pinned requirements, and of its folder.
        python: Version of Python that these are built for.
    """

    name: str
    python: str = "3.11"

    @property
    def requirements(self) -> str:
        """Every package that is installed, one a line."""
        return (REQUIREMENTS / f"{self.name}.txt").read_text(encoding="utf-8")

    def versions(self) -> dict[str, str]:
        """What each package is pinned to."""
        lines = (line.partition("==") for line in self.requirements.splitlines())
        return {name: version for name, _, version in lines}


ENVIRONMENTS = {
    one.name: one
    for one in (
        Environment("freerec"),
        Environment("recbole"),
        Environment("rectools"),
        Environment("replay"),
        Environment("tensorflow1", python="3.7"),
        Environment("tensorflow2"),
        Environment("torch"),
    )
}


def build(environment: Environment, folder: Path) -> str:
    """Make the environment below a folder, unless it is there already; its interpreter.

    Raises:
        GapError: There is no such Python, or the packages cannot be installed.
    """
    home = folder / environment.name
    python, done, log = home / "bin" / "python", home / "installed.txt", folder / f"{environment.name}.log"
    if done.is_file() and done.read_text(encoding="utf-8") == environment.requirements:
        return str(python)
    print(f"installing {environment.name}: {REQUIREMENTS.name}/{environment.name}.txt", file=sys.stderr)
    folder.mkdir(parents=True, exist_ok=True)
    found = interpreter(environment.python)
    install = [python, "-m", "pip", "install", "--disable-pip-version-check", "--progress-bar", "off"]
    with open(log, "w", encoding="utf-8") as said:
        for command in (
            [found, "-m", "venv", "--clear", home],
            [*install, "-r", REQUIREMENTS / f"{environment.name}.txt"],
        ):
            if subprocess.run(command, check=False, stdout=said, stderr=subprocess.STDOUT).returncode:
                raise GapError(f"its packages cannot be installed: {_reason(log)}")
    done.write_text(environment.requirements, encoding="utf-8")
    return str(python)


def interpreter(version: str) -> str:
    """A Python of this version: the running one, or the one of that name on the path.

    Raises:
        GapError: There is none that runs.
    """
    running = f"{sys.version_info.major}.{sys.version_info.minor}"
    found = sys.executable if version == running else shutil.which(f"python{version}")
    if found is None or subprocess.run([found, "-c", "import venv"], check=False, capture_output=True).returncode:
        raise GapError(f"it needs Python {version}, and no python{version} runs here")
    return found


def _reason(log: Path) -> str:
    """What pip complained of first."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines() or ["nothing was said"]
    return next((line for line in lines if line.startswith("ERROR")), lines[-1])
