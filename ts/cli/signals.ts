/** Runs `act` with Ctrl-C meaning: finish what must not be torn and end; a second one ends at once. */
export async function withSignals<T>(stop: () => void, note: (sentence: string) => void, act: () => Promise<T>): Promise<T> {
  let asked = false;
  const onSignal = (signal: NodeJS.Signals): void => {
    if (asked) process.exit(signal === 'SIGINT' ? 130 : 143);
    asked = true;
    note('stopping after this step and saving; once more to stop at once');
    stop();
  };
  process.on('SIGINT', onSignal);
  process.on('SIGTERM', onSignal);
  try {
    return await act();
  } finally {
    process.off('SIGINT', onSignal);
    process.off('SIGTERM', onSignal);
  }
}
