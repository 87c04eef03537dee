"""TensorFlow on the CPU for `npm run bench -- tfjs`: tensorflow_server.py eager|function. Stands in for tfjs-node, which
calls the same kernels eagerly. Answers JSON lines as bench/rivals/tfjs_server.ts does, on the same values."""

import json
import os
import resource
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402


def values(shape, k, low, high):
    count = int(np.prod(shape))
    i = np.arange(count) % 65521
    return (low + (high - low) * (np.sin(0.37 * i + k) + 1) / 2).astype(np.float32).reshape(shape)


def checksum(y):
    y = np.asarray(y, dtype=np.float64).reshape(-1)
    return [float(np.sum(y * np.cos(0.61 * (np.arange(y.size) % 4093)))), float(np.sum(np.abs(y)))]


def gradients(f, x):
    with tf.GradientTape() as tape:
        tape.watch(x)
        loss = tf.reduce_sum(f(*x))
    return tf.concat([tf.reshape(g, [-1]) for g in tape.gradient(loss, x)], 0)


def layer_norm(x):
    mean = tf.reduce_mean(x, -1, keepdims=True)
    centered = x - mean
    return centered * tf.math.rsqrt(tf.reduce_mean(tf.square(centered), -1, keepdims=True) + 1e-5)


def conv(x, w):
    return tf.nn.conv2d(x, w, 1, "SAME")


def segments(n):
    return max(8, int(np.floor(np.sqrt(n) + 0.5)))


OPS = {
    "add": lambda x, y: x + y,
    "add row": lambda x, y: x + y,
    "add scalar": lambda x: x + 1.5,
    "multiply": lambda x, y: x * y,
    "divide": lambda x, y: x / y,
    "maximum": tf.maximum,
    "power": tf.pow,
    "greater": tf.greater,
    "select": lambda x, y: tf.where(x > 0, x, y),
    "cast to int": lambda x: tf.cast(x, tf.int32),
    "relu": tf.nn.relu,
    "exp": tf.exp,
    "log": tf.math.log,
    "sqrt": tf.sqrt,
    "sigmoid": tf.sigmoid,
    "tanh": tf.tanh,
    "gelu of ops": lambda x: x * 0.5 * (tf.math.erf(x * np.float32(0.5**0.5)) + 1),
    "sum": tf.reduce_sum,
    "sum of rows": lambda x: tf.reduce_sum(x, 1),
    "mean of columns": lambda x: tf.reduce_mean(x, 0),
    "max of rows": lambda x: tf.reduce_max(x, 1),
    "argmax of rows": lambda x: tf.argmax(x, 1, output_type=tf.int32),
    "softmax": tf.nn.softmax,
    "cumsum": lambda x: tf.cumsum(x, 1),
    "top 8": lambda x: tf.math.top_k(x, 8).values,
    "layer norm of ops": layer_norm,
    "matmul": tf.matmul,
    "matmul, b transposed": lambda x, y: tf.matmul(x, y, transpose_b=True),
    "matmul, a transposed": lambda x, y: tf.matmul(x, y, transpose_a=True),
    "batched matmul": tf.matmul,
    "conv 3x3": conv,
    "conv 1x1": conv,
    "conv 3x3 gradients": lambda x, w: gradients(lambda a, b: tf.square(conv(a, b)), [x, w]),
    "depthwise conv 3x3": lambda x, w: tf.nn.depthwise_conv2d(x, w, [1, 1, 1, 1], "SAME"),
    "max pool 2x2": lambda x: tf.nn.max_pool2d(x, 2, 2, "VALID"),
    "average pool 3x3": lambda x: tf.nn.avg_pool2d(x, 3, 1, "SAME"),
    "batch norm": lambda x, m, v, b, g: tf.nn.batch_normalization(x, m, v + 2, b, g, 1e-3),
    "resize bilinear": lambda x: tf.compat.v1.image.resize_bilinear(x, [x.shape[1] * 2, x.shape[2] * 2]),
    "transpose": tf.transpose,
    "transpose 0213": lambda x: tf.transpose(x, [0, 2, 1, 3]),
    "slice of columns": lambda x: tf.slice(x, [0, 1], [-1, x.shape[1] // 2 + 1]),
    "concat of columns": lambda x, y: tf.concat([x, y], 1),
    "pad": lambda x: tf.pad(x, [[1, 1], [2, 2]]),
    "tile": lambda x: tf.tile(x, [2, 2]),
    "reverse of rows": lambda x: tf.reverse(x, [1]),
    "gather rows": tf.gather,
    "segment sum": lambda x, ids: tf.math.unsorted_segment_sum(x, ids, segments(ids.shape[0])),
    "dense layer gradients": lambda x, w, b: gradients(lambda p, q, r: tf.tanh(tf.matmul(p, q) + r), [x, w, b]),
}


def seconds(f):
    start = time.perf_counter()
    f()
    return time.perf_counter() - start


def setup(request, compiled):
    low, high = request.get("range") or [-1, 1]
    x = [tf.constant(values(shape, k, low, high)) for k, shape in enumerate(request["shapes"])]
    if request.get("ids"):
        k, below = request["ids"]
        x[k] = tf.constant(((np.arange(int(np.prod(request["shapes"][k]))) * 7919) % below).astype(np.int32))
    f = OPS[request["op"]]
    if compiled:
        f = tf.function(f)
    job = {"calls": 1}

    def run():
        for _ in range(job["calls"]):
            y = f(*x)
        tf.reshape(y, [-1])[0].numpy()

    value = checksum(tf.cast(f(*x), tf.float32).numpy())
    warm = min(seconds(run), seconds(run))
    job["calls"] = max(1, min(2000, round(0.02 / warm)))
    job["run"] = run
    return job, {"value": value, "slow": warm > 1}


def main():
    compiled = sys.argv[1] == "function"
    job = None
    for line in sys.stdin:
        request = json.loads(line)
        try:
            if request["cmd"] == "setup":
                if job is None and tf.config.threading.get_intra_op_parallelism_threads() == 0:
                    tf.config.threading.set_intra_op_parallelism_threads(request["threads"])
                    tf.config.threading.set_inter_op_parallelism_threads(1)
                job, reply = setup(request, compiled)
            else:
                reply = {"seconds": [seconds(job["run"]) / job["calls"]], "peakBytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}
        except Exception as error:  # answered, so that the bench says what is missing
            reply = {"error": str(error).split("\n")[0]}
        print(json.dumps(reply), flush=True)


main()
