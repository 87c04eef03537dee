export { avgDist, squaredDistances } from './avg_dist';
export { averageDistance, type DistanceUnit } from './mask_distance';
export { Codebook } from './codebook';
export { createHead, headNames, type Head, type HeadName } from './heads';
export { lossNames, maskedCrossEntropy, targetLoss, type LossName, type LossSpec } from './losses';
export { gridFromPixels, Masking, maskCount, type Clock, type MaskStrategy } from './masking';
export { SimMIM, type SimMIMOptions } from './simmim';
export { createTarget, type ImageStatistics, type Target, type TargetSpec } from './targets';
export { Classifier, smoothedLabels, softCrossEntropy, type ClassifierOptions } from './classifier';
