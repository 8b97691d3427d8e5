"""What will be learned: dialogues as the model reads them, the learned tokens marked, and counts.

    <|user|>
    Where is the basket?<|endoftext|>
    <|assistant|>
    ▌In the attic.<|endoftext|>▐

A dialogue that is too long for the model loses its oldest turns, whole. One whose last question and
answer do not fit is left out and counted; nothing is ever cut.
Previous: dialogues.py.  Next: lora_settings.py.
"""

from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby

from rich.console import Console
from rich.text import Text

from cfg_gpt2 import require
from finetuning.chat_format import Dialogue, EncodedDialogue, encode_dialogue
from run_directory.printable import printable
from tokenizer import Tokenizer

MAX_LEFT_OUT = 0.01  # of the dialogues, without --leave-out-long
MARKS, PLAIN_MARKS = ("▌", "▐"), ("[", "]")  # around what is learned, where there is no colour
LEARNED, READ = "bold green", "dim"


def fit(dialogue: Dialogue, tokenizer: Tokenizer, context_length: int) -> EncodedDialogue | None:
    """Returns the tokens of a dialogue without the oldest turns that do not fit; None: none fits.

    The system message and the last question with its answer always stay, and turns leave whole.
    The model reads all tokens but the last, so at most context_length + 1 of them fit.
    None as well where no message that is learned stays.
    Raises UnseenCharacter as encode_dialogue does.
    """
    n_system = int(dialogue[0].role == "system")
    n_pairs = (len(dialogue) - n_system) // 2

    def without(n_left: int) -> EncodedDialogue:
        kept = dialogue[:n_system] + dialogue[n_system + 2 * n_left :]
        return encode_dialogue(kept, tokenizer)

    def fits(n_left: int) -> bool:
        return len(without(n_left).tokens) <= context_length + 1

    whole = without(0)
    if len(whole.tokens) <= context_length + 1:
        return whole
    n_left = bisect_left(range(n_pairs), True, lo=1, key=fits)
    encoded = without(n_left) if n_left < n_pairs else None
    return encoded if encoded and any(encoded.is_learned) else None


@dataclass
class Counts:
    """How much of the dialogues is read and learned."""

    n_dialogues: int = 0
    n_left_out: int = 0  # those whose last question and answer do not fit
    n_shortened: int = 0  # those that lose their oldest turns
    n_tokens: int = 0
    n_learned: int = 0
    longest: int = 0  # tokens of the longest dialogue that fits

    def add(
        self, dialogue: Dialogue, encoded: EncodedDialogue | None, tokenizer: Tokenizer
    ) -> None:
        """Counts a dialogue with what `fit` returned for it."""
        self.n_dialogues += 1
        if encoded is None:
            self.n_left_out += 1
            return
        self.n_shortened += encoded.tokens.count(tokenizer.end_of_text) < len(dialogue)
        self.n_tokens += len(encoded.tokens)
        self.n_learned += sum(encoded.is_learned)
        self.longest = max(self.longest, len(encoded.tokens))

    def lines(self, context_length: int) -> list[str]:
        """Returns the counts in words."""
        share = self.n_learned / max(1, self.n_tokens)
        line = (
            f"{self.n_dialogues:,} dialogues, {self.n_tokens:,} tokens, {share:.1%} of them "
            f"learned, longest {self.longest:,}"
        )
        long = f"longer than the {context_length + 1:,} tokens that the model can learn from"
        lines = [line if self.n_left_out else f"{line}, none left out"]
        if self.n_shortened:
            lines.append(f"without their oldest turns: {self.n_shortened:,}, for they are {long}")
        if self.n_left_out:
            lines.append(
                f"left out: {self.n_left_out:,}, for even without older turns they are {long}"
            )
        return lines


def require_few_left_out(
    counts: Counts, context_length: int, *, leave_out_long: bool, unit: str = "dialogues"
) -> None:
    """Raises ValueError where many dialogues are too long, unless the user agreed to that."""
    if leave_out_long:
        allowed = counts.n_left_out < counts.n_dialogues
        advice = "take a model with a longer context"
    else:
        allowed = counts.n_left_out <= MAX_LEFT_OUT * counts.n_dialogues
        advice = "leave them out by --leave-out-long, or take a model with a longer context"
    require(
        allowed,
        f"{counts.n_left_out:,} of {counts.n_dialogues:,} {unit} do not fit: even without "
        f"older turns they have more than {context_length + 1:,} tokens, for the model's context "
        f"is {context_length:,}; {advice}",
    )


def preview(
    dialogues: Iterable[Dialogue],
    tokenizer: Tokenizer,
    context_length: int,
    n_shown: int,
    console: Console,
) -> Counts:
    """Prints the first dialogues as they are learned, then the counts of all; returns the counts.

    Raises UnseenCharacter as encode_dialogue does.
    """
    counts = Counts()
    for number, dialogue in enumerate(dialogues, start=1):
        encoded = fit(dialogue, tokenizer, context_length)
        counts.add(dialogue, encoded, tokenizer)
        if number <= n_shown:
            n_learned = sum(encoded.is_learned) if encoded else 0
            head = (
                f"{len(encoded.tokens):,} tokens, {n_learned:,} of them learned"
                if encoded
                else ("left out, for it is too long")
            )
            console.print(Text(f"dialogue {number:,}: {head}", style="bold"))
            if encoded:
                console.print(shown(encoded, tokenizer, console), end="\n\n")
    for line in counts.lines(context_length):
        console.print(line)
    return counts


def shown(encoded: EncodedDialogue, tokenizer: Tokenizer, console: Console) -> Text:
    """Returns the text of a dialogue with what is learned in colour, or else between marks."""
    marks = ("", "")
    if console.no_color or console.color_system is None:
        marks = MARKS if can_show("".join(MARKS), console.encoding) else PLAIN_MARKS
    text = Text()
    tokens = zip(encoded.tokens, encoded.is_learned, strict=True)
    for is_learned, part in groupby(tokens, key=lambda token: token[1]):
        words = printable(tokenizer.decode([id for id, _ in part]))
        begin, end = marks if is_learned else ("", "")
        text.append(f"{begin}{words}{end}", style=LEARNED if is_learned else READ)
    return text


def can_show(text: str, encoding: str) -> bool:
    """Returns whether an encoding of the output has the letters of a text."""
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return False
    return True
