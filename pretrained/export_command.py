"""`python main.py export`: writes a run for transformers or for llama.cpp.

Previous: export_settings.py.  Next: ../main.py.
"""

import os
from pathlib import Path

from rich.console import Console

from cfg_gpt2 import require
from pretrained.export_settings import ExportCommand
from pretrained.gguf import write_gguf
from pretrained.hugging_face import write_folder, write_text
from pretrained.model_card import model_card
from run_directory.chat_template import read_template
from run_directory.config_file import CONFIG_FILE, read_config
from run_directory.generation_config import GenerationTokens, read_generation_tokens
from run_directory.lock import only_writer, only_writer_of
from run_directory.open_run import OpenedRun, open_tokenizer
from run_directory.printable import quoted
from training.best_checkpoint import load_newest_or_best
from training.progress import Bar, new_console

MODEL_CARD_FILE = "README.md"
GGUF_SUFFIX = ".gguf"


def export(command: ExportCommand) -> int:
    """Exports a run and prints how to load the result; returns 0."""
    console = new_console()
    is_folder = command.format == "hf"
    target = command.out / CONFIG_FILE if is_folder else gguf_file(command)
    lock = only_writer if is_folder else only_writer_of
    with lock(command.out if is_folder else target, "choose another --out", console.print):
        already = f"--out {command.out} already holds {target.name}; name another one"
        require(not os.path.lexists(target), already)
        model, record = load_newest_or_best(command.run, best=command.best, report=console.print)
        run = OpenedRun(model, open_tokenizer(command.run, model))
        if is_folder:
            export_folder(command, run, console, record and record.step)
        else:
            export_gguf(command, target, run, console)
    return 0


def export_folder(
    command: ExportCommand, run: OpenedRun, console: Console, step: int | None = None
) -> None:
    """Writes a folder for transformers with a model card, and prints how to load it.

    step: of the weights; None: the newest.
    """
    if command.precision == "q8_0":
        raise ValueError("--precision q8_0 is for --format gguf; take fp16 or bf16 for hf")
    name = command.out.resolve().name
    template = read_template(command.run, run.tokenizer.end_token)
    card = model_card(
        name,
        read_config(command.run),
        command.run,
        run.model.n_parameters(),
        step,
        chat_end=run.tokenizer.end_token if template else None,
    )
    tokens = ends_of(command, run, template)
    write_folder(run.model, run.tokenizer, command.out, command.precision, tokens, template)
    write_text(command.out / MODEL_CARD_FILE, card)
    folder = command.out.as_posix()
    console.print(
        f"written   {command.out}\n\nTo load it:\n"
        f"  transformers.AutoModelForCausalLM.from_pretrained({folder!r})\n"
        f"To publish it on the Hugging Face hub, under your name there:\n"
        f"  hf upload NAME/{quoted(name)} {quoted(command.out)}"
    )


def export_gguf(command: ExportCommand, file: Path, run: OpenedRun, console: Console) -> None:
    """Writes a GGUF file with a progress bar, and prints how to load it."""
    template = read_template(command.run, run.tokenizer.end_token)
    with Bar(console, "weights", 100) as bar:
        write_gguf(
            run.model,
            run.tokenizer,
            file,
            command.precision,
            lambda done, total: bar.move(100 * done // total, f"{done / 1e6:,.0f} M numbers"),
            ends_of(command, run, template),
            template,
        )
    console.print(f"written   {file}\n\nTo load it:\n  llama-cli -m {quoted(file)}")


def ends_of(command: ExportCommand, run: OpenedRun, template: str | None) -> GenerationTokens:
    """Returns what begins and ends a text; the token that closes each turn of a chat ends it."""
    tokens = read_generation_tokens(command.run, run.tokenizer)
    end = run.tokenizer.end_of_text
    if template is None or end in tokens.eos_token_id:
        return tokens
    return GenerationTokens(tokens.bos_token_id, (end, *tokens.eos_token_id))


def gguf_file(command: ExportCommand) -> Path:
    """Returns --out itself where it ends in .gguf, else model.gguf in that folder."""
    return command.out if command.out.suffix == GGUF_SUFFIX else command.out / f"model{GGUF_SUFFIX}"
