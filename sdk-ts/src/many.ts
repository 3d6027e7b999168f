/**
 * Answer many records beside each other, in the order of the input, reading it lazily.
 *
 * The input is read at most `WINDOW` times the width ahead of what was yielded. An answer is
 * yielded as soon as it is there, also while the input keeps us waiting for its next record. What
 * the input throws is thrown last.
 */

/** The input is read this many times the width ahead of the output. */
export const WINDOW = 2;

interface Place<I> {
  item?: I;
  readonly done: Promise<unknown>;
}

/** Run `work` on each record, `width` at a time; `abandon` ends what runs if the caller leaves. */
export async function* inOrder<R, I>(
  records: Iterable<R> | AsyncIterable<R>,
  work: (record: R, index: number) => Promise<I>,
  width: number,
  abandon: () => void,
): AsyncGenerator<I, void, undefined> {
  const source =
    Symbol.asyncIterator in records ? records[Symbol.asyncIterator]() : records[Symbol.iterator]();
  const places: Place<I>[] = [];
  const waiting: (() => void)[] = [];
  let running = 0;
  let count = 0;
  let reading: Promise<unknown> | undefined;
  let isOpen = true;
  let failure: { error: unknown } | undefined;

  const gated = async (record: R, index: number): Promise<I> => {
    if (running >= width) await new Promise<void>((go) => waiting.push(go));
    else running++;
    try {
      return await work(record, index);
    } finally {
      // The place passes to the next one that waits, so that nobody comes between.
      const go = waiting.shift();
      if (go) go();
      else running--;
    }
  };
  const start = (record: R): void => {
    const place: Place<I> = {
      done: gated(record, count++).then((item) => {
        place.item = item;
      }),
    };
    place.done.catch(() => {});
    places.push(place);
  };
  const next = async (): Promise<void> => {
    try {
      const { done, value } = await source.next();
      if (done) isOpen = false;
      else start(value);
    } catch (error) {
      isOpen = false;
      failure = { error };
    }
    reading = undefined;
  };

  try {
    while (isOpen || places.length) {
      if (isOpen && !reading && places.length < WINDOW * width) {
        reading = Promise.resolve().then(next);
      }
      await Promise.race([places[0]?.done, reading].filter((each) => each));
      while (places[0]?.item !== undefined) yield (places.shift() as Place<I>).item as I;
    }
  } finally {
    abandon();
    if (isOpen) Promise.resolve(source.return?.()).catch(() => {});
    await Promise.allSettled(places.map(({ done }) => done));
  }
  if (failure) throw failure.error;
}
