import { checkOp } from '../helpers/check_op';
import { linearSpec } from './linear.cases';

checkOp(linearSpec);
