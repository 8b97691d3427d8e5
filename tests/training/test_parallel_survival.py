"""Several processes that are killed, signalled to stop or cut off from each other, and resumed.

Those of one host are forked from one that has imported torch once; two hosts are two network
namespaces with torchrun's rendezvous between them.
"""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from io import StringIO
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
import torch
from oracles.ports import free_ports
from oracles.small_run import TRAIN, VERSE, verse_corpus
from rich.console import Console

from cfg_gpt2 import GPT2Config, RunConfig
from gpt2 import GPT2Model
from trainer import Trainer
from training.checkpoint import RECORD_FILE, Checkpoints
from training.choose_runtime import choose_runtime
from training.kernels.cross_entropy import fused_language_model_loss
from training.parallel import FAILED
from training.progress import MetricsLog
from training.runtime import Ranks
from training.sharded_checkpoint import read_shards

ROOT = Path(__file__).parents[2]
N_STEPS = 24
STEPS = replace(TRAIN, max_steps=N_STEPS, eval_every=2, batch_size=5, compile="off")
N_KILLS = 20
PATIENCE = 20.0  # seconds for a process to see that another one is gone
BUSY = 100.0  # more of them on a busy machine, for one that was connected and is at work


def rank_of_run(rank: int, port: int, strategy: str, folder: Path, n_steps: int) -> None:
    """Runs one of two processes that begin or resume folder/run, and ends as main.py does."""
    torch.set_num_threads(1)
    os.environ |= {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": "2",
        "RANK": str(rank),
        "LOCAL_WORLD_SIZE": "2",
        "LOCAL_RANK": str(rank),
    }
    folder.mkdir(parents=True, exist_ok=True)
    train = replace(STEPS, strategy=strategy, max_steps=n_steps or N_STEPS)
    runtime = choose_runtime(train, ranks=Ranks.read(os.environ))
    try:
        with runtime.process_group():
            (folder / f"connected-{rank}").touch()
            corpus = runtime.local_rank_zero_first(lambda: verse_corpus(folder.parent))
            sizes = GPT2Config(
                vocab_size=corpus.tokenizer.vocab_size,
                context_length=8,
                n_layer=2,
                n_head=2,
                n_embd=16,
                dropout=0.1,
            )
            torch.manual_seed(1)
            run, console = RunConfig(model=sizes, train=train), Console(file=StringIO())
            (folder / "run").mkdir(parents=True, exist_ok=True)
            trainer = Trainer(
                GPT2Model(sizes),
                corpus,
                run,
                folder / "run",
                runtime,
                console,
                fused_language_model_loss,
            )
            trainer.state.resume()
            trainer.train()
    except OSError as error:
        (folder / f"error-{rank}").write_text(str(error))
        os._exit(FAILED)
    os._exit(128 + trainer.stopped_by if trainer.stopped_by else 0)


def started(folder: Path, strategy: str, n_steps: int = 0) -> Sequence[BaseProcess]:
    """Starts both processes of a run and returns them."""
    context = get_context("forkserver")
    context.set_forkserver_preload([__name__, "training.parallel", "matplotlib.figure"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(sys.path))  # Python 3.11 forgets it there
        (port,) = free_ports(1)
        both = [
            context.Process(target=rank_of_run, args=(rank, port, strategy, folder, n_steps))
            for rank in range(2)
        ]
        for child in both:
            child.start()
    return both


def ended(both: list[BaseProcess], folder: Path) -> list[int | None]:
    """Waits until both processes have ended, and returns their exit statuses.

    A process that was connected ends by itself when the other one is gone. One that waits for its
    first connection is ended by torchrun, with the signal that is sent here.
    """
    for rank, child in enumerate(both):
        child.join(PATIENCE)
        if (folder / f"connected-{rank}").exists():
            child.join(BUSY)
        if child.is_alive():
            assert not (folder / f"connected-{rank}").exists()
            child.terminate()
            child.join()
    for file in folder.glob("connected-*"):
        file.unlink()
    return [child.exitcode for child in both]


def contents(folder: Path) -> tuple[dict[str, torch.Tensor], list, bytes]:
    run = folder / "run"
    last = read_shards(run / "checkpoints" / f"step-{N_STEPS:06d}", like={})
    log = [
        {k: v for k, v in line.items() if k not in ("seconds", "tokens_per_second")}
        for line in MetricsLog(run).read()
    ]
    return last, log, (run / "model.safetensors").read_bytes()


def assert_uninterrupted(folder: Path, uninterrupted: Path) -> None:
    """Asserts equal bits as the uninterrupted run has, and each step once in metrics.jsonl."""
    (last, log, model), (last_there, log_there, model_there) = (
        contents(folder),
        contents(uninterrupted),
    )
    assert last.keys() == last_there.keys()
    assert [name for name in last if not torch.equal(last[name], last_there[name])] == []
    assert [line["step"] for line in log] == list(range(N_STEPS + 1))
    assert log == log_there
    assert model == model_there


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_two_processes_of_which_one_is_killed_resume_as_if_uninterrupted(
    tmp_path: Path, strategy: str
) -> None:
    began = time.monotonic()
    assert ended(started(tmp_path / "uninterrupted", strategy), tmp_path / "uninterrupted") == [
        0,
        0,
    ]
    took = time.monotonic() - began
    luck, n_kills, n_runs, in_save, alone = random.Random(7), 0, 0, 0, 0
    while n_kills < N_KILLS:
        n_runs += 1
        folder = tmp_path / f"run-{n_runs}"
        codes: list[int | None] = [None, None]
        while codes != [0, 0]:
            both = started(folder, strategy)
            if n_kills < N_KILLS:
                wait_for_a_moment(folder, both, luck, took)
                in_save += any((folder / "run" / "checkpoints").glob(".step-*"))
                victims = luck.choice([both, both[:1], both[1:]])
                for child in victims:
                    child.kill()
                codes = ended(both, folder)
                killed = codes.count(-signal.SIGKILL)
                n_kills += killed > 0
                if killed == 1 and len(victims) == 1:
                    alone += codes.count(FAILED)  # else it had reached its end
                assert set(codes) <= {0, FAILED, -signal.SIGKILL, -signal.SIGTERM}, codes
            else:
                codes = ended(both, folder)
                assert codes == [0, 0]
        assert_uninterrupted(folder, tmp_path / "uninterrupted")
    print(
        f"\n{strategy}: {n_kills} kills in {n_runs} runs, {in_save} in a save, {alone} survivors "
        "ended by themselves"
    )
    assert in_save > 0 and alone > 3
    message = next(tmp_path.glob("*/error-*")).read_text()
    assert "cannot reach the others" in message and "--resume" in message


def wait_for_a_moment(
    folder: Path, both: list[BaseProcess], luck: random.Random, took: float
) -> None:
    """Waits for a random moment; half the time one in which a checkpoint is being written."""
    saves, deadline = luck.random() < 0.5, time.monotonic() + luck.uniform(0.3, 1.0) * took
    while time.monotonic() < deadline and any(child.is_alive() for child in both):
        if saves and any((folder / "run" / "checkpoints").glob(".step-*")):
            return
        time.sleep(0.0005)


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_a_disk_that_fills_up_ends_both_processes_and_they_resume(
    small_disk: Path, tmp_path: Path, strategy: str
) -> None:
    assert ended(started(tmp_path / "uninterrupted", strategy), tmp_path / "uninterrupted") == [
        0,
        0,
    ]
    folder, run = tmp_path / "full", small_disk / "run"
    folder.mkdir()
    run.mkdir()
    (folder / "run").symlink_to(run)
    both = started(folder, strategy)
    while not (run / "checkpoints" / "step-000002").exists():
        assert both[0].is_alive()
        time.sleep(0.001)
    for child in both:
        child.kill()
    ended(both, folder)
    ballast = small_disk / "ballast"
    for left in (0, 40_000):  # not a line of metrics.jsonl, not a checkpoint
        reached = newest_step(run)
        for half in (run / "checkpoints").glob(".step-*"):
            shutil.rmtree(half)
        ballast.write_bytes(bytes(shutil.disk_usage(small_disk).free - left))
        assert ended(started(folder, strategy), folder) == [FAILED, FAILED]
        ballast.unlink()
        message = (folder / "error-0").read_text()
        assert "No space left on device" in message and "\n" not in message
        assert not list((run / "checkpoints").glob(".step-*"))
        assert newest_step(run) >= reached
    assert ended(started(folder, strategy), folder) == [0, 0]
    assert_uninterrupted(folder, tmp_path / "uninterrupted")


def newest_step(run: Path) -> int:
    """Returns the step of the newest checkpoint, and fails where it is damaged."""
    return Checkpoints(run, 2, pytest.fail).newest()[1].step


@pytest.mark.slow
@pytest.mark.parametrize("signalled", [0, 1])
def test_a_signal_to_one_process_stops_both_after_the_same_step(
    tmp_path: Path, signalled: int
) -> None:
    both = started(tmp_path / "signalled", "fsdp", n_steps=100_000)
    while not (tmp_path / "signalled" / "run" / "checkpoints" / "step-000002").exists():
        time.sleep(0.01)
    pid = both[signalled].pid
    assert pid is not None
    os.kill(pid, signal.SIGTERM)
    assert ended(both, tmp_path / "signalled") == [128 + signal.SIGTERM] * 2
    run = tmp_path / "signalled" / "run"
    last = max((run / "checkpoints").glob("step-*"))
    record = json.loads((last / RECORD_FILE).read_text())
    assert record["n_ranks"] == 2
    assert record["step"] == MetricsLog(run).read()[-1]["step"]


# Two hosts ----------------------------------------------------------------------------------


def command(*words: str) -> None:
    subprocess.run(words, check=True, capture_output=True)


@pytest.fixture
def hosts() -> Iterator[list[str]]:
    """Yields two network namespaces that are connected: 10.77.0.1 and 10.77.0.2."""
    names = [f"gpt2-host-{number}-{os.getpid()}" for number in (1, 2)]
    made: list[str] = []
    try:
        for name in names:
            command("ip", "netns", "add", name)
            made.append(name)
        first, second = names
        command(
            "ip",
            "link",
            "add",
            "cable",
            "netns",
            first,
            "type",
            "veth",
            "peer",
            "name",
            "cable",
            "netns",
            second,
        )
        for number, name in enumerate(names, start=1):
            here = ("ip", "-n", name)
            command(*here, "addr", "add", f"10.77.0.{number}/24", "dev", "cable")
            command(*here, "link", "set", "cable", "up")
            command(*here, "link", "set", "lo", "up")
        yield names
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no network namespaces can be made here: {error}")
    finally:
        for name in made:
            pids = subprocess.run(["ip", "netns", "pids", name], capture_output=True, text=True)
            for pid in pids.stdout.split():
                os.kill(int(pid), signal.SIGKILL)
            command("ip", "netns", "del", name)


def torchrun(name: str, number: int) -> list[str]:
    """Returns the command that starts torchrun in a namespace, with the address 10.77.0.number.

    No host name resolves to that address, so is_host says which torchrun serves the others.
    """
    flags = (
        "--nnodes 2 --nproc-per-node 1 --rdzv-backend c10d --rdzv-endpoint 10.77.0.1:29517 "
        f"--local-addr 10.77.0.{number} --rdzv-conf is_host={number == 1}"
    )
    python = ["ip", "netns", "exec", name, sys.executable]
    return [*python, "-m", "torch.distributed.run", *flags.split()]


def on_both(hosts: list[str], folder: Path, *arguments: str) -> list[subprocess.Popen]:
    """Starts torchrun on each host, with one process each, and returns both."""
    (folder / "verse.txt").write_text(VERSE * 60, encoding="utf-8")
    return [
        subprocess.Popen(
            [*torchrun(name, number), str(ROOT / "main.py"), "train", *arguments],
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=os.environ | {"GLOO_SOCKET_IFNAME": "cable", "OMP_NUM_THREADS": "1"},
        )
        for number, name in enumerate(hosts, start=1)
    ]


FLAGS = (
    "--data.path verse.txt --data.tokenizer char --model.n-layer 2 --model.n-embd 16 "
    "--model.n-head 2 --model.context-length 8 --train.batch-size 5 --train.eval-every 10 "
    "--train.device cpu --train.precision fp32 --train.optimizer adamw --train.learning-rate 3e-3"
)


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_two_hosts_learn_as_one_and_both_end_when_one_is_killed(
    hosts: list[str], tmp_path: Path, strategy: str
) -> None:
    steps = ["--train.max-steps", "50"]
    both = on_both(
        hosts, tmp_path, *FLAGS.split(), *steps, "--train.strategy", strategy, "--out", "two"
    )
    output = [process.communicate(timeout=300)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], output
    subprocess.run(
        [sys.executable, str(ROOT / "main.py"), "train", *FLAGS.split(), *steps, "--out", "one"],
        cwd=tmp_path,
        check=True,
        capture_output=True,
    )
    losses = [
        [
            line[name]
            for line in MetricsLog(tmp_path / out).read()
            for name in ("train_loss", "val_loss")
            if name in line
        ]
        for out in ("one", "two")
    ]
    assert len(losses[0]) == 56
    assert losses[1] == pytest.approx(losses[0], abs=1e-5)

    endless = ["--train.max-steps", "1000000", "--train.strategy", strategy, "--out", "killed"]
    both = on_both(hosts, tmp_path, *FLAGS.split(), *endless)
    while not (tmp_path / "killed" / "checkpoints" / "step-000010").exists():
        assert both[0].poll() is None
        time.sleep(0.05)
    pids = subprocess.run(["ip", "netns", "pids", hosts[1]], capture_output=True, text=True)
    for pid in pids.stdout.split():
        os.kill(int(pid), signal.SIGKILL)
    output = both[0].communicate(timeout=120)[0]
    both[1].wait()
    assert both[0].returncode != 0
    assert "error: process 0 of 2 cannot reach the others" in output, output

    saved = max(int(p.name[5:]) for p in (tmp_path / "killed" / "checkpoints").glob("step-*"))
    on = ["--resume", "killed", "--train.max-steps", str(saved + 10)]
    both = on_both(hosts, tmp_path, *on)
    output = [process.communicate(timeout=300)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], output
    lines = MetricsLog(tmp_path / "killed").read()
    assert [line["step"] for line in lines] == list(range(saved + 11))
    shutil.rmtree(tmp_path / "killed")
