"""AdamW: every weight moves by its own mean gradient, measured by its own spread.

    m = beta1 m + (1 - beta1) g        v = beta2 v + (1 - beta2) g^2
    w = w - lr (m' / (sqrt(v') + eps) + decay w)        Loshchilov and Hutter 2019, algorithm 2

m' and v' are m and v corrected for having started at zero: m / (1 - beta1^t), v / (1 - beta2^t).
The formula runs in torch's fused kernel, one pass over memory. It is called without torch's class
around it, whose first step imports the compiler: half a second in every run.
"""

import torch
from torch import Tensor
from torch.optim.adamw import adamw

EPS = 1e-8

State = dict[Tensor, dict[str, Tensor]]  # what an optimizer remembers of each parameter


class AdamW:
    """For parameters of any shape. Vectors are not decayed: biases, and the scales of norms."""

    def __init__(
        self, parameters: list[Tensor], betas: tuple[float, float], weight_decay: float
    ) -> None:
        self.parameters, self.betas, self.weight_decay = parameters, betas, weight_decay
        self.state: State = {}

    @torch.no_grad()
    def step(self, learning_rate: float, divisor: Tensor) -> None:
        """Moves every parameter that has a gradient by that gradient / divisor.

        The kernel divides on the way, but for Apple's.
        """
        on_the_way = divisor.device.type != "mps"
        if not on_the_way:
            torch._foreach_div_([p.grad for p in self.parameters if p.grad is not None], divisor)
        moving = [p for p in self.parameters if p.grad is not None]
        vectors = [p for p in moving if p.dim() < 2]
        matrices = [p for p in moving if p.dim() >= 2]
        for moved, decay in (matrices, self.weight_decay), (vectors, 0.0):
            states = [self.remembered(p) for p in moved]
            adamw(
                moved,
                [p.grad for p in moved if p.grad is not None],
                [state["exp_avg"] for state in states],
                [state["exp_avg_sq"] for state in states],
                [],
                [state["step"] for state in states],
                fused=True,
                grad_scale=divisor if on_the_way else None,
                amsgrad=False,
                beta1=self.betas[0],
                beta2=self.betas[1],
                lr=learning_rate,
                weight_decay=decay,
                eps=EPS,
                maximize=False,
            )

    def remembered(self, parameter: Tensor) -> dict[str, Tensor]:
        """m, v and t of a parameter, by torch's names; zero before its first step."""
        if parameter not in self.state:
            self.state[parameter] = {
                "step": torch.zeros((), device=parameter.device),
                "exp_avg": torch.zeros_like(parameter),
                "exp_avg_sq": torch.zeros_like(parameter),
            }
        return self.state[parameter]
