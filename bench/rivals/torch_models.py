"""The models of a training step as PyTorch users have them. build(model, source, side) -> (module of images and mask, image side, grid).

source "official": microsoft/SimMIM, whose checkout SIMMIM_OFFICIAL names; "sdpa": the same, its attention by
F.scaled_dot_product_attention; "timm": timm's Swin and BEiT (a ViT with shared relative position bias, as SimMIM's) with SimMIM's
mask token, head and loss. timm attends by scaled_dot_product_attention of itself.
"""

import os
import sys
import types
from functools import partial

import torch
import torch.nn as nn
import torch.nn.functional as F

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
    if folder not in sys.path:
        sys.path.insert(0, folder)
    # The package's __init__ only wires configuration; the model files are imported by themselves.
    package = types.ModuleType("models")
    package.__path__ = [os.path.join(folder, "models")]
    sys.modules["models"] = package
    import models.simmim as simmim

    return simmim


def build_official(model, size, patch):
    simmim = official()
    if model in SWIN:
        return simmim.SimMIM(simmim.SwinTransformerForSimMIM(img_size=size, patch_size=patch, in_chans=3, num_classes=0, mlp_ratio=4.0, qkv_bias=True, drop_path_rate=0.0, ape=False, patch_norm=True, **{"window_size": 6, **SWIN[model]}), 32)
    return simmim.SimMIM(simmim.VisionTransformerForSimMIM(img_size=size, patch_size=patch, in_chans=3, num_classes=0, mlp_ratio=4, qkv_bias=True, drop_path_rate=0.0, norm_layer=partial(nn.LayerNorm, eps=1e-6), init_values=0.1, use_abs_pos_emb=False, use_rel_pos_bias=False, use_shared_rel_pos_bias=True, use_mean_pooling=False, **VIT[model]), patch)


def swin_sdpa(self, x, mask=None):
    """The forward pass of the official WindowAttention, [windows, N, C]."""
    B, N, C = x.shape
    q, k, v = self.qkv(x).reshape(B, N, 3, self.num_heads, C // self.num_heads).permute(2, 0, 3, 1, 4)
    bias = self.relative_position_bias_table[self.relative_position_index.view(-1)].view(N, N, -1).permute(2, 0, 1).unsqueeze(0)
    if mask is not None:
        windows = mask.shape[0]
        bias = (bias + mask.unsqueeze(1)).unsqueeze(0).expand(B // windows, -1, -1, -1, -1).reshape(B, self.num_heads, N, N)
    mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=bias.to(q.dtype), scale=self.scale)
    return self.proj(mixed.transpose(1, 2).reshape(B, N, C))


def vit_sdpa(self, x, rel_pos_bias=None):
    """The forward pass of the official ViT's Attention, with the shared bias [heads, N, N]."""
    B, N, _ = x.shape
    qkv = F.linear(x, self.qkv.weight, torch.cat((self.q_bias, torch.zeros_like(self.v_bias, requires_grad=False), self.v_bias)))
    q, k, v = qkv.reshape(B, N, 3, self.num_heads, -1).permute(2, 0, 3, 1, 4)
    mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=None if rel_pos_bias is None else rel_pos_bias.to(q.dtype), scale=self.scale)
    return self.proj(mixed.transpose(1, 2).reshape(B, N, -1))


def by_sdpa(model):
    for module in model.modules():
        forward = {"WindowAttention": swin_sdpa, "Attention": vit_sdpa}.get(type(module).__name__)
        if forward:
            module.forward = types.MethodType(forward, module)
    return model


class TimmSimMIM(nn.Module):
    """An encoder of timm with SimMIM's mask token, head and loss: (images [B, 3, S, S], mask [B, S/p, S/p]) -> scalar."""

    def __init__(self, encoder, channels, stride, patch):
        super().__init__()
        self.encoder, self.patch = encoder, patch
        self.mask_token = nn.Parameter(torch.zeros(encoder.embed_dim))
        nn.init.trunc_normal_(self.mask_token, std=0.02)
        self.decoder = nn.Sequential(nn.Conv2d(channels, 3 * stride**2, 1), nn.PixelShuffle(stride))

    def features(self, tokens):
        raise NotImplementedError

    def forward(self, images, mask):
        tokens = self.encoder.patch_embed(images)
        w = mask.reshape(*tokens.shape[:-1], 1).to(tokens.dtype)
        rebuilt = self.decoder(self.features(tokens * (1 - w) + self.mask_token.to(tokens.dtype) * w))
        pixels = mask.repeat_interleave(self.patch, 1).repeat_interleave(self.patch, 2).unsqueeze(1)
        return (F.l1_loss(images, rebuilt, reduction="none") * pixels).sum() / (pixels.sum() + 1e-5) / 3


class TimmSwin(TimmSimMIM):
    def features(self, tokens):  # [B, H, W, C]
        return self.encoder.norm(self.encoder.layers(tokens)).permute(0, 3, 1, 2)


class TimmVit(TimmSimMIM):
    def features(self, tokens):  # [B, L, C]
        encoder, batch = self.encoder, tokens.shape[0]
        x = torch.cat((encoder.cls_token.expand(batch, -1, -1).to(tokens.dtype), tokens), 1)
        bias = encoder.rel_pos_bias()
        for block in encoder.blocks:
            x = block(x, shared_rel_pos_bias=bias)
        side = encoder.patch_embed.grid_size[0]
        return encoder.norm(x)[:, 1:].transpose(1, 2).reshape(batch, -1, side, side)


def build_timm(model, size, patch):
    from timm.models.beit import Beit
    from timm.models.swin_transformer import SwinTransformer

    if model in SWIN:
        encoder = SwinTransformer(img_size=size, patch_size=patch, num_classes=0, drop_path_rate=0.0, **{"window_size": 6, **SWIN[model]})
        encoder.head = nn.Identity()
        return TimmSwin(encoder, encoder.num_features, 32, patch)
    encoder = Beit(img_size=size, patch_size=patch, num_classes=0, global_pool="", init_values=0.1, use_abs_pos_emb=False, use_shared_rel_pos_bias=True, **VIT[model])
    encoder.head, encoder.fc_norm = nn.Identity(), nn.Identity()
    return TimmVit(encoder, encoder.num_features, patch, patch)


def build(model, source, size=None):
    if model not in SWIN and model not in VIT:
        raise RuntimeError(f"no PyTorch form of {model}, there are {', '.join([*SWIN, *VIT])}")
    usual, patch = (192, 4) if model in SWIN else (224, 16)
    size = size or usual
    if source == "timm":
        module = build_timm(model, size, patch)
    else:
        module = build_official(model, size, patch)
        if source == "sdpa":
            module = by_sdpa(module)
    return module, size, size // patch
