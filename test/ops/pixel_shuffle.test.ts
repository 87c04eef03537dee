import { checkOp } from '../helpers/check_op';
import { pixelShuffleSpec } from './pixel_shuffle.cases';

checkOp(pixelShuffleSpec);
