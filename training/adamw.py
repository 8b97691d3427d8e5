"""AdamW: every weight moves by its mean gradient, relative to that gradient's usual size.

    m = beta1 m + (1 - beta1) g        v = beta2 v + (1 - beta2) g^2
    w = w - lr (m' / (sqrt(v') + eps) + decay w)        Loshchilov and Hutter 2019, algorithm 2

m' and v' are m and v corrected for having started at zero: m / (1 - beta1^t), v / (1 - beta2^t).
torch's fused kernel computes it in one pass over memory. It is called without torch's optimizer
class, whose first step imports the compiler: half a second in every run.
Previous: schedule.py.  Next: dtensor.py.
"""

import torch
from torch import Tensor
from torch.optim.adamw import adamw

EPS = 1e-8

State = dict[Tensor, dict[str, Tensor]]  # of an optimizer: tensors by name for each parameter


class AdamW:
    """The optimizer of parameters of any shape. Vectors (biases, norms) have no weight decay."""

    def __init__(
        self, parameters: list[Tensor], betas: tuple[float, float], weight_decay: float
    ) -> None:
        self.parameters, self.betas, self.weight_decay = parameters, betas, weight_decay
        self.state: State = {}

    @torch.no_grad()
    def step(self, learning_rate: float, grad_scale: Tensor) -> None:
        """Updates every parameter that has a gradient by that gradient / grad_scale.

        The kernel divides by grad_scale in the same pass, but for Apple's.
        """
        kernel_divides = grad_scale.device.type != "mps"
        trained = [p for p in self.parameters if p.grad is not None]
        if not kernel_divides:
            torch._foreach_div_([p.grad for p in trained if p.grad is not None], grad_scale)
        vectors = [p for p in trained if p.dim() < 2]
        matrices = [p for p in trained if p.dim() >= 2]
        for parameters, decay in (matrices, self.weight_decay), (vectors, 0.0):
            states = [self.state_of(p) for p in parameters]
            adamw(
                parameters,
                [p.grad for p in parameters if p.grad is not None],
                [state["exp_avg"] for state in states],
                [state["exp_avg_sq"] for state in states],
                [],
                [state["step"] for state in states],
                fused=True,
                grad_scale=grad_scale if kernel_divides else None,
                amsgrad=False,
                beta1=self.betas[0],
                beta2=self.betas[1],
                lr=learning_rate,
                weight_decay=decay,
                eps=EPS,
                maximize=False,
            )

    def state_of(self, parameter: Tensor) -> dict[str, Tensor]:
        """Returns m, v and t of a parameter, by torch's names; zero before its first step."""
        if parameter not in self.state:
            self.state[parameter] = {
                "step": torch.zeros((), device=parameter.device),
                "exp_avg": torch.zeros_like(parameter),
                "exp_avg_sq": torch.zeros_like(parameter),
            }
        return self.state[parameter]
