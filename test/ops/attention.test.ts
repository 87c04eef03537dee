import { checkOp } from '../helpers/check_op';
import { attentionSpec } from './attention.cases';

checkOp(attentionSpec);
