"""Single ops as PyTorch users write them, for bench/ops. make(name, case, precision, backward, compiled, sdpa) -> callable."""

import torch
import torch.nn.functional as F


def tensor(shape, precision, grad=False):
    t = torch.randn(*shape)
    if precision == "bf16":
        t = t.bfloat16()
    return t.requires_grad_(grad)


COMPILED = False
SDPA = False


def attend(q, k, v, scale, bias, mask=None):
    """softmax(scale q kᵀ + bias + mask) v of [B, heads, N, d], bias [heads, N, N], mask [windows of an image, N, N]."""
    if SDPA:
        if mask is not None:
            bias = (bias + mask.unsqueeze(1)).repeat(q.shape[0] // mask.shape[0], 1, 1, 1)
        return F.scaled_dot_product_attention(q, k, v, attn_mask=bias.to(q.dtype), scale=scale)
    scores = (q * scale) @ k.transpose(-2, -1) + bias
    if mask is not None:
        scores = (scores.view(-1, mask.shape[0], *scores.shape[1:]) + mask[None, :, None]).view(scores.shape)
    return scores.softmax(-1).to(v.dtype) @ v


def forward_backward(forward, inputs, backward):
    if COMPILED:
        forward = torch.compile(forward)
    if not backward:
        def run():
            with torch.no_grad():
                forward()
        return run
    dy = torch.randn_like(forward())

    def run_both():
        for t in inputs:
            t.grad = None
        forward().backward(dy)
    return run_both


def linear(case, precision, backward):
    x, w, b = tensor([case["rows"], case["in"]], precision, True), tensor([case["out"], case["in"]], precision, True), tensor([case["out"]], precision, True)
    gelu = case.get("activation") == "gelu"
    return forward_backward(lambda: F.gelu(F.linear(x, w, b)) if gelu else F.linear(x, w, b), [x, w, b], backward)


def mlp(case, precision, backward):
    rows, C, H = case["rows"], case["channels"], case["hidden"]
    x, w1, b1 = tensor([rows, C], precision, True), tensor([H, C], precision, True), tensor([H], precision, True)
    w2, b2, residual = tensor([C, H], precision, True), tensor([C], precision, True), tensor([rows, C], precision, True)
    return forward_backward(lambda: residual + F.linear(F.gelu(F.linear(x, w1, b1)), w2, b2), [x, w1, b1, w2, b2, residual], backward)


def layer_norm(case, precision, backward):
    x, g, b = tensor([case["rows"], case["channels"]], precision, True), tensor([case["channels"]], precision, True), tensor([case["channels"]], precision, True)
    return forward_backward(lambda: F.layer_norm(x, [case["channels"]], g, b, 1e-5), [x, g, b], backward)


def gelu(case, precision, backward):
    x = tensor([case["rows"], case["channels"]], precision, True)
    return forward_backward(lambda: F.gelu(x), [x], backward)


def window_attention(case, precision, backward):
    """Roll, partition, attention with bias and mask, reverse, roll: as the official Swin block does it."""
    B, H, W, C, heads, w, shift = (case[k] for k in ("batch", "height", "width", "channels", "heads", "window", "shift"))
    d = C // heads
    qkv = tensor([B, H, W, 3 * C], precision, True)
    table = tensor([(2 * w - 1) ** 2, heads], "f32", True)
    coords = torch.stack(torch.meshgrid(torch.arange(w), torch.arange(w), indexing="ij")).flatten(1)
    relative = (coords[:, :, None] - coords[:, None, :]).permute(1, 2, 0) + (w - 1)
    index = relative[:, :, 0] * (2 * w - 1) + relative[:, :, 1]
    mask = None
    if shift:
        region = torch.zeros(1, H, W, 1)
        count = 0
        for rows in (slice(0, -w), slice(-w, -shift), slice(-shift, None)):
            for cols in (slice(0, -w), slice(-w, -shift), slice(-shift, None)):
                region[:, rows, cols, :] = count
                count += 1
        windows = region.view(1, H // w, w, W // w, w, 1).permute(0, 1, 3, 2, 4, 5).reshape(-1, w * w)
        difference = windows[:, None, :] - windows[:, :, None]
        mask = torch.where(difference != 0, -100.0, 0.0)

    def forward():
        x = torch.roll(qkv, (-shift, -shift), (1, 2)) if shift else qkv
        x = x.view(B, H // w, w, W // w, w, 3 * C).permute(0, 1, 3, 2, 4, 5).reshape(-1, w * w, 3, heads, d).permute(2, 0, 3, 1, 4)
        bias = table[index.view(-1)].view(w * w, w * w, heads).permute(2, 0, 1)
        out = attend(x[0], x[1], x[2], d**-0.5, bias, mask).transpose(1, 2).reshape(-1, w, w, C)
        out = out.view(B, H // w, W // w, w, w, C).permute(0, 1, 3, 2, 4, 5).reshape(B, H, W, C)
        return torch.roll(out, (shift, shift), (1, 2)) if shift else out

    return forward_backward(forward, [qkv, table], backward)


def attention(case, precision, backward):
    B, L, C, heads = (case[k] for k in ("batch", "tokens", "channels", "heads"))
    d = C // heads
    qkv, bias = tensor([B, L, 3 * C], precision, True), tensor([heads, L, L], "f32", True)

    def forward():
        q, k, v = qkv.reshape(B, L, 3, heads, d).permute(2, 0, 3, 1, 4)
        return attend(q, k, v, d**-0.5, bias).transpose(1, 2).reshape(B, L, C)

    return forward_backward(forward, [qkv, bias], backward)


def masked_loss(case, precision, backward):
    B, h, r, cells = (case[k] for k in ("batch", "height", "stride", "cells"))
    pred = tensor([B, 3 * r * r, h, h], precision, True)
    target = torch.randn(B, 3, h * r, h * r)
    mask = (torch.rand(B, cells, cells) < 0.6).float().repeat_interleave(h * r // cells, 1).repeat_interleave(h * r // cells, 2).unsqueeze(1)

    def forward():
        loss = F.l1_loss(target, F.pixel_shuffle(pred, r), reduction="none")
        return (loss * mask).sum() / (mask.sum() + 1e-5) / 3

    return forward_backward(forward, [pred], backward)


def patch_embed(case, precision, backward):
    B, size, p, C = (case[k] for k in ("batch", "size", "patch", "channels"))
    images, w, b = tensor([B, 3, size, size], precision), tensor([C, 3, p, p], precision, True), tensor([C], precision, True)
    return forward_backward(lambda: F.conv2d(images, w, b, stride=p).flatten(2).transpose(1, 2), [w, b], backward)


def adamw(case, precision, backward):
    w = torch.randn(case["elements"]).requires_grad_(True)
    w.grad = torch.randn(case["elements"])
    optimizer = torch.optim.AdamW([w], lr=1e-4, weight_decay=0.05, fused=True)

    def run():
        torch.nn.utils.clip_grad_norm_([w], 5.0)
        optimizer.step()
    return run


def grad_norm(case, precision, backward):
    g = torch.randn(case["elements"])
    return lambda: float(g.norm())


def random_values(case, precision, backward):
    w = torch.empty(case["elements"])
    return lambda: torch.nn.init.trunc_normal_(w, std=0.02) is None


def matmul(case, precision, backward):
    a, b = tensor([case["m"], case["k"]], precision), tensor([case["k"], case["n"]], precision)
    if case.get("ta"):
        a = tensor([case["k"], case["m"]], precision).t()
    if case.get("tb"):
        b = tensor([case["n"], case["k"]], precision).t()
    return lambda: (a @ b) is None


OPS = dict(linear=linear, mlp=mlp, layer_norm=layer_norm, gelu=gelu, window_attention=window_attention, attention=attention, masked_loss=masked_loss, patch_embed=patch_embed, adamw=adamw, grad_norm=grad_norm, random_values=random_values, matmul=matmul)


def make(name, case, precision, backward, compiled=False, sdpa=False):
    global COMPILED, SDPA
    if name not in OPS:
        raise RuntimeError(f"no PyTorch form of {name}")
    COMPILED, SDPA = compiled, sdpa
    return OPS[name](case, precision, backward)
