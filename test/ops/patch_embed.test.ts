import { checkOp } from '../helpers/check_op';
import { patchEmbedSpec } from './patch_embed.cases';

checkOp(patchEmbedSpec);
