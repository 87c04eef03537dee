export type { Context } from './context';
export * from './layers';
export { namedParameters, Parameter } from './module';
