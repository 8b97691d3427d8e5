"""The front door: `python main.py` trains; the table below names the other commands.

A command is imported when it is called: `train` and `generate` from commands/, every other one
from the folder that is named after what it does. Its flags are read first, by a module without
torch, so that --help and a wrong flag answer at once.
Previous: trainer.py.  Next: commands/train_settings.py, then whichever folder you need.
"""

import gc
import importlib
import signal
import sys
from collections.abc import Callable

COMMANDS = {  # what reads its flags, what does its work, and a line of help
    "train": (
        "commands.train_settings:read_train_command",
        "commands.train:train",
        "train a model, on the embedded corpus or on your own text",
    ),
    "prepare": (
        "preparation.settings:read_prepare_command",
        "preparation.command:prepare",
        "turn large texts into token shards to train on",
    ),
    "generate": (
        "commands.generate_settings:read_generate_command",
        "commands.generate:generate",
        "let a trained model continue a prompt",
    ),
    "finetune": (
        "finetuning.settings:read_finetune_command",
        "finetuning.command:finetune",
        "teach a trained model to answer, from labelled dialogues",
    ),
    "chat": (
        "finetuning.chat_settings:read_chat_command",
        "finetuning.chat_command:chat",
        "talk with a model that was finetuned for it",
    ),
    "import": (
        "pretrained.import_settings:read_import_command",
        "pretrained.import_command:import_model",
        "open GPT-2's published weights as a run",
    ),
    "export": (
        "pretrained.export_settings:read_export_command",
        "pretrained.export_command:export",
        "write a run for transformers or llama.cpp",
    ),
    "evaluate": (
        "evaluation.settings:read_evaluate_command",
        "evaluation.command:evaluate",
        "score models on a text, compare them",
    ),
    "quantize": (
        "quantization.settings:read_quantize_command",
        "quantization.command:compare",
        "what int8 weights save and what they cost",
    ),
    "inspect": (
        "visualization.settings:read_inspect_command",
        "visualization.command:inspect",
        "look inside a trained model while it reads a text",
    ),
    "serve": (
        "serving.settings:read_serve_command",
        "serving.command:serve",
        "serve trained models over HTTP, with an API and a page",
    ),
    "learn": (
        "exercises.settings:read_learn_command",
        "exercises.command:learn",
        "write the parts of GPT-2 yourself, checked and explained",
    ),
    "plan": (
        "diagnostics.plan.settings:read_plan_command",
        "diagnostics.plan.command:plan",
        "count what a training run needs, before it starts",
    ),
    "doctor": (
        "diagnostics.doctor.settings:read_doctor_command",
        "diagnostics.doctor.command:doctor",
        "check this machine, and a run's curve",
    ),
    "verify": (
        "diagnostics.verify.settings:read_verify_command",
        "diagnostics.verify.command:verify",
        "compare every fast path with the plain one",
    ),
    "benchmark": (
        "benchmarks.settings:read_benchmark_command",
        "benchmarks.command:benchmark",
        "measure speed, beside other GPT-2s",
    ),
}


def main(arguments: list[str]) -> int:
    """Runs the command that the arguments name, or `train`, and returns the exit status."""
    # not above: Ctrl-C may end these imports
    from commands.streams import WRONG_INPUT, announced, interrupt, say
    from run_directory.paths import explain

    if arguments[:1] in (["--help"], ["-h"]):
        print(overview())
        return 0
    name = "train"
    if arguments and not arguments[0].startswith("-"):
        name, *arguments = arguments
    try:
        if name not in COMMANDS:
            raise ValueError(f"{name} is no command; choose one of {', '.join(COMMANDS)}")
        read_flags, work, _ = COMMANDS[name]
        settings = load(read_flags)(arguments)
        gc.disable()  # imports are no garbage; scanning them takes up to 0.6 s of a run
        with announced("loading ..."):
            command = load(work)
        gc.freeze()
        gc.enable()
        return command(settings)
    except BrokenPipeError:
        raise  # no error of the command's: see commands/streams.py
    except (ValueError, OSError) as error:
        interrupt.raise_again(error)
        sentence = explain(error) if isinstance(error, OSError) else str(error)
        say(f"error: {' '.join(sentence.split())}")
        return WRONG_INPUT


def load(target: str) -> Callable:
    """Imports a module and returns the function of it that the table names."""
    module, function = target.split(":")
    return getattr(importlib.import_module(module), function)


def overview() -> str:
    """Returns the list of commands, one line for each."""
    lines = [f"  python main.py {name:10} {line}\n" for name, (_, _, line) in COMMANDS.items()]
    return (
        f"GPT-2 from scratch. Without a command: train.\n\n{''.join(lines)}\n"
        "python main.py COMMAND --help lists the command's settings."
    )


if __name__ == "__main__":
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # else it is ignored
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # until run() has imported what it needs
    from commands.streams import run

    sys.exit(run(main, sys.argv[1:]))
