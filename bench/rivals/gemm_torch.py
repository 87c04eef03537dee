"""Rival of bench/gemm.mjs: PyTorch's matrix products. Reads one JSON request a line, answers with seconds.

request: {"product": "y" | "dx" | "dw", "rows": R, "inputs": I, "outputs": O, "dtype": "f32" | "bf16", "threads": n, "repeats": n}
"""
import json
import sys
import time

import torch


def operands(request):
    rows, inputs, outputs = request["rows"], request["inputs"], request["outputs"]
    dtype = torch.bfloat16 if request["dtype"] == "bf16" else torch.float32
    x = torch.rand(rows, inputs).to(dtype)
    weight = torch.rand(outputs, inputs).to(dtype)
    dy = torch.rand(rows, outputs).to(dtype)
    if request["product"] == "y":
        return lambda: torch.nn.functional.linear(x, weight)
    if request["product"] == "dx":
        return lambda: dy @ weight
    return lambda: dy.t() @ x


torch.set_grad_enabled(False)
case = None
for line in sys.stdin:
    request = json.loads(line)
    torch.set_num_threads(request["threads"])
    key = {k: v for k, v in request.items() if k != "repeats"}
    if case is None or case[0] != key:
        case = (key, operands(request))
        case[1]()
    times = []
    for _ in range(request["repeats"]):
        start = time.perf_counter()
        case[1]()
        times.append(time.perf_counter() - start)
    print(json.dumps(times), flush=True)
