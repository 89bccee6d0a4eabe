"""What the name of a model stands for: a folder, a run's best checkpoint, a .gguf file, or one on the Hub."""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path

from stentor.errors import UserError, missing_extra
from stentor.json_text import parse_json
from stentor.model.weight_index import INDEX_NAME

WEIGHTS_NAME = "model.safetensors"
CONFIG_NAME = "config.json"
GGUF_NAME = "model.gguf"
ONNX_NAME = "model.onnx"
ONNX_FOLDER = "onnx"
_GGUF_SUFFIX, _ONNX_SUFFIX = ".gguf", ".onnx"
BEST_NAME = "best.json"
CHECKPOINTS_NAME = "checkpoints"
_SHIPPED = Path(str(resources.files("stentor"))) / "models"
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_HUB_FILES = ["*.json", "*.safetensors", "*.vocab", "README.md"]


def resolve_model(path_or_id: str | Path) -> Path:
    """Return the folder or the .gguf file that a model's name stands for.

    Args:
        path_or_id: a model folder; a run folder, which stands for its best checkpoint; a .gguf file, or a folder with
            one called model.gguf and no config.json; a model that ships with Stentor, by its name; or a Hub id
            (`name/model`).

    Raises:
        UserError: it is none of these.
    """
    path = Path(path_or_id)
    if (path / BEST_NAME).is_file():
        return best_checkpoint(path)
    if (path / CONFIG_NAME).is_file() or is_gguf(path):
        return path
    if is_gguf(path / GGUF_NAME):
        return path / GGUF_NAME
    if not path.exists() and str(path_or_id) in shipped_models():
        return _SHIPPED / str(path_or_id) / GGUF_NAME
    if path.exists():
        raise UserError(
            f"{path} holds no model ({CONFIG_NAME} is missing)", fix="pass a model folder, a run folder or a .gguf file"
        )
    if _HUB_ID.fullmatch(str(path_or_id)) and path.suffix != _GGUF_SUFFIX:
        return _download(str(path_or_id))
    raise UserError(
        f"there is no model {path_or_id}",
        fix=f"pass a model folder, a run folder, a .gguf file, {' or '.join(shipped_models())}, or a Hub id such as "
        "org/name",
    )


def shipped_models() -> list[str]:
    """Return the names of the models that are part of Stentor."""
    return sorted(path.name for path in _SHIPPED.iterdir() if is_gguf(path / GGUF_NAME))


def is_gguf(path: Path) -> bool:
    """Whether this is a file that is named as GGUF files are."""
    return path.suffix == _GGUF_SUFFIX and path.is_file()


def find_onnx(path_or_id: str | Path) -> Path | None:
    """Return the .onnx file that a name stands for; None where it stands for no ONNX model.

    Args:
        path_or_id: such a file; a folder with one called model.onnx; or a folder with a config.json and no weights but
            onnx/model.onnx.

    Raises:
        UserError: a file of that name is not there.
    """
    path = Path(path_or_id)
    if path.suffix == _ONNX_SUFFIX:
        if not path.is_file():
            raise UserError(f"there is no file {path}", fix="check the name")
        return path
    if (path / ONNX_NAME).is_file() and not (path / CONFIG_NAME).is_file():
        return path / ONNX_NAME
    below = path / ONNX_FOLDER / ONNX_NAME
    has_weights = (path / WEIGHTS_NAME).exists() or (path / INDEX_NAME).exists()
    is_alone = below.is_file() and (path / CONFIG_NAME).is_file() and not has_weights
    return below if is_alone else None


def weights_file(path: Path) -> Path:
    """Return the file that holds the weights of a resolved model, or the index of the files that do."""
    if is_gguf(path):
        return path
    is_spread = not (path / WEIGHTS_NAME).exists() and (path / INDEX_NAME).is_file()
    return path / (INDEX_NAME if is_spread else WEIGHTS_NAME)


def best_checkpoint(run_dir: Path) -> Path:
    """Return the checkpoint folder a run calls its best."""
    try:
        step = parse_json((run_dir / BEST_NAME).read_bytes())["step"]
        if type(step) is not int or step < 0:
            raise TypeError
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(f"{run_dir / BEST_NAME} is damaged", fix="name a folder under checkpoints/ instead") from None
    return run_dir / CHECKPOINTS_NAME / checkpoint_name(step)


def checkpoint_name(step: int) -> str:
    """Return the folder name of the checkpoint after `step` optimizer updates."""
    return f"step-{step:07d}"


def _download(hub_id: str) -> Path:
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
    except ImportError:
        raise missing_extra("huggingface_hub", "hf", needed_for=f"fetching {hub_id}") from None
    try:
        return Path(snapshot_download(hub_id, allow_patterns=_HUB_FILES))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise UserError(
            f"the model {hub_id} is neither a folder here nor to be had from the Hugging Face Hub "
            f"({type(error).__name__})",
            fix="check the name and the network, or pass a local folder",
        ) from error
