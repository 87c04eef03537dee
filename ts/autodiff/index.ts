export { backward, gradientPlace, standIn, takeGradient, type GradientSink } from './backward';
export { checkpoint } from './checkpoint';
export { untaped } from './untaped';
