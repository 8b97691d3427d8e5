"""Right answers that are written differently, as learners would write them; all must pass."""

HEAD = """import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cfg_gpt2 import GPT2Config

"""

NORM = """
class LayerNorm(nn.Module):
    def __init__(self, n_embd, bias=True):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(n_embd))
        self.bias = nn.Parameter(torch.zeros(n_embd)) if bias else None

    def forward(self, x):
        y = self.normalized(x.float()) * self.weight
        if self.bias is not None:
            y += self.bias
        return y.type_as(x)

    def normalized(self, x):
        {body}
"""

ATTENTION = """
class MultiHeadAttention(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        self.out_proj = nn.Linear(config.n_embd, config.n_embd, bias=config.bias)
        self.qkv_proj = nn.Linear(config.n_embd, 3 * config.n_embd, bias=config.bias)
        self.attn_drop, self.res_drop = nn.Dropout(config.dropout), nn.Dropout(config.dropout)
        {extra}

    def forward(self, x, cache=None):
        {body}
"""

FEEDFORWARD = """
class FeedForward(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.drop = nn.Dropout(config.dropout)
        self.narrow_proj = nn.Linear(config.n_embd * 4, config.n_embd, config.bias)
        self.widen_proj = nn.Linear(config.n_embd, config.n_embd * 4, config.bias)

    def forward(self, x):"""

BLOCK = """
from feedforward import FeedForward
from layer_norm import LayerNorm
from multiheadattention import MultiHeadAttention

class TransformerBlock(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.feedforward, self.attention = FeedForward(config), MultiHeadAttention(config)
        self.feedforward_norm = LayerNorm(config.n_embd, config.bias)
        self.attention_norm = LayerNorm(config.n_embd, config.bias)

    def forward(self, x, cache=None):"""


def with_body(text: str, body: str, extra: str = "pass") -> str:
    """Returns a class with its last lines filled in."""
    indented = "\n        ".join(body.strip().splitlines())
    return HEAD + text.format(body=indented, extra=extra)


RIGHT = {
    "gelu": {
        "sigmoid": HEAD + """
class GELU(nn.Module):
    def forward(self, x):
        return x * torch.sigmoid(math.sqrt(8 / math.pi) * (x + 0.044715 * x * x * x))
""",
        "factored": HEAD + """
class GELU(nn.Module):
    def __init__(self):
        super().__init__()
        self.k = (2.0 / math.pi) ** 0.5

    def forward(self, x):
        return x / 2 * (1 + torch.tanh(self.k * x * (1 + 0.044715 * x.square())))
""",
        "constants": HEAD + """
class GELU(nn.Module):
    def forward(self, x):
        t = F.tanh(0.7978845608028654 * (x + 0.044715 * torch.pow(x, 3.0)))
        return x.mul(0.5).mul(t.add(1))
""",
    },
    "layer-norm": {
        "var": with_body(
            NORM, "var, mean = torch.var_mean(x, -1, keepdim=True, correction=0)\n"
            "return (x - mean) * torch.rsqrt(var + 1e-5)"
        ),
        "std": with_body(
            NORM, "x = x - x.mean(-1)[..., None]\n"
            "return x / (x.std(-1, unbiased=False, keepdim=True) ** 2 + 1e-5) ** 0.5"
        ),
        "einsum": with_body(
            NORM, "C = x.shape[-1]\nx = x - torch.einsum('...c->...', x).unsqueeze(-1) / C\n"
            "return x / (torch.einsum('...c,...c->...', x, x).unsqueeze(-1) / C + 1e-5).sqrt()"
        ),
    },
    "feed-forward": {
        "one line": HEAD + FEEDFORWARD + """
        return self.drop(self.narrow_proj(F.gelu(self.widen_proj(x), approximate="tanh")))
""",
        "matmuls": HEAD + FEEDFORWARD + """
        y = F.linear(x, self.widen_proj.weight, self.widen_proj.bias)
        y = 0.5 * y * (1 + torch.tanh(math.sqrt(2 / math.pi) * (y + 0.044715 * y**3)))
        y = torch.einsum("btf,cf->btc", y, self.narrow_proj.weight)
        if self.narrow_proj.bias is not None:
            y = y + self.narrow_proj.bias
        return self.drop(y)
""",
        "the project's GELU": "from gelu import GELU\n" + HEAD + FEEDFORWARD + """
        return nn.Sequential(self.widen_proj, GELU(), self.narrow_proj, self.drop)(x)
""",
    },
    "causal-softmax": {
        "added": HEAD + """
class CausalSoftmax(nn.Module):
    def forward(self, scores, mask=None):
        T, S = scores.shape[-2], scores.shape[-1]
        hide = torch.full((T, S), float("-inf"), dtype=scores.dtype).triu(S - T + 1)
        return torch.softmax(scores + hide, dim=-1)
""",
        "large negative": HEAD + """
class CausalSoftmax(nn.Module):
    def forward(self, scores, mask=None):
        T, S = scores.shape[-2:]
        query = torch.arange(S - T, S)[:, None]
        key = torch.arange(S)
        return F.softmax(torch.where(key <= query, scores, -1e9), dim=3).to(scores.dtype)
""",
        "afterwards, renormalized": HEAD + """
class CausalSoftmax(nn.Module):
    def forward(self, scores, mask=None):
        T, S = scores.shape[-2:]
        p = torch.tril(scores.softmax(-1), diagonal=S - T)
        return p / p.sum(-1, keepdim=True)
""",
        "written out": HEAD + """
class CausalSoftmax(nn.Module):
    def forward(self, scores, mask=None):
        T, S = scores.shape[-2:]
        seen = torch.ones(T, S).tril(S - T)
        shifted = scores - scores.max(dim=-1, keepdim=True).values
        e = shifted.exp() * seen
        return (e / e.sum(-1, keepdim=True)).to(scores.dtype)
""",
    },
    "attention": {
        "einsum": with_body(
            ATTENTION,
            """
B, T, C = x.shape
H = self.config.n_head
qkv = self.qkv_proj(x).reshape(B, T, 3, H, C // H)
q, k, v = qkv.unbind(2)
s = torch.einsum('bthd,bshd->bhts', q, k) * (C // H) ** -0.5
s = s.masked_fill(~torch.tril(torch.ones(T, T)).bool(), torch.finfo(s.dtype).min)
w = self.attn_drop(F.softmax(s, -1))
y = torch.einsum('bhts,bshd->bthd', w, v).reshape(B, T, C)
return self.res_drop(self.out_proj(y))
""",
        ),
        "a loop over heads": with_body(
            ATTENTION,
            """
T, C = x.shape[1:]
D = self.config.n_embd // self.config.n_head
q, k, v = torch.split(self.qkv_proj(x), C, dim=2)
seen = torch.tril(torch.ones(T, T, device=x.device))
heads = []
for h in range(self.config.n_head):
    part = slice(h * D, (h + 1) * D)
    s = q[..., part] @ k[..., part].mT / math.sqrt(D)
    w = torch.softmax(s.masked_fill(seen == 0, float("-inf")), dim=-1)
    heads.append(self.attn_drop(w) @ v[..., part])
return self.res_drop(self.out_proj(torch.cat(heads, dim=-1)))
""",
        ),
        "nanoGPT": with_body(
            ATTENTION,
            """
B, T, C = x.size()
q, k, v = self.qkv_proj(x).split(self.config.n_embd, dim=2)
k = k.view(B, T, self.config.n_head, C // self.config.n_head).transpose(1, 2)
q = q.view(B, T, self.config.n_head, C // self.config.n_head).transpose(1, 2)
v = v.view(B, T, self.config.n_head, C // self.config.n_head).transpose(1, 2)
att = (q @ k.transpose(-2, -1)) * (1.0 / math.sqrt(k.size(-1)))
att = att.masked_fill(self.tril[:, :, :T, :T] == 0, float('-inf'))
att = self.attn_drop(F.softmax(att, dim=-1))
y = (att @ v).transpose(1, 2).contiguous().view(B, T, C)
return self.res_drop(self.out_proj(y))
""",
            "n = config.context_length\n"
            "        self.register_buffer('tril', torch.tril(torch.ones(n, n))[None, None])",
        ),
    },
    "block": {
        "overwritten": HEAD + BLOCK + """
        x = x + self.attention(self.attention_norm(x))
        x = x + self.feedforward(self.feedforward_norm(x))
        return x
""",
        "named": HEAD + BLOCK + """
        residual = x
        hidden = self.attention_norm(x)
        hidden = self.attention(hidden, cache)
        residual = hidden + residual
        hidden = self.feedforward(self.feedforward_norm(residual))
        return hidden.add(residual)
""",
        "a sum of three": HEAD + BLOCK + """
        a = self.attention(self.attention_norm(x))
        return torch.stack([x, a, self.feedforward(self.feedforward_norm(x.add(a)))]).sum(0)
""",
    },
}  # fmt: skip
