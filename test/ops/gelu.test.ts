import { checkOp } from '../helpers/check_op';
import { geluSpec } from './gelu.cases';

checkOp(geluSpec);
