import * as tf from '@tensorflow/tfjs-core';
import { beforeAll, describe, expect, it } from 'vitest';
import { OWN_BACKEND } from '../helpers/devices';
import type { Draw } from './draw';
import { family } from './random_family';

function drawn(d: Draw, shape: number[]): { label: string; make(): tf.Tensor } {
  const [real, imag] = [d.tensor({ shape, dtype: 'float32' }), d.tensor({ shape, dtype: 'float32' })];
  return { label: `complex ${real.label}`, make: () => tf.complex(real.make(), imag.make()) };
}

describe('complex tensors against the cpu backend', () => {
  family('complex arithmetic', 1e-6, (d) => {
    const shape = d.tensor({ dtype: 'float32' }).shape;
    const thinned = shape.map((n) => (d.chance(0.3) ? 1 : n)); // of one rank: the cpu backend reads past the end of shorter ones
    const [a, b] = [drawn(d, shape), drawn(d, thinned)];
    const plain = d.tensor({ shape });
    const axis = d.integer(Math.max(shape.length, 1));
    const ops: [string, () => tf.Tensor | tf.Tensor[]][] = [
      ['add', () => tf.add(a.make(), b.make())],
      ['sub', () => tf.sub(b.make(), a.make())],
      ['mul', () => tf.mul(a.make(), b.make())],
      ['mul of float and complex', () => tf.mul(tf.cast(plain.make(), 'float32'), a.make())],
      ['abs', () => tf.abs(a.make())],
      ['real and imag', () => [tf.real(a.make()), tf.imag(a.make())]],
      ['real of a reshape', () => tf.real(tf.reshape(a.make(), [-1]))],
      ['cast to complex', () => tf.cast(plain.make(), 'complex64')],
      ['cast from complex', () => tf.cast(a.make(), d.keep ? 'int32' : 'float32')],
      ['zerosLike', () => tf.zerosLike(a.make())],
      ['onesLike', () => tf.onesLike(a.make())],
    ];
    if (shape.length > 0 && !shape.includes(0)) ops.push(['concat', () => tf.concat([a.make(), a.make()], axis)], ['stack', () => tf.stack([a.make(), a.make()], axis)]);
    const [name, f] = d.pick(ops);
    return [`${name} of ${a.label} and ${thinned}`, f];
  });

  // Rounding grows with the logarithm of the length; the cpu backend sums in float32 as well where it is a power of two.
  family('Fourier transforms', 3e-6, (d) => {
    const n = d.chance(0.03) ? d.pick([257, 360, 512]) : d.pick([1, 2, 3, 4, 5, 7, 8, 12, 16, 17, 25, 31, 32, 33, 39, 49, 64, 97, 100, 121, 128, 1 + d.integer(60)]);
    const shape = [...d.tensor({ maxRank: 2, empty: false, dtype: 'float32' }).shape.map((s) => Math.min(s, 5)), n];
    const x = drawn(d, shape);
    const plain = d.tensor({ shape, dtype: 'float32' });
    const ops: [string, () => tf.Tensor][] = [
      ['fft', () => tf.spectral.fft(x.make())],
      ['ifft', () => tf.spectral.ifft(x.make())],
      ['rfft', () => tf.spectral.rfft(plain.make(), d.keep ? n : undefined)],
    ];
    if (n > 1) ops.push(['irfft', () => tf.spectral.irfft(x.make())]);
    const [name, f] = d.pick(ops);
    return [`${name} ${shape}`, f];
  }, { scale: 'tensor' });
});

describe('complex tensors where the cpu backend has nothing', () => {
  beforeAll(async () => {
    await tf.setBackend(OWN_BACKEND);
  });
  const make = (shape: number[]): tf.Tensor => tf.complex(tf.randomUniform(shape, -1, 1, 'float32', 1), tf.randomUniform(shape, -1, 1, 'float32', 2));

  it('movements are those of the two halves', () => {
    const x = make([2, 3, 4]);
    const moves: ((t: tf.Tensor) => tf.Tensor)[] = [(t) => tf.transpose(t), (t) => tf.slice(t, [0, 1, 0], [2, 2, 3]), (t) => tf.slice(t, 0), (t) => tf.reverse(t, 1), (t) => tf.tile(t, [1, 2, 1]), (t) => tf.stridedSlice(t, [0, 0, 0], [2, 3, 4], [1, 2, 1]), (t) => tf.concat([t])];
    for (const move of moves) {
      const y = move(x);
      expect(tf.real(y).arraySync()).toEqual(move(tf.real(x)).arraySync());
      expect(tf.imag(y).arraySync()).toEqual(move(tf.imag(x)).arraySync());
    }
  });

  it('repeats operands of lower rank', () => {
    const [x, y] = [make([2, 3, 4]), make([4])];
    const whole = tf.complex(tf.broadcastTo(tf.real(y), [2, 3, 4]), tf.broadcastTo(tf.imag(y), [2, 3, 4]));
    for (const f of [tf.add, tf.sub, tf.mul] as ((a: tf.Tensor, b: tf.Tensor) => tf.Tensor)[]) expect([...f(y, x).dataSync()]).toEqual([...f(whole, x).dataSync()]);
  });

  it('a complex tensor outlives what it was made of and what was read from it', () => {
    const [re, im] = [tf.tensor1d([1, 2, 3]), tf.tensor1d([4, 5, 6])];
    const z = tf.complex(re, im);
    re.dispose();
    im.dispose();
    const real = tf.real(z);
    expect([...z.dataSync()]).toEqual([1, 4, 2, 5, 3, 6]);
    z.dispose();
    expect([...real.dataSync()]).toEqual([1, 2, 3]);
  });

  // Long rows: the inverse brings the row back, a tone becomes a peak, and energy is kept. Errors grow with log2 N: about 17 roundings of 6e-8.
  it.each([[1, 8192], [9, 6000], [2, 10007], [20, 1009], [1, 131072], [3, 4394]])('%i rows of %i: there and back', (rows, n) => {
    const x = make([rows, n]);
    const there = tf.spectral.fft(x);
    const back = tf.spectral.ifft(there);
    expect(tf.max(tf.abs(tf.sub(back, x))).dataSync()[0]).toBeLessThan(2e-6);
    const energy = (t: tf.Tensor): number => tf.sum(tf.square(tf.abs(t))).dataSync()[0] as number;
    expect(energy(there) / n / energy(x)).toBeCloseTo(1, 5);
    const tone = 7;
    const phase = tf.tensor1d(Float32Array.from({ length: n }, (_, i) => (2 * Math.PI * ((tone * i) % n)) / n));
    const peak = tf.abs(tf.spectral.fft(tf.complex(tf.cos(phase), tf.sin(phase)))).dataSync<'float32'>();
    expect((peak[tone] as number) / n).toBeCloseTo(1, 5);
    peak[tone] = 0;
    expect(peak.reduce((most, v) => Math.max(most, v), 0) / n).toBeLessThan(1e-6);
  });
});
