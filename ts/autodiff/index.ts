export { backward, gradientPlace, type GradientSink } from './backward';
export { checkpoint } from './checkpoint';
export { untaped } from './untaped';
