import hashlib
from collections import Counter

import numpy as np
import pytest

from data.windows import FullWindows
from finetuning.chat_format import EncodedDialogue
from finetuning.dialogues import DialogueCorpus, DialogueRows, Replay, share_of_windows
from loss import IGNORE_INDEX
from tokenizer import Tokenizer

TOKENIZER = Tokenizer.train(["Where is Max? In the hall."] * 9, 280)
END = TOKENIZER.end_of_text


def dialogue(length: int, learned: int) -> EncodedDialogue:
    tokens = [*range(1, length), END]
    return EncodedDialogue(tokens, [False] * (length - learned) + [True] * learned)


def corpus(n: int = 300, replay: Replay | None = None) -> DialogueCorpus:
    rows = DialogueRows.of([dialogue(5 + k % 37, 2) for k in range(n)], TOKENIZER)
    return DialogueCorpus(TOKENIZER, rows, rows, replay)


def replay(share: float) -> Replay:
    stream = np.arange(1, 255, dtype=np.uint16)
    return Replay(FullWindows(stream, 16, seed=1), share, 16, hashlib.sha256(b"").hexdigest())


def test_targets_are_the_next_tokens_of_what_is_learned_and_nothing_else() -> None:
    rows = DialogueRows.of([dialogue(7, 3), dialogue(5, 2)], TOKENIZER)
    small = DialogueCorpus(TOKENIZER, rows, rows)
    [(tokens, targets)] = small.evaluation_batches(176, batch_size=2)
    assert tokens.shape == targets.shape == (2, 16)
    assert tokens[1, :6].tolist() == [1, 2, 3, 4, 5, 6]
    assert targets[1, :6].tolist() == [IGNORE_INDEX] * 3 + [5, 6, END]
    assert (targets[0] != IGNORE_INDEX).sum() == 2
    assert rows.n_targets == 5


def test_bytes_are_those_of_the_learned_text() -> None:
    ids = TOKENIZER.encode("In the hall.")
    asked = [7, 8, 9]
    row = EncodedDialogue([*asked, *ids, END], [False] * 3 + [True] * (len(ids) + 1))
    assert DialogueRows.of([row], TOKENIZER).n_bytes == len("In the hall.")


def test_every_dialogue_is_read_once_an_epoch() -> None:
    windows = corpus(300).windows(64, seed=3)
    for epoch in range(2):
        rows = [windows.row(n).tokens for n in range(300 * epoch, 300 * (epoch + 1))]
        assert Counter(map(len, rows)) == Counter(5 + k % 37 for k in range(300))
    assert windows.epochs(450) == [1.5]


def test_the_order_depends_on_the_seed_and_the_place_alone() -> None:
    first, again, other = (corpus().windows(64, seed=seed) for seed in (3, 3, 4))
    numbers = list(range(0, 900, 7))
    straight = [first.row(n).tokens.tolist() for n in numbers]
    backwards = [again.row(n).tokens.tolist() for n in reversed(numbers)]
    assert straight == backwards[::-1]
    assert straight != [other.row(n).tokens.tolist() for n in numbers]


def test_ranks_read_together_what_one_process_reads() -> None:
    windows = corpus().windows(64, seed=3)
    whole, _ = windows.batch(10, 8)
    parts = [windows.batch(10 + rank, 4, step=2)[0] for rank in range(2)]
    for rank, part in enumerate(parts):
        assert whole[rank::2, : part.size(1)].equal(part[:, : whole.size(1)])


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_replay_has_its_share_of_the_learned_tokens(share: float) -> None:
    windows = corpus(replay=replay(share)).windows(64, seed=3)
    rows = [windows.row(n) for n in range(4000)]
    replayed = sum(int(row.is_learned.sum()) - 1 for row in rows if row.is_learned.all())
    learned = sum(int(row.is_learned.sum()) for row in rows if not row.is_learned.all())
    assert replayed / (replayed + learned) == pytest.approx(share, abs=0.02)
    assert 0 < share_of_windows(windows.rows, replay(share)) < share


def test_the_hash_sees_tokens_masks_and_replay() -> None:
    longer = DialogueRows.of([dialogue(7, 3)], TOKENIZER)
    masked = DialogueRows.of([dialogue(7, 2)], TOKENIZER)
    corpora = [DialogueCorpus(TOKENIZER, rows, longer) for rows in (longer, masked)]
    corpora.append(DialogueCorpus(TOKENIZER, longer, longer, replay(0.1)))
    assert len({one.sha256() for one in corpora}) == 3


def test_no_dialogue_at_all_is_refused() -> None:
    with pytest.raises(ValueError, match="no dialogue to learn from"):
        DialogueRows.of([], TOKENIZER)
