export { backward } from './backward';
export { checkpoint } from './checkpoint';
