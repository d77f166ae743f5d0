"""A Dockerfile's instructions, carried out on empty root file systems of Debian: what a container engine would do."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from docker_files import Step, stages

__all__ = ["Root", "build"]

REPOSITORY = Path(__file__).resolve().parents[1]
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
PACKAGES = "python3,python3-venv,ca-certificates"
"""With a link named ``python``, these make of Debian 12 what the base image has: Python 3.11 and its venv."""


@dataclass
class Root:
    """A root file system, and what the instructions so far have set."""

    folder: Path
    variables: dict[str, str] = field(default_factory=lambda: {"PATH": SYSTEM_PATH})
    user: str = "0"
    workdir: str = "/"

    def inside(self, path: str) -> Path:
        """Return where a path of the container lies on this machine."""
        return self.folder / str(Path(self.workdir) / path).lstrip("/")

    def call(self, command: str, **more: str) -> str:
        """Run a shell command in it, with this machine's network and pip configuration; return all that it prints."""
        mounts = [f"mount --rbind {place} {self.folder}{place}" for place in self._borrowed()]
        settings = [f"{name}={value}" for name, value in {**_pip(), **self.variables, **more}.items()]
        inner = f"cd {shlex.quote(self.workdir)} && {command}"
        enter = ["chroot", f"--userspec={self.user}:0", str(self.folder), "env", "-i", *settings, "sh", "-euc", inner]
        script = " && ".join([*mounts, f"exec {shlex.join(enter)}"])
        done = subprocess.run(
            ["unshare", "--mount", "sh", "-c", script],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{command}\n{done.stdout[-6000:]}"
        return done.stdout

    def _borrowed(self) -> list[Path]:
        named = [Path(word) for value in _pip().values() for word in value.split() if word.startswith("/")]
        places = [
            Path(p)
            for p in ("/proc", "/dev", "/sys", "/etc/resolv.conf", "/etc/hosts", "/etc/xdg/pip", "/etc/ssl/certs")
        ]
        found = [place for place in dict.fromkeys([*places, *named, *_local_indexes()]) if place.exists()]
        for place in found:
            target = Path(f"{self.folder}{place}")
            if place.is_dir():
                target.mkdir(parents=True, exist_ok=True)
            elif not target.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                target.touch()
        return [place for place in found if not any(parent in found for parent in place.parents)]


def _pip() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name.startswith("PIP_")}


def _local_indexes() -> list[Path]:
    """Return the folders that pip's configuration names as indexes."""
    told = subprocess.run([sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True)
    return [
        Path(word.strip("'").removeprefix("file://"))
        for word in told.stdout.replace("=", " ").split()
        if "file://" in word
    ]


def build(image: str, folder: Path) -> Root:
    """Carry out a Dockerfile below `folder`; return the root file system of its last stage."""
    base = folder / "base"
    options = ["--variant=minbase", f"--include={PACKAGES}"]
    subprocess.run(["debootstrap", *options, "bookworm", base], check=True, capture_output=True)
    (base / "usr/bin/python").symlink_to("python3")
    done: dict[str, Root] = {}
    for number, instructions in enumerate(stages(image)):
        name = instructions[0].value.partition(" AS ")[2] or str(number)
        done[name] = Root(folder / name)
        subprocess.run(["cp", "--archive", base, done[name].folder], check=True)
        for step in instructions[1:]:
            _carry_out(step, done[name], done)
    return list(done.values())[-1]


def _carry_out(step: Step, root: Root, done: dict[str, Root]) -> None:
    if step.word == "ENV":
        for name, value in step.variables.items():
            root.variables[name] = value.replace(f"${name}", root.variables.get(name, ""))
    elif step.word == "RUN":
        root.call(step.value)
    elif step.word == "WORKDIR":
        root.workdir = step.value
        root.inside(".").mkdir(parents=True, exist_ok=True)
    elif step.word == "USER":
        root.user = step.value
    elif step.word == "COPY":
        _copy(step, root, done)


def _copy(step: Step, root: Root, done: dict[str, Root]) -> None:
    words = shlex.split(step.value)
    options = dict(word[2:].split("=", 1) for word in words if word.startswith("--"))
    *sources, target = [word for word in words if not word.startswith("--")]
    place = done[options["from"]].folder if "from" in options else REPOSITORY
    for source in sources:
        origin = place / source.lstrip("/")
        goal = root.inside(target)
        if target.endswith("/"):
            goal = goal / origin.name
        if origin.is_dir():
            shutil.copytree(
                origin, goal, symlinks=True, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__")
            )
        else:
            shutil.copy2(origin, goal)
        if "chmod" in options:
            goal.chmod(int(options["chmod"], 8))
        if "chown" in options:
            inside = f"/{goal.relative_to(root.folder)}"
            root.call(f"chown -R {options['chown']} {inside}")
