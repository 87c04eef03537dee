import { checkOp } from '../helpers/check_op';
import { randomMaskSpec } from './random_mask.cases';

checkOp(randomMaskSpec);
