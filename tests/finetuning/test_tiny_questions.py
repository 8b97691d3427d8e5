from itertools import islice

import pytest

from finetuning.chat_format import require_turns
from finetuning.tiny_questions.dialogues import TASKS, example, examples
from finetuning.tiny_questions.exam import KINDS_OF_EXAM, PARTS, exam, situations

BOTH = pytest.mark.parametrize("task", TASKS)


@BOTH
def test_a_dialogue_depends_on_its_arguments_alone(task: str) -> None:
    drawn = list(islice(examples(task, "train", seed=1), 20))
    assert [example(task, "train", index, seed=1) for index in reversed(range(20))] == drawn[::-1]
    assert example(task, "validation", 3, seed=1) != drawn[3]
    assert example(task, "train", 3, seed=2) != drawn[3]


@BOTH
def test_users_and_answers_take_turns_and_the_right_answer_is_last(task: str) -> None:
    for drawn in islice(examples(task, "train"), 200):
        require_turns(drawn.dialogue)
        assert drawn.dialogue[-1].content == drawn.answers[0]
        assert drawn.dialogue[-1].is_learned
        assert not set(drawn.answers) & set(drawn.distractors)


def test_an_unknown_task_and_split_are_refused() -> None:
    with pytest.raises(ValueError, match="task 'x' is unknown; choose one of tiny-questions"):
        example("x", "train", 0)
    with pytest.raises(ValueError, match="split \\('x'\\) must be one of train, validation"):
        example("tiny-questions", "x", 0)


@BOTH
@pytest.mark.parametrize("part", PARTS)
def test_an_exam_never_changes_and_has_every_kind(task: str, part: str) -> None:
    items = exam(task, 2, part)
    assert items == exam(task, 2, part)
    assert [item.kind for item in items] == [kind for kind in KINDS_OF_EXAM for _ in range(2)]


def test_an_unknown_part_and_situation_of_the_exam_are_refused() -> None:
    with pytest.raises(
        ValueError, match="part 'x' of the exam is unknown; choose one of seen, wording, pair"
    ):
        exam("tiny-questions", 1, "x")
    with pytest.raises(ValueError, match="situation 'x' is unknown; choose one of single, several"):
        situations("tiny-questions", "x", 1)
