"""The time of a step by kind of operator, measured by torch.profiler.

Compiled regions fuse norms, GELU and additions, so they count as elementwise. Explicit attention
counts as matmuls, and only the fused kernel as attention.
Previous: load_batches.py.  Next: roofline.py.
"""

import re
from collections.abc import Callable

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from benchmarks.job import Profile

STEPS = 3
ROWS = 40  # of the table
# the first pattern that matches the name of an operator or a kernel decides
KINDS = {
    "attention": r"scaled_dot_product|flash|fmha|attention",
    "matmuls": r"aten::(mm|addmm|bmm|baddbmm|matmul|linear)$|mkldnn|mkl_linear|onednn|"
    r"gemm|cutlass|cublas|nvjet",
    "optimizer": r"optimizer|adam|muon|multi_tensor|_foreach",
    "elementwise": r"aten::|compiled|triton|elementwise|vectorized|reduce",
}
OTHER = "rest"


def profile_step(step: Callable[[], int]) -> Profile:
    """Runs some steps under the profiler."""
    gpu = torch.cuda.is_available()
    activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * gpu
    with profile(activities=activities) as profiler:
        for _ in range(STEPS):
            step()
    events = profiler.key_averages()
    order = "self_device_time_total" if gpu else "self_cpu_time_total"
    # on a GPU its kernels count; the CPU only launches them
    device_type = DeviceType.CUDA if gpu else DeviceType.CPU
    seconds = {e.key: getattr(e, order) for e in events if e.device_type == device_type}
    table = events.table(sort_by=order, row_limit=ROWS, max_name_column_width=60)
    return Profile(shares=shares(seconds), table=table)


def shares(times: dict[str, float]) -> dict[str, float]:
    """Returns the share of each kind in the time of all operators."""
    totals = dict.fromkeys([*KINDS, OTHER], 0.0)
    for name, time in times.items():
        totals[operator_kind(name)] += time
    total = sum(totals.values()) or 1.0
    return {kind: time / total for kind, time in totals.items()}


def operator_kind(name: str) -> str:
    """Returns the kind of an operator or kernel: aten::addmm -> matmuls."""
    matches = (kind for kind, pattern in KINDS.items() if re.search(pattern, name, re.IGNORECASE))
    return next(matches, OTHER)
