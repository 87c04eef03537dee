import { checkOp } from '../helpers/check_op';
import { accumulateSpec } from './accumulate.cases';

checkOp(accumulateSpec);
