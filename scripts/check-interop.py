"""Loads what simmim writes into transformers and timm, and compares keys and outputs.

Every golden model is written in every layout that can hold it (scripts/interop-files.mjs, with our outputs on tfjs's
CPU backend); here each folder is loaded by the library it is meant for. A missing or unexpected key, or an output that
differs by more than float32 arithmetic explains, fails. Also reads files that this machine's PyTorch writes.

    npm run build:ts && python scripts/check-interop.py        # needs torch, transformers, timm, safetensors, numpy

The tolerance is 8 times the library's own distance between float32 and float64 on the same input, the golden
fixtures' rule, and at least 4 float32 ulps of the largest element.

Last run: PyTorch 2.13, transformers 5.18, timm 1.0.29: 43 passed, 0 failed; the largest difference was 5.1e-05 of
9.7e-05 allowed (SwinV2 with a clamped logit scale, in timm). Ten combinations are refused, each with its reason.
"""
import copy
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import warnings

os.environ["HF_HUB_OFFLINE"] = "1"
warnings.filterwarnings("ignore")
import numpy as np
import timm
import torch
import transformers
from safetensors.torch import load_file

transformers.logging.set_verbosity_error()
# transformers 5.18 adds the mask of shifted windows (-100) twice in Swinv2SelfAttention; the official code and timm add
# it once. With a logit scale near its limit of 100 that shows, so half the mask is given here.
from transformers.models.swinv2.modeling_swinv2 import Swinv2Layer

_mask = Swinv2Layer.get_attn_mask


def _half_mask(self, *args, **kwargs):
    mask = _mask(self, *args, **kwargs)
    return mask if mask is None else mask / 2


Swinv2Layer.get_attn_mask = _half_mask
transformers.utils.logging.disable_progress_bar()

ROOT = pathlib.Path(__file__).resolve().parent.parent


def in_double(model, run):
    """The same computation in float64."""
    return run(copy.deepcopy(model).double(), lambda t: t.double() if t.is_floating_point() else t)


def compare(ours, theirs, exact):
    spread = (theirs.double() - exact).abs().max().item()
    tolerance = max(8 * spread, 4 * float(np.spacing(np.float32(theirs.abs().max().item()))))
    return (ours.double() - theirs.double()).abs().max().item(), tolerance


def from_transformers(case, io):
    architecture = json.loads((pathlib.Path(case["folder"]) / "config.json").read_text())["architectures"][0]
    model, info = getattr(transformers, architecture).from_pretrained(case["folder"], output_loading_info=True)
    model.eval()
    problems = {k: v for k, v in info.items() if v}

    def run(m, cast):
        if "mask" in io:
            return m(cast(io["images"]), bool_masked_pos=io["mask"].flatten(1).bool()).reconstruction
        return m(cast(io["images"])).logits

    ours = io["reconstruction"] if "mask" in io else io["logits"]
    return problems, ours, run(model, lambda t: t), in_double(model, run)


def from_timm(case, io):
    # timm's own loader refuses missing and unexpected keys (strict).
    model = timm.create_model(f"local-dir:{case['folder']}", pretrained=True).eval()
    for module in model.modules():  # what timm's config cannot say, and the conversion notes
        if isinstance(module, torch.nn.LayerNorm):
            module.eps = case["eps"]
    stored = load_file(pathlib.Path(case["folder"]) / "model.safetensors")
    problems = {}
    if set(stored) != set(dict(model.named_parameters())):
        problems["keys"] = sorted(set(stored) ^ set(dict(model.named_parameters())))

    def run(m, cast):
        return m(cast(io["images"])) if "logits" in io else m.forward_features(cast(io["images"]))

    ours = io["logits"] if "logits" in io else io["features"]
    return problems, ours, run(model, lambda t: t), in_double(model, run)


def check_case(case):
    io = load_file(pathlib.Path(case["folder"]) / "io.safetensors")
    with torch.no_grad():
        problems, ours, theirs, exact = (from_transformers if case["layout"] == "huggingface" else from_timm)(case, io)
    difference, tolerance = compare(ours, theirs, exact)
    good = not problems and difference <= tolerance
    note = f"  ({'; '.join(case['notes'])})" if case["notes"] else ""
    print(f"{'ok  ' if good else 'FAIL'} {case['name']:30} {case['layout']:12} difference {difference:.1e}, allowed {tolerance:.1e} {problems or ''}{note}")
    return good


def check_pickles(folder):
    """Files of this PyTorch, read by us: values must be the same bits."""
    model = torch.nn.Sequential(torch.nn.Linear(5, 7), torch.nn.LayerNorm(7))
    state = {k: v.detach() for k, v in model.state_dict().items()}
    base = torch.arange(24.0).reshape(4, 6)
    state.update(transposed=base.t(), strided=base[1:, ::2], half=base.half(), bf16=base.bfloat16()[:, 2:], scalar=torch.tensor(3.5), empty=torch.zeros(0, 4))
    files = {}
    for name, options in {"zip": {}, "legacy": {"_use_new_zipfile_serialization": False}, "protocol4": {"pickle_protocol": 4}}.items():
        files[name] = folder / f"{name}.pth"
        torch.save({"model": state, "epoch": 3}, files[name], **options)
    torch.serialization.set_crc32_options(False)
    files["no_checksums"] = folder / "no_checksums.pth"
    torch.save({"model": state}, files["no_checksums"])
    script = """
const { withTorchFile, torchTensors } = require('./dist/formats/torch_pth');
const { encodeSafetensors } = require('./dist/formats/safetensors');
const [from, to] = process.argv.slice(1);
withTorchFile(from, ({ root }) => require('fs').writeFileSync(to, Buffer.concat(encodeSafetensors([...torchTensors(root)].map(([n, t]) => [n, t.read()])))));
"""
    good = True
    for name, file in files.items():
        subprocess.run(["node", "-e", script, str(file), str(folder / "read.safetensors")], cwd=ROOT, check=True)
        read = load_file(folder / "read.safetensors")
        same = set(read) == {f"model/{k}" for k in state} and all(torch.equal(read[f"model/{k}"], v) and read[f"model/{k}"].dtype == v.dtype for k, v in state.items())
        print(f"{'ok  ' if same else 'FAIL'} torch.save, {name}")
        good &= same
    return good


def main():
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        subprocess.run(["node", str(ROOT / "scripts/interop-files.mjs"), str(folder)], check=True)
        cases = json.loads((folder / "cases.json").read_text())
        print(f"torch {torch.__version__}, transformers {transformers.__version__}, timm {timm.__version__}")
        results = [check_case(c) for c in cases if "folder" in c]
        for case in cases:
            if "refused" in case:
                print(f"---  {case['name']:30} {case['layout']:12} refused: {case['refused']}")
        results.append(check_pickles(folder))
    print(f"{sum(results)} passed, {len(results) - sum(results)} failed")
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
