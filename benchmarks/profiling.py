"""Where the time of a step goes, by operator, as torch.profiler sees it.

Compiled regions fuse norms, GELU and additions, so their own time counts as elementwise.
Written-out attention shows up as matrix products, and only the fused kernel as attention.
"""

import re
from collections.abc import Callable

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from benchmarks.job import Profile

STEPS = 3
ROWS = 40  # of the table
# the first that fits an operator's or a kernel's name
KINDS = {
    "attention": r"scaled_dot_product|flash|fmha|attention",
    "matrix products": r"aten::(mm|addmm|bmm|baddbmm|matmul|linear)$|mkldnn|mkl_linear|onednn|"
    r"gemm|cutlass|cublas|nvjet",
    "optimizer": r"optimizer|adam|muon|multi_tensor|_foreach",
    "elementwise": r"aten::|compiled|triton|elementwise|vectorized|reduce",
}
REST = "rest"


def profiled(step: Callable[[], int]) -> Profile:
    """Some steps under the profiler."""
    gpu = torch.cuda.is_available()
    activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * gpu
    with profile(activities=activities) as recorded:
        for _ in range(STEPS):
            step()
    events = recorded.key_averages()
    order = "self_device_time_total" if gpu else "self_cpu_time_total"
    # on a GPU its kernels count; the CPU only hands them over
    where = DeviceType.CUDA if gpu else DeviceType.CPU
    seconds = {e.key: getattr(e, order) for e in events if e.device_type == where}
    table = events.table(sort_by=order, row_limit=ROWS, max_name_column_width=60)
    return Profile(shares=shares(seconds), table=table)


def shares(times: dict[str, float]) -> dict[str, float]:
    """Time by operator -> share by kind."""
    found = dict.fromkeys([*KINDS, REST], 0.0)
    for name, time in times.items():
        found[kind(name)] += time
    total = sum(found.values()) or 1.0
    return {name: time / total for name, time in found.items()}


def kind(name: str) -> str:
    """aten::addmm -> matrix products."""
    matches = (k for k, pattern in KINDS.items() if re.search(pattern, name, re.IGNORECASE))
    return next(matches, REST)
