"""`python main.py export`: writes a run for transformers or for llama.cpp.

Previous: export_settings.py.  Next: ../main.py.
"""

from pathlib import Path

from rich.console import Console

from cfg_gpt2 import require
from gpt2 import GPT2Model
from pretrained.export_settings import ExportCommand
from pretrained.gguf import write_gguf
from pretrained.hugging_face import write_folder, write_text
from pretrained.model_card import model_card
from run_directory.config_file import CONFIG_FILE, read_config
from tokenizer import Tokenizer
from training.best_checkpoint import load_newest_or_best
from training.progress import Bar, new_console

MODEL_CARD_FILE = "README.md"
GGUF_SUFFIX = ".gguf"


def export(command: ExportCommand) -> int:
    """Exports a run and prints how to load the result; returns 0."""
    console = new_console()
    target = command.out / CONFIG_FILE if command.format == "hf" else gguf_file(command)
    require(
        not target.exists(), f"--out {command.out} already holds {target.name}; name another one"
    )
    model, record = load_newest_or_best(command.run, best=command.best, report=console.print)
    tokenizer = Tokenizer.load(command.run)
    if command.format == "gguf":
        export_gguf(command, target, model, tokenizer, console)
    else:
        export_folder(command, model, tokenizer, console, record and record.step)
    return 0


def export_folder(
    command: ExportCommand,
    model: GPT2Model,
    tokenizer: Tokenizer,
    console: Console,
    step: int | None = None,
) -> None:
    """Writes a folder for transformers with a model card, and prints how to load it.

    step: of the weights; None: the newest.
    """
    if command.precision == "q8_0":
        raise ValueError("--precision q8_0 is for --format gguf; take fp16 or bf16 for hf")
    name = command.out.resolve().name
    card = model_card(name, read_config(command.run), command.run, model.n_parameters(), step)
    write_text(command.out / MODEL_CARD_FILE, card)
    write_folder(model, tokenizer, command.out, command.precision)
    console.print(
        f"written   {command.out}\n\nTo load it:\n"
        f'  transformers.AutoModelForCausalLM.from_pretrained("{command.out.as_posix()}")'
    )


def export_gguf(
    command: ExportCommand,
    file: Path,
    model: GPT2Model,
    tokenizer: Tokenizer,
    console: Console,
) -> None:
    """Writes a GGUF file with a progress bar, and prints how to load it."""
    with Bar(console, "weights", 100) as bar:
        write_gguf(
            model,
            tokenizer,
            file,
            command.precision,
            lambda done, total: bar.move(100 * done // total, f"{done / 1e6:,.0f} M numbers"),
        )
    console.print(f"written   {file}\n\nTo load it:\n  llama-cli -m {file}")


def gguf_file(command: ExportCommand) -> Path:
    """Returns --out itself where it ends in .gguf, else model.gguf in that folder."""
    return command.out if command.out.suffix == GGUF_SUFFIX else command.out / f"model{GGUF_SUFFIX}"
