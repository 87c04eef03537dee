import { checkOp } from '../helpers/check_op';
import { scaleRowsSpec } from './scale_rows.cases';

checkOp(scaleRowsSpec);
