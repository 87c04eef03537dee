/** Stable machine-readable reasons of a {@link SimmimError}. */
export type ErrorCode =
  | 'invalid_argument' // a value, shape or option the caller gave
  | 'unsupported' // valid in principle, not available here (dtype, device, platform)
  | 'not_found' // a file, folder, parameter or kernel that does not exist
  | 'io' // the operating system refused
  | 'corrupt' // a file whose content contradicts its format
  | 'disposed' // a tensor used after it was disposed
  | 'out_of_memory'
  | 'device_lost' // an error of the device after which nothing of it can be used: start the process again
  | 'non_finite' // a loss or gradient that is NaN or infinite, too often
  | 'not_recordable' // an operation that a recorded program cannot hold
  | 'interrupted'
  | 'internal'; // a broken invariant of ours: please report

/**
 * The one error class of simmim: `op: message`, with a stable `code`.
 * Messages name the argument by its public name, what was got, what was expected and why.
 */
export class SimmimError extends Error {
  readonly code: ErrorCode;
  /** The operation, kernel or command that refused. */
  readonly op: string;

  constructor(code: ErrorCode, op: string, message: string, options?: ErrorOptions) {
    super(`${op}: ${message}`, options);
    this.name = 'SimmimError';
    this.code = code;
    this.op = op;
  }
}
