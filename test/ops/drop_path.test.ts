import { checkOp } from '../helpers/check_op';
import { dropPathSpec } from './drop_path.cases';

checkOp(dropPathSpec);
