"""The texts of `python main.py learn` in English; those of one exercise are in its own file.

russian.py has the same texts with the same figures.
Previous: facts.py.  Next: russian.py.
"""

LABELS = {
    "passed": "{name}   all {count} checks pass. {path} is right.",
    "failed": "{name}   {right} of {count} checks pass. The first that does not:",
    "unusable": "{name}   {path} could not be checked:",
    "check": "check",
    "output": "output",
    "place": "place",
    "input": "input there",
    "computed": "computed",
    "expected": "expected",
    "difference": "difference",
    "allowed": "allowed",
    "formula": "formula",
    "line": "line {line}",
    "known": "Known mistake: {name}. Your numbers equal those of this mistake to {to}.",
    "known_noise": "Known mistake: {name}. Yours fails in the same checks as this mistake.",
    "two": "Two known mistakes at once: {name}. Your numbers equal those of both to {to}.",
    "facts": "No known mistake computes these numbers. What can be said of them:",
    "no_facts": "No known mistake computes these numbers, and nothing simple can be said of them.",
    "more": "more",
    "see": "see it",
    "next": "next",
    "train": "train with it",
    "printed": "Your file printed:",
    "yours": "yours",
    "right": "right",
    "list": "The parts of GPT-2, to be written by you. What you have written lies in {folder}/.",
    "edited": "{path} was edited or cut; what is done was compared with your files all the same.",
    "not_begun": "not begun",
    "begun": "begun",
    "done": "done",
    "changed": "changed, check again",
    "tries": "checks {checks}, hints {hints}",
    "shown": ", solution seen",
    "started": "{path} is written. Open it in your editor, fill it in, then:",
    "kept": "{path} is there already and stays as it is. Go on with it, then:",
    "solution": "One solution, written out; {root} has the one that the project uses:",
    "hint": "hint {rung} of {count}",
    "no_more": "These were all hints. The solution: {command}",
    "lookup": "A row looks at the columns: blank is 0, then . : - = + * # % @, which is 1.",
    "side_by_side": "{steps} steps beside the original, same weights, same texts: the losses "
    "differ by {gap} at most.",
    "witness": "Your {name} ran {times} times, the one of the root files {root} times.",
    "hint_place": "Look at the place where `{target}` comes from: {formula}.",
    "hint_return": "Look at what is returned: {formula}.",
    "hint_shape": " It has the shape {shape}.",
    "hint_gap": "One way to write it, with a gap:  {line}",
    "picture": "The picture is in {path}.",
}

AXES = {
    "row": "row",
    "head": "head",
    "position": "position",
    "query": "query",
    "key": "key",
    "channel": "channel",
}

OUTPUTS = {
    "y": "the output, {shape}",
    "grad": "the gradient by {name}, {shape}; the output is right",
    "grad_too": "the gradient by {name}, {shape}",
    "influence": "how much the output at each position depends on the input at each position",
    "differs": "whether two calls in train() differ: dropout must be on",
}

FAILURES = {
    "syntax": "Line {line} is no Python: {message}.",
    "forbidden": "Line {line} uses {name}: this exercise is to write it out.",
    "forbidden_call": "Line {line} calls {message}: this exercise is to write it out.",
    "not_begun": "Line {line} still raises NotImplementedError: write the code that belongs there.",
    "no_class": "There is no class {name} in the file; the check looks for it by this name.",
    "no_module": "The class gives a {type}, not an nn.Module; begin it as the stub does.",
    "no_tensor": "forward() returns a {type}, not a tensor; is there a return in it?",
    "names": "The parameters are named {yours}; expected are {expected}. Weights are copied by "
    "name.",
    "weight_shape": "The parameter {name} has the shape {yours}; expected is {expected}.",
    "input_changed": "Your code changes its input x in place, which others still need; work on a "
    "new tensor, such as x = x + 1 for x += 1.",
    "crash": "Line {line} raises {type}: {message}",
    "shapes": "On this line: {shapes}.",
    "memory": "Line {line} asks for more memory than there is; which tensor is that large?",
    "exit_called": "Line {line} ends the program (SystemExit); a part only returns its output.",
    "exited": "Your code has ended the process with status {status}; a part only returns its "
    "output.",
    "killed": "Python itself was ended by signal {signal} while your code ran.",
    "endless": "Your code was stopped: one check took longer than {seconds} s. Is there a loop "
    "without an end?",
    "shape": "The shape is {got}; expected is {expected}.",
    "dtype": "The dtype is {got}; expected is {expected}, that of the input.",
}

FACTS = {
    "axes_exchanged": "The right numbers are there, but two axes are exchanged.",
    "only_reshape": "The right numbers are there in the right order; only the shape is another.",
    "not_finite": "{count} of {all} numbers are NaN or infinite.",
    "no_gradient": "No gradient arrives at {names}: is there a detach, .data or no_grad on the "
    "way, or is it not used?",
    "right_gradients": "The gradients by {names} are right.",
    "negative": "Some weights are negative.",
    "sums_along": "The numbers sum to 1 along the axis {axis}; they should along the axis "
    "{expected_axis}.",
    "sums": "Each row should sum to 1; yours sum to {least} up to {most}.",
    "all_zero": "Every number is 0.",
    "sign": "Every number has the wrong sign.",
    "factor": "Every number is {factor} times the expected{name}.",
    "factor_of_each": "Along the axis {axis} each slice is the expected one times a factor of its "
    "own, {least} to {most}.",
    "plus_input": "Your output is the expected one plus the input {name}.",
    "minus_input": "Your output is the expected one minus the input {name}.",
    "plus_weight": "Your output is the expected one plus {name} once more.",
    "minus_weight": "Your output is the expected one without {name}.",
    "offset": "Every number is the expected one plus {offset}.",
    "offset_of_each": "Along the axis {axis} each slice is the expected one plus a number of its "
    "own.",
    "order": "The numbers are right but in another order along the axis {axis}: the expected ones "
    "0 1 2 ... stand at {order}.",
    "moved": "The numbers are right, but at other places.",
    "not_zero": "A number is not 0 where it must be: {axis} {t}, {other_axis} {s} ({count} such).",
    "zero": "A number is 0 where it must not be: {axis} {t}, {other_axis} {s} ({count} such).",
    "right_for": "Right for x = {spans}, wrong elsewhere.",
    "right_where": "It is right where {whens}.",
    "wrong_even": "It is wrong even where {whens}.",
    "when": "Where {when}: {fact}",
    "right_at": "Right where {axis} is {places} (of 0-{last}), wrong elsewhere.",
    "future": "The future changes the past: the output at position {t} changes when the input at "
    "position {s} does ({count} such pairs).",
    "leak": "Position {t} sees position {s}, which it may not ({count} such pairs).",
    "blind": "Position {t} does not see position {s}, which it should ({count} such pairs).",
}
