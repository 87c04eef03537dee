import { checkOp } from '../helpers/check_op';
import { layerNormSpec } from './layer_norm.cases';

checkOp(layerNormSpec);
