"""64 seeded requests, 16 at a time, with joins and cancellations: each text is as if alone.

The shape is that of GPT-2 with 124 M parameters, but narrower: 12 layers and 12 heads.
"""

import os
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from oracles.answer import Answer
from oracles.random_model import random_model
from oracles.source_tree import ROOT

from cfg_gpt2 import GPT2Config
from decoding.engine import complete
from decoding.settings import SamplingConfig
from native import compiled
from serving.engine import Engine
from tokenizer import Tokenizer

pytestmark = pytest.mark.slow
SIZES = GPT2Config(vocab_size=300, context_length=256, n_layer=12, n_head=12, n_embd=96)
N_REQUESTS, N_SLOTS = 64, 16
SETTINGS = (
    SamplingConfig(max_new_tokens=64, temperature=0.8),
    SamplingConfig(max_new_tokens=40, temperature=1.0, top_p=0.9),
    SamplingConfig(max_new_tokens=90, temperature=1.2, top_k=40, repetition_penalty=1.1),
    SamplingConfig(max_new_tokens=50, temperature=0),
)


@pytest.mark.parametrize("native", [False, True])
def test_64_requests_together_are_the_64_alone(native: bool) -> None:
    tokenizer = Tokenizer.train(["a b c"], 259)
    model = random_model(SIZES, std=0.1, seed=1)
    if native:
        if reason := compiled.missing(model):
            pytest.skip(reason)
        compiled.compile_model(model)
    generator = torch.Generator().manual_seed(2)
    engine, answers = Engine(model, tokenizer, N_SLOTS, max_waiting=N_REQUESTS), []
    stem = torch.randint(250, (100,), generator=generator).tolist()  # a third begins with it
    engine.start()
    prompts = []
    for number in range(N_REQUESTS):
        length = int(torch.randint(1, 156, (1,), generator=generator))
        own = torch.randint(250, (length,), generator=generator).tolist()
        prompts.append(stem + own if number % 3 == 0 else own)
        answers.append(Answer())
        config = replace(SETTINGS[number % len(SETTINGS)], seed=number)
        ticket = engine.submit(prompts[-1], config, answers[-1])
        if number % 8 == 5:
            if number % 16 == 5:  # the others while they wait, or during the prompt
                while len(answers[-1].pieces) < 3:
                    pass
            ticket.cancel()
    for number, answer in enumerate(answers):
        answer.wait()
        config = replace(SETTINGS[number % len(SETTINGS)], seed=number)
        (row,) = complete(model, [prompts[number]], config, tokenizer)
        pieces = answer.pieces
        if number % 8 == 5:
            assert pieces.pop().finish_reason == "cancelled"
        n = len(pieces)
        assert [piece.token for piece in pieces] == row.tokens[:n]
        assert [p.log_probability for p in pieces] == pytest.approx(
            row.log_probabilities[:n], abs=1e-4
        )
        if number % 8 != 5:
            assert n == len(row.tokens)
            assert answer.text == row.text
    engine.stop(0)


ENDS_WITHOUT_STOP = """
from oracles.answer import Answer
from oracles.served_run import SIZES, TOKENIZER
from oracles.random_model import random_model
from oracles.source_tree import ROOT
from decoding.settings import SamplingConfig
from serving.engine import Engine
engine, answer = Engine(random_model(SIZES), TOKENIZER), Answer()
engine.start()
engine.submit([1], SamplingConfig(max_new_tokens=10**6), answer)
while len(answer.pieces) < 9:
    pass
"""


def test_a_program_that_does_not_stop_its_engine_ends_in_order() -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([".", "tests"])}
    command = [sys.executable, "-c", ENDS_WITHOUT_STOP]
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
