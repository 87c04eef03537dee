import { checkOp } from '../helpers/check_op';
import { gradClipSpec, gradNormSpec } from './grad_norm.cases';

checkOp(gradNormSpec);
checkOp(gradClipSpec);
