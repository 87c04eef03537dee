/** What a classifier's outputs are worth. */

/** Accuracy on a labelled set. */
export interface Scores {
  /** Shares in percent; top5 is null with fewer than six classes. */
  top1: number;
  top5: number | null;
  /** For each picture whether the first guess was right, in the set's order. */
  right: boolean[];
}

/** Scores of outputs [rows, K] (logits, votes: larger is likelier; ties count against the label). */
export function scores(outputs: ArrayLike<number>, labels: Int32Array, classes: number): Scores {
  const right: boolean[] = [];
  let inFive = 0;
  for (let row = 0; row < labels.length; row++) {
    const own = outputs[row * classes + (labels[row] as number)] as number;
    let notWorse = 0;
    for (let c = 0; c < classes; c++) if (c !== labels[row] && !((outputs[row * classes + c] as number) < own)) notWorse++;
    right.push(notWorse === 0);
    if (notWorse < 5) inFive++;
  }
  const percent = (count: number): number => (100 * count) / labels.length;
  return { top1: percent(right.filter(Boolean).length), top5: classes > 5 ? percent(inFive) : null, right };
}
