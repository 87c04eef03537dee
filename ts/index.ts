/**
 * simmim: masked image modelling for Node. Models, training and data; the tfjs backend alone is 'simmim/backend'.
 */
import './backend';

export { SimmimError, type ErrorCode } from './errors';
export { IMAGENET, type ImageStatistics } from './image_statistics';
export { Rng, philox } from './rng';
export * from './ops';
export { backward, checkpoint } from './autodiff';
export * from './nn';
export * from './models';
export * from './simmim';
export * from './data';
export * from './train';
export * from './probe';
