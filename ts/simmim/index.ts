export { avgDist, squaredDistances } from './avg_dist';
export { averageDistance, distanceUnits, type DistanceUnit, type MeanDistance } from './mask_distance';
export { Codebook } from './codebook';
export { createHead, headNames, type Head, type HeadName } from './heads';
export { lossNames, maskedCrossEntropy, targetLoss, type LossName, type LossSpec } from './losses';
export { gridFromPixels, Masking, maskCount, smallestBlock, type Clock, type MaskStrategy } from './masking';
export { SimMIM, type SimMIMOptions } from './simmim';
export { createTarget, type Target, type TargetSpec } from './targets';
export { Classifier, smoothedLabels, softCrossEntropy, type ClassifierOptions } from './classifier';
