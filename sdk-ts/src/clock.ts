/** Tell the time and wait: the real clock of a client. Tests give `FakeClock` of `./testing`. */

/** What a client asks of a clock. */
export interface Clock {
  /** Unix milliseconds. */
  nowMs(): number;
  /** Milliseconds that never go back. */
  monotonicMs(): number;
  /** Wait, never shorter, unless the signal aborts; say whether it did. */
  wait(waitMs: number, signal?: AbortSignal): Promise<boolean>;
}

/** What a client asks of chance: numbers in [0, 1). `Math.random` is one. */
export type Random = () => number;

/** Longest wait of one timer; a longer one would end at once. */
export const MAX_TIMER_MS = 2 ** 31 - 1;

/** The clock of the runtime. */
export const systemClock: Clock = {
  nowMs: () => Date.now(),
  monotonicMs: () => Math.floor(performance.now()),
  async wait(waitMs, signal) {
    const end = performance.now() + waitMs;
    for (let left = waitMs; left > 0 && !signal?.aborted; left = end - performance.now()) {
      await pause(left, signal);
    }
    return !!signal?.aborted;
  },
};

function pause(waitMs: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const end = (): void => {
      clearTimeout(timer);
      signal?.removeEventListener('abort', end);
      resolve();
    };
    const timer = setTimeout(end, Math.min(Math.ceil(waitMs), MAX_TIMER_MS));
    signal?.addEventListener('abort', end);
  });
}
