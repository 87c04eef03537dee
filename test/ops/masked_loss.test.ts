import { checkOp } from '../helpers/check_op';
import { maskedLossSpec } from './masked_loss.cases';

checkOp(maskedLossSpec);
