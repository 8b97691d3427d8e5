"""visualization/neurons.py, predicates.py: AUC against pairs, planted neurons, plain sentences."""

from pathlib import Path

import pytest
import torch
from oracles.world_run import new_world_run
from oracles.world_stories import sample, vocabulary
from torch import Tensor

from data.tiny_world.english import ENGLISH
from data.tiny_world.stories import LANGUAGES, corpus
from tokenizer import Tokenizer
from visualization.command import open_inspection
from visualization.facts import outcomes
from visualization.ideal import IdealReader, read_ideally, story_tokens
from visualization.ideal_view import describe_english
from visualization.neurons import auc, contexts_of, neurons_of, ranks, search
from visualization.predicates import TextRead, predicates_for
from visualization.settings import InspectCommand

N, MIDDLE = 400, 200


def by_pairs(values: Tensor, answer: Tensor) -> float:
    """Returns the share of pairs in which the true one is above, a tie for one half."""
    above = values[answer][:, None] - values[~answer][None]
    return float(((above > 0).double() + 0.5 * (above == 0).double()).mean())


def test_auc_is_the_share_of_pairs_in_order() -> None:
    generator = torch.Generator().manual_seed(3)
    values = torch.randn(60, 5, generator=generator).round(decimals=1)  # with ties
    answers = torch.rand(60, 4, generator=generator) < 0.3
    table = auc(ranks(values), answers)
    assert table.shape == (5, 4)
    for neuron in range(5):
        for column in range(4):
            expected = by_pairs(values[:, neuron], answers[:, column])
            assert float(table[neuron, column]) == pytest.approx(expected, abs=1e-12)


def test_planted_neurons_are_found_and_shuffled_answers_find_none() -> None:
    generator = torch.Generator().manual_seed(4)
    layers = [torch.randn(N, 30, generator=generator) for _ in range(3)]
    answers = {
        name: torch.rand(N, generator=generator) < share
        for name, share in (("high", 0.4), ("low", 0.2), ("nowhere", 0.3))
    }
    layers[1][:, 7] += 8 * answers["high"]
    layers[2][:, 29] -= 8 * answers["low"]
    answers["seldom"] = torch.arange(N) < 2
    found = {each.predicate: each for each in search(layers, answers, MIDDLE)}
    assert found.keys() == {"high", "low", "nowhere"}
    high, low, nowhere = found["high"], found["low"], found["nowhere"]
    assert (high.layer, high.neuron, high.sign) == (1, 7, 1)
    assert (low.layer, low.neuron, low.sign) == (2, 29, -1)
    assert min(high.auc, low.auc, high.auc_found, low.auc_found) > 0.99
    # the best of 90 on noise: on the half on which it is chosen it looks like something
    assert nowhere.auc_found > 0.58 and abs(nowhere.auc - 0.5) < 0.1
    for each in found.values():
        assert each.shuffled_found > 0.56 and abs(each.shuffled - 0.5) < 0.06


def test_contexts_are_the_highest_places_of_a_neuron_or_the_lowest() -> None:
    text = list(range(100, 120))
    places = [(text, t) for t in range(20)]
    values = torch.zeros(20)
    values[12], values[3] = 5.0, -4.0
    best = contexts_of(values, 1, places)[0]
    assert (best.ids[best.at], best.value, best.ids) == (112, 5.0, text[4:15])
    best = contexts_of(values, -1, places)[0]
    assert (best.ids[best.at], best.value, best.ids) == (103, -4.0, text[:6])


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return new_world_run(tmp_path_factory.mktemp("run"))


def true_at(text: TextRead, name: str) -> list[str]:
    """Returns the tokens up to which a predicate is true, each with the one behind it."""
    answers = predicates_for(text.language)[name](text)
    assert len(answers) == len(text.tokens)
    after = [*text.texts[1:], "<end>"]
    return [f"{here}|{after[t]}" for t, here in enumerate(text.texts) if answers[t]]


def test_predicates_of_an_english_sentence(run: Path) -> None:
    tokenizer = Tokenizer.load(run)
    whole = 'Max was in the garden. Anna went to the garden. "Hello, Max!" she said.'
    text = TextRead(tokenizer.encode(whole), tokenizer, "en")
    assert true_at(text, "next_place") == [" the| garden", " the| garden"]
    assert true_at(text, "next_place_is_known") == [" the| garden"]
    assert true_at(text, "is_place") == [" garden|.", " garden|."]
    assert true_at(text, "next_is_pronoun") == ['!"| she']
    assert "".join(part.split("|")[1] for part in true_at(text, "next_ends_sentence"))[0] == "."
    both = true_at(text, "both_are_named")
    assert both[0].endswith("| went") and both[-1] == ".|<end>"
    girl = true_at(text, "last_person_is_girl")
    assert girl[0].endswith("| went") and "| Max" in girl[-1] + girl[-2]
    assert not true_at(text, "thing_is_named") and not true_at(text, "next_thing")


def test_predicates_of_russian_words_in_bytes() -> None:
    tokenizer = Tokenizer.train(["a b"], 257)  # each letter of Cyrillic is two tokens
    text = TextRead(
        tokenizer.encode("Аня пошла в сад. «Аня в саду», — сказал он."), tokenizer, "ru"
    )
    places = [t for t, answer in enumerate(predicates_for("ru")["next_place"](text)) if answer]
    before = [tokenizer.decode(list(text.tokens[: t + 1])) for t in places]
    assert before == ["Аня пошла в", "Аня пошла в сад. «Аня в"]
    known = predicates_for("ru")["next_place_is_known"](text)
    assert sum(known) == 1 and known[places[1]]  # another form of the same place
    quoted = predicates_for("ru")["in_quotation"](text)
    inside = [id for id, is_in in zip(text.tokens, quoted, strict=True) if is_in]
    # from the second byte of the mark on, to the first one of the mark that closes
    assert tokenizer.decode(inside[1:-1]) == "Аня в саду"


@pytest.mark.parametrize("world", list(LANGUAGES))
def test_predicates_of_the_world_follow_its_events(world: str) -> None:
    tokenizer, language = vocabulary(world, "1200"), LANGUAGES[world]
    reader, wrong = IdealReader(tokenizer, language), 0
    for story in sample(world, 7):
        tokens = story_tokens(story.text, tokenizer)
        text = TextRead(tokens, tokenizer, "ru" if world.endswith("ru") else "en", reader)
        told = {span.event.kind: span for span in read_ideally(tokens, reader).told}
        asked = predicates_for(text.language)
        start = told["fulfil"].last if "fulfil" in told else len(tokens)
        fulfilled = asked["wish_is_fulfilled"](text)
        assert fulfilled == [t >= start for t in range(len(tokens))]
        held = asked["thing_is_held"](text)
        if "lies" in told or "knows" in told:  # nobody has it before somebody takes it
            assert not any(held[: told["take"].last if "take" in told else len(tokens)])
        assert all(held[start:]) and not held[told["person"].last]
        together, apart = asked["people_are_together"](text), told.get("too", told["person"])
        assert not any(together[: apart.first])
        assert not asked["somebody_is_wrong"](text)[told["want"].last]
        described = [
            describe_english(state) for _, state in outcomes(read_ideally(tokens, reader).told)
        ]
        assert any("believes" in so for so in described) == any(asked["somebody_is_wrong"](text))
        wrong += any(asked["somebody_is_wrong"](text))
    assert wrong > 0


def test_the_view_of_a_world_and_of_another_text(run: Path, tmp_path: Path) -> None:
    view = neurons_of(open_inspection(InspectCommand(run=run, story=0)))
    assert view.n_neurons == 2 * 64 and {"next_place", "in_quotation", "wish_is_fulfilled"} <= {
        found.predicate for found in view.found
    }
    assert all(0 <= found.auc <= 1 for found in view.found)
    for found in view.found:
        values = [context.value for context in view.contexts[f"{found.layer}.{found.neuron}"]]
        assert len(values) == 6
    other = new_world_run(tmp_path, path="verse.txt")
    prompt = corpus(ENGLISH, 0, 1)[1][0].text
    view = neurons_of(open_inspection(InspectCommand(run=other, prompt=prompt)))
    assert view.n_texts == 1 and "next_place" not in {found.predicate for found in view.found}
    assert {"next_repeats"} <= {found.predicate for found in view.found}
