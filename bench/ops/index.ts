import { accumulateBench } from './accumulate.bench';
import { adamwBench } from './adamw.bench';
import { attentionBench } from './attention.bench';
import { dropPathBench } from './drop_path.bench';
import { geluBench } from './gelu.bench';
import { gradNormBench } from './grad_norm.bench';
import { layerNormBench } from './layer_norm.bench';
import { linearBench } from './linear.bench';
import { maskTokensBench } from './mask_tokens.bench';
import { maskedLossBench } from './masked_loss.bench';
import { mlpBench } from './mlp.bench';
import type { OpBench } from './op_bench';
import { patchEmbedBench } from './patch_embed.bench';
import { randomMaskBench } from './random_mask.bench';
import { randomValuesBench } from './random_values.bench';
import { windowAttentionBench } from './window_attention.bench';

/** Every op bench, one file per stem beside this one. */
export const OP_BENCHES: OpBench[] = [linearBench, mlpBench, layerNormBench, windowAttentionBench, attentionBench, patchEmbedBench, maskTokensBench, maskedLossBench, randomMaskBench, dropPathBench, geluBench, accumulateBench, gradNormBench, adamwBench, randomValuesBench];
