"""The command `benchmark`, called as from a shell, and the jobs that it plans."""

import json
import re
from pathlib import Path

import pytest

import main
from benchmarks.candidates import (
    decoding_jobs,
    finetuning_jobs,
    loading_jobs,
    scaling_jobs,
    tokenizing_jobs,
    training_jobs,
)
from benchmarks.command import read_text, share_measurements, unique_jobs
from benchmarks.interleaved import Measurement, roofline_of
from benchmarks.job import Job
from benchmarks.peers import PACKAGES, read_peers
from benchmarks.report import fit_columns
from benchmarks.roofline import measure_roofline
from benchmarks.settings import (
    Decoding,
    Finetuning,
    Loading,
    Scaling,
    Tokenizing,
    Training,
    overview,
)
from training.machine import cpu_name, describe_machine, instructions, shortened

MICRO = ["--preset", "shakespeare-char", "--n-layer", "1", "--n-head", "2", "--n-embd", "16",
         "--context-length", "16", "--batch-size", "2", "--device", "cpu",
         "--rounds", "2", "--steps", "1", "--warmup", "0"]  # fmt: skip
BOOK = """
from torch import nn

class GPTModel(nn.Sequential):
    def __init__(self, cfg):
        print("a peer may print")
        super().__init__(nn.Embedding(cfg["vocab_size"], cfg["vocab_size"]))
"""
NANOGPT = "raise MemoryError('no room for this peer')"


@pytest.fixture
def peers(tmp_path: Path) -> dict[str, str]:
    """Replacements of two peers: a book that runs, a nanoGPT that fails."""
    nanogpt, book = tmp_path / "nanoGPT", tmp_path / "book"
    for folder, file, text in ((nanogpt, "model.py", NANOGPT), (book, "gpt.py", BOOK)):
        folder.mkdir()
        (folder / file).write_text(text, encoding="utf-8")
    return {"nanogpt": str(nanogpt), "book": str(book)}


def test_a_benchmark_measures_the_project_and_its_peers_and_writes_all_files(
    tmp_path: Path,
    peers: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("benchmarks.roofline.MIN_SECONDS", 0.0)
    monkeypatch.setattr("benchmarks.roofline.MEMORY_BYTES", 1 << 20)
    monkeypatch.setattr("benchmarks.command.roofline_of", lambda job, _: measure_roofline(job))
    monkeypatch.setattr("benchmarks.command.is_faster_in_bf16", lambda device: False)
    named = ",".join(f"{name}={folder}" for name, folder in peers.items())
    out = tmp_path / "result"
    flags = ["--peers", named, "--out", str(out), "--profile"]
    assert main.main(["benchmark", "training", *MICRO, *flags]) == 0
    output = capsys.readouterr().out
    assert "GFLOP/s" in output and "GB/s" in output and "speed ratio" in output
    assert "MemoryError: no room for this peer" in output
    result = json.loads((out / "result.json").read_text(encoding="utf-8"))
    rows = {row["name"]: row for row in result["rows"]}
    assert rows["nanoGPT fp32 compiled"]["died"] == "MemoryError: no room for this peer"
    assert rows["ours"]["rate"]["low"] > 0 and rows["the book fp32"]["ahead"]["low"] > 0
    assert rows["ours"]["operations"] > 0 and rows["ours"]["limit"] > 0
    ours = next(one for one in result["measured"] if one["job"]["name"] == "ours")
    assert len(ours["rounds"]) == 2 and ours["rounds"][0]["units"] == 2 * 16
    assert str(tmp_path) not in result["command"] and "book=book" in result["command"]
    assert result["machine"]["date"] and result["machine"]["torch"]
    # the keys of result files that exist already
    assert {"target", "unit", "machine", "model", "limits", "said", "measured"} < set(result)
    assert {"name", "rate", "ahead", "limit", "died"} < set(result["rows"][0])
    assert {"job", "ready", "rounds", "died"} < set(ours) and ours["job"]["contender"] == "ours"
    assert {path.name for path in out.iterdir()} >= {
        "result.json", "result.md", "result.png", "profile-ours.txt",
    }  # fmt: skip
    assert not list(out.glob("*.part"))


@pytest.mark.slow
def test_the_limits_of_the_machine_are_measured_in_a_process(tmp_path: Path) -> None:
    limits = roofline_of(training_jobs(Training(), {}, bf16=False)[0][0], tmp_path)
    assert limits.best("fp32") and limits.best("memory")


def test_a_benchmark_whose_candidates_have_all_failed_ends_with_status_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(jobs: list[Job], *others: object, **flags: bool) -> list[Measurement]:
        return [Measurement(job=job, error="MemoryError: no room") for job in jobs]

    monkeypatch.setattr("benchmarks.command.measure", fail)
    flags = ["--out", str(tmp_path / "result"), "--rounds", "1"]
    assert main.main(["benchmark", "loading", *flags]) == 1
    assert "failed: MemoryError: no room" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["nonsense"], "benchmark nonsense is unknown; choose one of training"),
        (["training", "--peers", "gpt5"], "--peers gpt5 is unknown; choose from transformers"),
        (["training", "--peers", "nanogpt"], "write nanogpt=FOLDER"),
        (["training", "--peers", "nanogpt=/nowhere"], "--peers nanogpt=/nowhere is no folder"),
        (["training", "--peers", "book=."], "has no ch04"),
        (["training", "--peers", "transformers=x"], "it is a package"),
        (["training", "--rounds", "0"], "--rounds 0 must be 1 or more"),
        (["training", "--round", "3"], "perhaps you meant --rounds; see python main.py"),
        (["training", "--rounds", "x"], "error: --rounds x is not a whole number"),
        (["training", "--n-embd", "10"], "--n-embd 10 must be a multiple of --n-head 12"),
        (["training", "--preset", "gpt9"], "--preset gpt9 is unknown"),
        (["training", "--batch-size", "0"], "--batch-size 0 must be 1 or more"),
        (["decoding", "--context-length", "50"], "try --new-tokens 18"),
        (["tokenizing", "--text", "nope.txt"], "--text nope.txt does not exist"),
        (["tokenizing", "--peers", "none", "--vocabulary", "nope"], "nope is not a folder"),
        (["loading", "--batch-size", "0"], "--batch-size 0 must be 1 or more"),
        (["scaling", "--peers", "none"], "--peers"),
    ],
)
def test_wrong_flags_end_with_one_sentence_and_status_2(
    flags: list[str],
    expected: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main.main(["benchmark", *flags]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ") and captured.err.count("\n") == 1
    assert expected in captured.err


def test_help_lists_every_target_and_its_flags(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main.main(["benchmark", "--help"])
    output = capsys.readouterr().out
    assert output.strip() == overview()
    for target in ("training", "finetuning", "decoding", "tokenizing", "loading", "scaling"):
        assert f"python main.py benchmark {target}" in output
        with pytest.raises(SystemExit, match="0"):
            main.main(["benchmark", target, "--help"])
        assert "--rounds" in capsys.readouterr().out


def test_finetuning_is_compared_with_trl_alone_and_with_peft() -> None:
    for peers, expected in (
        (["trl"], ["lora", "ours", "trl"]),
        (["peft", "trl"], ["lora", "ours", "peft", "trl", "trl_lora"]),
    ):
        jobs, notes = finetuning_jobs(Finetuning(), dict.fromkeys(peers, ""), bf16=True)
        assert [job.candidate for job in jobs] == expected
        assert notes == []


def test_every_command_of_the_readme_is_a_target() -> None:
    text = (Path(main.__file__).parent / "benchmarks" / "README.md").read_text(encoding="utf-8")
    named = re.findall(r"python main.py benchmark (\w+)", text)
    assert len(named) >= 7 and set(named) <= set(re.findall(r"benchmark (\w+)", overview()))


def test_peers_are_those_of_the_flag_or_the_installed_packages(tmp_path: Path) -> None:
    (tmp_path / "model.py").touch()
    assert read_peers(f"nanogpt={tmp_path}") == {"nanogpt": str(tmp_path)}
    assert read_peers("none") == {}
    assert set(read_peers(None)) <= set(PACKAGES)


PEERS = {"transformers": "", "tiktoken": "", "nanogpt": "/n", "book": "/b"}


def test_training_has_bf16_rows_only_on_devices_with_bf16_instructions() -> None:
    jobs, notes = training_jobs(Training(), PEERS, bf16=False)
    assert [job.name for job in jobs] == [
        "ours", "nanoGPT fp32 compiled", "the book fp32", "Hugging Face fp32",
    ]  # fmt: skip
    assert any("no bf16 rows" in line for line in notes)
    assert "tiktoken takes no part in training" in notes
    jobs, notes = training_jobs(Training(), PEERS, bf16=True)
    assert [(job.name, job.precision, job.compiled) for job in jobs] == [
        ("ours", "auto", False),
        ("ours fp32", "fp32", False),
        ("nanoGPT fp32 compiled", "fp32", True),
        ("nanoGPT bf16 compiled", "bf16", True),
        ("the book fp32", "fp32", False),
        ("Hugging Face fp32", "fp32", False),
        ("Hugging Face bf16 compiled", "bf16", True),
    ]
    assert not any("bf16" in line for line in notes)
    assert {(job.batch_size, job.model.context_length, job.model.dropout) for job in jobs} == {
        (4, 256, 0.0)
    }
    assert {job.model.vocab_size for job in jobs} == {50257}


def test_a_narrow_terminal_leaves_out_optional_columns() -> None:
    table = [["", "tokens/s", "range", "warm-up"], ["ours", "12", "11 to 13", "1 s"]]
    assert fit_columns(table, 100) == table
    assert fit_columns(table, 38)[0] == ["", "tokens/s", "range"]
    assert fit_columns(table, 10)[0] == ["", "tokens/s"]


def test_decoding_has_a_row_for_one_text_and_for_a_batch_in_each_precision() -> None:
    peers = {**PEERS, "ctranslate2": "", "llama_cpp": ""}
    jobs, notes = decoding_jobs(Decoding(batch_size=3), peers)
    assert [(job.candidate, job.batch_size, job.precision) for job in jobs] == [
        (name, batch_size, precision)
        for batch_size in (1, 3)
        for precision, names in (
            ("fp32", ("ours", "nanogpt", "book", "transformers", "ctranslate2", "llama_cpp")),
            ("bf16", ("ours", "transformers", "llama_cpp")),
            ("int8", ("ours", "ctranslate2", "llama_cpp")),
        )
        for name in names
        if (name, batch_size) != ("llama_cpp", 3)
    ]
    assert notes == ["tiktoken takes no part in decoding"]
    assert len(decoding_jobs(Decoding(batch_size=1), {})[0]) == 3


def test_the_first_row_of_tokenizing_and_loading_is_the_project(tmp_path: Path) -> None:
    jobs, notes = tokenizing_jobs(Tokenizing(), PEERS, tmp_path, tmp_path)
    assert [job.candidate for job in jobs] == ["ours", "tiktoken", "transformers"]
    assert len(notes) == 2
    names = [job.candidate for job in loading_jobs(Loading())]
    assert names == ["ours", "memmap", "dataloader"]


def test_each_scaling_series_grows_one_size_and_the_shared_point_is_measured_once() -> None:
    jobs = scaling_jobs(Scaling())
    points = {
        name: [job.x for job in jobs if job.group == name]
        for name in ("batch", "context", "layers", "width")
    }
    assert points == {
        "batch": [1, 2, 4, 8],
        "context": [128, 256, 512, 1024],
        "layers": [3, 6, 12, 24],
        "width": [192, 384, 576, 768],
    }
    once = unique_jobs(jobs)
    assert len(once) == len(jobs) - 3
    again = share_measurements(
        jobs, [Measurement(job=job, error=str(n)) for n, job in enumerate(once)]
    )
    assert [one.job for one in again] == jobs
    assert len({one.error for one in again}) == len(once)


def test_a_text_file_loses_its_byte_order_mark_and_must_be_utf8_and_not_empty(
    tmp_path: Path,
) -> None:
    file = tmp_path / "text.txt"
    file.write_bytes("\ufeffпривет\r\n".encode())
    assert read_text(file) == "привет\r\n"
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match="not UTF-8 at byte 0"):
        read_text(file)
    file.write_bytes(b" \n")
    with pytest.raises(ValueError, match="is empty"):
        read_text(file)


def test_the_machine_is_described_by_processor_instructions_and_software() -> None:
    lines = describe_machine().lines()
    assert [line.split()[0] for line in lines] == ["machine", "software", "date"]
    info = "processor : 0\nmodel name\t: A fast one\nflags\t\t: fpu avx2 avx512f amx_tile\n"
    assert cpu_name(info) == "A fast one"
    assert instructions(info) == ["avx2", "avx512f", "amx_tile"]
    assert instructions("")  # what torch says of it


def test_paths_in_results_are_shortened_to_their_last_part() -> None:
    command = "python main.py benchmark training --peers nanogpt=/home/me/x/nanoGPT,book=~/b/book"
    assert shortened(command).endswith("--peers nanogpt=nanoGPT,book=book")
    assert shortened("LD_PRELOAD=/usr/lib/libx.so:/opt/y.so") == "LD_PRELOAD=libx.so:y.so"
    assert shortened("runs/a/b") == "runs/a/b"


def test_a_job_survives_the_pipe_as_one_line_of_json() -> None:
    from pydantic import TypeAdapter

    job = training_jobs(Training(), PEERS, bf16=True)[0][3]
    line = TypeAdapter(Job).dump_json(job)
    assert b"\n" not in line
    assert TypeAdapter(Job).validate_json(line) == job
