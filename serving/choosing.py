"""Choosing the next tokens of rows that have different settings, and giving them out.

Rows with equal settings choose together; each draws with its own random numbers in any case.
Previous: tickets.py.  Next: engine.py.
"""

from torch import Tensor

from decoding.logits_processors import require_finite
from decoding.sampling import sample_rows
from decoding.settings import SamplingConfig
from serving.scoring import most_likely
from serving.tickets import Ticket


def choose(logits: Tensor, tickets: list[Ticket]) -> None:
    """Gives each ticket its next token by its row of logits, (B, V).

    A ticket for which no token can be chosen ends with an error, and no other one notices.
    """
    log_normalizer = logits.logsumexp(dim=-1)  # (B,)
    if not log_normalizer.isfinite().all():  # multinomial refuses nan with another sentence
        for ticket, row in zip(tickets, logits, strict=True):
            end_if_diverged(ticket, row)
    chosen: dict[int, int] = {}  # the token of each row
    for rows in by_settings(tickets):
        chosen |= draw(logits, tickets, rows)
    rows = list(chosen)
    values = logits[rows, list(chosen.values())] - log_normalizer[rows]  # (B,)
    for (i, token), value in zip(chosen.items(), values.tolist(), strict=True):
        ticket = tickets[i]
        top = most_likely(logits[i] - log_normalizer[i], ticket.n_top) if ticket.n_top else ()
        ticket.add(token, value, top)


def end_if_diverged(ticket: Ticket, logits: Tensor) -> None:
    """Ends a ticket with an error where its logits, (V,), are no numbers."""
    try:
        require_finite(logits)
    except ValueError as error:
        ticket.end("error", str(error))


def by_settings(tickets: list[Ticket]) -> list[list[int]]:
    """Returns the numbers of the tickets that go on, those with equal settings together."""
    groups: dict[SamplingConfig, list[int]] = {}
    for i, ticket in enumerate(tickets):
        if not ticket.is_done:
            groups.setdefault(ticket.choice, []).append(i)
    return list(groups.values())


def draw(logits: Tensor, tickets: list[Ticket], rows: list[int]) -> dict[int, int]:
    """Returns a token for each of some rows with equal settings, but for those that end here."""
    states = [tickets[i].row for i in rows]
    some = logits if len(rows) == len(tickets) else logits[rows]  # without a copy in most turns
    try:
        tokens = sample_rows(some, states, tickets[rows[0]].choice)  # (B, 1)
    except ValueError as error:  # no token is left; raised before anything is drawn
        if len(rows) == 1:
            tickets[rows[0]].end("error", str(error))
            return {}
        return {i: token for row in rows for i, token in draw(logits, tickets, [row]).items()}
    return dict(zip(rows, tokens[:, 0].tolist(), strict=True))
