"""Exercise: what one part of GPT-2 has to compute, how it is tested, which mistakes are known.

    Case      one call: how the part is built, its weights, its inputs
    Mistake   a change of the solution's source; the changed source is the mistake's twin
    Exercise  the task, the solution, an oracle that computes independently, cases, mistakes

A twin is run on the cases as the learner's code is. Equal numbers are the diagnosis.
Previous: catalogue.py.  Next: source.py.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from torch import Tensor, nn

from commands.language import Language

Outputs = dict[str, Tensor]  # "y", and what it depends on: "grad x", "grad weight"
Part = type[nn.Module]

BOUND = 2e-5  # relative, in fp32: 8 times above the worst right variant, 8 below any mistake


@dataclass(frozen=True)
class Text:
    """A text in two languages."""

    en: str
    ru: str

    def of(self, language: Language) -> str:
        """Returns the text in a language."""
        return self.ru if language == "ru" else self.en


@dataclass(frozen=True, kw_only=True)
class Case:
    """One call of a part, the same for every way to write it.

    kind: values compares the output and, with `gradients`, its derivatives; influence compares
    how much each position's output depends on each position's input; dropout compares whether two
    calls in train() differ.
    """

    name: Text
    arguments: tuple[object, ...]  # of the constructor
    inputs: tuple[Tensor, ...]
    weights: Mapping[str, Tensor] = field(default_factory=dict)
    axes: tuple[str, ...]  # of the output, as keys of the texts
    kind: Literal["values", "influence", "dropout"] = "values"
    gradients: bool = True
    autocast: bool = False  # to bf16
    bound: float = BOUND  # relative to the largest number of each output


@dataclass(frozen=True, kw_only=True)
class Probe:
    """A simplified case that is no check: whether the part is right then says where it is wrong.

    derive makes of an output the numbers that are compared, such as the scores behind weights.
    """

    when: Text  # what is simple: "all scores are equal"
    case: Case
    derive: Callable[[Tensor], Tensor] | None = None
    measure: Callable[[Tensor], dict[str, str]] | None = None  # figures, for `told`
    told: Text | None = None  # a sentence about the figures
    simplest: bool = False  # nothing is left that another probe could take away


@dataclass(frozen=True, kw_only=True)
class Mistake:
    """A known mistake: a change of the solution, what it is, and a question that leads out.

    is_noise: its numbers are rounding errors, which every way of writing has its own; so it is
    recognised by the cases that fail, not by the numbers.
    """

    name: str
    edits: tuple[tuple[str, str], ...]  # old and new text in the source of the solution
    says: Text
    asks: Text
    is_noise: bool = False


@dataclass(frozen=True, kw_only=True)
class Panel:
    """A map of `look`: how much each row looks at each column, from 0 to 1."""

    title: Text
    values: Tensor  # (T, S)
    labels: tuple[str, ...]  # of the rows
    columns: tuple[str, ...] = ()  # of the columns; none: as the rows


@dataclass(frozen=True, kw_only=True)
class Exercise:
    """One part of GPT-2 that the learner writes."""

    name: str  # attention
    file: str  # multiheadattention.py, which is also the root file that has the part
    part: Part  # the root file's own class
    title: Text
    formula: str
    task: Text  # above the stub: what is given, what is wanted, what is not to be used
    stub: str  # the code to begin with
    imports: str = ""  # what the solution needs beside torch and GPT2Config
    solution: Part  # written out, in the file of the exercise
    oracle: Part  # computes the same independently, in the dtype of its inputs
    cases: Callable[[int], list[Case]]  # from a seed
    probes: Callable[[int], list[Probe]]  # where no mistake is recognised
    mistakes: tuple[Mistake, ...]
    hints: tuple[Text, ...]  # where no mistake was recognised
    forbidden: frozenset[str]  # functions and classes that would do the work
    look: Callable[[Part], list[Panel]]

    def mistake(self, name: str) -> Mistake:
        """Returns the mistake of a name."""
        return next(mistake for mistake in self.mistakes if mistake.name == name)
