"""The formats of labelled data: how the fields of a row become a dialogue, a pair or a question.

    OpenAI messages      {"messages": [{"role": "user", "content": "..."}, ...]}
    ShareGPT             {"conversations": [{"from": "human", "value": "..."}, ...]}
    Alpaca               {"instruction": "...", "input": "...", "output": "..."}
    prompt, completion   {"prompt": "...", "completion": "..."}
    preference pairs     "chosen" and "rejected" beside a prompt of any of these forms
    questions            {"prompt": "...", "answers": ["..."], "kind": "..."}, for the exam too

A format is told by its keys, the first of FORMATS whose keys a row has. Texts may be messages.
Previous: conversations.py.  Next: rows.py.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from cfg_gpt2 import require
from data.json_lines import field_names, json_name
from finetuning.chat_format import ROLES, Dialogue, Message, require_turns
from run_directory.json_file import shortened

Fields = Mapping[str, object]

ROLE_NAMES = {"human": "user", "gpt": "assistant"}  # ShareGPT's names beside ROLES
MESSAGE_FIELDS = {"role", "from", "content", "value", "weight", "loss_weight"}
WEIGHTS = ("weight", "loss_weight")  # OpenAI's name, and LLaMA-Factory's
REFUSED = {  # fields that would change what is learned, and what they are
    "tools": "tools",
    "functions": "functions",
    "tool_calls": "calls of tools",
    "function_call": "calls of functions",
    "images": "images",
    "image": "images",
    "videos": "films",
    "audios": "sounds",
    "audio": "sounds",
    "refusal": "refusals beside the text",
    "kto_tag": "verdicts on single answers (KTO)",
}


@dataclass(frozen=True)
class Pair:
    """Two answers to one prompt, of which the first is the better one."""

    prompt: Dialogue  # ends with the user's message; nothing in it is learned
    chosen: Message
    rejected: Message


@dataclass(frozen=True)
class Question:
    """A prompt and the answers that are right."""

    prompt: Dialogue  # ends with the user's message
    answers: tuple[str, ...]
    kind: str  # of question, by which the exam counts; "" where the row does not say

    @property
    def dialogue(self) -> Dialogue:
        """The prompt with the first of the right answers."""
        return (*self.prompt, Message("assistant", self.answers[0]))


Value = Dialogue | Pair | Question


@dataclass(frozen=True)
class RowFormat:
    """A format of rows."""

    name: str
    keys: tuple[str, ...]  # that tell it
    others: tuple[str, ...]  # keys that it reads besides
    read: Callable[[Fields], Value]
    example: str


def format_of(fields: Fields) -> RowFormat:
    """Returns the format whose keys a row has. Raises ValueError where there is none."""
    for row_format in FORMATS:
        if all(key in fields for key in row_format.keys):
            return row_format
    known = "; ".join(" + ".join(row_format.keys) for row_format in FORMATS)
    raise ValueError(f"the fields {field_names(dict(fields))} make no known format: {known}")


def format_like(fields: Fields, first: RowFormat) -> RowFormat:
    """Returns the format of a further row: the first row's, or one of the same name."""
    same = (row_format for row_format in FORMATS if row_format.name == first.name)
    return next((f for f in same if all(key in fields for key in f.keys)), first)


def read_row(fields: Fields, row_format: RowFormat) -> Value:
    """Returns what a row holds. Raises ValueError, with an example, where it is malformed."""
    try:
        require_keys(fields, row_format)
        require_supported(fields)
        return row_format.read(fields)
    except ValueError as error:
        raise ValueError(f"{error}, as in {row_format.example}") from None


def require_keys(fields: Fields, row_format: RowFormat) -> None:
    """Raises ValueError where a row lacks one of the format's keys."""
    missing = next((key for key in row_format.keys if key not in fields), None)
    if missing is not None:
        raise ValueError(
            f"there is no {missing!r} but {field_names(dict(fields))}; the file's first row is "
            f"{row_format.name}, and all of its rows need its fields"
        )


def require_supported(fields: Fields) -> None:
    """Raises ValueError for a field that is no text and would change what is learned."""
    for key, what in REFUSED.items():
        require(
            not fields.get(key),
            f"{key!r} holds {what}, which are not supported; leave it out and give texts only",
        )
    require(
        not isinstance(fields.get("label"), bool),
        "'label' is a verdict on a single answer (KTO), which is not supported; give pairs of "
        "'chosen' and 'rejected', or leave it out together with the bad answers",
    )


def unread_fields(fields: Fields, row_format: RowFormat) -> set[str]:
    """Returns the names of the fields of a row, and of its messages, that nobody reads."""
    read = {*row_format.keys, *row_format.others}
    lists = [value for key, value in fields.items() if key in read and isinstance(value, list)]
    messages = [part for value in lists for part in value if isinstance(part, dict)]
    return (fields.keys() - read).union(*(part.keys() - MESSAGE_FIELDS for part in messages))


# Texts and messages ---------------------------------------------------------------------------


def text_in(fields: Fields, key: str) -> str:
    """Returns the text of a field. Raises ValueError where it is none, or empty."""
    text = optional_text(fields, key)
    require(key in fields, f"there is no {key!r}; give it a text")
    require(text != "", f"{key!r} is empty; give it a text")
    return text


def optional_text(fields: Fields, key: str) -> str:
    """Returns the text of a field, trimmed; "" where it is null or missing."""
    value = fields.get(key)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise ValueError(f"{key!r} is {json_name(value)} where a text is needed")
    return value.strip()


def read_messages(value: object, key: str) -> Dialogue:
    """Returns a list of messages. Raises ValueError, with its number, for the first bad one."""
    if not isinstance(value, list):
        raise ValueError(f"{key!r} is {json_name(value)} where a list of messages is needed")
    require(len(value) > 0, f"{key!r} is an empty list; give it messages")
    messages: list[Message] = []
    for number, message in enumerate(value, start=1):
        try:
            messages.append(read_message(message))
        except ValueError as error:
            raise ValueError(f"message {number} of {key!r}: {error}") from None
    return tuple(messages)


def read_message(value: object) -> Message:
    """Returns a message of either form: role and content, or from and value."""
    if not isinstance(value, dict):
        raise ValueError(f"it is {json_name(value)} where an object is needed")
    require_supported(value)
    role = value.get("role", value.get("from"))
    role = role.strip().lower() if isinstance(role, str) else role
    role = ROLE_NAMES.get(role, role) if isinstance(role, str) else role
    if not isinstance(role, str) or role not in ROLES:
        names = ", ".join((*ROLES, *ROLE_NAMES))
        shown = shortened(repr(role)) if isinstance(role, str) else json_name(role)
        missing = role is None and "role" not in value and "from" not in value
        has = "it has no 'role'" if missing else f"the role {shown} is not supported"
        raise ValueError(f"{has}; choose one of {names}")
    content = content_text(value.get("content", value.get("value")))
    return Message(role, content, is_learned=weight_of(value, role))


def content_text(content: object) -> str:
    """Returns the text of a message's content, which may be a list of parts."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        what = "no text" if content is None else f"{json_name(content)} where a text is needed"
        raise ValueError(f"its content is {what}; give it a text")
    texts: list[str] = []
    for part in content:
        kind = part.get("type") if isinstance(part, dict) else json_name(part)
        text = part.get("text", part.get("value")) if isinstance(part, dict) else None
        if kind != "text" or not isinstance(text, str):
            named = shortened(repr(kind)) if isinstance(kind, str) else json_name(kind)
            raise ValueError(f"a part of its content is {named} and no text; leave it out")
        texts.append(text)
    return "".join(texts)


def weight_of(fields: Fields, role: str) -> bool:
    """Returns whether a message is learned: an assistant's is, but for a weight of 0."""
    weights = [(key, fields[key]) for key in WEIGHTS if fields.get(key) is not None]
    for key, weight in weights:
        if isinstance(weight, bool) or weight not in (0, 1):
            shown = weight if isinstance(weight, int | float) else json_name(weight)
            raise ValueError(f"{key!r} is {shown}; only 0 and 1 are supported")
        require(
            role == "assistant" or weight == 0,
            f"{key!r} is 1 in the {role}'s message; only the assistant's are learned",
        )
    return role != "assistant" or all(weight == 1 for _, weight in weights)


def unlearned(messages: Sequence[Message]) -> Dialogue:
    """Returns messages whose answers are read and not learned."""
    return tuple(replace(m, is_learned=m.role != "assistant") for m in messages)


def with_system(fields: Fields, messages: Dialogue) -> Dialogue:
    """Returns messages with the row's own system message, if it has one, before them."""
    text = optional_text(fields, "system")
    if not text:
        return messages
    require(
        messages[:1] == () or messages[0].role != "system",
        "there is a system message beside 'system'; leave one of them out",
    )
    return (Message("system", text), *messages)


def require_learnable(dialogue: Dialogue) -> Dialogue:
    """Returns a dialogue. Raises ValueError unless it ends with an answer and has one to learn."""
    require_turns(dialogue)
    require(
        any(message.role == "assistant" for message in dialogue),
        "there is no assistant's message; nothing would be learned; give it an answer",
    )
    require(
        dialogue[-1].role == "assistant",
        f"message {len(dialogue)}, the last, is the {dialogue[-1].role}'s; leave it out, or give "
        "it an answer",
    )
    require(
        any(message.is_learned for message in dialogue if message.role == "assistant"),
        "all of the assistant's messages have the weight 0; nothing would be learned; give one of "
        "them the weight 1, or leave the row out",
    )
    return dialogue


def require_prompt(messages: Dialogue) -> Dialogue:
    """Returns messages of which nothing is learned. Raises unless they end with the user's."""
    require_turns(messages)
    require(
        messages[-1:] != () and messages[-1].role == "user",
        "the prompt does not end with the user's message; end it where the answer begins",
    )
    return unlearned(messages)


# Dialogues ------------------------------------------------------------------------------------


def read_openai(fields: Fields) -> Dialogue:
    """Reads OpenAI's form."""
    return require_learnable(with_system(fields, read_messages(fields["messages"], "messages")))


def read_sharegpt(fields: Fields) -> Dialogue:
    """Reads ShareGPT's form."""
    messages = read_messages(fields["conversations"], "conversations")
    return require_learnable(with_system(fields, messages))


def read_alpaca(fields: Fields) -> Dialogue:
    """Reads Alpaca's form."""
    answer = Message("assistant", text_in(fields, "output"))
    return require_learnable((*alpaca_prompt(fields), answer))


def alpaca_prompt(fields: Fields) -> Dialogue:
    """Returns what stands before the answer: the system message, the history, the instruction."""
    history = fields.get("history") or []
    if not isinstance(history, list):
        raise ValueError(f"'history' is {json_name(history)} where a list of turns is needed")
    messages: list[Message] = []
    for number, turn in enumerate(history, start=1):
        if not (
            isinstance(turn, list) and len(turn) == 2 and all(isinstance(t, str) for t in turn)
        ):
            raise ValueError(f"turn {number} of 'history' is not a list of question and answer")
        messages += [Message("user", turn[0]), Message("assistant", turn[1])]
    parts = [optional_text(fields, "instruction"), optional_text(fields, "input")]
    text = "\n\n".join(filter(None, parts))
    require(text != "", "'instruction' and 'input' are empty; give one of them a text")
    return with_system(fields, (*messages, Message("user", text)))


def read_completion(fields: Fields) -> Dialogue:
    """Reads a prompt and its completion, of which alone is learned."""
    prompt = read_prompt(fields)
    completion = fields["completion"]
    if isinstance(completion, list):
        answer = read_messages(completion, "completion")
    else:
        answer = (Message("assistant", text_in(fields, "completion")),)
    return require_learnable((*prompt, *answer))


def read_prompt(fields: Fields) -> Dialogue:
    """Returns the prompt, a text of the user's or messages that end with one."""
    if isinstance(fields.get("prompt"), list):
        messages = read_messages(fields["prompt"], "prompt")
    else:
        messages = (Message("user", text_in(fields, "prompt")),)
    return require_prompt(with_system(fields, messages))


# Preference pairs -----------------------------------------------------------------------------


def read_pair(fields: Fields) -> Pair:
    """Reads a prompt with a chosen and a rejected answer."""
    return pair_of(fields, read_prompt(fields))


def read_alpaca_pair(fields: Fields) -> Pair:
    """Reads an instruction with a chosen and a rejected answer."""
    return pair_of(fields, require_prompt(alpaca_prompt(fields)))


def read_openai_pair(fields: Fields) -> Pair:
    """Reads messages with a chosen and a rejected answer to them."""
    messages = with_system(fields, read_messages(fields["messages"], "messages"))
    return pair_of(fields, require_prompt(messages))


def read_sharegpt_pair(fields: Fields) -> Pair:
    """Reads a conversation with a chosen and a rejected answer to it."""
    messages = with_system(fields, read_messages(fields["conversations"], "conversations"))
    return pair_of(fields, require_prompt(messages))


def read_whole_pair(fields: Fields) -> Pair:
    """Reads two dialogues with the same prompt in both."""
    value = fields["chosen"]
    if not isinstance(value, list):
        raise ValueError(f"'chosen' is {json_name(value)} without a 'prompt'; give it a 'prompt'")
    messages = read_messages(value, "chosen")
    return pair_of(fields, require_prompt(messages[:-1]))


def pair_of(fields: Fields, prompt: Dialogue) -> Pair:
    """Returns a prompt with the row's two answers. Raises ValueError where they are the same."""
    chosen = answer_in(fields, "chosen", prompt)
    rejected = answer_in(fields, "rejected", prompt)
    require(
        chosen.content != rejected.content,
        "'chosen' and 'rejected' are the same text; leave the row out, or change one of them",
    )
    return Pair(prompt, chosen, rejected)


def answer_in(fields: Fields, key: str, prompt: Dialogue) -> Message:
    """Returns the answer of a field: a text, a message, or messages that may repeat the prompt."""
    value = fields[key]
    if not isinstance(value, list | dict):
        return Message("assistant", text_in(fields, key))
    messages = read_messages(value if isinstance(value, list) else [value], key)
    before = unlearned(messages[:-1])
    require(
        before in ((), prompt, prompt[1:]),
        f"the messages of {key!r} before its last are not the prompt; give the answer only",
    )
    answer = messages[-1]
    require(
        answer.role == "assistant", f"{key!r} ends with the {answer.role}'s message; give an answer"
    )
    return replace(answer, is_learned=True)


# Questions ------------------------------------------------------------------------------------


def read_question(fields: Fields) -> Question:
    """Reads a prompt with the answers that are right."""
    return Question(read_prompt(fields), answers_in(fields), optional_text(fields, "kind"))


def answers_in(fields: Fields) -> tuple[str, ...]:
    """Returns the right answers: of the field "answers", a list, or of "answer", a text."""
    require(
        fields.get("answers") is None or fields.get("answer") is None,
        "there are both 'answer' and 'answers'; leave one of them out",
    )
    value = fields.get("answers")
    if value is None:
        return (text_in(fields, "answer"),)
    if not isinstance(value, list) or not value:
        what = "an empty list" if value == [] else json_name(value)
        raise ValueError(f"'answers' is {what} where a list of texts is needed")
    texts = [{f"answer {number}": text} for number, text in enumerate(value, start=1)]
    return tuple(text_in(field, next(iter(field))) for field in texts)


def read_question_answer(fields: Fields) -> Question:
    """Reads a question with its answer, as in ProsQA."""
    prompt = with_system(fields, (Message("user", text_in(fields, "question")),))
    return Question(prompt, answers_in(fields), optional_text(fields, "kind"))


def read_block(fields: Fields) -> Question:
    """Reads a block of lines T:, Q: and A:, the prompt of which are the text and the question."""
    text, question = text_in(fields, "T"), text_in(fields, "Q")
    return Question((Message("user", f"{text}\n{question}"),), (text_in(fields, "A"),), "")


# All of them ----------------------------------------------------------------------------------

ALPACA = ("input", "history", "system")
ANSWERS = '"chosen": "...", "rejected": "..."}'
USER = '[{"role": "user", "content": "..."}]'
BOTH = '[{"role": "user", "content": "..."}, {"role": "assistant", "content": "..."}]'
QUESTION = '{"prompt": "...", "answers": ["..."], "kind": "..."}'

FORMATS = (
    RowFormat("preference pairs", ("prompt", "chosen", "rejected"), ("system",), read_pair,
              f'{{"prompt": "...", {ANSWERS}'),
    RowFormat("Alpaca preference pairs", ("instruction", "chosen", "rejected"), ALPACA,
              read_alpaca_pair, f'{{"instruction": "...", "input": "...", {ANSWERS}'),
    RowFormat("OpenAI messages with preference pairs", ("messages", "chosen", "rejected"),
              ("system",), read_openai_pair, f'{{"messages": {USER}, {ANSWERS}'),
    RowFormat("ShareGPT preference pairs", ("conversations", "chosen", "rejected"), ("system",),
              read_sharegpt_pair,
              f'{{"conversations": [{{"from": "human", "value": "..."}}], {ANSWERS}'),
    RowFormat("preference pairs of dialogues", ("chosen", "rejected"), (), read_whole_pair,
              f'{{"chosen": {BOTH}, "rejected": {BOTH}}}'),
    RowFormat("OpenAI messages", ("messages",), ("system",), read_openai,
              f'{{"messages": {BOTH}}}'),
    RowFormat("ShareGPT", ("conversations",), ("system",), read_sharegpt,
              '{"conversations": [{"from": "human", "value": "..."}, '
              '{"from": "gpt", "value": "..."}]}'),
    RowFormat("Alpaca", ("instruction", "output"), ALPACA, read_alpaca,
              '{"instruction": "...", "input": "...", "output": "..."}'),
    RowFormat("prompt and completion", ("prompt", "completion"), ("system",), read_completion,
              '{"prompt": "...", "completion": "..."}'),
    RowFormat("questions", ("prompt", "answer"), ("answers", "kind", "system"), read_question,
              QUESTION),
    RowFormat("questions", ("prompt", "answers"), ("answer", "kind", "system"), read_question,
              QUESTION),
    RowFormat("question and answer", ("question", "answer"), ("answers", "kind", "system"),
              read_question_answer, '{"question": "...", "answer": "..."}'),
    RowFormat("T, Q and A", ("T", "Q", "A"), (), read_block, "T: text, Q: question, A: answer"),
)  # fmt: skip
