"""Log-probabilities of tokens in the two forms of OpenAI's API.

A token is named by its text; one that holds a part of a character, by its bytes, as in
bytes:\\xd0, for else two names could be equal. Offsets count the text of tokens. What a client
sees lags the tokens, so a token is told when its text is, and the tokens of a stop string never.
Previous: schemas.py.  Next: choices.py.
"""

from dataclasses import dataclass

from serving.scoring import Top
from serving.tickets import Piece
from tokenizer import Tokenizer


@dataclass(frozen=True)
class Scored:
    """A token with its log-probability in nats, and the likeliest tokens at its place."""

    token: int
    offset: int  # characters of the text before it
    log_probability: float | None  # None: the first token of a text that is echoed
    top: Top | None


class ShownTokens:
    """Tells of which tokens the text has been shown."""

    def __init__(self, tokenizer: Tokenizer, stop_tokens: tuple[int, ...], offset: int = 0) -> None:
        """Begins with no token.

        Args:
            tokenizer: the model's.
            stop_tokens: the ids that end a text and are not part of it.
            offset: characters that stand before the first token.
        """
        self.decoder = tokenizer.decode_stream()
        self.stop_tokens = stop_tokens
        self.n_decoded = self.n_shown = offset
        self.pending: list[Scored] = []

    def add(self, piece: Piece) -> list[Scored]:
        """Takes a piece, and returns the tokens that its text shows."""
        if piece.token is not None:
            scored = Scored(piece.token, self.n_decoded, piece.log_probability, piece.top)
            self.pending.append(scored)
            if piece.token not in self.stop_tokens:
                self.n_decoded += len(self.decoder.step(piece.token))
        self.n_shown += len(piece.text)
        if piece.finish_reason and self.n_decoded <= self.n_shown:  # no stop string was cut off
            shown, self.pending = self.pending, []
            return shown
        shown = [scored for scored in self.pending if scored.offset < self.n_shown]
        self.pending = self.pending[len(shown) :]
        return shown


def scored_prompt(
    tokenizer: Tokenizer, tokens: list[int], values: list[float], tops: list[Top]
) -> list[Scored]:
    """Returns the tokens of a prompt; the first one has no log-probability."""
    decoder, offset, scored = tokenizer.decode_stream(), 0, []
    for token, value, top in zip(tokens, [None, *values], [None, *tops], strict=True):
        scored.append(Scored(token, offset, value, top))
        offset += len(decoder.step(token))
    return scored


def name_of(tokenizer: Tokenizer, token: int) -> str:
    """Returns the text of a token, or its bytes where they are no text."""
    data = bytes_of(tokenizer, token)
    try:
        return data.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in data)


def bytes_of(tokenizer: Tokenizer, token: int) -> bytes:
    """Returns the bytes of a token; of an id that no token has, as models have some, b""."""
    try:
        return tokenizer.token_bytes(token)
    except ValueError:
        return b""


def for_completions(
    tokenizer: Tokenizer, scored: list[Scored], *, as_ids: bool = False
) -> dict[str, object]:
    """Returns the object "logprobs" of /v1/completions.

    With as_ids a token is named by its id, as in token_id:464, which is vLLM's form too.
    """

    def name(id: int) -> str:
        return f"token_id:{id}" if as_ids else name_of(tokenizer, id)

    def likeliest(each: Scored) -> dict[str, float] | None:
        if each.top is None or each.log_probability is None:
            return None
        named = {name(id): value for id, value in each.top}
        return {**named, name(each.token): each.log_probability}

    return {
        "tokens": [name(each.token) for each in scored],
        "token_logprobs": [each.log_probability for each in scored],
        "top_logprobs": [likeliest(each) for each in scored],
        "text_offset": [each.offset for each in scored],
    }


def for_chat(tokenizer: Tokenizer, scored: list[Scored]) -> dict[str, object]:
    """Returns the object "logprobs" of /v1/chat/completions."""

    def entry(id: int, value: float | None) -> dict[str, object]:
        data = bytes_of(tokenizer, id)
        return {"token": name_of(tokenizer, id), "logprob": value, "bytes": list(data)}

    content = [
        {
            **entry(each.token, each.log_probability),
            "top_logprobs": [entry(id, value) for id, value in each.top or ()],
        }
        for each in scored
    ]
    return {"content": content, "refusal": None}
