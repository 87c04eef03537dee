"""PyTorch as a rival: answers JSON lines on stdin with JSON lines on stdout, one process for one bench.

{"cmd": "info"}
{"cmd": "step_setup", "model": "swin_tiny", "imageSize": 192, "batch": 8, "threads": 2, "precision": "f32", "mode": "eager", "device": "cpu"}
{"cmd": "run", "repeats": 1}            -> {"seconds": [...], "value": loss}
{"cmd": "op_setup", "op": "window_attention", "case": {...}, "threads": 2, "precision": "f32", "backward": true}
{"cmd": "limits", "device": "cuda"}     -> what the device can do at most (bench/limits.ts)

A mode is a source of the models (torch_models.py: official where none is named, sdpa, timm), "compile" for torch.compile, or both:
eager, compile, sdpa, timm, sdpa-compile, timm-compile.
"""

import json
import os
import resource
import sys
import time

import torch

import torch_models
import torch_ops

def split(mode):
    """The source of the models, and whether they are compiled."""
    words = set(mode.split("-")) - {"eager"}
    sources = words - {"compile"}
    if len(sources) > 1 or not sources <= {"sdpa", "timm"}:
        raise RuntimeError(f"unknown mode {mode}, expected eager, compile, sdpa, timm, sdpa-compile or timm-compile")
    return (sources.pop() if sources else "official"), "compile" in words


class Step:
    """Forward, backward, clip 5.0, AdamW: one pre-training step on random data."""

    def __init__(self, model, size, batch, precision, mode):
        torch.manual_seed(0)
        source, compiled = split(mode)
        self.model, size, grid = torch_models.build(model, source, size)
        self.model.to(torch.get_default_device())
        self.images = torch.randn(batch, 3, size, size)
        cells = size // 32
        order = torch.rand(batch, cells * cells).argsort(1)
        mask = (order < -(-cells * cells * 6 // 10)).reshape(batch, cells, cells).float()
        self.mask = mask.repeat_interleave(grid // cells, 1).repeat_interleave(grid // cells, 2)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-4, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.05)
        self.bf16 = precision == "bf16"
        self.loss = torch.compile(self.model) if compiled else self.model

    def __call__(self):
        self.optimizer.zero_grad()
        with torch.autocast(torch.get_default_device().type, torch.bfloat16, enabled=self.bf16):
            loss = self.loss(self.images, self.mask)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 5.0)
        self.optimizer.step()
        return float(loss.detach())


def finish():
    """Waits until the GPU has done what it was asked for."""
    if torch.get_default_device().type == "cuda":
        torch.cuda.synchronize()


def peak():
    return torch.cuda.max_memory_allocated() if torch.get_default_device().type == "cuda" else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def fastest(run, rounds=10):
    """Seconds of the fastest of some runs, after one that is not counted."""
    seconds = []
    for _ in range(rounds + 1):
        start = time.perf_counter()
        run()
        finish()
        seconds.append(time.perf_counter() - start)
    return min(seconds[1:])


def limits():
    """GFLOP/s of large products of random values, and GB/s of streams far beyond the caches."""
    on_gpu = torch.get_default_device().type == "cuda"
    side, elements = (8192, 1 << 28) if on_gpu else (1024, 1 << 24)
    rates = {}
    for name, dtype in (("f32", torch.float32), ("bf16", torch.bfloat16)):
        a, b = torch.randn(side, side).to(dtype), torch.randn(side, side).to(dtype)
        rates[name] = 2 * side**3 / fastest(lambda: torch.mm(a, b)) / 1e9
    x, y, z = (torch.randn(elements) for _ in range(3))
    size = 4 * elements / 1e9
    rates.update(copy=2 * size / fastest(lambda: z.copy_(x)), triad=3 * size / fastest(lambda: torch.add(x, y, alpha=3.0, out=z)), read=size / fastest(lambda: x.sum()))
    return rates


def serve():
    job = None
    default_mode = os.environ.get("SIMMIM_TORCH_MODE", "eager")
    for line in sys.stdin:
        request = json.loads(line)
        try:
            if "device" in request:
                torch.set_default_device(request["device"])
            if request["cmd"] == "info":
                answer = {"name": "torch", "version": torch.__version__}
            elif request["cmd"] == "step_setup":
                torch.set_num_threads(request["threads"])
                job = Step(request["model"], request.get("imageSize"), request["batch"], request.get("precision", "f32"), request.get("mode", default_mode))
                answer = {"ok": True}
            elif request["cmd"] == "op_setup":
                torch.set_num_threads(request["threads"])
                source, compiled = split(request.get("mode", default_mode))
                job = torch_ops.make(request["op"], request["case"], request.get("precision", "f32"), request.get("backward", False), compiled, source == "sdpa")
                answer = {"ok": True}
            elif request["cmd"] == "limits":
                answer = limits()
            elif request["cmd"] == "run":
                seconds, value = [], None
                for _ in range(request.get("repeats", 1)):
                    start = time.perf_counter()
                    value = job()
                    finish()
                    seconds.append(time.perf_counter() - start)
                answer = {"seconds": seconds, "value": value if isinstance(value, float) else None, "peakBytes": peak()}
            else:
                answer = {"error": f"unknown command {request['cmd']}"}
        except Exception as error:  # the bench prints it beside the case
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)


serve()
