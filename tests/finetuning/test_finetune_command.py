"""`python main.py finetune` from end to end, on small runs."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import main
from cfg_gpt2 import GPT2Config
from finetuning.adapter_files import read_adapter
from finetuning.chat_json import read_chat_settings
from finetuning.lora import merge
from finetuning.preference_settings import PreferenceConfig
from finetuning.settings import FinetuneCommand, fit_to_cpu
from training.progress import MetricsLog

TEXT = "The hen asked where the drum was. In the barn, said the fox. <|user|> <|assistant|>\n"
SMALL = (
    "--data.path text.txt --data.vocab-size 300 --data.cache-dir cache --model.n-layer 2 "
    "--model.n-head 2 --model.n-embd 16 --model.context-length 64 --model.dropout 0 "
    "--train.max-steps 2 --train.batch-size 2 --train.warmup-steps 1 --train.device cpu"
)
QUICK = "--train.max-steps 4 --train.batch-size 3 --train.eval-every 2 --train.device cpu"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a base run, the text that it was trained on and a file of dialogues."""
    folder = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        Path("text.txt").write_text(TEXT * 40)
        rows = [
            {"messages": [
                {"role": "user", "content": f"Where is drum {n}?"},
                {"role": "assistant", "content": f"In barn {n % 3}."},
            ]}
            for n in range(30)
        ]  # fmt: skip
        Path("chat.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        assert main.main(["train", *SMALL.split(), "--out", "base"]) == 0
    return folder


@pytest.fixture
def folder(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the same folder, in which the test works."""
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def finetune(*flags: str) -> int:
    return main.main(["finetune", *flags])


def test_a_run_learns_dialogues_and_says_so_in_chat_json(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert finetune("base", "--data", "chat.jsonl", *QUICK.split(), "--out", "chat") == 0
    forgotten = r"the text of base: \d+\.\d{4} bits per byte before, \d+\.\d{4} after"
    assert re.search(forgotten, " ".join(capsys.readouterr().out.split()))
    chat = read_chat_settings(folder / "chat")
    assert (chat.method, chat.base, chat.data) == ("sft", "base", ("chat.jsonl",))
    assert 0 < chat.replay < 1
    losses = [m["val_loss"] for m in MetricsLog(folder / "chat").read() if "val_loss" in m]
    assert losses[-1] < losses[0]
    before, after = (load_file(run / "model.safetensors") for run in (Path("base"), Path("chat")))
    assert before.keys() == after.keys()
    assert not all(torch.equal(before[name], after[name]) for name in before)


def test_a_run_that_was_stopped_goes_on_to_the_same_bits(folder: Path) -> None:
    flags = ["base", "--data", "chat.jsonl", *QUICK.split()]
    assert finetune(*flags, "--out", "straight") == 0
    assert finetune(*flags, "--train.max-steps", "2", "--out", "half") == 0
    config = json.loads(Path("half/config.json").read_text())
    config["train"] |= {"max_steps": 4}
    Path("half/config.json").write_text(json.dumps(config))
    shutil.rmtree("base")
    assert finetune("--resume", "half") == 0
    straight, half = (load_file(f"{run}/model.safetensors") for run in ("straight", "half"))
    for name, tensor in straight.items():
        assert torch.equal(tensor, half[name]), name


def test_lora_publishes_the_merged_model_and_goes_on_to_the_same_bits(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["base", "--data", "chat.jsonl", "--method", "lora", "--lora.rank", "2", *QUICK.split()]
    flags += ["--train.precision", "bf16"]
    assert finetune(*flags, "--out", "straight") == 0
    n_trained = 2 * 2 * (16 + 48 + 16 + 16 + 16 + 64 + 64 + 16)  # A and B of rank 2 in 2 blocks
    said = capsys.readouterr().out
    assert (
        f"{n_trained:,} of them trained and " in said
        and " frozen (matrices in bf16), from base" in said
    )
    assert finetune(*flags, "--train.max-steps", "2", "--out", "half") == 0
    assert finetune("--resume", "half", "--train.max-steps", "4") == 0
    base, straight, half = (
        load_file(f"{r}/model.safetensors") for r in ("base", "straight", "half")
    )
    assert base.keys() == straight.keys()
    for name, tensor in straight.items():
        assert torch.equal(tensor, half[name]), name
        is_target = name.startswith("blocks") and name.endswith("proj.weight")
        assert torch.equal(tensor, base[name]) != is_target, name
    adapter = read_adapter(Path("half/adapter"))
    for name, tensor in merge(base, adapter.tensors, adapter.config).items():  # in fp32
        assert torch.equal(tensor, half[name]), name
    assert {file.name for file in Path("half/adapter").iterdir()} == {
        "adapter_config.json", "adapter_model.safetensors",
    }  # fmt: skip


def test_a_run_that_is_further_or_has_lost_its_checkpoints_is_not_resumed(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert finetune("base", "--data", "chat.jsonl", *QUICK.split(), "--out", "chat") == 0
    before = Path("chat/config.json").read_bytes()
    assert finetune("--resume", "chat", "--train.max-steps", "3") == 2
    assert "--train.max-steps 3 lies before step 4" in capsys.readouterr().err
    shutil.rmtree("chat/checkpoints")
    assert finetune("--resume", "chat") == 2
    assert "another run with these weights: finetune chat" in capsys.readouterr().err
    assert Path("chat/config.json").read_bytes() == before


def test_a_finished_run_says_so_and_is_left_as_it_is(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert finetune("base", "--data", "chat.jsonl", *QUICK.split(), "--out", "chat") == 0
    before = {file: file.read_bytes() for file in Path("chat").rglob("*") if file.is_file()}
    capsys.readouterr()
    assert finetune("--resume", "chat") == 0
    said = capsys.readouterr().out
    assert said.startswith("chat is finished: step 4 of 4. Nothing was done")
    assert {file: file.read_bytes() for file in Path("chat").rglob("*") if file.is_file()} == before
    assert main.main(["train", "--resume", "chat"]) == 2  # it would look for a text
    assert "python main.py finetune --resume chat" in capsys.readouterr().err


def test_a_run_goes_on_with_data_that_have_moved_and_with_no_others(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["base", "--data", "chat.jsonl", *QUICK.split(), "--train.max-steps", "2"]
    assert finetune(*flags, "--out", "half") == 0
    more = ["--resume", "half", "--train.max-steps", "4"]
    rows = Path("chat.jsonl").rename("moved.jsonl").read_text()
    assert finetune(*more) == 2
    advice = "what has moved is found with --resume half --data and its new place"
    assert advice in " ".join(capsys.readouterr().err.split())
    Path("other.jsonl").write_text(rows.replace("barn 1", "barn 7"))
    assert finetune(*more, "--data", "other.jsonl") == 2
    assert "the text of half has changed" in capsys.readouterr().err
    assert read_chat_settings(Path("half")).data == ("chat.jsonl",)
    assert finetune(*more, "--data", "moved.jsonl") == 0
    assert read_chat_settings(Path("half")).data == ("moved.jsonl",)


def test_lora_says_that_its_base_is_gone(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["base", "--data", "chat.jsonl", "--method", "lora", "--lora.rank", "2", *QUICK.split()]
    assert finetune(*flags, "--train.max-steps", "2", "--out", "half") == 0
    Path("base").rename("elsewhere")
    assert finetune("--resume", "half", "--train.max-steps", "4") == 2
    said = "the base's base/model.safetensors does not exist; put it back, or call main.py in"
    assert said in " ".join(capsys.readouterr().err.split())


def test_lora_begins_from_an_adapter_and_so_it_does_where_it_was_killed_at_once(
    folder: Path,
) -> None:
    flags = ["base", "--data", "chat.jsonl", "--method", "lora", "--lora.rank", "2", *QUICK.split()]
    assert finetune(*flags, "--out", "first") == 0
    assert finetune(*flags, "--lora.adapter", "first/adapter", "--out", "second") == 0
    expected = MetricsLog(Path("first")).read()[-1]["val_loss"]
    assert MetricsLog(Path("second")).read()[0]["val_loss"] == pytest.approx(expected, abs=1e-5)
    shutil.rmtree("second/checkpoints")
    for name in ("model.safetensors", "metrics.jsonl"):
        Path("second", name).unlink()
    assert finetune("--resume", "second") == 0
    assert MetricsLog(Path("second")).read()[0]["val_loss"] == pytest.approx(expected, abs=1e-5)


def test_dpo_learns_pairs_and_goes_on_to_the_same_bits(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [
        {"prompt": f"Where is drum {n}?", "chosen": f"In barn {n % 3}.", "rejected": "In the sea."}
        for n in range(30)
    ]
    Path("pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    flags = ["base", "--data", "pairs.jsonl", "--method", "dpo", *QUICK.split()]
    flags += ["--preference.beta", "0.5", "--train.learning-rate", "1e-4"]
    assert finetune(*flags, "--show", "2") == 0
    shown = capsys.readouterr().out
    assert "In barn" in shown and "In the sea." in shown
    assert finetune(*flags, "--out", "straight") == 0
    assert finetune(*flags, "--train.max-steps", "2", "--out", "half") == 0
    assert finetune("--resume", "half", "--train.max-steps", "4") == 0
    straight, half = (load_file(f"{run}/model.safetensors") for run in ("straight", "half"))
    for name, tensor in straight.items():
        assert torch.equal(tensor, half[name]), name
    assert read_chat_settings(folder / "half").preference == PreferenceConfig(beta=0.5)
    losses = [m["val_loss"] for m in MetricsLog(folder / "straight").read() if "val_loss" in m]
    assert losses[-1] < losses[0]


def give_dropout(run: str, rate: float) -> None:
    config = json.loads(Path(run, "config.json").read_text())
    config["model"]["dropout"] = rate
    Path(run, "config.json").write_text(json.dumps(config))


def dropout_of(run: str) -> float:
    return json.loads(Path(run, "config.json").read_text())["model"]["dropout"]


def test_pairs_are_learned_without_the_dropout_of_the_base(folder: Path) -> None:
    give_dropout("base", 0.5)
    rows = [{"prompt": f"Is {n} good?", "chosen": "Yes.", "rejected": "No."} for n in range(30)]
    Path("pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    flags = ["base", "--data", "pairs.jsonl", "--method", "dpo", *QUICK.split()]
    assert finetune(*flags, "--out", "run") == 0
    assert MetricsLog(Path("run")).read()[1]["margin"] == pytest.approx(0, abs=1e-5)
    assert dropout_of("run") == 0


def test_dialogues_are_learned_with_the_dropout_of_the_flag_which_a_resumed_run_keeps(
    folder: Path,
) -> None:
    give_dropout("base", 0.5)
    flags = ["base", "--data", "chat.jsonl", *QUICK.split()]
    assert finetune(*flags, "--train.max-steps", "2", "--out", "without") == 0
    assert finetune(*flags, "--train.max-steps", "2", "--dropout", "0.3", "--out", "with") == 0
    assert finetune("--resume", "with", "--train.max-steps", "4") == 0
    assert (dropout_of("without"), dropout_of("with")) == (0, 0.3)
    losses = [MetricsLog(Path(run)).read()[1]["train_loss"] for run in ("without", "with")]
    assert losses[0] != losses[1]


def test_a_run_learns_from_answers_of_its_own(folder: Path) -> None:
    rows = [{"prompt": f"Is {n} good?", "answers": ["e", "a"]} for n in range(30)]
    Path("questions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    flags = ["base", "--data", "questions.jsonl", "--method", "reward", *QUICK.split()]
    flags += ["--reward.answers", "4", "--reward.max-new-tokens", "3"]
    assert finetune(*flags, "--out", "straight") == 0
    assert finetune(*flags, "--train.max-steps", "2", "--out", "half") == 0
    assert finetune("--resume", "half", "--train.max-steps", "4") == 0
    straight, half = (load_file(f"{run}/model.safetensors") for run in ("straight", "half"))
    for name, tensor in straight.items():
        assert torch.equal(tensor, half[name]), name
    assert all("reward" in m for m in MetricsLog(folder / "straight").read()[1:])


def test_the_length_of_answers_can_be_rewarded_and_stories_of_a_file_cannot(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [{"prompt": f"Is {n} good?", "answers": ["e", "a"]} for n in range(30)]
    Path("questions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    flags = ["base", "--data", "questions.jsonl", "--method", "reward", *QUICK.split()]
    flags += ["--reward.max-new-tokens", "3", "--out", "run", "--reward.function"]
    assert finetune(*flags, "story") == 2
    error = capsys.readouterr().err
    assert "asks for stories of tiny-world, and --data is questions.jsonl; take --data" in error
    assert not Path("run/config.json").exists()
    assert finetune(*flags, "length") == 0
    assert MetricsLog(folder / "run").read()[-1]["val_reward"] > 0


def test_without_the_text_of_the_base_nothing_is_replayed_and_the_reason_is_said(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = json.loads(Path("base/config.json").read_text())
    config["data"] |= {"tokenizer": "gpt2", "vocab_size": None}  # as in the run of an import
    Path("base/config.json").write_text(json.dumps(config))
    Path("base/metrics.jsonl").unlink()
    assert finetune("base", "--data", "chat.jsonl", *QUICK.split(), "--out", "chat") == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "nothing of the base's own text is replayed: base was imported, and" in out
    assert "--data.path" not in out


def test_without_steps_the_dialogues_are_read_once(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["base", "--data", "chat.jsonl", "--replay", "0", "--train.batch-size", "4"]
    assert finetune(*flags, "--out", "once") == 0
    assert "7 steps of 4 dialogues by muon, 1.0 times" in " ".join(capsys.readouterr().out.split())


def test_a_cpu_computes_few_rows_of_a_large_model_at_a_time() -> None:
    command = FinetuneCommand(run=Path("base"), method="dpo")
    assert fit_to_cpu(command, GPT2Config()).train.micro_batch == 1
    assert fit_to_cpu(command, GPT2Config(n_layer=4, n_embd=128, n_head=4)) == command
    chosen = replace(command, train=replace(command.train, micro_batch=16))
    assert fit_to_cpu(chosen, GPT2Config()) == chosen


def test_show_prints_what_is_learned_and_writes_nothing(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert finetune("base", "--data", "chat.jsonl", "--show", "2") == 0
    out = capsys.readouterr().out
    assert "Where is drum" in out
    assert "<|assistant|>" in out
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ("", "finetune needs a run to begin from"),
        ("nowhere --data chat.jsonl", "nowhere"),
        ("base --data nothing.jsonl", "nothing.jsonl"),
        ("base --data text.txt", "text.txt"),
        ("base --data chat.jsonl --epochs 0", "--epochs 0"),
        ("base --data chat.jsonl --replay 1", "--replay 1"),
        ("base --data chat.jsonl --out base", "already holds a run"),
        ("--resume base", "was not finetuned"),
        ("unfinished --data chat.jsonl", "error: unfinished/model.safetensors does not exist"),
        ("base --data tiny-questions chat.jsonl", "mixes a built-in task"),
        ("base --data chat.jsonl --method best", "best"),
        ("base --data chat.jsonl --examples 100", "--examples 100 is for a built-in task"),
        ("base --data tiny-questions --examples 1", "--examples 1 must be at least 2"),
        ("base --data tiny-questions --examples 20", "do not fit"),
        ("base --data chat.jsonl --system=", "--system is empty; give it a text"),
        ("base --data chat.jsonl --system=a\udcff", "--system is not UTF-8 text: \\xff at"),
        ("base --data chat.jsonl --lora.rank 4", "--lora.* is for --method lora"),
        ("base --data chat.jsonl --method dpo --dropout 0.1", "--dropout 0.1 is for --method sft"),
        ("base --data chat.jsonl --dropout 1", "--dropout 1.0 must be at least 0 and at most 0.9"),
        ("base --data chat.jsonl --method lora --lora.rank 99", "--lora.rank 99"),
        ("base --data chat.jsonl --method lora --lora.alpha 1e308", "--lora.alpha 1e+308 must be"),
        ("base --data chat.jsonl --method lora --lora.alpha 1e-320", "--lora.alpha 1e-320 must be"),
        ("base --data chat.jsonl --method lora --lora.targets lm_head", "the head shares"),
        ("base --data chat.jsonl --method lora --train.optimizer muon", "muon"),
    ],
)
def test_a_wrong_use_gets_one_sentence(
    folder: Path, flags: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree("base", "unfinished")
    Path("unfinished/model.safetensors").unlink()
    assert finetune(*flags.split()) == 2
    [line] = capsys.readouterr().err.strip().splitlines()[-1:]
    assert line.startswith("error: ")
    assert words in line
