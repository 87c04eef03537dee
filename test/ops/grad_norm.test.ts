import { checkOp } from '../helpers/check_op';
import { gradNormSpec } from './grad_norm.cases';

checkOp(gradNormSpec);
