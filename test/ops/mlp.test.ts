import { checkOp } from '../helpers/check_op';
import { mlpSpec } from './mlp.cases';

checkOp(mlpSpec);
