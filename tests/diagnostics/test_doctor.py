"""main.py doctor: every diagnosis on a run that really has the fault, none on a healthy one."""

import json
import math
import re
import string
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from oracles.small_run import FP32

import main
from cfg_gpt2 import DataConfig, GPT2Config, RunConfig, TrainConfig
from commands.language import language_of
from diagnostics.doctor import curve, finetuned, machine
from diagnostics.doctor import english as english_texts
from diagnostics.doctor import russian as russian_texts
from diagnostics.doctor.command import sentences
from diagnostics.doctor.curve import Diagnosis, Run, diagnose, read_run
from gpt2 import GPT2Model
from load_data import load_corpus
from run_directory.config_file import write_config
from trainer import Batch, Trainer
from training.kernels.cross_entropy import fused_language_model_loss
from training.progress import new_console
from training.sums import Sums

TRAIN = TrainConfig(
    max_steps=100,
    batch_size=8,
    learning_rate=3e-3,
    final_learning_rate=3e-4,
    warmup_steps=10,
    beta2=0.99,
    eval_every=20,
    device="cpu",
    precision="fp32",
)
NAMES = ["Anna", "Boris", "Clara", "David", "Emma", "Frank"]
PLACES = ["river", "forest", "market", "mountain"]


def sums(n: int) -> str:
    """Lines that follow a rule, no two alike, so that new ones can be predicted."""
    return "".join(
        f"{NAMES[i * 7 % 6]} went {i % 9973} steps to the {PLACES[i * 5 % 4]}.\n" for i in range(n)
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Run]:
    def run(
        train: TrainConfig = TRAIN,
        text: str | None = None,
        share: float | None = None,
        change: Callable[[Trainer], object] = lambda trainer: None,
    ) -> Run:
        """Trains for a second or two, as main.py train does."""
        folder = tmp_path_factory.mktemp("run")
        file = folder / "text.txt"
        file.write_text(text or sums(2000), encoding="utf-8")
        data = DataConfig(
            path=(str(file),),
            tokenizer="char",
            cache_dir=str(folder / "cache"),
            validation_share=share,
        )
        corpus = load_corpus(data)
        model = GPT2Config(
            vocab_size=corpus.tokenizer.vocab_size,
            context_length=32,
            n_layer=1,
            n_head=2,
            n_embd=32,
            dropout=0.0,
        )
        config = RunConfig(model=model, data=data, train=train)
        torch.manual_seed(1)
        trainer = Trainer(GPT2Model(model), corpus, config, folder, FP32, new_console())
        trainer.state.save = lambda: None  # nothing is resumed, and pictures take longer than steps
        change(trainer)
        trainer.train()
        write_config(folder, config)
        return read_run(folder)

    return run


def names(run: Run) -> list[str]:
    return [diagnosis.name for diagnosis in diagnose(run)]


def faults(run: Run) -> list[str]:
    return [diagnosis.name for diagnosis in diagnose(run) if diagnosis.wrong]


@pytest.fixture(scope="module")
def healthy(trained: Callable[..., Run]) -> Run:
    return trained(replace(TRAIN, max_steps=400, eval_every=100))


def test_a_healthy_run_has_no_diagnosis(healthy: Run) -> None:
    assert diagnose(healthy) == []


def test_a_learning_rate_of_1_is_too_high(trained: Callable[..., Run]) -> None:
    run = trained(replace(TRAIN, learning_rate=1.0, final_learning_rate=1.0))
    assert {"diverged", "rate_too_high"} & set(faults(run))
    found = next(d for d in diagnose(run) if d.name in ("diverged", "rate_too_high"))
    assert found.values["try"] == "0.0006"


def test_a_learning_rate_of_a_ten_millionth_is_too_low(trained: Callable[..., Run]) -> None:
    run = trained(replace(TRAIN, learning_rate=1e-7, final_learning_rate=1e-8))
    assert faults(run) == ["rate_too_low"]
    assert "--train.learning-rate 0.0006" in sentences(diagnose(run)[0], "en")["try"]


def test_a_validation_split_of_forty_characters_is_too_small(trained: Callable[..., Run]) -> None:
    text = sums(2000)
    run = trained(replace(TRAIN, max_steps=20), text, share=40 / len(text))
    found = next(d for d in diagnose(run) if d.name == "validation_tiny")
    assert 35 <= int(found.values["n"]) <= 45
    enough = float(found.values["share"])
    assert enough * len(text) > 1_000


def test_many_epochs_of_a_small_text_overfit(
    trained: Callable[..., Run],
) -> None:
    letters = torch.randint(26, (3000,), generator=torch.Generator().manual_seed(1)).tolist()
    text = "".join(string.ascii_lowercase[i] for i in letters)
    steps = replace(TRAIN, max_steps=300, learning_rate=1e-2, final_learning_rate=1e-3)
    run = trained(steps, text, share=0.4)
    assert faults(run) == ["overfitting"]
    assert "still_falling" not in {d.name for d in diagnose(run)}  # more steps would be worse
    found = next(d for d in diagnose(run) if d.name == "overfitting")
    assert int(found.values["step"]) < 300


def test_weights_that_are_too_large_begin_far_above_a_uniform_guess(
    trained: Callable[..., Run],
) -> None:
    def enlarge(trainer: Trainer) -> None:
        with torch.no_grad():
            trainer.model.token_embedding.weight.mul_(50)

    run = trained(replace(TRAIN, max_steps=20), change=enlarge)
    assert "initial_loss" in faults(run)
    assert run.lines[0]["val_loss"] > math.log(run.config.model.vocab_size) + 1


def test_a_garbage_batch_is_a_spike_and_an_exploding_gradient(
    trained: Callable[..., Run],
) -> None:
    def disturb(trainer: Trainer) -> None:
        def loss_fn(model: GPT2Model, batch: Batch) -> tuple[torch.Tensor, torch.Tensor, Sums]:
            total, count, extra = fused_language_model_loss(model, batch)
            rubbish = model.training and trainer.state.step == 80
            return total * (1000 if rubbish else 1), count, extra

        trainer.objective = partial(loss_fn, trainer.model)

    run = trained(change=disturb)
    found = {d.name: d for d in diagnose(run)}
    assert found["spikes"].values["step"] == "81"
    assert found["spikes"].values["n"] == "1"
    assert "gradients_explode" in found


def test_a_loss_of_nan_is_diagnosed(trained: Callable[..., Run]) -> None:
    def disturb(trainer: Trainer) -> None:
        def loss_fn(model: GPT2Model, batch: Batch) -> tuple[torch.Tensor, torch.Tensor, Sums]:
            total, count, extra = fused_language_model_loss(model, batch)
            spoiled = model.training and trainer.state.step == 5
            return total * (math.nan if spoiled else 1), count, extra

        trainer.objective = partial(loss_fn, trainer.model)

    run = trained(replace(TRAIN, max_steps=20), change=disturb)
    assert "not_finite" in faults(run)


def test_vanishing_gradients_are_diagnosed(trained: Callable[..., Run]) -> None:
    def flatten(trainer: Trainer) -> None:
        with torch.no_grad():  # every token's vector is all but zero, and the head is the same
            trainer.model.final_norm.weight.mul_(1e-6)
            trainer.model.token_embedding.weight.mul_(1e-6)

    slow = replace(TRAIN, max_steps=40, learning_rate=1e-9, final_learning_rate=1e-9)
    assert "gradients_vanish" in faults(trained(slow, change=flatten))


def test_a_clipping_limit_below_every_gradient_is_diagnosed(trained: Callable[..., Run]) -> None:
    run = trained(replace(TRAIN, grad_clip=1e-3, max_steps=60))
    found = next(d for d in diagnose(run) if d.name == "always_clipped")
    assert not found.wrong
    assert float(found.values["try"]) > 1e-3


def test_a_run_that_ends_while_its_loss_falls_is_diagnosed(trained: Callable[..., Run]) -> None:
    run = trained(replace(TRAIN, max_steps=24, learning_rate=1e-2, final_learning_rate=1e-2))
    assert "still_falling" in names(run)


def test_an_interrupted_run_is_diagnosed(healthy: Run) -> None:
    cut = Run(healthy.path, healthy.config, healthy.lines[:200])
    found = next(d for d in diagnose(cut) if d.name == "stopped_early")
    assert (found.values["step"], found.values["max_steps"]) == ("199", "400")
    assert not found.wrong


def test_a_loss_far_above_the_entropy_floor_is_diagnosed(tmp_path: Path) -> None:
    flags = [
        "--data.stories",
        "100",
        "--data.cache-dir",
        str(tmp_path / "cache"),
        "--model.n-layer",
        "1",
        "--model.n-embd",
        "32",
        "--model.n-head",
        "2",
        "--train.max-steps",
        "30",
        "--train.batch-size",
        "2",
        "--train.eval-every",
        "30",
        "--train.device",
        "cpu",
    ]
    run = tmp_path / "world"
    assert main.main(["train", "--out", str(run), *flags]) == 0
    found = next(d for d in diagnose(read_run(run)) if d.name == "far_from_floor")
    assert float(found.values["bits"]) > 1.25 * float(found.values["floor"])


# Words and exit status ----------------------------------------------------------------------


def test_both_languages_have_the_same_texts_with_the_same_figures() -> None:
    assert english_texts.TEXTS.keys() == russian_texts.TEXTS.keys()
    assert english_texts.LABELS.keys() == russian_texts.LABELS.keys()

    def figures(texts: tuple[str, ...]) -> set[str | None]:
        return {name for text in texts for _, name, _, _ in string.Formatter().parse(text)}

    for name, english in english_texts.TEXTS.items():
        russian = russian_texts.TEXTS[name]
        assert len(english) == len(russian) == 3
        assert figures(english) == figures(russian), name
    for name, english in english_texts.LABELS.items():
        assert figures((english,)) == figures((russian_texts.LABELS[name],)), name


@pytest.mark.parametrize(
    ("environment", "language"),
    [
        ({"LANG": "ru_RU.UTF-8"}, "ru"),
        ({"LANG": "ru_RU.UTF-8", "LC_ALL": "C"}, "en"),
        ({"LANG": "en_US.UTF-8", "LC_ALL": "ru_RU"}, "ru"),
        ({}, "en"),
    ],
)
def test_the_language_is_the_locale(environment: dict[str, str], language: str) -> None:
    assert language_of(environment) == language


def test_a_healthy_run_ends_with_0_and_a_sick_one_with_1(
    healthy: Run, trained: Callable[..., Run], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.main(["doctor", str(healthy.path), "--language", "en"]) == 0
    assert "Nothing is wrong." in capsys.readouterr().out
    sick = trained(replace(TRAIN, max_steps=40, learning_rate=1e-7, final_learning_rate=1e-8))
    assert main.main(["doctor", str(sick.path), "--language", "ru"]) == 1
    output = capsys.readouterr().out
    assert "Скорость обучения 1e-07 слишком мала" in output
    assert "попробуйте: --train.learning-rate 0.0006" in output
    assert main.main(["doctor", str(sick.path), "--json"]) == 1
    record = json.loads(capsys.readouterr().out)
    assert [found["name"] for found in record["found"] if found["wrong"]] == ["rate_too_low"]


def test_data_that_is_missing_is_a_fault_of_the_machine(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.main(["doctor", "--data.path", str(tmp_path / "none.txt")]) == 1
    assert "none.txt does not exist" in capsys.readouterr().out


def test_a_full_disk_and_a_missing_compiler_are_diagnosed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Usage:
        free = 10**6

    monkeypatch.setattr(machine.shutil, "disk_usage", lambda folder: Usage)
    monkeypatch.setattr(machine, "missing_compiler", lambda device: "a C++ compiler")
    monkeypatch.setattr(machine, "available_memory", lambda: 10**6)
    found = machine.examine_machine(DataConfig(), tmp_path).diagnoses
    wrong = {diagnosis.name for diagnosis in found if diagnosis.wrong}
    assert {"disk_full", "memory_short"} <= wrong
    assert "no_compiler" in {diagnosis.name for diagnosis in found}
    for diagnosis in found:
        for language in ("en", "ru"):
            assert all(sentences(diagnosis, language).values())


def test_the_russian_facts_have_russian_words(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(machine, "missing_compiler", lambda device: "a C++ compiler")
    main.main(["doctor", "--language", "ru"])
    rows = [re.split(r"  +", line.strip()) for line in capsys.readouterr().out.splitlines()]
    facts = {row[0]: row[1] for row in rows if len(row) == 2}
    assert facts["программы"].startswith("torch 2.")
    assert facts["устройство"].split(",")[0] in ("cpu", "cuda", "mps")
    assert facts["диск, свободно"].endswith(" ГБ")
    assert facts["компилятор"] == "- (компилятор C++)"
    assert all(" GB" not in fact and "thread" not in fact for fact in facts.values())


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "metrics.jsonl does not exist; train first"),
        ("", "is empty; train first"),
        ("nonsense\n", "metrics.jsonl, line 1, is not JSON"),
        ('{"loss": 1}\n', "metrics.jsonl, line 1, has no step"),
        ('{"step": 0}\n{"step": "1"}\n', "metrics.jsonl, line 2, has no number for step"),
        ('{"step": 1, "val_loss": [1]}\n', "line 1, has no number for val_loss; remove that line"),
        ("[" * 9_000 + "\n", "line 1, is not JSON: nested more"),
    ],
)
def test_a_folder_that_is_no_run_ends_in_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str | None, sentence: str
) -> None:
    write_config(tmp_path, RunConfig())
    if content is not None:
        (tmp_path / "metrics.jsonl").write_text(content, encoding="utf-8")
    assert main.main(["doctor", str(tmp_path)]) == 2
    assert sentence in capsys.readouterr().err
    assert main.main(["doctor", str(tmp_path / "nothing")]) == 2
    assert "does not exist" in capsys.readouterr().err


def test_every_text_has_a_diagnosis_that_names_it() -> None:
    sources = [machine, curve, finetuned]
    code = "".join(Path(str(module.__file__)).read_text(encoding="utf-8") for module in sources)
    assert [name for name in english_texts.TEXTS if f'"{name}"' not in code] == []
    assert Diagnosis("spikes").wrong
