import type { OpSpec } from '../helpers/op_cases';
import type { RandomValuesOptions } from '../../ts/ops';

const options: RandomValuesOptions = { seed: 5, site: 0x10000000, law: 'normal', low: 0, high: 1, scale: 0.02 };
interface Args extends RandomValuesOptions {
  shape: readonly number[];
}

export const randomValuesSpec: OpSpec<Args, never> = {
  op: 'random_values',
  differentiable: [],
  run: (ops, _inputs, { shape, ...law }) => ops.randomValues(shape, law),
  cases: [
    { name: "Swin's weights", inputs: {}, args: { ...options, shape: [5, 7, 31] } },
    { name: 'cut at one deviation', inputs: {}, args: { ...options, seed: -3, site: 0xffffffff, low: 0.15865525393145707, high: 0.8413447460685429, shape: [1027] } },
    { name: 'the lower end', inputs: {}, args: { ...options, high: 2 ** -10, shape: [2, 300] } },
    { name: 'the upper end', inputs: {}, args: { ...options, low: 0.9, scale: -3, shape: [77] } },
    { name: 'about where the formulas change', inputs: {}, args: { ...options, low: 0.0745, high: 0.0755, scale: 1, shape: [300] } },
    { name: 'uniform', inputs: {}, args: { ...options, law: 'uniform', low: -1, scale: 0.125, shape: [3, 100] } },
    { name: 'one value', inputs: {}, args: { ...options, law: 'uniform', low: 3, high: 3, shape: [] } },
    { name: 'no values', inputs: {}, args: { ...options, shape: [3, 0] } },
  ],
  bad: [
    { name: 'half a row', call: (ops) => ops.randomValues([2, 1.5], options), message: 'shape[1] is 1.5, expected an integer of at least 0' },
    { name: 'a seed that is none', call: (ops) => ops.randomValues([2], { ...options, seed: NaN }), message: 'seed is NaN, expected an integer' },
    { name: 'a site beyond 32 bits', call: (ops) => ops.randomValues([2], { ...options, site: 2 ** 32 }), message: 'site is 4294967296, expected an integer in [0, 4294967295]' },
    { name: 'another law', call: (ops) => ops.randomValues([2], { ...options, law: 'cauchy' as 'normal' }), message: "law is 'cauchy', expected 'normal' or 'uniform'" },
    { name: 'a probability above 1', call: (ops) => ops.randomValues([2], { ...options, high: 1.5 }), message: 'high is 1.5, expected a number in [0, 1]' },
    { name: 'ends exchanged', call: (ops) => ops.randomValues([2], { ...options, law: 'uniform', low: 1, high: -1 }), message: 'high is -1, expected a number at least 1' },
    { name: 'an infinite end', call: (ops) => ops.randomValues([2], { ...options, law: 'uniform', high: Infinity }), message: 'high is Infinity, expected a finite number' },
    { name: 'probabilities beyond the formula', call: (ops) => ops.randomValues([2], { ...options, high: 1e-9 }), message: 'low 0 and high 1e-9 give probabilities within' },
  ],
};
