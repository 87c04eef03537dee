import { checkOp } from '../helpers/check_op';
import { maskTokensSpec } from './mask_tokens.cases';

checkOp(maskTokensSpec);
