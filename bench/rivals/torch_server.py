"""PyTorch as a rival: answers JSON lines on stdin with JSON lines on stdout, one process for one bench.

{"cmd": "info"}
{"cmd": "step_setup", "model": "swin_tiny", "imageSize": 192, "batch": 8, "threads": 2, "precision": "f32", "mode": "eager", "device": "cpu"}
{"cmd": "run", "repeats": 1}            -> {"seconds": [...], "value": loss}
{"cmd": "op_setup", "op": "window_attention", "case": {...}, "threads": 2, "precision": "f32", "backward": true}

The models of a training step are the official ones: SIMMIM_OFFICIAL names a checkout of microsoft/SimMIM.
"""

import json
import os
import resource
import sys
import time
import types
from functools import partial

import torch
import torch.nn as nn

import torch_ops

SWIN = {  # window 6 unless it says otherwise
    "swin_tiny": dict(embed_dim=96, depths=[2, 2, 6, 2], num_heads=[3, 6, 12, 24]),
    "swin_small": dict(embed_dim=96, depths=[2, 2, 18, 2], num_heads=[3, 6, 12, 24]),
    "swin_base": dict(embed_dim=128, depths=[2, 2, 18, 2], num_heads=[4, 8, 16, 32]),
    "swin_large": dict(embed_dim=192, depths=[2, 2, 18, 2], num_heads=[6, 12, 24, 48], window_size=12),
}
VIT = {
    "vit_small": dict(embed_dim=384, depth=12, num_heads=6),
    "vit_base": dict(embed_dim=768, depth=12, num_heads=12),
    "vit_large": dict(embed_dim=1024, depth=24, num_heads=16),
}


def official():
    folder = os.environ.get("SIMMIM_OFFICIAL")
    if not folder:
        raise RuntimeError("SIMMIM_OFFICIAL is not set: it names a checkout of microsoft/SimMIM")
    sys.path.insert(0, folder)
    # The package's __init__ only wires configuration; the model files are imported by themselves.
    package = types.ModuleType("models")
    package.__path__ = [os.path.join(folder, "models")]
    sys.modules["models"] = package
    import models.simmim as simmim

    return simmim


def build(model, size):
    simmim = official()
    if model in SWIN:
        size, patch, stride = size or 192, 4, 32
        encoder = simmim.SwinTransformerForSimMIM(img_size=size, patch_size=patch, in_chans=3, num_classes=0, mlp_ratio=4.0, qkv_bias=True, drop_path_rate=0.0, ape=False, patch_norm=True, **{"window_size": 6, **SWIN[model]})
    else:
        size, patch, stride = size or 224, 16, 16
        encoder = simmim.VisionTransformerForSimMIM(img_size=size, patch_size=patch, in_chans=3, num_classes=0, mlp_ratio=4, qkv_bias=True, drop_path_rate=0.0, norm_layer=partial(nn.LayerNorm, eps=1e-6), init_values=0.1, use_abs_pos_emb=False, use_rel_pos_bias=False, use_shared_rel_pos_bias=True, use_mean_pooling=False, **VIT[model])
    return simmim.SimMIM(encoder, stride), size, size // patch


class Step:
    """Forward, backward, clip 5.0, AdamW: one pre-training step on random data."""

    def __init__(self, model, size, batch, precision, mode):
        torch.manual_seed(0)
        self.model, size, grid = build(model, size)
        self.model.to(torch.get_default_device())
        self.images = torch.randn(batch, 3, size, size)
        cells = size // 32
        order = torch.rand(batch, cells * cells).argsort(1)
        mask = (order < -(-cells * cells * 6 // 10)).reshape(batch, cells, cells).float()
        self.mask = mask.repeat_interleave(grid // cells, 1).repeat_interleave(grid // cells, 2)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-4, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.05)
        self.bf16 = precision == "bf16"
        self.loss = torch.compile(self.model) if mode == "compile" else self.model

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
                job = torch_ops.make(request["op"], request["case"], request.get("precision", "f32"), request.get("backward", False), request.get("mode", default_mode))
                answer = {"ok": True}
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
