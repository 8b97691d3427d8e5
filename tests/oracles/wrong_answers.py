"""Wrong answers that no list of mistakes has: edits of a solution, and what the check must say."""

INNER = "inner = math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)"
SHIFT = "(0 if self.bias is None else self.bias)"

Edits = list[tuple[str, str]]

WRONG: dict[str, dict[str, tuple[Edits, str]]] = {
    "gelu": {
        "no constant": ([(INNER, "inner = x + 0.044715 * x**3")], "1.253 times the expected (sqrt"),
        "x is added": ([("return x * gate", "return x + x * gate")], "plus the input x"),
        "clamped": ([("inner =", "x = x.clamp(-3, 3)\n        inner =")], "x = -3.00 .. 3.00"),
        "abs": ([("x**3", "x.abs() ** 3")], "Right for x = -0.25 .. 6.00"),
        "fp64": ([("x * gate", "x.double() * gate")], "dtype is float64; expected is float32"),
    },
    "layer-norm": {
        "bias is scaled": (
            [("n * self.weight", f"(n + {SHIFT}) * self.weight"), ("y = y + self.bias", "pass")],
            "right where bias is 0; weight is 1.",
        ),
        "median": (
            [("wide.mean(dim=-1, keepdim=True)", "wide.median(dim=-1, keepdim=True).values")],
            "the means of the positions are -0",
        ),
        "minus the bias": ([("y + self.bias", "y - self.bias")], "right where bias is 0."),
        "weight twice": (
            [("n * self.weight", "n * self.weight * self.weight")],
            "right where weight is 1.",
        ),
        "largest deviation": (
            [("torch.sqrt(variance + 1e-5)", "centered.abs().amax(-1, keepdim=True)")],
            "Where weight is 1 and bias is 0: along the axis position each slice",
        ),
        "fp32 comes back": ([("y.to(x.dtype)", "y")], "dtype is float32; expected is bfloat16"),
    },
    "feed-forward": {
        "wide bias left out": (
            [("self.widen_proj(x)", "x @ self.widen_proj.weight.mT")],
            "right where all biases are 0",
        ),
        "SiLU": ([('F.gelu(wide, approximate="tanh")', "F.silu(wide)")], "right where x is large"),
        "negated": ([("self.dropout(y)", "-self.dropout(y)")], "Every number has the wrong sign."),
    },
    "causal-softmax": {
        "temperature": ([("hidden.softmax", "(hidden / 2).softmax")], "0.5 times the expected"),
        "mask upside down": (
            [(".triu(S - T + 1)", ".triu(S - T + 1).flip(0)")],
            "A number is not 0 where it must be: query 0, key 1",
        ),
        "per cent": (
            [("hidden.softmax(dim=-1)", "100 * hidden.softmax(dim=-1)")],
            "yours sum to 100 up to 100",
        ),
        "logarithms": ([("hidden.softmax", "hidden.log_softmax")], "are NaN or infinite"),
    },
    "attention": {
        "sqrt(2 D)": (
            [("math.sqrt(D)", "math.sqrt(2 * D)")],
            "0.7071 times the expected (1 /",
        ),
        "out_proj turned": (
            [("self.out_proj(y)", "F.linear(y, self.out_proj.weight.T, self.out_proj.bias)")],
            "right where out_proj changes nothing.",
        ),
        "heads reversed": (
            [("y = heads", "heads = heads.flip(1)\n        y = heads")],
            "one head.",
        ),
        "ReLU for softmax": (
            [("weights = scores", "weights = scores.relu()")],
            "The future changes the past: the output at position 0 changes when the input at "
            "position 1",
        ),
        "window": (
            [(".triu(1)", ".triu(1) | torch.ones(T, T, dtype=torch.bool).tril(-3)")],
            "Position 3 does not see position 0",
        ),
        "keys for values": (
            [("self.dropout(weights) @ v", "self.dropout(weights) @ k")],
            "wrong even where there is one position",
        ),
        "rows exchanged": (
            [("y = heads", "heads = heads.flip(0)\n        y = heads")],
            "another order along the axis row",
        ),
    },
    "block": {
        "attention twice": (
            [("y = x + gathered", "y = x + 2 * gathered")],
            "right where attention adds 0",
        ),
        "x added once more": ([("return y + thought", "return x + y + thought")], "plus the input"),
        "thought is lost": (
            [("return y + thought", "return y")],
            "right where feed-forward adds 0",
        ),
    },
}
