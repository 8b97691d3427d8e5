"""config.json: all settings of a run, as they took effect.

Previous: json_file.py.  Next: weights.py.
"""

import json
from pathlib import Path

from pydantic import TypeAdapter

from cfg_gpt2 import DataConfig, RunConfig, require
from run_directory.files import write_whole
from run_directory.json_file import read_json_object, shortened, validate
from run_directory.paths import require_file

CONFIG_FILE = "config.json"
METRICS_FILE = "metrics.jsonl"  # which a run has as soon as it is trained
FORMAT_VERSION = 1


def write_config(folder: Path, config: RunConfig) -> None:
    """Writes folder/config.json, whole or not at all."""
    settings = TypeAdapter(RunConfig).dump_python(config, mode="json")
    if config.init_from is None:
        del settings["init_from"]  # readable by versions that know no --init-from
    text = json.dumps({"format_version": FORMAT_VERSION, **settings}, indent=2, ensure_ascii=False)
    write_whole(folder / CONFIG_FILE, lambda path: path.write_text(text + "\n", encoding="utf-8"))


def read_config(path: Path) -> RunConfig:
    """Reads config.json, or the one in a run directory.

    Raises FileNotFoundError where there is none, ValueError where it is not such a file.
    """
    file = path / CONFIG_FILE if path.is_dir() else path
    require_file(file, "name a run directory, such as runs/tiny", or_stream=True)
    settings = read_json_object(file)
    require(
        "model_type" not in settings,
        f"{file} describes a model of transformers; make a run of it: python main.py import "
        f"{file.parent}",
    )
    version = settings.pop("format_version", None)
    try:
        require(
            version == FORMAT_VERSION,
            f"its format_version is {shortened(str(version))}, this code reads {FORMAT_VERSION}",
        )
        return validate(RunConfig, settings)
    except ValueError as error:
        raise ValueError(f"{file} cannot be used: {error}") from None


def own_data(run_dir: Path) -> DataConfig:
    """Returns the settings of the text that a run has learned from.

    Raises ValueError for an imported model, whose text is elsewhere, and as read_config does.
    """
    data = read_config(run_dir).data
    is_trained = data.tokenizer in ("bpe", "char") or (run_dir / METRICS_FILE).exists()
    require(
        is_trained,
        f"{run_dir} was imported, and the text that it learned from is not here; name a text by "
        "--data.path",
    )
    return data
