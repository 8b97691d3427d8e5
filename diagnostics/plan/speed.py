"""How long a step takes: the operations of a token, a rate, and the transfers between GPUs.

    seconds = tokens of one GPU / its tokens per second + transfers that do not overlap with it
    DDP     per step        2 (n - 1) / n  4 P bytes      an all-reduce of the gradients
    FSDP    per micro-batch 2 (n - 1) / n  p P bytes      all-gathers, forward and backward
            per step          (n - 1) / n  4 P bytes      a reduce-scatter of the gradients

P is the number of parameters, p the bytes per gathered number, n the number of GPUs. The slowest
link sets the pace: NVLink or PCIe inside a machine, the network of one machine between machines.
                                Patarasuk and Yuan 2009; Rajbhandari et al. 2020, section 7
Previous: settings.py.  Next: text_size.py.
"""

from dataclasses import dataclass

GPUS_PER_MACHINE = 8  # as in the machines that clouds rent out with the GPUs below
# nanoGPT's README: GPT-2 124M, 600,000 steps of 491,520 tokens in about 4 days on 8 A100, which
# is 0.29 of their 312 TFLOP/s
UTILIZATION = 0.3
# OpenWebText in GPT-2's vocabulary: nanoGPT counts 9.0 billion tokens in some 40 GB of text
BYTES_PER_TOKEN = 4.4
MAX_OVERLAP = 0.5  # the fraction of computing that transfers overlap with: most of backward
GIGA = 10**9


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """A GPU by its maker's figures: dense matmuls, without sparsity."""

    name: str
    memory: float  # GB, 10^9 bytes
    bf16: float  # operations per second, in units of 10^12
    fp32: float
    link: float  # GB per second, one direction, to the other GPUs of the machine
    network: float  # GB per second, one direction, of a whole machine
    source: str


GPUS = {
    "h200": Gpu(
        name="H200 SXM", memory=141, bf16=989, fp32=67, link=450, network=400,
        source="NVIDIA H200 datasheet; network of a DGX H200, 8 x 400 Gb/s",
    ),
    "h100": Gpu(
        name="H100 SXM", memory=80, bf16=989, fp32=67, link=450, network=400,
        source="NVIDIA H100 datasheet; network of a DGX H100, 8 x 400 Gb/s",
    ),
    "a100": Gpu(
        name="A100 SXM 80 GB", memory=80, bf16=312, fp32=19.5, link=300, network=200,
        source="NVIDIA A100 datasheet; network of a DGX A100, 8 x 200 Gb/s",
    ),
    "a100-40gb": Gpu(
        name="A100 SXM 40 GB", memory=40, bf16=312, fp32=19.5, link=300, network=200,
        source="NVIDIA A100 datasheet; network of a DGX A100, 8 x 200 Gb/s",
    ),
    "l40s": Gpu(
        name="L40S", memory=48, bf16=362, fp32=91.6, link=32, network=12.5,
        source="NVIDIA L40S datasheet; PCIe 4 x16; network assumed 100 Gb/s",
    ),
    "rtx4090": Gpu(
        name="RTX 4090", memory=24, bf16=165.2, fp32=82.6, link=32, network=1.25,
        source="NVIDIA Ada whitepaper, fp32 sums; PCIe 4 x16; network assumed 10 Gb/s",
    ),
    "rtx3090": Gpu(
        name="RTX 3090", memory=24, bf16=71, fp32=35.6, link=32, network=1.25,
        source="NVIDIA GA102 whitepaper, fp32 sums; PCIe 4 x16; network assumed 10 Gb/s",
    ),
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Traffic:
    """The bytes that a step sends between GPUs, and the link that they go over."""

    n_ranks: int
    fsdp: bool
    n_parameters: int
    gathered_bytes: int  # per number, under FSDP: 2 in bf16
    n_micro_batches: int
    gigabytes_per_second: float  # of the slowest link

    @property
    def bytes_per_step(self) -> float:
        """The bytes that go over the slowest link in one step."""
        fraction = (self.n_ranks - 1) / self.n_ranks
        gradients = fraction * 4 * self.n_parameters
        if not self.fsdp:
            return 2 * gradients
        gathered = fraction * self.gathered_bytes * self.n_parameters
        return gradients + 2 * gathered * self.n_micro_batches

    def exposed_seconds(self, compute_seconds: float) -> float:
        """Returns the seconds of a step's transfers that do not overlap with computing."""
        seconds = self.bytes_per_step / (self.gigabytes_per_second * GIGA)
        return max(0.0, seconds - MAX_OVERLAP * compute_seconds)
