"""training/muon.py: torch's own Muon, and the Newton-Schulz iteration against the SVD."""

import pytest
import torch

from training.muon import MOMENTUM, Muon, newton_schulz


@pytest.mark.parametrize("shapes", [[(6, 4), (4, 6), (6, 4)], [(4, 4)], [(9, 3), (4, 6)]])
def test_muon_agrees_with_torchs_own(shapes: list[tuple[int, int]]) -> None:
    torch.manual_seed(0)
    ours = [torch.nn.Parameter(torch.randn(shape)) for shape in shapes]
    theirs = [torch.nn.Parameter(p.detach().clone()) for p in ours]
    one = Muon(ours, weight_decay=0.1, precision=torch.bfloat16)
    other = torch.optim.Muon(
        theirs, lr=0.1, weight_decay=0.1, momentum=MOMENTUM, adjust_lr_fn="match_rms_adamw"
    )
    for _ in range(3):
        for p, q in zip(ours, theirs, strict=True):
            p.grad = torch.randn_like(p)
            q.grad = p.grad.clone()
        one.step(0.1, torch.tensor(1.0))
        other.step()
    for p, q in zip(ours, theirs, strict=True):
        # both iterate in bf16, 2^-9 an operation; three steps of rms 0.02 in all
        torch.testing.assert_close(p, q, atol=2e-3, rtol=0)


def test_newton_schulz_lifts_singular_values_and_keeps_their_directions() -> None:
    torch.manual_seed(0)
    stack = torch.randn(5, 7, 16)
    u, _, v = torch.linalg.svd(stack, full_matrices=False)
    core = u.mT @ newton_schulz(stack) @ v.mT  # diagonal where the directions are kept
    values = core.diagonal(dim1=1, dim2=2)
    torch.testing.assert_close(core, torch.diag_embed(values), atol=1e-4, rtol=0)  # fp32
    # the polynomial holds singular values between 0.68 and 1.13, by Jordan's choice
    assert values.min() > 0.67 and values.max() < 1.14
