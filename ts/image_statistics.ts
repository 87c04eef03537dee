/** Mean and standard deviation of each channel, for values in [0, 1]: networks see `(value - mean) / std`. */
export interface ImageStatistics {
  mean: readonly number[];
  std: readonly number[];
}

/** ImageNet's, of torchvision and of the official SimMIM code. */
export const IMAGENET = { mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225] } as const satisfies ImageStatistics;
