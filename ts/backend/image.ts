import * as tf from '@tensorflow/tfjs-core';
import { SimmimError } from '../errors';
import * as kernels from '../native/kernels.gen';
import type { NativeBackend } from './backend';
import { NUMERIC, requireDtype } from './host';
import { reverse } from './movement';
import type { KernelTable, NativeKernel } from './register';
import { head, takeCount } from './sparse';

const { TRANSFORM_OPS } = kernels;

function resize(name: string, nearest: boolean): NativeKernel {
  return (backend, inputs, attrs) => {
    const images = inputs.images as tf.TensorInfo;
    requireDtype(name, inputs, ...NUMERIC);
    const [height, width] = attrs.size as [number, number];
    const [batch, , , channels] = images.shape as [number, number, number, number];
    const y = backend.output([batch, height, width, channels], nearest ? images.dtype : 'float32');
    kernels.resize({ x: backend.ref(images), y: backend.outRef(y), alignCorners: Boolean(attrs.alignCorners), halfPixelCenters: Boolean(attrs.halfPixelCenters), nearest });
    return y;
  };
}

function resizeGrad(name: string, nearest: boolean): NativeKernel {
  return (backend, inputs, attrs) => {
    const { images, dy } = inputs as { images: tf.TensorInfo; dy: tf.TensorInfo };
    requireDtype(name, { dy }, 'float32');
    const dx = backend.output(images.shape);
    kernels.resizeGrad({ dy: backend.ref(dy), dx: backend.outRef(dx), alignCorners: Boolean(attrs.alignCorners), halfPixelCenters: Boolean(attrs.halfPixelCenters), nearest });
    return dx;
  };
}

interface Suppressed {
  selected: tf.TensorInfo;
  scores: tf.TensorInfo;
  count: tf.TensorInfo;
}

function suppress(name: string, backend: NativeBackend, inputs: tf.NamedTensorInfoMap, attrs: tf.NamedAttrMap): Suppressed {
  const { boxes, scores } = inputs as { boxes: tf.TensorInfo; scores: tf.TensorInfo };
  requireDtype(name, inputs, 'float32');
  const { maxOutputSize, iouThreshold, scoreThreshold } = attrs as { maxOutputSize: number; iouThreshold: number; scoreThreshold: number };
  const out = { selected: backend.output([maxOutputSize], 'int32'), scores: backend.output([maxOutputSize]), count: backend.output([], 'int32') };
  kernels.nonMaxSuppression({
    boxes: backend.ref(boxes),
    scores: backend.ref(scores),
    selected: backend.outRef(out.selected),
    selectedScores: backend.outRef(out.scores),
    count: backend.outRef(out.count),
    iouThreshold,
    scoreThreshold,
    softSigma: (attrs.softNmsSigma as number | undefined) ?? 0,
  });
  return out;
}

const INTERPOLATIONS = ['nearest', 'bilinear'];

/** Operations on pictures. */
export const IMAGE: KernelTable = {
  ResizeBilinear: resize('ResizeBilinear', false),
  ResizeNearestNeighbor: resize('ResizeNearestNeighbor', true),
  ResizeBilinearGrad: resizeGrad('ResizeBilinearGrad', false),
  ResizeNearestNeighborGrad: resizeGrad('ResizeNearestNeighborGrad', true),

  CropAndResize: (backend, inputs, attrs) => {
    const { image, boxes, boxInd } = inputs as { image: tf.TensorInfo; boxes: tf.TensorInfo; boxInd: tf.TensorInfo };
    requireDtype('CropAndResize', { image }, ...NUMERIC);
    const { method, extrapolationValue, cropSize } = attrs as { method: string; extrapolationValue: number; cropSize: [number, number] };
    const y = backend.output([boxes.shape[0] as number, ...cropSize, image.shape[3] as number]);
    kernels.cropAndResize({ x: backend.ref(image), boxes: backend.ref(boxes), boxIndex: backend.ref(boxInd), y: backend.outRef(y), nearest: method === 'nearest', fill: extrapolationValue });
    return y;
  },

  Transform: (backend, inputs, attrs) => {
    const { image, transforms } = inputs as { image: tf.TensorInfo; transforms: tf.TensorInfo };
    requireDtype('Transform', { image }, ...NUMERIC);
    const { interpolation, fillMode, fillValue, outputShape } = attrs as { interpolation: string; fillMode: keyof typeof TRANSFORM_OPS; fillValue: number; outputShape: [number, number] | null | undefined };
    if (!INTERPOLATIONS.includes(interpolation)) throw new SimmimError('invalid_argument', 'Transform', `interpolation is '${interpolation}', expected one of ${INTERPOLATIONS.join(', ')}`);
    const op = TRANSFORM_OPS[fillMode];
    if (op === undefined) throw new SimmimError('invalid_argument', 'Transform', `fillMode is '${fillMode}', expected one of ${Object.keys(TRANSFORM_OPS).join(', ')}`);
    const [batch, height, width, channels] = image.shape as [number, number, number, number];
    const y = backend.output([batch, ...(outputShape ?? [height, width]), channels], image.dtype);
    kernels.transform({ x: backend.ref(image), transforms: backend.ref(transforms), y: backend.outRef(y), op, nearest: interpolation === 'nearest', fill: fillValue });
    return y;
  },

  RotateWithOffset: (backend, inputs, attrs) => {
    const image = inputs.image as tf.TensorInfo;
    requireDtype('RotateWithOffset', inputs, ...NUMERIC);
    const { radians, fillValue, center } = attrs as { radians: number; fillValue: number | number[]; center: number | [number, number] };
    const [, height, width, channels] = image.shape as [number, number, number, number];
    const [centerX, centerY] = tf.backend_util.getImageCenter(center, height, width);
    // Of a list of colours, the fourth channel is opacity.
    const values = Array.from({ length: channels }, (_, c) => (typeof fillValue === 'number' ? fillValue : c === 3 ? 255 : (fillValue[c] ?? NaN)));
    const fill = backend.makeTensorInfo([channels], 'float32', Float32Array.from(values));
    const y = backend.output(image.shape, image.dtype);
    kernels.rotate({ x: backend.ref(image), fill: backend.ref(fill), y: backend.outRef(y), sine: Math.sin(radians), cosine: Math.cos(radians), centerX, centerY });
    backend.disposeData(fill.dataId);
    return y;
  },

  FlipLeftRight: (backend, { image }) => {
    requireDtype('FlipLeftRight', { image: image as tf.TensorInfo }, ...NUMERIC);
    return reverse(backend, image as tf.TensorInfo, { dims: [2] });
  },

  NonMaxSuppressionV3: (backend, inputs, attrs) => {
    const out = suppress('NonMaxSuppressionV3', backend, inputs, attrs);
    backend.disposeData(out.scores.dataId);
    return head(backend, out.selected, takeCount(backend, out.count));
  },
  NonMaxSuppressionV4: (backend, inputs, attrs) => {
    const out = suppress('NonMaxSuppressionV4', backend, inputs, attrs);
    backend.disposeData(out.scores.dataId);
    if (attrs.padToMaxOutputSize) return [out.selected, out.count];
    const [count] = backend.readSync(out.count.dataId) as Int32Array;
    return [head(backend, out.selected, count as number), out.count];
  },
  NonMaxSuppressionV5: (backend, inputs, attrs) => {
    const out = suppress('NonMaxSuppressionV5', backend, inputs, attrs);
    const count = takeCount(backend, out.count);
    return [head(backend, out.selected, count), head(backend, out.scores, count)];
  },
};
